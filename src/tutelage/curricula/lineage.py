"""Where the levels of a buffer came from: who was edited into whom, back to the random level at the root.

A parent may have left the buffer long before its descendants, so each level carries copies of its own ancestors: the
root, and the most recent ones.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from tutelage.envs.environment import Task


class Lineage(NamedTuple):
    """The descent of the level in each of K slots. Empty slots are all −1.

    Attributes:
        id: the level's number; numbers are given in order of insertion, each once.
        parent: id of the level it was edited from; −1 for a level that was made from nothing.
        generation: how many times edited since the level made from nothing.
        born: the cycle in which it was inserted.
        ancestors: leaves [K, D, ...], the level's ancestors, oldest first: generations 0, 1, … while they fit; of a
            longer descent the first (generation 0) and the last D − 1. None when no ancestors are kept.
        next_id: the number that the next level will get.
    """

    id: Int[Array, "K"]
    parent: Int[Array, "K"]
    generation: Int[Array, "K"]
    born: Int[Array, "K"]
    ancestors: Task | None
    next_id: Int[Array, ""]


class Ancestor(NamedTuple):
    """One level of a descent, for reading outside compiled code."""

    generation: int
    level: Task


def no_lineage(example: Task, num_slots: int, pedigree: int) -> Lineage:
    """The lineage of `num_slots` empty slots, with room for `pedigree` ancestors of each level."""

    def nobody() -> Int[Array, "K"]:
        return jnp.full(num_slots, -1, jnp.int32)

    ancestors = None
    if pedigree > 0:
        ancestors = jax.tree.map(lambda leaf: jnp.zeros((num_slots, pedigree, *leaf.shape), leaf.dtype), example)
    return Lineage(nobody(), nobody(), nobody(), nobody(), ancestors, jnp.zeros((), jnp.int32))


def descend(
    lineage: Lineage, level: Task, slot: Int[Array, "n"], parent: Int[Array, "n"], born: Int[Array, ""]
) -> Lineage:
    """The lineage after n levels were written into the buffer, in this order.

    Args:
        level: the buffer's levels as they were *before* (leaves [K, ...]), which hold the parents.
        slot: where each was written; K or more for one that was not.
        parent: the slot of its parent before; −1 if it has none.
    """
    num_slots = lineage.id.shape[0]
    is_written = slot < num_slots
    number = lineage.next_id + jnp.cumsum(is_written, dtype=jnp.int32) - 1
    is_child = parent >= 0
    generation = jnp.where(is_child, lineage.generation[parent] + 1, 0)

    def write(old: Array, new: Array) -> Array:
        return old.at[slot].set(new, mode="drop")

    ancestors = lineage.ancestors
    if ancestors is not None:

        def append(history: Array, mother: Array) -> Array:
            depth = history.shape[1]
            own = history[parent]
            # The mother is of the generation before: next in line, or at the end of a line which gave up its second.
            shifted = own if depth == 1 else jnp.concatenate([own[:, :1], own[:, 2:], own[:, -1:]], axis=1)
            place = generation - 1
            is_full = place >= depth
            row = jnp.arange(own.shape[0])
            kept = jnp.where(is_full.reshape(-1, *[1] * (own.ndim - 1)), shifted, own)
            # A line of one keeps the root alone.
            target = jnp.where(is_full, depth - 1 if depth > 1 else depth, place)
            target = jnp.where(is_child, target, depth)
            return write(history, kept.at[row, target].set(mother[parent], mode="drop"))

        ancestors = jax.tree.map(append, ancestors, level)
    return Lineage(
        id=write(lineage.id, number),
        parent=write(lineage.parent, jnp.where(is_child, lineage.id[parent], -1)),
        generation=write(lineage.generation, generation),
        born=write(lineage.born, jnp.full_like(slot, 0) + born),
        ancestors=ancestors,
        next_id=lineage.next_id + is_written.sum(dtype=jnp.int32),
    )


def descent(lineage: Lineage, level: Task, slot: int) -> list[Ancestor]:
    """The level in `slot` and its ancestors, the oldest first: what a gallery shows. Not for compiled code.

    Where the descent is longer than the pedigree the numbers of the generations have a gap after the root.
    """
    generation = int(lineage.generation[slot])
    own = Ancestor(generation, jax.tree.map(lambda leaf: leaf[slot], level))
    if lineage.ancestors is None or generation <= 0:
        return [own]
    depth = jax.tree.leaves(lineage.ancestors)[0].shape[1]
    kept = range(generation) if generation <= depth else [0, *range(generation - depth + 1, generation)]
    return [
        *(
            Ancestor(number, jax.tree.map(lambda leaf, place=place: leaf[slot, place], lineage.ancestors))
            for place, number in enumerate(kept)
        ),
        own,
    ]
