"""XLand-MiniGrid and its MiniGrid worlds (extra `tutelage[sim]`, package `xminigrid`) behind our protocol.

Without its auto-reset wrappers xminigrid already is what we need: its discount is 0 where the goal is reached and 1
where time runs out, and nothing is reset. The adapter removes weak types and splits the time step from the state.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from tutelage.envs.adapters.trees import NUM_SEEDS, cast_like, equal, strong
from tutelage.envs.environment import Discrete, Environment, Task, TimeStep
from tutelage.lab.errors import BadInput, nearest


def xminigrid_environment(name: str, *, rulesets: Any = None, **options: Any) -> Environment:
    """The xminigrid environment `name` ("XLand-MiniGrid-R1-9x9", "MiniGrid-DoorKey-8x8", …).

    With `rulesets`, a task is a ruleset (goal, rules, initial objects) and the layout is drawn anew every episode;
    without, a task is an int32 seed which decides the layout.

    Observation: uint8 [view, view, 2], tile and colour. Actions: forward, right, left, pick up, put down, toggle.
    Reward 1 − 0.9·t/max_steps for reaching the goal.

    Args:
        rulesets: a `Benchmark` of xminigrid, or one `RuleSet` whose leaves have a leading axis. (Benchmarks that
            xminigrid downloads are pickles: load those only from where you trust them.)
        options: fields of its `EnvParams`, e.g. `view_size`, `max_steps`.

    Raises:
        BadInput: xminigrid is not installed, has no such environment or option, or the environment has no rulesets.
    """
    xminigrid = _import_xminigrid()
    if name not in (known := xminigrid.registered_environments()):
        raise BadInput(f"xminigrid has no environment {name!r}{nearest(name, known)}")
    world, params = xminigrid.make(name)
    for option in options:
        if not hasattr(params, option):
            fields = list(vars(params))
            raise BadInput(f"{name} has no option {option!r}{nearest(option, fields)} (it has {', '.join(fields)})")
    params = params.replace(**options)
    if rulesets is None and name.startswith("XLand"):
        raise BadInput(f"{name} is decided by a ruleset: give `rulesets`")
    if rulesets is not None:
        if not hasattr(params, "ruleset"):
            raise BadInput(f"{name} has a fixed goal and no rulesets: leave `rulesets` out")
        rulesets = _stacked(rulesets)

    def sample_task(key: Key[Array, ""]) -> Task:
        if rulesets is None:
            return jax.random.randint(key, (), 0, NUM_SEEDS, jnp.int32)
        row = jax.random.randint(key, (), 0, jax.tree.leaves(rulesets)[0].shape[0])
        return jax.tree.map(lambda leaf: leaf[row], rulesets)

    def reset(key: Key[Array, ""], task: Task) -> tuple[PyTree, PyTree]:
        if rulesets is None:
            first = world.reset(params, jax.random.key(task))
        else:
            first = world.reset(params.replace(ruleset=task), key)
        first = strong(first)
        return first, first.observation

    example = jax.eval_shape(lambda: reset(jax.random.key(0), sample_task(jax.random.key(0)))[0])

    def step(key: Key[Array, ""], state: PyTree, action: Array) -> tuple[PyTree, TimeStep]:
        del key  # the dynamics are deterministic
        after = cast_like(world.step(params, state, action), example)
        return after, TimeStep(
            obs=after.observation,
            reward=after.reward.astype(jnp.float32),
            discount=after.discount.astype(jnp.float32),
            last=after.last(),
        )

    return Environment(
        name=f"xminigrid/{name}",
        actions=Discrete(world.num_actions(params)),
        horizon=int(params.max_steps),
        reset=reset,
        step=step,
        sample_task=sample_task,
        truncates=True,
        equal=equal,
    )


def _import_xminigrid() -> Any:
    try:
        import xminigrid
    except ImportError as error:
        raise BadInput("xminigrid environments need the extra 'sim': pip install 'tutelage[sim]'") from error
    return xminigrid


def _stacked(rulesets: Any) -> Any:
    """The `RuleSet` with a leading axis that is behind a `Benchmark`, or `rulesets` itself."""
    from xminigrid.types import RuleSet

    if hasattr(rulesets, "goals"):
        rulesets = RuleSet(goal=rulesets.goals, rules=rulesets.rules, init_tiles=rulesets.init_tiles)
    if not isinstance(rulesets, RuleSet) or rulesets.goal.ndim != 2:
        raise BadInput("rulesets must be a Benchmark of xminigrid or a RuleSet whose leaves have a leading axis")
    return jax.tree.map(jnp.asarray, rulesets)
