"""One endless environment of several: the task changes every τ steps, and nothing else tells the agent.

Observations are continuous: the observation after a switch is that of the new task, where it was left (at first, where
it starts); a task that is not on stands still. Where an episode of a task ends, the next one begins within the same
step. So the stream never ends: `discount` is 1, `last` is false, and only rewards and observations show what happened.

Reference: Riemer et al. (2022, arXiv 2112.07066), the experiments with |Z| tasks and switching time τ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from tutelage.continual.deep.switching_config import SwitchingConfig
from tutelage.envs.environment import Environment, Task, TimeStep
from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput

ENDLESS = 2**31 - 1
"""The horizon of a stream."""


class SwitchingState(NamedTuple):
    """Which task is on (int32), the steps since the last switch (int32), and where each task stands: its state, its
    observation and the parameters of its next episode, one entry for each task."""

    active: Int[Array, ""]
    clock: Int[Array, ""]
    states: tuple[PyTree, ...]
    observations: tuple[PyTree, ...]
    tasks: tuple[Task, ...]


def task_switching(environments: Sequence[Environment], config: SwitchingConfig) -> Environment:
    """The stream of these tasks; the parameters of a stream are a tuple of one for each task.

    Under `vmap` every task is stepped in every step, as `lax.switch` runs all its branches there.

    Args:
        environments: the tasks, with the same actions and observations of the same shapes and types.

    Raises:
        BadInput: no task, a setting that is not allowed, or actions or observations that differ, naming the tasks.
    """
    validate(config)
    worlds = list(environments)
    if not worlds:
        raise BadInput("environments: none is given; must be at least 1")
    _refuse_differences(worlds)

    def sample_task(key: Key[Array, ""]) -> Task:
        return tuple(world.sample_task(of_task) for world, of_task in zip(worlds, jax.random.split(key, len(worlds))))

    def reset(key: Key[Array, ""], task: Task) -> tuple[SwitchingState, PyTree]:
        first_key, *keys = jax.random.split(key, len(worlds) + 1)
        begun = [world.reset(of_task, one) for world, of_task, one in zip(worlds, keys, task, strict=True)]
        states, observations = (tuple(parts) for parts in zip(*begun))
        active = jnp.zeros((), jnp.int32)
        if config.order == "random":
            active = jax.random.randint(first_key, (), 0, len(worlds), jnp.int32)
        state = SwitchingState(active, jnp.zeros((), jnp.int32), states, observations, tuple(task))
        return state, _shown(state)

    def step(key: Key[Array, ""], state: SwitchingState, action: Array) -> tuple[SwitchingState, TimeStep]:
        step_key, reset_key, switch_key = jax.random.split(key, 3)

        def within(index: int):
            def of_task(state: SwitchingState) -> tuple[tuple[PyTree, ...], tuple[PyTree, ...], Array]:
                world = worlds[index]
                inner, seen = world.step(step_key, state.states[index], action)
                begun = world.reset(reset_key, state.tasks[index])
                after, shown = jax.tree.map(lambda new, old: jnp.where(seen.last, new, old), begun, (inner, seen.obs))
                return _put(state.states, index, after), _put(state.observations, index, shown), seen.reward

            return of_task

        states, observations, reward = jax.lax.switch(state.active, [within(i) for i in range(len(worlds))], state)
        switches = state.clock + 1 >= config.tau
        following = (state.active + 1) % len(worlds)
        if config.order == "random":
            following = jax.random.randint(switch_key, (), 0, len(worlds), jnp.int32)
        after = SwitchingState(
            jnp.where(switches, following, state.active),
            jnp.where(switches, 0, state.clock + 1),
            states,
            observations,
            state.tasks,
        )
        return after, TimeStep(_shown(after), reward, jnp.ones((), jnp.float32), jnp.zeros((), jnp.bool_))

    name = f"switching({', '.join(world.name for world in worlds)}; τ={config.tau}, {config.order})"
    return Environment(name, worlds[0].actions, ENDLESS, reset, step, sample_task)


def _shown(state: SwitchingState) -> PyTree:
    """The observation of the task that is on."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves)[state.active], *state.observations)


def _put(entries: tuple[Any, ...], index: int, entry: Any) -> tuple[Any, ...]:
    return (*entries[:index], entry, *entries[index + 1 :])


def _refuse_differences(worlds: Sequence[Environment]) -> None:
    first, *others = worlds
    example = _observation(first)
    for world in others:
        shown = _observation(world)
        if world.actions != first.actions:
            raise BadInput(
                f"environments: {first.name} has actions {first.actions}, {world.name} {world.actions}; "
                "must be the same"
            )
        if _layout(shown) != _layout(example):
            raise BadInput(
                f"environments: {first.name} has observations {_words(example)}, {world.name} {_words(shown)}; "
                "must be the same"
            )


def _observation(world: Environment) -> PyTree:
    """The shapes and types of what it shows."""

    def first(key: Key[Array, ""]) -> PyTree:
        task_key, reset_key = jax.random.split(key)
        return world.reset(reset_key, world.sample_task(task_key))[1]

    return jax.eval_shape(first, jax.random.key(0))


def _layout(observation: PyTree) -> Any:
    return jax.tree.structure(observation), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(observation)]


def _words(observation: PyTree) -> str:
    return ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(observation))
