"""Gymnax environments (extra `tutelage[sim]`, gymnax 1.x) behind our protocol.

gymnax's own `step` resets at once when an episode ends; the adapter uses `step_env` beneath it, so the state and the
observation after the last step are the true ones. Termination and the time limit are told apart as gymnax tells them:
`terminated` sets the discount to 0, reaching `max_steps_in_episode` only sets `last`. Worlds whose natural end is a
number of steps (bsuite's Catch, MemoryChain, …) say "terminated" there, and so do we. gymnax 0.0.x merged the two flags
and cannot be adapted without loss; the extra excludes it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from tutelage.envs.adapters.trees import NUM_SEEDS, cast_like, equal, strong
from tutelage.envs.environment import Box, Discrete, Environment, Task, TimeStep
from tutelage.lab.errors import BadInput, nearest


def gymnax_environment(
    name: str, *, ranges: Mapping[str, tuple[float, float]] | None = None, horizon: int | None = None, **options: Any
) -> Environment:
    """The gymnax environment `name`; `options` go to its constructor.

    With `ranges`, a task is a dict of float32 scalars: those fields of gymnax's `EnvParams`, each drawn uniformly from
    its range. (CartPole's `total_mass` and `polemass_length` are recomputed from the fields that they are products of.)
    Without, a task is an int32 seed, and every episode of a task begins in the same state: a level in Procgen's sense.

    Args:
        horizon: replaces the time limit of gymnax.

    Raises:
        BadInput: gymnax is not installed, has no such environment or parameter, a range is empty, or the actions are
            neither discrete nor one box with equal bounds.
    """
    gymnax = _import_gymnax()
    if name not in gymnax.registered_envs:
        raise BadInput(f"gymnax has no environment {name!r}{nearest(name, gymnax.registered_envs)}")
    world, params = gymnax.make(name, **options)
    if horizon is not None:
        params = dataclasses.replace(params, max_steps_in_episode=horizon)
    actions, to_foreign = _actions(name, world.action_space(params))
    if ranges is not None:
        _check_ranges(name, params, ranges)

    def params_of(task: Task) -> Any:
        return params if ranges is None else _with_derived(name, dataclasses.replace(params, **task))

    def sample_task(key: Key[Array, ""]) -> Task:
        if ranges is None:
            return jax.random.randint(key, (), 0, NUM_SEEDS, jnp.int32)
        keys = jax.random.split(key, len(ranges))
        return {n: jax.random.uniform(k, (), minval=a, maxval=b) for k, (n, (a, b)) in zip(keys, ranges.items())}

    def reset(key: Key[Array, ""], task: Task) -> tuple[PyTree, PyTree]:
        if ranges is None:
            key = jax.random.key(task)
        obs, state = world.reset_env(key, params_of(task))
        return strong((state, task)), strong(obs)

    # The state's types are those of `reset`; some worlds turn an int into a float in their first step.
    example = jax.eval_shape(lambda: reset(jax.random.key(0), sample_task(jax.random.key(0))))

    def step(key: Key[Array, ""], state: PyTree, action: Array) -> tuple[PyTree, TimeStep]:
        inner, task = state
        current = params_of(task)
        obs, inner, reward, terminated, _ = world.step_env(key, inner, to_foreign(action), current)
        terminated = jnp.asarray(terminated).reshape(())
        time_is_up = jnp.asarray(world.is_truncated(inner, current)).reshape(())
        return cast_like((inner, task), example[0]), TimeStep(
            obs=cast_like(obs, example[1]),
            reward=jnp.asarray(reward, jnp.float32).reshape(()),
            discount=1 - terminated.astype(jnp.float32),
            last=terminated | time_is_up,
        )

    return Environment(
        name=f"gymnax/{name}",
        actions=actions,
        horizon=int(params.max_steps_in_episode),
        reset=reset,
        step=step,
        sample_task=sample_task,
        truncates=True,
        equal=equal,
        measure=None if ranges is None else dict,
    )


def _import_gymnax() -> Any:
    try:
        import gymnax
    except ImportError as error:
        raise BadInput("gymnax environments need the extra 'sim': pip install 'tutelage[sim]'") from error
    return gymnax


def _actions(name: str, space: Any) -> tuple[Discrete | Box, Callable[[Array], Array]]:
    """Our action space and the map from our actions to gymnax's."""
    if hasattr(space, "n"):
        return Discrete(int(space.n)), lambda action: action
    low, high = np.unique(np.asarray(space.low)), np.unique(np.asarray(space.high))
    if low.size != 1 or high.size != 1 or not np.isfinite([*low, *high]).all():
        raise BadInput(f"{name}: the actions' bounds {space.low}, {space.high} are not one finite interval")
    box = Box(math.prod(space.shape), float(low[0]), float(high[0]))
    return box, lambda action: jnp.clip(action, box.low, box.high).reshape(space.shape)


def _check_ranges(name: str, params: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    floats = [field.name for field in dataclasses.fields(params) if isinstance(getattr(params, field.name), float)]
    if not ranges:
        raise BadInput(f"ranges of {name} are empty: leave them out, or name some of {', '.join(floats)}")
    for parameter, (low, high) in ranges.items():
        if parameter not in floats:
            raise BadInput(
                f"{name} has no free parameter {parameter!r}{nearest(parameter, floats)} (it has {', '.join(floats)})"
            )
        if not -math.inf < low <= high < math.inf:
            raise BadInput(f"{parameter} = ({low}, {high}): allowed are -inf < low <= high < inf")


def _with_derived(name: str, params: Any) -> Any:
    if name != "CartPole-v1":
        return params
    return dataclasses.replace(
        params, total_mass=params.masscart + params.masspole, polemass_length=params.masspole * params.length
    )
