"""Percentile-bootstrap intervals over runs: the one resampling routine of claims, tables and curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tutelage.lab.errors import BadInput

Statistic = Callable[..., np.ndarray]
"""`(samples [B, n, ...], ...) -> [B, ...]`: vectorised over a leading axis of resamples."""

_BLOCK = 4_000_000
"""Numbers held at once while resampling; larger problems are cut into blocks of resamples."""


class Interval(NamedTuple):
    """An estimate with its confidence interval, all of one shape; the bounds are NaN where there is only one run."""

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean(sample: np.ndarray) -> np.ndarray:
    """The mean over runs: `[B, n, ...] -> [B, ...]`."""
    return sample.mean(axis=1)


def bootstrap(
    statistic: Statistic,
    *samples: ArrayLike,
    stratified: bool = False,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The `statistic` of the samples and its percentile-bootstrap interval.

    Each sample is `[n, ...]` with one row per run and is resampled with replacement over its rows, on its own (the
    samples are unpaired). Rows stay whole, so a curve is resampled as a curve; with `stratified` every column of
    `[n, M, ...]` is resampled on its own instead (runs within each of M tasks). The same seed gives the same interval.

    With few runs the interval is too narrow: over normal data the nominal 95 % interval of a mean covers the truth in
    about 75 % of experiments with 3 runs, 84 % with 5 and 90 % with 10. It is a description of the spread between
    runs, not a test at the 5 % level. One run has no spread: the bounds are NaN.

    Raises:
        BadInput: an empty sample, a confidence outside (0, 1), or no resamples.

    References: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13; Agarwal et al. (2021),
    arXiv 2108.13264, for strata.
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    for array in arrays:
        if array.ndim == 0 or array.shape[0] == 0:
            raise BadInput(f"samples: got shape {array.shape}; every sample needs at least one run")
        if stratified and array.ndim < 2:
            raise BadInput(f"stratified: got a sample of shape {array.shape}; strata need [runs, tasks]")
    if not 0 < confidence < 1:
        raise BadInput(f"confidence: {confidence} is outside (0, 1)")
    if num_resamples < 1:
        raise BadInput(f"num_resamples: {num_resamples} is outside [1, inf)")
    estimate = np.asarray(statistic(*(array[None] for array in arrays)))[0]
    if min(array.shape[0] for array in arrays) < 2:
        nothing = np.full_like(estimate, np.nan)
        return Interval(estimate, nothing, nothing)

    rng = np.random.default_rng(seed)
    size = max(1, sum(array.size for array in arrays))
    draws = []
    for start in range(0, num_resamples, max(1, _BLOCK // size)):
        count = min(max(1, _BLOCK // size), num_resamples - start)
        draws.append(np.asarray(statistic(*(_resample(rng, array, count, stratified) for array in arrays))))
    tail = (1 - confidence) / 2
    undefined = np.isnan(estimate)
    drawn = np.where(undefined, 0.0, np.concatenate(draws))
    # numpy's nanquantile visits every column in Python; it is for the rare statistic that can be undefined.
    quantile = np.nanquantile if np.isnan(drawn).any() else np.quantile
    low, high = np.where(undefined, np.nan, quantile(drawn, [tail, 1 - tail], axis=0))
    return Interval(estimate, low, high)


def _resample(rng: np.random.Generator, array: np.ndarray, count: int, stratified: bool) -> np.ndarray:
    """`[n, ...] -> [count, n, ...]`."""
    num_runs = array.shape[0]
    if not stratified:
        return array[rng.integers(num_runs, size=(count, num_runs))]
    rows = rng.integers(num_runs, size=(count, *array.shape[:2]))
    return array[rows, np.arange(array.shape[1])]
