"""The best edits of each start that a round of active learning has come across, for its sampler to learn from again.

On its own samples alone a sampler of edits was seen to end in a few objects. Trajectory
balance may learn from any trajectory, so part of each batch is built backwards from these (prioritised replay as in
Shen et al. (2023), Towards Understanding and Improving GFlowNet Training, arXiv 2305.07170, here for each start).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

EMPTY = -jnp.inf
"""The value of a slot that holds nothing."""
SURPLUS = 8
"""The elites are the best different ones among so many times their number of the best."""


class Elites(NamedTuple):
    """K slots for each of P starts.

    Attributes:
        objects: int32 [P, K, L], different ones for each start.
        value: log a(x), f32 [P, K], the largest first; `EMPTY` where nothing is.
    """

    objects: Int[Array, "P K L"]
    value: Float[Array, "P K"]


def no_elites(starts: int, slots: int, length: int) -> Elites:
    """Empty slots."""
    return Elites(jnp.full((starts, slots, length), -1, jnp.int32), jnp.full((starts, slots), EMPTY, jnp.float32))


def insert(
    elites: Elites, start: Int[Array, "n"], objects: Int[Array, "n L"], value: Float[Array, "n"], lowest: float
) -> Elites:
    """The best K of what is there and of n more, an object once for each start.

    Args:
        start: which of the P each came from.
        lowest: values that are not above it do not count.
    """
    slots = elites.value.shape[1]

    def of_start(
        index: Int[Array, ""], kept: Int[Array, "K L"], of_kept: Float[Array, "K"]
    ) -> tuple[Int[Array, "K L"], Float[Array, "K"]]:
        every = jnp.concatenate([kept, objects])
        worth = jnp.concatenate([of_kept, jnp.where((start == index) & (value > lowest), value, EMPTY)])
        # Of many, most cannot be among the best: to compare all of them with each other would take n² L.
        worth, row = jax.lax.top_k(worth, min(SURPLUS * slots, len(worth)))
        every = every[row]
        equal = jnp.all(every[:, None] == every, axis=-1) & (worth > EMPTY)
        earlier = jnp.any(jnp.tril(equal, -1), axis=1)
        best, row = jax.lax.top_k(jnp.where(earlier, EMPTY, worth), slots)
        return every[row], best

    return Elites(*jax.vmap(of_start)(jnp.arange(elites.value.shape[0]), elites.objects, elites.value))


def draw(elites: Elites, key: Key[Array, ""], start: Int[Array, "n"]) -> tuple[Int[Array, "n L"], Bool[Array, "n"]]:
    """An elite of each start, uniformly, and whether it has any, without which the row means nothing."""
    filled = jnp.sum(elites.value > EMPTY, axis=1)[start]
    slot = jax.random.randint(key, start.shape, 0, jnp.maximum(filled, 1))
    return elites.objects[start, slot], filled > 0
