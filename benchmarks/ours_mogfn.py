"""Times our trajectory balance on the HyperGrid as its peers are timed: `python ours_mogfn.py --work JSON`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from grid_law import cells, corners, l1, terminal_law
from stopwatch import Stopwatch, peak_memory, report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=json.loads, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    watch, work = Stopwatch(), given.work

    import jax
    import jax.numpy as jnp

    from tutelage.backends.jax_program import jax_program
    from tutelage.gflownets.config import (
        BetaConfig,
        ExplorationConfig,
        GFlowNetConfig,
        NetworkConfig,
        OptimizerConfig,
        PreferenceConfig,
    )
    from tutelage.gflownets.learning.gflownet import gflownet
    from tutelage.gflownets.method import compiled_update
    from tutelage.gflownets.worlds.config import HyperGridConfig
    from tutelage.gflownets.worlds.hypergrid import hypergrid

    watch.mark("imported")
    side, dims = work["side"], work["dims"]
    problem = hypergrid(HyperGridConfig(dimensions=dims, side=side, objectives=("corners",), corner_base=work["base"]))
    config = GFlowNetConfig(
        batch_size=work["batch_size"],
        preference=PreferenceConfig(encoding="raw"),
        beta=BetaConfig(kind="constant", value=1.0),
        network=NetworkConfig(kind="mlp", width=work["width"], layers=work["layers"], z_layers=0, z_width=1),
        optimizer=OptimizerConfig(learning_rate=work["learning_rate"], z_learning_rate=work["z_learning_rate"] / 2),
        exploration=ExplorationConfig(epsilon=work["epsilon"]),
    )
    method = gflownet(problem, config, work["iterations"] * work["calls"])
    program = jax_program(
        method.init, compiled_update(method, problem.objectives), lambda state, key: {}, seeds=[given.seed]
    )
    grid, reward = cells(side, dims), corners(side, dims, work["base"])
    ours = np.asarray(problem.objectives.rewards(jnp.asarray(grid, jnp.int32)))[:, 0]
    assert np.allclose(ours * reward.sum(), reward * ours.sum(), rtol=1e-5)
    environment = problem.environment
    states = jax.vmap(lambda cell: environment.retrace(jax.random.key(0), environment.terminal(cell))[0])(
        jnp.asarray(grid)
    )

    def error(state: Any) -> float:
        policy = program.seed_state(state, 0).policy
        observed = jax.vmap(environment.observe)(states)
        condition = jnp.ones((len(grid), 1))
        _, outputs = policy.step(policy.start(condition), observed, condition)
        logits = np.asarray(outputs.logits, np.float64)
        return l1(terminal_law(np.exp(logits - logits.max(axis=1, keepdims=True)), side, dims), reward)

    def iterate(state: Any) -> Any:
        state, read = program.update(state, work["iterations"])
        read()
        return state

    state = program.init()
    calls, errors = [], [error(state)]
    for call in range(work["calls"]):
        state, cost = watch.time(iterate, state)
        if call == 0:
            watch.mark("first_call")
        calls.append(cost)
        errors.append(error(state))
    report(
        library="tutelage",
        versions={name: importlib.metadata.version(name) for name in ("jax", "equinox")},
        marks=watch.marks,
        calls=calls,
        l1=errors,
        peak_memory_bytes=peak_memory(),
    )


if __name__ == "__main__":
    main()
