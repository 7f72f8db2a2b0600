"""What has been evaluated, and what is drawn from it on the host: fronts, pools of starts, objects that are new."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tutelage.lab.errors import BadInput
from tutelage.measures import pareto


class Evaluated(NamedTuple):
    """Room for N objects and their rewards, filled from the first on.

    Attributes:
        objects: int32 [N, L].
        rewards: f32 [N, M], as measured.
        was_front: bool [N]: it was non-dominated when it came, or at the end of a later round.
        size: how many there are.
    """

    objects: Int[Array, "N L"]
    rewards: Float[Array, "N M"]
    was_front: Bool[Array, "N"]
    size: Int[Array, ""]

    def host(self) -> tuple[Int[np.ndarray, "n L"], Float[np.ndarray, "n M"], Bool[np.ndarray, "n"]]:
        """The rows that are there, on the host."""
        count = int(self.size)
        return np.asarray(self.objects)[:count], np.asarray(self.rewards)[:count], np.asarray(self.was_front)[:count]


def nothing_evaluated(capacity: int, length: int, num_objectives: int) -> Evaluated:
    """Room for `capacity` objects."""
    return Evaluated(
        jnp.full((capacity, length), -1, jnp.int32),
        jnp.zeros((capacity, num_objectives), jnp.float32),
        jnp.zeros(capacity, bool),
        jnp.zeros((), jnp.int32),
    )


def append(evaluated: Evaluated, objects: Int[np.ndarray, "q L"], rewards: Float[np.ndarray, "q M"]) -> Evaluated:
    """With q more.

    Raises:
        BadInput: there is no room for them: the run is over.
    """
    count, capacity = int(evaluated.size), evaluated.objects.shape[0]
    after = count + len(objects)
    if after > capacity:
        raise BadInput(
            f"{count} objects are evaluated and {len(objects)} more do not fit in {capacity}: rounds is too small"
        )
    all_objects, all_rewards, was_front = (np.array(leaf) for leaf in evaluated[:3])
    all_objects[count:after], all_rewards[count:after] = objects, rewards
    was_front[:after] |= pareto.nondominated(all_rewards[:after], maximise=True)
    return Evaluated(
        jnp.asarray(all_objects), jnp.asarray(all_rewards), jnp.asarray(was_front), jnp.asarray(after, jnp.int32)
    )


def front_rows(rewards: Float[np.ndarray, "n M"], most: int) -> Int[np.ndarray, "k"]:
    """Rows of the front, one for each vector of rewards, in lexicographic order; of more than `most` every so many."""
    rows = np.flatnonzero(pareto.nondominated(rewards, maximise=True, duplicates=False))
    rows = rows[np.lexsort(rewards[rows].T[::-1])]
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def reference_point(rewards: Float[np.ndarray, "n M"], kind: str) -> Float[np.ndarray, "M"]:
    """A tenth of the first front's range below its worst values; where that has no range, of all rewards' range.

    'zero': 0. A point of the front lies strictly above the first, so that its hypervolume is a unit to measure in.
    """
    if kind == "zero":
        return np.zeros(rewards.shape[1], np.float32)
    front = rewards[pareto.nondominated(rewards, maximise=True)]
    for spread in (np.ptp(front, axis=0), np.ptp(rewards, axis=0)):
        if (spread > 0).all():
            return (front.min(axis=0) - 0.1 * spread).astype(np.float32)
    spread = np.where(np.ptp(rewards, axis=0) > 0, np.ptp(rewards, axis=0), 1.0)
    return (front.min(axis=0) - 0.1 * spread).astype(np.float32)


def draw_pool(rng: np.random.Generator, evaluated: Evaluated, size: int, resampling: float) -> Int[np.ndarray, "size"]:
    """Rows that edits start from: the non-dominated ones (some of them, if there are more), then such as were once
    non-dominated, then others with weights 1 / (k·n + rank), rank being how many dominate them.

    Raises:
        BadInput: fewer than `size` objects are evaluated.
    """
    _, rewards, was_front = evaluated.host()
    number = len(rewards)
    if number < size:
        raise BadInput(f"pool = {size} is more than the {number} objects evaluated")
    better = (rewards[:, None] >= rewards[None]).all(axis=2) & (rewards[:, None] > rewards[None]).any(axis=2)
    rank = better.sum(axis=0)
    chosen = rng.permutation(np.flatnonzero(rank == 0))[:size]
    for among in (was_front & (rank > 0), ~was_front & (rank > 0)):
        rows = np.flatnonzero(among)
        wanted = min(size - len(chosen), len(rows))
        if wanted > 0:
            weights = 1.0 / (resampling * number + rank[rows])
            chosen = np.append(chosen, rng.choice(rows, wanted, replace=False, p=weights / weights.sum()))
    return chosen


def new_rows(objects: Int[np.ndarray, "n L"], known: Int[np.ndarray, "k L"]) -> Int[np.ndarray, "m"]:
    """The first row of each object that is not known, in order."""
    seen = {row.tobytes() for row in np.asarray(known, np.int32)}
    rows = []
    for index, row in enumerate(np.asarray(objects, np.int32)):
        if (name := row.tobytes()) not in seen:
            seen.add(name)
            rows.append(index)
    return np.array(rows, np.int64)


def filled_up(
    objects: Int[np.ndarray, "n L"],
    known: Int[np.ndarray, "k L"],
    number: int,
    make: Callable[[int, Int[np.ndarray, "n L"]], Int[np.ndarray, "n L"]],
    ancestors: Int[np.ndarray, "p L"],
    attempts: int = 200,
) -> Int[np.ndarray, "number L"]:
    """The first `number` new ones of the objects; what is missing descends from the ancestors: `make(attempt, objects)`
    is applied again and again to what it made.

    Raises:
        BadInput: no new objects turned up: nearly all there are have been evaluated.
    """
    found = objects[new_rows(objects, known)][:number]
    made = ancestors
    for attempt in range(attempts):
        if len(found) >= number:
            return found
        made = make(attempt, made)
        fresh = made[new_rows(made, np.concatenate([known, found]))]
        found = np.concatenate([found, fresh[: number - len(found)]])
    if len(found) < number:
        raise BadInput(
            f"queries = {number}: only {len(found)} objects were found that are not evaluated yet ({len(known)} are)"
        )
    return found
