"""Batched trajectories: forward under a policy until the whole batch is done, backward from finished objects."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.condition import Condition
from tutelage.gflownets.environment import Environment, Objects, State
from tutelage.gflownets.policy import Policy
from tutelage.gflownets.trajectories import Trajectories

NOISE_AHEAD = 1 << 19
"""Up to so many random numbers are drawn before a rollout, beyond it in each step."""


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
    keep_outputs: bool = False,
) -> Trajectories:
    """One trajectory for each condition; no gradient passes. It ends as soon as the last of them is done.

    Args:
        encoded: the conditions as the policy reads them (`condition.encode`).
        epsilon: probability with which an action is replaced by a uniform legal one.
        start: [B, …], the source for all of them unless given.
        keep_outputs: put down what the policy says of the steps (`Trajectories.log_pf`), for its own next update.
    """
    batch, length = encoded.shape[0], environment.max_steps
    shape = (batch, environment.num_actions)
    start = sources(environment, batch) if start is None else start

    def of_step(t: Int[Array, ""]) -> Noise:
        return draw_noise(jax.random.fold_in(key, t), shape, epsilon, encoded.dtype)

    # Random numbers of one step cost more to set up than to draw: draw those of all steps at once while they are few.
    few = length * shape[0] * shape[1] <= NOISE_AHEAD
    ahead = draw_noise(key, (length, *shape), epsilon, encoded.dtype) if few else None

    def going(loop: tuple) -> Bool[Array, ""]:
        t, *_, finished, _ = loop
        return (t < length) & ~finished.all()

    def body(loop: tuple) -> tuple:
        t, carry, state, finished, record = loop
        observation, mask = jax.vmap(environment.observe)(state), jax.vmap(environment.mask)(state)
        carry, outputs = policy.step(carry, observation, encoded)
        noise = of_step(t) if ahead is None else jax.tree.map(lambda leaf: leaf[t], ahead)
        action = choose(outputs.logits, mask, noise)
        # A finished row still gets an action, which is not taken; −1 says so until the end.
        now = [jnp.where(finished, -1, action)]
        if keep_outputs:
            now += [chosen_log_prob(outputs.logits, mask, action), outputs.log_flow]
        record = [jax.lax.dynamic_update_index_in_dim(rows, row, t, axis=0) for rows, row in zip(record, now)]
        state = where_rows(finished, state, jax.vmap(environment.step)(state, action))
        return t + 1, carry, state, finished | jax.vmap(environment.done)(state), record

    policy, encoded = jax.lax.stop_gradient((policy, encoded))
    finished = jax.vmap(environment.done)(start)
    record = [jnp.full((length, batch), -1, jnp.int32)]
    record += [jnp.zeros((length, batch), encoded.dtype)] * 2 if keep_outputs else []
    loop = (jnp.zeros((), jnp.int32), policy.start(encoded), start, finished, record)
    _, _, state, _, (actions, *outputs) = jax.lax.while_loop(going, body, loop)
    objects = jax.vmap(environment.object_of)(state)
    kept = [rows.T for rows in outputs]
    return Trajectories(start, jnp.maximum(actions, 0).T, (actions >= 0).T, condition, objects, *kept)


class Noise(NamedTuple):
    """What decides the actions of N states: Gumbel noise [*, N, A], and whether to explore, bool [*, N]."""

    gumbel: Float[Array, "*steps N A"]
    explore: Bool[Array, "*steps N"]


def draw_noise(key: Key[Array, ""], shape: tuple[int, ...], epsilon: float, dtype: Any = jnp.float32) -> Noise:
    """Noise of that shape [*, N, A]; exploring with probability ε."""
    k_action, k_explore = jax.random.split(key)
    return Noise(
        jax.random.gumbel(k_action, shape, dtype), jax.random.uniform(k_explore, shape[:-1], jnp.float32) < epsilon
    )


def choose(logits: Float[Array, "N A"], mask: Bool[Array, "N A"], noise: Noise) -> Int[Array, "N"]:
    """A legal action of each row: a uniform one where it explores, otherwise one in proportion to exp(logit).

    The largest of logit + Gumbel noise is distributed as the softmax, which need not be computed for it.
    """
    logits = jnp.where(noise.explore[:, None], 0.0, logits)
    return jnp.argmax(jnp.where(mask, logits + noise.gumbel, -jnp.inf), axis=-1).astype(jnp.int32)


def draw_action(
    key: Key[Array, ""], logits: Float[Array, "N A"], mask: Bool[Array, "N A"], epsilon: float = 0.0
) -> Int[Array, "N"]:
    """`choose` with fresh noise."""
    return choose(logits, mask, draw_noise(key, logits.shape, epsilon, logits.dtype))


def chosen_log_prob(
    logits: Float[Array, "*batch A"], mask: Bool[Array, "*batch A"], action: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """log softmax of the legal logits, of one action each. Rows without a legal action give something finite."""
    mask = mask | ~mask.any(axis=-1, keepdims=True)
    legal = jnp.where(mask, logits, -jnp.inf)
    chosen = action[..., None] == jnp.arange(logits.shape[-1], dtype=action.dtype)
    return jnp.sum(jnp.where(chosen, legal, 0.0), axis=-1) - jax.nn.logsumexp(legal, axis=-1)


def backward_rollout(
    environment: Environment,
    key: Key[Array, ""],
    objects: Objects,
    condition: Condition,
    *,
    start: State | None = None,
    terminal: State | None = None,
) -> Trajectories:
    """One trajectory to each object, drawn from the backward policy.

    Args:
        start: [B, …], the states at which to end (the source unless given); each must be an ancestor of its object.
        terminal: [B, …], the states in which the objects are complete, where the objects alone do not tell.
    """
    state = jax.vmap(environment.terminal)(objects) if terminal is None else terminal
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
