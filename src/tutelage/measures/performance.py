"""One number for many runs on many tasks, robust to outliers: figures over score matrices `[*batch, runs, tasks]`.

References: Agarwal, Schwarzer, Castro, Courville & Bellemare (2021), Deep Reinforcement Learning at the Edge of the
Statistical Precipice, arXiv 2108.13264.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from tutelage.lab.errors import BadInput


def iqm(scores: ArrayLike) -> Float[np.ndarray, "..."]:
    """Interquartile mean over all runs and tasks together: `[*batch, runs, tasks] -> [*batch]`.

    The lowest and the highest ⌊n/4⌋ of the n = runs · tasks scores are dropped whole, as the authors' library does
    (scipy's `trim_mean`); no score is counted in part. Up to three scores it is the mean.
    """
    flat = _flat(_matrix(scores))
    count = flat.shape[-1]
    cut = count // 4
    return np.asarray(np.sort(flat, axis=-1)[..., cut : count - cut].mean(axis=-1))


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> Float[np.ndarray, "..."]:
    """How far the scores fall short of the target on average: mean of max(target − score, 0); lower is better."""
    return np.asarray(np.maximum(target - _flat(_matrix(scores)), 0).mean(axis=-1))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Float[np.ndarray, "... K"]:
    """The share of runs and tasks that score more than each threshold: `[*batch, runs, tasks] -> [*batch, K]`.

    Never increases with the threshold. The area under it between 0 and 1 is 1 − `optimality_gap` for scores ≥ 0.
    """
    flat = np.sort(_flat(_matrix(scores)), axis=-1)
    tau = np.asarray(thresholds, dtype=np.float64)
    if tau.ndim != 1:
        raise BadInput(f"thresholds: got shape {tau.shape}; allowed is one axis")
    count = flat.shape[-1]
    rows = flat.reshape(-1, count)
    at_most = np.stack([np.searchsorted(row, tau, side="right") for row in rows])
    return (1 - at_most / count).reshape(*flat.shape[:-1], tau.size)


def probability_of_improvement(ours: ArrayLike, theirs: ArrayLike) -> Float[np.ndarray, "..."]:
    """How likely a run of ours beats a run of theirs on the same task; a tie counts one half; the mean over tasks.

    `[*batch, runs, tasks], [*batch, other runs, tasks] -> [*batch]`: the Mann-Whitney U over the number of pairs.
    """
    x, y = _matrix(ours), _matrix(theirs)
    if x.shape[-1] != y.shape[-1]:
        raise BadInput(f"theirs: {y.shape[-1]} tasks; allowed is as many as ours, {x.shape[-1]}")
    # sign is −1, 0, 1; half of (sign + 1) is 0, ½, 1.
    duel = np.sign(x[..., :, None, :] - y[..., None, :, :])
    return np.asarray((duel.mean(axis=(-3, -2, -1)) + 1) / 2)


def cvar(values: ArrayLike, alpha: ArrayLike, *, chosen_by: ArrayLike | None = None) -> Float[np.ndarray, "..."]:
    """Conditional value at risk: the mean of the worst (lowest) share α of the values.

    `[*batch, n], [] -> [*batch]`, or with several α `[*batch, n], [K] -> [*batch, K]`. The value at the boundary
    counts in part, so that exactly α · n values are averaged and the figure is continuous in α; α = 1 is the mean.

    The worst share chosen by the very values that are averaged is too pessimistic when these are noisy (solved rates
    over a few episodes). Give in `chosen_by` (one value for each of the same n, such as the rates on other episodes)
    what chooses the worst; equal choices share their weight, so their order does not matter.

    References: Rutherford et al. (2024), No Regrets, arXiv 2408.15099, for solved rates on levels chosen so.
    """
    array, share = np.asarray(values, dtype=np.float64), np.asarray(alpha, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise BadInput(f"values: got shape {array.shape}; the last axis needs at least one value")
    if share.ndim > 1 or not np.all((share > 0) & (share <= 1)):
        raise BadInput(f"alpha: {alpha} is not one or several shares in (0, 1]")
    if chosen_by is None:
        ranked = np.sort(array, axis=-1)
    else:
        ranked = _ranked_by(array, np.asarray(chosen_by, dtype=np.float64))
    count = array.shape[-1]
    weights = np.clip(share[..., None] * count - np.arange(count), 0, 1) / (share[..., None] * count)
    return np.asarray(ranked @ weights.T)


def _ranked_by(array: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """The values in increasing order of `choice`, each replaced by the mean over the values of equal choice."""
    if choice.shape != array.shape[-1:]:
        raise BadInput(f"chosen_by: got shape {choice.shape}; allowed is {array.shape[-1:]}, one for each value")
    _, group, size = np.unique(choice, return_inverse=True, return_counts=True)
    members = (group[:, None] == np.arange(size.size)) / size  # [n, groups]
    return np.repeat(array @ members, size, axis=-1)


def _matrix(scores: ArrayLike) -> np.ndarray:
    array = np.asarray(scores, dtype=np.float64)
    if array.ndim < 2 or array.shape[-1] == 0 or array.shape[-2] == 0:
        raise BadInput(f"scores: got shape {array.shape}; allowed is [*batch, runs, tasks], none of them empty")
    return array


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(*array.shape[:-2], -1)
