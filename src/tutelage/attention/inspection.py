"""Which search and which retrieval of an attention layer does what.

Where the true searches and cues are known (`tasks.contextual_retrieval`), `explain` finds for every learned search the
true one that it serves, and how its retrievals follow the cue (arXiv 2110.09419, the figures of activations); without
such knowledge, `specialise` says how far heads and retrievals differ from each other. Plain arrays in and out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tutelage.lab.errors import BadInput

Array = NDArray[Any]


@dataclass(frozen=True)
class Explanation:
    """Of S learned searches with R retrievals, against v_s true searches whose cues name one of v_p values.

    Attributes:
        mass: (S, v_s) mean attention of each learned search on the token j* of each true search, in [0, 1].
        true_search: (S,) the true search on which a learned one has the most mass; several may share one.
        tables: (S, R, v_p) mean competition of each retrieval given the cue of that true search; sums to 1 over R.
        accuracy: (S,) share of tokens at which the strongest retrieval is the one that stands for the cue, under the
            best one-to-one naming of values by retrievals. With R < v_p some value has none, and counts as missed.
        split_accuracy: (S,) the same where several retrievals may stand for one value, as with R > v_p they may.
    """

    mass: Array
    true_search: NDArray[np.intp]
    tables: Array
    accuracy: Array
    split_accuracy: Array

    @property
    def best_mass(self) -> Array:
        """(S,) of each learned search on its true search."""
        return self.mass.max(1)


def search_mass(search: Array, nearest: NDArray[np.integer[Any]]) -> Array:
    """(S, v_s) mean attention A (B, S, N, M) on the tokens (B, N, v_s) that each true search finds."""
    at = np.broadcast_to(nearest[:, None], (*search.shape[:3], nearest.shape[-1]))
    return np.take_along_axis(search, at, axis=-1).mean((0, 2))


def explain(
    search: Array,
    competition: Array,
    nearest: NDArray[np.integer[Any]],
    cues: NDArray[np.integer[Any]],
    values: int,
) -> Explanation:
    """What was learnt, from A (B, S, N, M), C (B, N, S, R), true tokens (B, N, v_s), cues (B, N, v_s), and v_p.

    Raises:
        BadInput: shapes that do not belong together.
    """
    batch, searches, tokens, _ = search.shape
    if competition.shape[:3] != (batch, tokens, searches) or nearest.shape != cues.shape or len(cues) != batch:
        raise BadInput(
            f"competition {competition.shape}, nearest {nearest.shape}, cues {cues.shape}: with search {search.shape} "
            f"must be ({batch}, {tokens}, {searches}, R), and both of the others ({batch}, {tokens}, v_s)"
        )
    mass = search_mass(search, nearest)
    true_search = mass.argmax(1)
    retrievals = competition.shape[-1]
    tables = np.zeros((searches, retrievals, values))
    accuracy, split = np.zeros(searches), np.zeros(searches)
    for learned, true in enumerate(true_search):
        of = competition[:, :, learned].reshape(-1, retrievals)
        cue = cues[:, :, true].reshape(-1)
        frequency = np.bincount(cue, minlength=values)
        for value in range(values):
            tables[learned, :, value] = of[cue == value].sum(0) / max(frequency[value], 1)
        counts = np.zeros((retrievals, values))
        np.add.at(counts, (of.argmax(1), cue), 1)
        accuracy[learned] = counts[linear_sum_assignment(counts, maximize=True)].sum() / len(cue)
        split[learned] = counts.max(1).sum() / len(cue)
    return Explanation(mass, true_search, tables, accuracy, split)


@dataclass(frozen=True)
class Specialisation:
    """How the S searches and R retrievals of a layer differ, over all tokens that it saw.

    Attributes:
        focus: (S,) 1 - entropy of a row of A / log M, mean over tokens: 0 looks everywhere, 1 at one token.
        reach: (S,) mean distance |n - m|, in tokens, of what is attended to.
        overlap: (S, S) Σ_m min(A_i, A_j), mean over tokens: 1 the same search, 0 never the same token.
        usage: (S, R) mean competition; empty (S, 0) without one. Rows sum to 1.
        information: (S,) what the token says about the retrieval: (entropy of the mean of C - mean entropy of C) /
            log R. 0: always the same mixture; 1: each token takes one retrieval, and all are taken equally often.
    """

    focus: Array
    reach: Array
    overlap: Array
    usage: Array
    information: Array


def specialise(search: Array, competition: Array | None = None) -> Specialisation:
    """Per-head figures of A (B, S, N, M) and, of layers that have one, C (B, N, S, R)."""
    _, searches, queries, keys = search.shape
    focus = 1 - _entropy(search).mean((0, 2)) / math.log(keys) if keys > 1 else np.ones(searches)
    distance = np.abs(np.arange(queries)[:, None] - np.arange(keys))
    overlap = [
        [np.minimum(search[:, i], search[:, j]).sum(-1).mean() for j in range(searches)] for i in range(searches)
    ]
    usage, information = np.zeros((searches, 0)), np.zeros(searches)
    if competition is not None:
        usage = competition.mean((0, 1))
        if competition.shape[-1] > 1:
            gain = _entropy(usage) - _entropy(competition).mean((0, 1))
            information = gain / math.log(competition.shape[-1])
    return Specialisation(focus, (search * distance).sum(-1).mean((0, 2)), np.asarray(overlap), usage, information)


def _entropy(probabilities: Array) -> Array:
    safe = np.where(probabilities > 0, probabilities, 1.0)
    return -(probabilities * np.log(safe)).sum(-1)
