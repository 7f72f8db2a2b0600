"""Populations of evaluated objects: which members are different, and which answer a preference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.environment import Environment, Objects
from tutelage.gflownets.objectives import log_scalar
from tutelage.gflownets.rollout import draw_action, sources, where_rows

SCORED_TOGETHER = 256
"""Requests whose members are scored side by side, so that requests × members never stand in memory at once."""


def uniform_objects(key: Key[Array, ""], environment: Environment, number: int) -> Objects:
    """`number` objects of trajectories whose every action is a uniform legal one; ends when the last is done."""

    def act(carry: tuple) -> tuple:
        t, state, done = carry
        legal = jax.vmap(environment.mask)(state)
        action = draw_action(jax.random.fold_in(key, t), jnp.zeros(legal.shape, jnp.float32), legal)
        state = where_rows(done, state, jax.vmap(environment.step)(state, action))
        return t + 1, state, jax.vmap(environment.done)(state)

    state = sources(environment, number)
    start = jnp.zeros((), jnp.int32), state, jax.vmap(environment.done)(state)
    return jax.vmap(environment.object_of)(jax.lax.while_loop(lambda carry: ~carry[2].all(), act, start)[1])


def equal(objects: Objects, others: Objects) -> Bool[Array, "n m"]:
    """Which of n objects is which of m others."""
    one, other = _rows(objects), _rows(others)
    return (one[:, None, :] == other[None, :, :]).all(axis=-1)


def first_of_equals(objects: Objects, among: Bool[Array, "n"] | None = None) -> Bool[Array, "n"]:
    """The rows of `among` (all) without those for which an earlier row of it holds the same object."""
    same = equal(objects, objects)
    among = jnp.ones(same.shape[0], jnp.bool_) if among is None else among
    return among & ~(same & among & jnp.tri(same.shape[0], k=-1, dtype=jnp.bool_)).any(axis=1)


def places(preference: Float[Array, "n M"]) -> Int[Array, "n"]:
    """Of each row, how many rows before it ask for the same preference."""
    number = preference.shape[0]
    order = jnp.lexsort((jnp.arange(number), *preference.T))
    ordered = preference[order]
    rows = jnp.arange(number)
    starts = jnp.concatenate([jnp.ones(1, jnp.bool_), (ordered[1:] != ordered[:-1]).any(axis=1)])
    start = jax.lax.cummax(jnp.where(starts, rows, 0))
    return jnp.zeros(number, jnp.int32).at[order].set((rows - start).astype(jnp.int32))


def best_members(
    rewards: Float[Array, "K M"], usable: Bool[Array, "K"], preference: Float[Array, "n M"], scalarisation: str
) -> Int[Array, "n"]:
    """The member that answers each request.

    The first request for a preference gets the usable member with the highest R(x | w), the second the next best, and
    so on, round again when there are no more. So many requests get as many different objects as there are: the answer
    that serves a population best under hypervolume, top-k reward and diversity alike. Of equal scores the earlier
    member comes first. `usable` marks each object once; where it marks none, the first member answers.
    """
    rank = places(preference) % jnp.maximum(usable.sum(), 1)

    def one(request: tuple) -> Int[Array, ""]:
        weights, place = request
        score = log_scalar(rewards, jnp.broadcast_to(weights, rewards.shape), scalarisation)
        return jnp.argsort(jnp.where(usable, -score, jnp.inf), stable=True)[place].astype(jnp.int32)

    return jax.lax.map(one, (preference, rank), batch_size=min(SCORED_TOGETHER, preference.shape[0]))


def pareto_rank(rewards: Float[Array, "K M"], usable: Bool[Array, "K"]) -> Int[Array, "K"]:
    """0 for the non-dominated members (larger is better), 1 for those that only they dominate, …; K where unusable."""
    number = rewards.shape[0]
    at_least = (rewards[:, None, :] >= rewards[None, :, :]).all(axis=-1)
    dominates = at_least & ~at_least.T & usable[:, None]

    def peel(carry: tuple) -> tuple:
        rank, left, front = carry
        now = left & ~(dominates & left[:, None]).any(axis=0)
        return jnp.where(now, front, rank), left & ~now, front + 1

    start = jnp.full(number, number, jnp.int32), usable, jnp.zeros((), jnp.int32)
    rank, _, _ = jax.lax.while_loop(lambda carry: carry[1].any(), peel, start)
    return rank


def _rows(objects: Objects) -> Int[Array, "n L"]:
    leaves = jax.tree.leaves(objects)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)
