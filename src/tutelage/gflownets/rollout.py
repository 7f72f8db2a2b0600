"""Batched trajectories: forward under a policy until the whole batch is done, backward from finished objects."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.condition import Condition
from tutelage.gflownets.environment import Environment, Objects, State
from tutelage.gflownets.policy import Policy
from tutelage.gflownets.trajectories import Trajectories


def sources(environment: Environment, number: int) -> State:
    """The source, `number` times: [number, …]."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *jnp.shape(leaf))), environment.source())


def rollout(
    policy: Policy,
    environment: Environment,
    key: Key[Array, ""],
    condition: Condition,
    encoded: Float[Array, "B C"],
    *,
    epsilon: float = 0.0,
    start: State | None = None,
) -> Trajectories:
    """One trajectory for each condition; no gradient passes. It ends as soon as the last of them is done.

    Args:
        encoded: the conditions as the policy reads them (`condition.encode`).
        epsilon: probability with which an action is replaced by a uniform legal one.
        start: [B, …], the source for all of them unless given.
    """
    batch, length = encoded.shape[0], environment.max_steps
    start = sources(environment, batch) if start is None else start

    def going(loop: tuple) -> Bool[Array, ""]:
        t, *_, finished, _ = loop
        return (t < length) & ~finished.all()

    def body(loop: tuple) -> tuple:
        t, carry, state, finished, actions = loop
        observation, mask = jax.vmap(environment.observe)(state), jax.vmap(environment.mask)(state)
        carry, outputs = policy.step(carry, observation, encoded)
        action = draw_action(jax.random.fold_in(key, t), outputs.logits, mask, epsilon)
        # A finished row still gets an action, which is not taken; −1 says so until the end.
        actions = jax.lax.dynamic_update_index_in_dim(actions, jnp.where(finished, -1, action), t, axis=0)
        state = where_rows(finished, state, jax.vmap(environment.step)(state, action))
        return t + 1, carry, state, finished | jax.vmap(environment.done)(state), actions

    policy, encoded = jax.lax.stop_gradient((policy, encoded))
    finished = jax.vmap(environment.done)(start)
    actions = jnp.full((length, batch), -1, jnp.int32)
    loop = (jnp.zeros((), jnp.int32), policy.start(encoded), start, finished, actions)
    _, _, state, _, actions = jax.lax.while_loop(going, body, loop)
    valid = (actions >= 0).T
    return Trajectories(start, jnp.maximum(actions, 0).T, valid, condition, jax.vmap(environment.object_of)(state))


def draw_action(
    key: Key[Array, ""], logits: Float[Array, "B A"], mask: Bool[Array, "B A"], epsilon: float = 0.0
) -> Int[Array, "B"]:
    """A legal action of each row: with probability ε a uniform one, otherwise one in proportion to exp(logit)."""
    k_action, k_explore = jax.random.split(key)
    if epsilon > 0:
        explore = jax.random.uniform(k_explore, logits.shape[:1]) < epsilon
        logits = jnp.where(explore[:, None], 0.0, logits)
    # The largest of logit + Gumbel noise is distributed as the softmax, which need not be computed for it.
    noisy = jnp.where(mask, logits + jax.random.gumbel(k_action, logits.shape, logits.dtype), -jnp.inf)
    return jnp.argmax(noisy, axis=-1).astype(jnp.int32)


def backward_rollout(
    environment: Environment,
    key: Key[Array, ""],
    objects: Objects,
    condition: Condition,
    *,
    start: State | None = None,
) -> Trajectories:
    """One trajectory to each object, drawn from the backward policy.

    Args:
        start: [B, …], the states at which to end (the source unless given); each must be an ancestor of its object.
    """
    state = jax.vmap(environment.terminal)(objects)
    batch, length = jax.tree.leaves(state)[0].shape[0], environment.max_steps
    start = sources(environment, batch) if start is None else start

    def going(loop: tuple) -> Bool[Array, ""]:
        i, _, finished, _ = loop
        return (i < length) & ~finished.all()

    def body(loop: tuple) -> tuple:
        i, state, finished, actions = loop
        keys = jax.random.split(jax.random.fold_in(key, i), batch)
        before, action = jax.vmap(environment.retrace)(keys, state)
        actions = jax.lax.dynamic_update_index_in_dim(actions, jnp.where(finished, -1, action), length - 1 - i, axis=0)
        state = where_rows(finished, state, before)
        return i + 1, state, equal_rows(state, start), actions

    actions = jnp.full((length, batch), -1, jnp.int32)
    loop = (jnp.zeros((), jnp.int32), state, equal_rows(state, start), actions)
    _, _, _, actions = jax.lax.while_loop(going, body, loop)
    # They were written from the end: move each row to the front.
    actions = actions.T
    taken = (actions >= 0).sum(axis=1, keepdims=True)
    place = jnp.arange(length) + (length - taken)
    valid = jnp.arange(length) < taken
    action = jnp.where(valid, jnp.take_along_axis(actions, jnp.minimum(place, length - 1), axis=1), 0)
    return Trajectories(start, action, valid, condition, objects)


def where_rows(rows: Bool[Array, "B"], yes: Any, no: Any) -> Any:
    """Row by row one pytree or the other, both [B, …]."""
    return jax.tree.map(lambda y, n: jnp.where(rows.reshape(-1, *[1] * (y.ndim - 1)), y, n), yes, no)


def equal_rows(one: State, other: State) -> Bool[Array, "B"]:
    """Which rows of two pytrees [B, …] are equal in every leaf."""
    same = [(a == b).reshape(a.shape[0], -1).all(axis=1) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other))]
    return jnp.stack(same).all(axis=0)
