"""The level buffer of Prioritized Level Replay, as a value: what is in it, its replay distribution, and how it changes.

    P = (1 − ρ) · P_S + ρ · P_C        over the filled slots
    P_S ∝ (1 / rank)^(1/β)             rank 1 is the highest score
    P_C ∝ age                          draws since the level was last drawn or inserted; P_S while all ages are 0

References: Jiang, Grefenstette & Rocktäschel (2021), Prioritized Level Replay, arXiv 2010.03934; Jiang et al. (2021),
Replay-Guided Adversarial Environment Design, arXiv 2110.02439; minimax (2023), arXiv 2311.12716, for the batch order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.curricula.config import ReplayConfig
from tutelage.curricula.lineage import Lineage, descend, no_lineage
from tutelage.envs.environment import Task

NOWHERE = -1
"""The slot of a level that is not in the buffer, and the parent of a level that has none."""


class Buffer(NamedTuple):
    """K slots, filled from the first on and never emptied.

    Attributes:
        level: leaves [K, ...].
        score: −∞ in an empty slot.
        max_return: largest return ever obtained on the level; −∞ until an episode was completed there.
        age: draws from the buffer since the level was last drawn or inserted.
        replays: how often it was drawn.
        size: filled slots.
        lineage: where each level came from.
    """

    level: Task
    score: Float[Array, "K"]
    max_return: Float[Array, "K"]
    age: Int[Array, "K"]
    replays: Int[Array, "K"]
    size: Int[Array, ""]
    lineage: Lineage

    @property
    def num_slots(self) -> int:
        """K."""
        return self.score.shape[0]

    @property
    def filled(self) -> Bool[Array, "K"]:
        """Whether a slot holds a level."""
        return jnp.arange(self.num_slots) < self.size


class Batch(NamedTuple):
    """n levels to be inserted, with what is known about each."""

    level: Task
    score: Float[Array, "n"]
    max_return: Float[Array, "n"]
    parent: Int[Array, "n"]


class Inserted(NamedTuple):
    """What became of a batch: the slot where each row's level is now (or `NOWHERE`), and whether it was known already.

    A duplicate has its original's slot at the time; a level that a later row pushed out again is `NOWHERE`.
    """

    slot: Int[Array, "n"]
    duplicate: Bool[Array, "n"]


def empty(example: Task, num_slots: int, *, pedigree: int = 0) -> Buffer:
    """A buffer of `num_slots` empty slots for levels like `example`, each with up to `pedigree` ancestors."""
    return Buffer(
        level=jax.tree.map(lambda leaf: jnp.zeros((num_slots, *leaf.shape), leaf.dtype), example),
        score=jnp.full(num_slots, -jnp.inf, jnp.float32),
        max_return=jnp.full(num_slots, -jnp.inf, jnp.float32),
        age=jnp.zeros(num_slots, jnp.int32),
        replays=jnp.zeros(num_slots, jnp.int32),
        size=jnp.zeros((), jnp.int32),
        lineage=no_lineage(example, num_slots, pedigree),
    )


def weights(buffer: Buffer, config: ReplayConfig) -> Float[Array, "K"]:
    """The replay distribution P; sums to 1, empty slots are 0 (an empty buffer is all 0)."""
    return _mix(_strength(buffer, config), buffer.age, buffer.filled, config)


def sample(buffer: Buffer, key: Key[Array, ""], num_draws: int, config: ReplayConfig) -> Int[Array, "n"]:
    """Slots of `num_draws` levels, drawn one after another: each draw ages the others and makes its own level young.

    The buffer is not changed; `visit` leaves it as it is after these draws. It must not be empty.
    """
    strength = _strength(buffer, config)
    filled = buffer.filled

    def draw(age, uniform):
        cumulative = jnp.cumsum(_mix(strength, age, filled, config))
        # Filled slots come first, so that the clip only ever meets rounding at the very end of the distribution.
        slot = jnp.searchsorted(cumulative, uniform * cumulative[-1], side="right")
        slot = jnp.minimum(slot.astype(jnp.int32), buffer.size - 1)
        return (age + filled).at[slot].set(0), slot

    _, slots = jax.lax.scan(draw, buffer.age, jax.random.uniform(key, (num_draws,)))
    return slots


def visit(buffer: Buffer, slots: Int[Array, "n"]) -> Buffer:
    """The buffer after its levels in `slots` were drawn in this order."""
    num_draws = slots.shape[0]
    older = grow_older(buffer, num_draws)
    # Whoever is drawn i-th is young again and ages with the draws that follow; of two draws the later one counts.
    age_after = jnp.arange(num_draws - 1, -1, -1, dtype=jnp.int32)
    return older._replace(age=older.age.at[slots].min(age_after), replays=older.replays.at[slots].add(1))


def grow_older(buffer: Buffer, num_draws: int | Int[Array, ""]) -> Buffer:
    """The buffer after `num_draws` levels came from elsewhere."""
    return buffer._replace(age=buffer.age + num_draws * buffer.filled)


def update(buffer: Buffer, slots: Int[Array, "n"], score: Float[Array, "n"], max_return: Float[Array, "n"]) -> Buffer:
    """New scores for levels which are in the buffer; the largest return is kept, never overwritten.

    A row of score −∞ (no completed episode) says nothing and changes nothing. Of several rows for one slot the last
    counts, as if they came one by one.
    """
    known = score > -jnp.inf
    row = jnp.arange(slots.shape[0])
    superseded = ((slots[:, None] == slots[None, :]) & known[None, :] & (row[:, None] < row[None, :])).any(axis=1)
    aside = buffer.num_slots
    return buffer._replace(
        score=buffer.score.at[jnp.where(known & ~superseded, slots, aside)].set(score, mode="drop"),
        max_return=buffer.max_return.at[jnp.where(known, slots, aside)].max(max_return, mode="drop"),
    )


def insert(
    buffer: Buffer,
    batch: Batch,
    config: ReplayConfig,
    *,
    equal: Callable[[Task, Task], Bool[Array, ""]] | None,
    born: Int[Array, ""],
) -> tuple[Buffer, Inserted]:
    """Offer the levels of a batch one after another.

    A level that is in the buffer already (by `equal`, unless that is None) updates it in place. Another takes the next
    free slot or, when there is none, the slot of smallest P if its score is at least the score there (`uniform`: the
    slot of the oldest level, whatever the scores). A row of score −∞ is ignored. An inserted level has age 0.

    This is exactly the sequential procedure, but ranks and ages are carried from row to row (O(K) each) where sorting
    anew would cost O(K log K), and levels are compared and written once per batch.

    Args:
        batch: `parent` is the slot of each row's parent in `buffer`, or `NOWHERE`.
        born: the number of the cycle, kept with the level.
    """
    num_slots, num_rows = buffer.num_slots, batch.score.shape[0]
    aside = num_slots
    table = _rank_strength(num_slots, config)
    offered = batch.score > -jnp.inf
    original, earlier_twin = _duplicates(buffer, batch.level, equal)

    def place_row(carry: _Placing, row):
        index, score, max_return, is_offered, old_slot, twins = row
        twin_here = twins & (carry.slot_of_row >= 0)
        old_here = (old_slot >= 0) & (carry.row_in_slot[old_slot] < 0)
        duplicate = is_offered & (old_here | twin_here.any())
        known_slot = jnp.where(old_here, old_slot, carry.slot_of_row[jnp.argmax(twin_here)])

        free = carry.size < num_slots
        victim = jnp.where(free, carry.size, _victim(carry, table, config))
        worthy = free | (score >= carry.score[victim]) | (config.prioritisation == "uniform")
        inserted = is_offered & ~duplicate & worthy

        slot = jnp.where(duplicate, known_slot, victim)
        write_at = jnp.where(duplicate | inserted, slot, aside)
        insert_at = jnp.where(inserted, slot, aside)
        best = jnp.where(duplicate, jnp.maximum(carry.max_return[slot], max_return), max_return)
        evicted = carry.row_in_slot[slot]
        slot_of_row = carry.slot_of_row.at[jnp.where(inserted & (evicted >= 0), evicted, num_rows)].set(
            NOWHERE, mode="drop"
        )
        carry = _Placing(
            score=carry.score.at[write_at].set(score, mode="drop"),
            max_return=carry.max_return.at[write_at].set(best, mode="drop"),
            age=carry.age.at[insert_at].set(0, mode="drop"),
            order=_reorder(carry, slot, score, duplicate, inserted, config),
            row_in_slot=carry.row_in_slot.at[insert_at].set(index, mode="drop"),
            slot_of_row=slot_of_row.at[jnp.where(inserted, index, num_rows)].set(slot, mode="drop"),
            size=carry.size + (inserted & free),
        )
        return carry, (duplicate, known_slot)

    start = _Placing(
        score=buffer.score,
        max_return=buffer.max_return,
        age=buffer.age,
        order=_order(buffer, config),
        row_in_slot=jnp.full(num_slots, NOWHERE, jnp.int32),
        slot_of_row=jnp.full(num_rows, NOWHERE, jnp.int32),
        size=buffer.size,
    )
    rows = (jnp.arange(num_rows, dtype=jnp.int32), batch.score, batch.max_return, offered, original, earlier_twin)
    end, (duplicate, known_slot) = jax.lax.scan(place_row, start, rows)

    written = jnp.where(end.slot_of_row >= 0, end.slot_of_row, aside)

    def write(old: Array, new: Array) -> Array:
        return old.at[written].set(new, mode="drop")

    after = buffer._replace(
        level=jax.tree.map(write, buffer.level, batch.level),
        score=end.score,
        max_return=end.max_return,
        age=end.age,
        replays=write(buffer.replays, jnp.zeros(num_rows, jnp.int32)),
        size=end.size,
        lineage=descend(buffer.lineage, buffer.level, written, batch.parent, born),
    )
    return after, Inserted(slot=jnp.where(duplicate, known_slot, end.slot_of_row), duplicate=duplicate)


class _Placing(NamedTuple):
    """What `insert` carries from row to row.

    `order` is the rank of each slot by score (`rank`), or the sequence of insertion (`uniform`: the oldest is the
    smallest), or the same without being read (`proportional`).
    """

    score: Float[Array, "K"]
    max_return: Float[Array, "K"]
    age: Int[Array, "K"]
    order: Int[Array, "K"]
    row_in_slot: Int[Array, "K"]
    slot_of_row: Int[Array, "n"]
    size: Int[Array, ""]


def _rank(score: Float[Array, "K"]) -> Int[Array, "K"]:
    """1 for the highest score; of equal scores the one in the earlier slot ranks higher."""
    num_slots = score.shape[0]
    best_first = jnp.argsort(-score, stable=True)
    return jnp.zeros(num_slots, jnp.int32).at[best_first].set(jnp.arange(1, num_slots + 1, dtype=jnp.int32))


def _rank_strength(num_slots: int, config: ReplayConfig) -> Float[Array, "K"]:
    """(1 / rank)^(1/β) of ranks 1 … K."""
    return jnp.arange(1, num_slots + 1, dtype=jnp.float32) ** (-1 / config.temperature)


def _strength(buffer: Buffer, config: ReplayConfig) -> Float[Array, "K"]:
    """P_S before it is normalised; 0 in empty slots."""
    if config.prioritisation == "rank":
        strength = _rank_strength(buffer.num_slots, config)[_rank(buffer.score) - 1]
    else:
        strength = _score_strength(buffer.score, config)
    return jnp.where(buffer.filled, strength, 0.0)


def _score_strength(score: Float[Array, "K"], config: ReplayConfig) -> Float[Array, "K"]:
    if config.prioritisation == "uniform":
        return jnp.ones_like(score)
    # A score that cannot be negative may still be −1e-8 by rounding.
    return jnp.maximum(score, 0.0) ** (1 / config.temperature)


def _mix(
    strength: Float[Array, "K"], age: Int[Array, "K"], filled: Bool[Array, "K"], config: ReplayConfig
) -> Float[Array, "K"]:
    """P of slots whose unnormalised P_S is `strength`."""
    # Scores that are all 0 have no proportions: all filled slots are alike.
    strength = jnp.where(strength.sum() > 0, strength, filled.astype(jnp.float32))
    by_score = strength / jnp.maximum(strength.sum(), jnp.finfo(jnp.float32).tiny)
    if config.prioritisation == "uniform":
        return by_score
    # Ages grow with the length of the run, and their sum beyond what an int32 can hold.
    age = jnp.where(filled, age, 0).astype(jnp.float32)
    by_age = jnp.where(age.sum() > 0, age / jnp.maximum(age.sum(), 1.0), by_score)
    return (1 - config.staleness) * by_score + config.staleness * by_age


def _order(buffer: Buffer, config: ReplayConfig) -> Int[Array, "K"]:
    return _rank(buffer.score) if config.prioritisation == "rank" else buffer.lineage.id


def _victim(carry: _Placing, table: Float[Array, "K"], config: ReplayConfig) -> Int[Array, ""]:
    """The slot that makes room in a full buffer: the smallest P."""
    if config.prioritisation == "uniform":
        return jnp.argmin(carry.order).astype(jnp.int32)
    strength = table[carry.order - 1] if config.prioritisation == "rank" else _score_strength(carry.score, config)
    everywhere = jnp.ones_like(carry.score, jnp.bool_)
    return jnp.argmin(_mix(strength, carry.age, everywhere, config)).astype(jnp.int32)


def _reorder(
    carry: _Placing,
    slot: Int[Array, ""],
    score: Float[Array, ""],
    duplicate: Bool[Array, ""],
    inserted: Bool[Array, ""],
    config: ReplayConfig,
) -> Int[Array, "K"]:
    """`order` after the score of one slot became `score`: as `_rank` would give it, without sorting."""
    if config.prioritisation != "rank":
        latest = carry.order.max() + 1
        return carry.order.at[jnp.where(inserted, slot, carry.order.shape[0])].set(latest, mode="drop")
    slots = jnp.arange(carry.order.shape[0])
    ahead = ((carry.score > score) | ((carry.score == score) & (slots < slot))) & (slots != slot)
    # Those behind its old rank move up by one, those behind its new rank move down by one.
    order = carry.order - (carry.order > carry.order[slot]) + ~ahead
    order = order.at[slot].set(1 + ahead.sum(dtype=jnp.int32))
    return jnp.where(duplicate | inserted, order, carry.order)


def _duplicates(
    buffer: Buffer, level: Task, equal: Callable[[Task, Task], Bool[Array, ""]] | None
) -> tuple[Int[Array, "n"], Bool[Array, "n n"]]:
    """For each row of a batch: the slot that holds an equal level (or `NOWHERE`), and which earlier rows equal it."""
    num_rows = jax.tree.leaves(level)[0].shape[0]
    if equal is None:
        return jnp.full(num_rows, NOWHERE, jnp.int32), jnp.zeros((num_rows, num_rows), jnp.bool_)

    def against(many: Task, one: Task) -> Bool[Array, "m"]:
        return jax.vmap(lambda other: equal(one, other))(many)

    # One row at a time: [n, K, ...] at once would leave the cache.
    match = jax.lax.map(lambda one: against(buffer.level, one) & buffer.filled, level)
    twin = jax.vmap(lambda one: against(level, one))(level)
    original = jnp.where(match.any(axis=1), jnp.argmax(match, axis=1).astype(jnp.int32), NOWHERE)
    return original, twin & jnp.tri(num_rows, k=-1, dtype=jnp.bool_)
