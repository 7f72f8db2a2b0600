"""Environments of a dozen states, for ground truths by hand and by walking every path."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tutelage.gflownets.environment import Environment


class Place(NamedTuple):
    height: jax.Array
    over: jax.Array


def stairs(top: int = 6, share: float = 0.7, jump: int = 2) -> Environment:
    """Climb by one step or by `jump`, or stop: states have several depths, and P_B is not uniform.

    A place that both can lead to was reached by a jump with probability `share`.
    """

    def step(state, action):
        return Place(state.height + jnp.array([1, jump, 0])[action], action == 2)

    def log_pb(state, action, after):
        by_action = jnp.log(jnp.array([1 - share, share, 1.0]))[action]
        return jnp.where((action == 2) | (after.height < jump), 0.0, by_action)

    def retrace(key, after):
        jumped = (after.height >= jump) & jax.random.bernoulli(key, share)
        action = jnp.where(after.over, 2, jumped.astype(jnp.int32))
        return Place(after.height - jnp.array([1, jump, 0])[action], jnp.zeros((), bool)), action

    return Environment(
        num_actions=3,
        max_steps=top + 1,
        source=lambda: Place(jnp.zeros((), jnp.int32), jnp.zeros((), bool)),
        mask=lambda state: jnp.array([state.height < top, state.height < top + 1 - jump, True]),
        step=step,
        done=lambda state: state.over,
        log_pb=log_pb,
        retrace=retrace,
        observe=lambda state: jax.nn.one_hot(state.height, top + 1),
        object_of=lambda state: state.height[None],
        terminal=lambda value: Place(value[0], jnp.ones((), bool)),
    )


def every_path(children: np.ndarray, state: int = 0):
    """All ways from a state to where no action is legal: lists of (state, action, child)."""
    legal = np.flatnonzero(children[state] >= 0)
    if len(legal) == 0:
        yield []
    for action in legal:
        child = int(children[state, action])
        for rest in every_path(children, child):
            yield [(state, int(action), child), *rest]
