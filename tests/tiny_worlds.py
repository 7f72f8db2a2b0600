"""Worlds small enough that every return is known by counting."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tutelage.envs.environment import Discrete, Environment, TimeStep


class CountState(NamedTuple):
    task: jax.Array
    time: jax.Array


def counting(*, truncates: bool = False, horizon: int = 6) -> Environment:
    """The task is an int n: the episode ends after n steps (or `horizon`). The reward of step t (from 0) is 10·n + t.

    The observation is (n, t), so a rollout can be checked by reading it. Ends are truncations if `truncates`.
    """

    def observe(state):
        return jnp.stack([state.task, state.time]).astype(jnp.float32)

    def reset(key, task):
        state = CountState(task, jnp.zeros((), jnp.int32))
        return state, observe(state)

    def step(key, state, action):
        after = state._replace(time=state.time + 1)
        last = after.time >= jnp.minimum(state.task, horizon)
        reward = (10 * state.task + state.time).astype(jnp.float32)
        discount = jnp.where(last & (not truncates), 0.0, 1.0)
        return after, TimeStep(observe(after), reward, discount, last)

    return Environment(
        name="counting",
        actions=Discrete(3),
        horizon=horizon,
        reset=reset,
        step=step,
        sample_task=lambda key: jax.random.randint(key, (), 1, horizon + 1),
        truncates=truncates,
    )


class RecallState(NamedTuple):
    symbol: jax.Array
    time: jax.Array


def recall(*, delay: int = 3, symbols: int = 2) -> Environment:
    """A symbol (the task) is shown at the first step only; after `delay` more steps, naming it pays 1, else 0.

    Without memory nothing beats 1/`symbols` on average.
    """

    def observe(state):
        shown = jnp.where(state.time == 0, jax.nn.one_hot(state.symbol, symbols), 0.0)
        return jnp.concatenate([shown, (state.time == delay)[None].astype(jnp.float32)])

    def reset(key, task):
        state = RecallState(task, jnp.zeros((), jnp.int32))
        return state, observe(state)

    def step(key, state, action):
        after = state._replace(time=state.time + 1)
        last = state.time == delay
        reward = jnp.where(last & (action == state.symbol), 1.0, 0.0)
        return after, TimeStep(observe(after), reward, 1.0 - last.astype(jnp.float32), last)

    return Environment(
        name="recall",
        actions=Discrete(symbols),
        horizon=delay + 1,
        reset=reset,
        step=step,
        sample_task=lambda key: jax.random.randint(key, (), 0, symbols),
    )
