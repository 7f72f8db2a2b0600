"""Random neighbours of an object in any environment: take its last steps back and build it up again at random."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from tutelage.gflownets.environment import Environment, Objects, State


def regrowth(environment: Environment, most_steps: int) -> Callable[[Key[Array, ""], Objects], Objects]:
    """`Problem.mutate` for environments with no better one: `(key, objects [n, …]) -> objects [n, …]`.

    Between 1 and `most_steps` steps are taken back by the backward policy, after the one that ended the object; then
    uniform legal actions complete it. Every result is a valid object. Not symmetric: objects with few ways on are
    reached more often than they are left.
    """
    source = environment.source()

    def one(key: Key[Array, ""], finished: Objects) -> Objects:
        k_steps, k_back, k_forth = jax.random.split(key, 3)
        steps = 1 + jax.random.randint(k_steps, (), 1, most_steps + 1)

        def back(index: Array, state: State) -> State:
            before, _ = environment.retrace(jax.random.fold_in(k_back, index), state)
            stays = (index >= steps) | _same(state, source)
            return jax.tree.map(lambda old, new: jnp.where(stays, old, new), state, before)

        def forth(carry: tuple[Array, State]) -> tuple[Array, State]:
            index, state = carry
            logits = jnp.where(environment.mask(state), 0.0, -jnp.inf)
            action = jax.random.categorical(jax.random.fold_in(k_forth, index), logits)
            return index + 1, environment.step(state, action)

        start = jax.lax.fori_loop(0, most_steps + 1, back, environment.terminal(finished))
        _, state = jax.lax.while_loop(
            lambda carry: ~environment.done(carry[1]), forth, (jnp.zeros((), jnp.int32), start)
        )
        return environment.object_of(state)

    def mutate(key: Key[Array, ""], objects: Objects) -> Objects:
        number = jax.tree.leaves(objects)[0].shape[0]
        return jax.vmap(one)(jax.random.split(key, number), objects)

    return mutate


def regrown_variation(environment: Environment, most_steps: int) -> Callable[..., Objects]:
    """`Problem.variation` without crossover: the child of an object and its partner is one of them, mutated."""
    mutate = regrowth(environment, most_steps)

    def variation(key: Key[Array, ""], objects: Objects, partners: Objects) -> Objects:
        k_which, k_mutate = jax.random.split(key)
        number = jax.tree.leaves(objects)[0].shape[0]
        first = jax.random.bernoulli(k_which, shape=(number,))
        chosen = jax.tree.map(
            lambda one, other: jnp.where(first.reshape(-1, *[1] * (one.ndim - 1)), one, other), objects, partners
        )
        return mutate(k_mutate, chosen)

    return variation


def _same(state: State, other: State) -> Bool[Array, ""]:
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True)
    return jnp.stack([(one == two).all() for one, two in pairs]).all()
