"""Whether one quantity rises with another: Spearman's rank correlation, and Pearson's, which asks for a line."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from tutelage.lab.bootstrap import Interval, bootstrap
from tutelage.lab.errors import BadInput


def spearman(x: ArrayLike, y: ArrayLike) -> Float[np.ndarray, "..."]:
    """Spearman's ρ over the last axis: the correlation of the ranks, ties at their mean rank; in [−1, 1].

    NaN where one of the two is constant, for then there is no order to agree with.
    """
    # scipy.stats takes a second to import, and every study's claims import this module: `list` must not wait for it.
    from scipy.stats import rankdata

    a, b = _pairs(x, y)
    return _correlation(*(rankdata(v, axis=-1) - (v.shape[-1] + 1) / 2 for v in (a, b)))


def pearson(x: ArrayLike, y: ArrayLike) -> Float[np.ndarray, "..."]:
    """Pearson's r over the last axis: how near the pairs are to a line, in [−1, 1].

    NaN where one of the two is constant.
    """
    a, b = (_of_one_size(v) for v in _pairs(x, y))
    # Compared with the first value, a constant is exactly 0; its mean in floating point need not be itself.
    a, b = (v - v[..., :1] for v in (a, b))
    return _correlation(*(v - v.mean(axis=-1, keepdims=True) for v in (a, b)))


def spearman_interval(
    x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95, num_resamples: int = 2000, seed: int = 0
) -> Interval:
    """ρ of n pairs `[n], [n]` with a bootstrap interval over the pairs.

    The pairs must be independent of each other. Points of one learning curve are not: judge a trend by ρ of each
    seed's curve and the spread over seeds (`tutelage.measures.claims.correlation`).
    """
    pairs = np.stack(np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64)), axis=-1)
    if pairs.ndim != 2 or pairs.shape[0] < 2:
        raise BadInput(f"x, y: got shape {pairs.shape[:-1]}; allowed is one axis of at least two pairs")

    def statistic(sample: np.ndarray) -> np.ndarray:
        return spearman(sample[..., 0], sample[..., 1])

    return bootstrap(statistic, pairs, confidence=confidence, num_resamples=num_resamples, seed=seed)


def _pairs(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
    if a.ndim == 0 or a.shape[-1] < 2:
        raise BadInput(f"x, y: got shape {a.shape}; a correlation needs at least two pairs")
    return a, b


def _of_one_size(values: np.ndarray) -> np.ndarray:
    """Divided by a power of two, so that the largest is in [½, 1) and no square overflows or vanishes."""
    return np.ldexp(values, -np.frexp(np.abs(values).max(axis=-1, keepdims=True))[1])


def _correlation(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "..."]:
    """Of values whose mean over the last axis is 0."""
    covariance = (a * b).sum(axis=-1)
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    undefined = np.full_like(scale, np.nan)
    return np.asarray(np.clip(np.divide(covariance, scale, out=undefined, where=scale > 0), -1, 1))
