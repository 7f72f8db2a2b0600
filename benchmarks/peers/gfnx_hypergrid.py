"""Times gfnx's own train step on the HyperGrid: `python gfnx_hypergrid.py --source CHECKOUT --work JSON`.

The baseline `tb_hypergrid.py` is imported as it is; its network and its `train_step` are what runs. What it computes
and writes for its log every step (metrics, callbacks) is taken out, which makes it faster than it is for its users.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
from grid_law import cells, corners, l1, terminal_law
from stopwatch import Stopwatch, peak_memory, report


def stub(name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    for member, value in members.items():
        setattr(module, member, value)
    sys.modules[name] = module


class NoMetrics:
    """In the place of the metrics: nothing is updated, nothing processed."""

    @staticmethod
    def UpdateArgs(**_: Any) -> None: ...

    @staticmethod
    def ProcessArgs(**_: Any) -> None: ...

    def update(self, state: Any, **_: Any) -> Any:
        return state

    def process(self, metrics_state: Any, **_: Any) -> Any:
        return metrics_state

    def get(self, _: Any) -> dict[str, Any]:
        return {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--work", type=json.loads, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    watch, work = Stopwatch(), given.work

    stub("hydra", main=lambda **_: lambda function: function)
    bare = lambda *_, **__: lambda function: function  # noqa: E731
    stub("jax_tqdm", loop_tqdm=bare, scan_tqdm=bare)
    stub("utils")
    stub("utils.checkpoint", save_checkpoint=None)
    stub("utils.logger", Writer=lambda: None)
    sys.path[:0] = [str(given.source / "src"), str(given.source / "baselines")]

    import equinox as eqx
    import gfnx
    import jax
    import jax.numpy as jnp
    import optax
    import tb_hypergrid as baseline
    from omegaconf import OmegaConf

    # Inside the outer jit its own is nothing but a check of what is static, which this JAX does not pass.
    train_step = baseline.train_step.__wrapped__
    jax.debug.callback = lambda *_, **__: None
    watch.mark("imported")

    class Reward(gfnx.EasyHypergridRewardModule):
        """The same function, its boundaries decided in integers as everybody's here."""

        def reward(self, state: Any, env_params: Any) -> Any:
            distance = jnp.abs(20 * state.state - 10 * (work["side"] - 1))
            outer = jnp.all(distance > 5 * (work["side"] - 1), axis=-1)
            ring = jnp.all((distance > 6 * (work["side"] - 1)) & (distance < 8 * (work["side"] - 1)), axis=-1)
            return work["base"] + self.R1 * outer + self.R2 * ring

    env = gfnx.environment.HypergridEnvironment(Reward(), dim=work["dims"], side=work["side"])
    env_params = env.init(jax.random.PRNGKey(1))
    key, k_net = jax.random.split(jax.random.PRNGKey(given.seed))
    model = baseline.MLPPolicy(
        input_size=env.observation_space.shape[0],
        n_fwd_actions=env.action_space.n,
        n_bwd_actions=env.backward_action_space.n,
        hidden_size=work["width"],
        train_backward_policy=False,
        depth=work["layers"],
        rng_key=k_net,
    )
    weights = eqx.filter(model, eqx.is_array)
    optimizer = optax.multi_transform(
        {"net": optax.adam(work["learning_rate"]), "z": optax.adam(work["z_learning_rate"])},
        {"model_params": jax.tree.map(lambda _: "net", weights), "logZ": "z"},
    )
    log_z = jnp.array(0.0)
    config = OmegaConf.create(
        {
            "num_envs": work["batch_size"],
            "num_train_steps": 10**9,
            "logging": {"eval_each": 10**9, "use_writer": False, "track_each": 1},
        }
    )
    state = baseline.TrainState(
        rng_key=key,
        config=config,
        env=env,
        env_params=env_params,  # type: ignore[arg-type]
        model=model,
        exploration_schedule=optax.constant_schedule(work["epsilon"]),
        logZ=log_z,
        optimizer=optimizer,
        opt_state=optimizer.init({"model_params": weights, "logZ": log_z}),
        metrics_module=NoMetrics(),  # type: ignore[arg-type]
        metrics_state=jnp.zeros(()),  # type: ignore[arg-type]
        eval_info={},
    )
    arrays, static = eqx.partition(state, eqx.is_array)

    @jax.jit
    def train(arrays: Any, start: Any) -> Any:
        def body(index: Any, arrays: Any) -> Any:
            after = train_step(start + index, eqx.combine(arrays, static))
            return eqx.partition(after, eqx.is_array)[0]

        return jax.lax.fori_loop(0, work["iterations"], body, arrays)

    grid, reward = cells(work["side"], work["dims"]), corners(work["side"], work["dims"], work["base"])
    every = gfnx.environment.hypergrid.EnvState(
        state=jnp.asarray(grid, jnp.int32),
        is_terminal=jnp.zeros(len(grid), bool),
        is_initial=jnp.asarray(grid.sum(axis=1) == 0),
        is_pad=jnp.zeros(len(grid), bool),
    )
    assert np.allclose(np.asarray(env.reward_module.reward(every, env_params)), reward)

    def error(arrays: Any) -> float:
        net = eqx.combine(arrays, static).model
        logits = jax.vmap(net)(env.get_obs(every, env_params))["forward_logits"]
        shifted = np.asarray(logits, np.float64)
        return l1(
            terminal_law(np.exp(shifted - shifted.max(axis=1, keepdims=True)), work["side"], work["dims"]), reward
        )

    calls, errors = [], [error(arrays)]
    for call in range(work["calls"]):
        arrays, cost = watch.time(lambda a, s: jax.block_until_ready(train(a, s)), arrays, call * work["iterations"])
        if call == 0:
            watch.mark("first_call")
        calls.append(cost)
        errors.append(error(arrays))
    report(
        library="gfnx",
        versions={name: importlib.metadata.version(name) for name in ("jax", "equinox")},
        marks=watch.marks,
        calls=calls,
        l1=errors,
        peak_memory_bytes=peak_memory(),
    )


if __name__ == "__main__":
    main()
