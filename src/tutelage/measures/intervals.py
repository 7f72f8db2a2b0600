"""How sure a figure is: standard errors and bootstrap intervals over runs and tasks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tutelage.lab.bootstrap import Interval, Statistic, bootstrap
from tutelage.lab.errors import BadInput


class MeanError(NamedTuple):
    """A mean and its standard error, of one shape."""

    mean: np.ndarray
    error: np.ndarray


def mean_error(values: ArrayLike, axis: int = 0) -> MeanError:
    """Mean ± standard error over `axis`: the sample deviation (n − 1) over √n, NaN for a single value."""
    array = np.asarray(values, dtype=np.float64)
    count = array.shape[axis] if array.ndim else 0
    if count == 0:
        raise BadInput(f"values: got shape {array.shape}; the mean needs at least one value")
    mean = array.mean(axis=axis)
    if count == 1:
        return MeanError(mean, np.full_like(mean, np.nan))
    return MeanError(mean, np.asarray(array.std(axis=axis, ddof=1) / np.sqrt(count)))


def stratified_interval(
    statistic: Statistic, *scores: ArrayLike, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """The statistic of score matrices `[runs, tasks]` with a bootstrap interval whose strata are the tasks.

    Runs are resampled within each task, so that no task vanishes from a resample; tasks are not resampled, as they
    are the benchmark and not a sample of it. The functions of `tutelage.measures.performance` fit as they are:
    `stratified_interval(iqm, scores)`, `stratified_interval(probability_of_improvement, ours, theirs)`; bind other
    arguments first, with `functools.partial` or a lambda.

    References: Agarwal, Schwarzer, Castro, Courville & Bellemare (2021), Deep Reinforcement Learning at the Edge of
    the Statistical Precipice, arXiv 2108.13264.
    """
    return bootstrap(statistic, *scores, stratified=True, confidence=confidence, num_resamples=num_resamples, seed=seed)
