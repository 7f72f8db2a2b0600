"""How good, and how different from each other, the best k of many samples are."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from tutelage.lab.errors import BadInput


def top_k(scores: ArrayLike, k: int) -> Int[np.ndarray, "... k"]:
    """Where the k largest of the scores [..., n] are, best first; of equal ones the earlier.

    Raises:
        BadInput: unless 1 ≤ k ≤ n, or if a score is NaN.
    """
    array = np.asarray(scores, np.float64)
    if array.ndim == 0 or not 1 <= k <= array.shape[-1]:
        raise BadInput(f"k = {k}: must be in [1, {array.shape[-1] if array.ndim else 0}], the number of scores")
    if np.isnan(array).any():
        raise BadInput(f"scores: {int(np.isnan(array).sum())} of {array.size} are NaN")
    return np.argsort(-array, axis=-1, kind="stable")[..., :k]


def topk_reward(scores: ArrayLike, k: int) -> Float[np.ndarray, "..."]:
    """The mean of the k largest of the scores [..., n]."""
    return np.asarray(np.take_along_axis(np.asarray(scores, np.float64), top_k(scores, k), axis=-1).mean(axis=-1))


def mean_pairwise_distance(distances: ArrayLike) -> Float[np.ndarray, "..."]:
    """The mean distance between two different ones of k items, from their distances [..., k, k].

    Equal items are at distance 0 and lower the mean. With k = 1 there is no pair: NaN, with a warning.
    """
    array = np.asarray(distances, np.float64)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or array.shape[-1] == 0:
        raise BadInput(f"distances of shape {array.shape}: must be [..., k, k] with k ≥ 1")
    k = array.shape[-1]
    if k == 1:
        warnings.warn("the diversity of one item is undefined: NaN", stacklevel=2)
        return np.full(array.shape[:-2], np.nan)
    diagonal = np.trace(array, axis1=-2, axis2=-1)
    return np.asarray((array.sum(axis=(-2, -1)) - diagonal) / (k * (k - 1)))


def topk_diversity(scores: ArrayLike, distances: ArrayLike, k: int) -> float:
    """The mean distance between two of the k items with the largest scores [n], from all distances [n, n]."""
    best, array = top_k(scores, k), np.asarray(distances, np.float64)
    if best.ndim != 1 or array.shape != (np.size(scores), np.size(scores)):
        raise BadInput(f"scores of shape {np.shape(scores)} and distances of shape {array.shape}: must be [n], [n, n]")
    if k == 1:
        warnings.warn("k = 1: the diversity of one item is undefined: NaN", stacklevel=2)
        return float("nan")
    return float(mean_pairwise_distance(array[np.ix_(best, best)]))
