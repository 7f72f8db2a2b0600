"""Times torchgfn's trajectory balance on the HyperGrid: `python torchgfn_hypergrid.py --work JSON`.

Its environment, sampler, estimators and loss, in the loop of its tutorials.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from typing import Any

import numpy as np
from grid_law import cells, corners, l1, terminal_law
from stopwatch import Stopwatch, peak_memory, report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=json.loads, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    watch, work = Stopwatch(), given.work

    import torch
    from gfn.estimators import DiscretePolicyEstimator
    from gfn.gflownet import TBGFlowNet
    from gfn.gym import HyperGrid
    from gfn.preprocessors import KHotPreprocessor
    from gfn.samplers import Sampler
    from gfn.utils.modules import MLP

    torch.manual_seed(given.seed)
    torch.set_num_threads(1)
    watch.mark("imported")
    env = HyperGrid(
        ndim=work["dims"],
        height=work["side"],
        reward_fn_kwargs={"R0": work["base"], "R1": 0.5, "R2": 2.0},
        validate_modes=False,
        device="cpu",
    )
    preprocessor = KHotPreprocessor(height=work["side"], ndim=work["dims"])
    sizes = {"hidden_dim": work["width"], "n_hidden_layers": work["layers"], "activation_fn": "relu"}
    net = MLP(input_dim=preprocessor.output_dim, output_dim=env.n_actions, **sizes)
    forward = DiscretePolicyEstimator(net, env.n_actions, preprocessor=preprocessor, is_backward=False)
    backward = DiscretePolicyEstimator(
        _Uniform(env.n_actions - 1), env.n_actions, preprocessor=preprocessor, is_backward=True
    )
    flow = TBGFlowNet(pf=forward, pb=backward, init_logZ=0.0)
    sampler = Sampler(estimator=forward)
    optimizer = torch.optim.Adam(
        [
            {"params": net.parameters(), "lr": work["learning_rate"]},
            {"params": flow.logz_parameters(), "lr": work["z_learning_rate"]},
        ]
    )
    side, dims = work["side"], work["dims"]
    grid, reward = torch.as_tensor(cells(side, dims)), corners(side, dims, work["base"])

    def error() -> float:
        with torch.no_grad():
            logits = net(preprocessor(env.states_from_tensor(grid))).double().numpy()
        return l1(terminal_law(np.exp(logits - logits.max(axis=1, keepdims=True)), side, dims), reward)

    def iterate() -> None:
        for _ in range(work["iterations"]):
            trajectories = sampler.sample_trajectories(
                env, n=work["batch_size"], save_logprobs=False, epsilon=work["epsilon"]
            )
            optimizer.zero_grad()
            loss = flow.loss(env, trajectories, recalculate_all_logprobs=True)
            loss.backward()
            optimizer.step()

    calls, errors = [], [error()]
    for call in range(work["calls"]):
        _, cost = watch.time(iterate)
        if call == 0:
            watch.mark("first_call")
        calls.append(cost)
        errors.append(error())
    report(
        library="torchgfn",
        versions={name: importlib.metadata.version(name) for name in ("torch", "torchgfn")},
        marks=watch.marks,
        calls=calls,
        l1=errors,
        peak_memory_bytes=peak_memory(),
    )


def _Uniform(width: int) -> Any:
    from gfn.utils.modules import DiscreteUniform

    return DiscreteUniform(output_dim=width)


if __name__ == "__main__":
    main()
