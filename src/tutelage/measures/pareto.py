"""How good a set of points is as an approximation of a Pareto front.

Every function that compares points asks for `maximise`, True, False, or one of them for each objective: a front is
another set when the direction is another, and no default would be right for everybody. NumPy in, floats out, in
float64; dominance and hypervolume are computed by moocore.

Non-dominated means: no other point is at least as good in every objective and better in one.

References: Zitzler & Thiele (1998), hypervolume; Hansen & Jaszkiewicz (1998), R2; Ishibuchi et al. (2015), IGD+ and
GD+; Guerreiro & Fonseca (2016), the hypervolume Sharpe-ratio indicator; Jain et al. (2023), arXiv 2210.12765, the form
of R2 and of the Pareto-clustered entropy that multi-objective GFlowNets report.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import moocore
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from tutelage.lab.errors import BadInput

# SciPy is imported where it is used: it takes longer than all the rest, and command lines must not wait for it.

Direction = bool | Sequence[bool] | None
"""Whether objectives are maximised: all alike, or one by one. None, the default, is refused."""

_PAIRS_AT_ONCE = 1 << 22
"""Pairs of points that are held in memory together."""


def nondominated(points: ArrayLike, *, maximise: Direction = None, duplicates: bool = True) -> Bool[np.ndarray, "n"]:
    """Which of the points [n, M] no other one dominates.

    Equal points do not dominate each other: all of them stay, or, without `duplicates`, the first of each.

    Raises:
        BadInput: without `maximise`; on points that are not a matrix of finite numbers.
    """
    array, upwards = _points(points), _upwards(maximise, np.shape(points)[-1])
    if len(array) == 0:
        return np.zeros(0, bool)
    return moocore.is_nondominated(array, maximise=upwards, keep_weakly=duplicates)


def front(points: ArrayLike, *, maximise: Direction = None, duplicates: bool = False) -> Float[np.ndarray, "K M"]:
    """The non-dominated ones of the points [n, M], in their order; each once unless `duplicates`."""
    return _points(points)[nondominated(points, maximise=maximise, duplicates=duplicates)]


def hypervolume(points: ArrayLike, reference: ArrayLike, *, maximise: Direction = None) -> float:
    """The volume between the reference point [M] (or one number for all objectives) and the points [n, M].

    A point that is not better than the reference in every objective contributes nothing. Where that is so of all of
    them, the hypervolume is 0, with a warning: the reference is usually wrong then.

    Raises:
        BadInput: without `maximise`; on a reference of another length than the points.
    """
    array, upwards = _points(points), _upwards(maximise, np.shape(points)[-1])
    corner = _corner(reference, array.shape[1], "reference")
    inside = (np.where(upwards, array - corner, corner - array) > 0).all(axis=1)
    if not inside.any():
        warnings.warn(
            f"the reference point {_shown(corner)} is dominated by none of the {len(array)} points: hypervolume 0",
            stacklevel=2,
        )
        return 0.0
    array = array[inside]
    if array.shape[1] > 3:  # Up to three the sweep is as fast as looking for the front; above, it grows with the set.
        array = front(array, maximise=upwards)
    return float(moocore.hypervolume(array, ref=corner, maximise=upwards))


def igd_plus(points: ArrayLike, reference_front: ArrayLike, *, maximise: Direction = None) -> float:
    """IGD+: how far, on average over the reference front [K, M], the nearest of the points [n, M] falls short of it.

    d+(z, s) = ‖max(z − s, 0)‖ when maximising: where a point is better than z, it is not far from it.
    """
    array, target, upwards = _two_sets(points, reference_front, maximise)
    return float(moocore.igd_plus(array, ref=target, maximise=upwards))


def gd_plus(points: ArrayLike, reference_front: ArrayLike, *, maximise: Direction = None) -> float:
    """GD+: how far, on average over the points [n, M], each falls short of what is nearest in the front [K, M]."""
    array, target, upwards = _two_sets(points, reference_front, maximise)
    # The same distances with the roles changed: d+ from z to s, seen from s, has the direction turned round.
    return float(moocore.igd_plus(target, ref=array, maximise=[not up for up in upwards]))


def r2(points: ArrayLike, weights: ArrayLike, ideal: ArrayLike = 1.0, *, normalise: str = "official") -> float:
    """R2 = Σ_w min_s max_i w_i |z*_i − s_i| / N over weight vectors [W, M] and points [n, M]; smaller is better.

    Args:
        ideal: z*, [M] or one number for all objectives.
        normalise: what N is: 'mean', the number of weight vectors; or 'official', as published with multi-objective
            GFlowNets, the Frobenius norm of all of them together, which grows like the root of their number.
    """
    if normalise not in ("mean", "official"):
        raise BadInput(f"normalise = {normalise!r}: must be 'mean' or 'official'")
    array, rays = _points(points), _points(weights, "weights")
    if len(array) == 0 or len(rays) == 0 or array.shape[1] != rays.shape[1]:
        raise BadInput(f"points of shape {array.shape} and weights of shape {rays.shape}: must be [n, M] and [W, M]")
    short = np.abs(_corner(ideal, array.shape[1], "ideal") - array)
    total = 0.0
    for block in _blocks(rays, len(short)):
        # One objective at a time: a short last axis is slow to reduce over.
        worst = np.multiply.outer(block[:, 0], short[:, 0])
        for column in range(1, short.shape[1]):
            np.maximum(worst, np.multiply.outer(block[:, column], short[:, column]), out=worst)
        total += float(worst.min(axis=1).sum())
    return total / (len(rays) if normalise == "mean" else float(np.linalg.norm(rays)))


def grid_front(num_objectives: int, bins: int = 10) -> Float[np.ndarray, "K M"]:
    """The points of the regular grid on [0, 1]^M with some coordinate 1: bins^M − (bins − 1)^M of them."""
    axis = np.linspace(0.0, 1.0, bins)
    grid = np.array(list(itertools.product(axis, repeat=num_objectives)))
    return grid[(grid == 1.0).any(axis=1)]


def pc_ent(points: ArrayLike, reference_front: ArrayLike | None = None) -> float:
    """Pareto-clustered entropy in nats: how evenly the points [n, M] are spread over a front [K, M].

    Each point belongs to the nearest reference point (Euclidean; of equally near ones to any); the entropy of how
    many each has got, in [0, log K]. The default reference is `grid_front(M)`, for rewards in [0, 1]: 19 points for two
    objectives, 271 for three.
    """
    from scipy.spatial import KDTree

    array = _points(points)
    reference = grid_front(array.shape[1]) if reference_front is None else _points(reference_front, "reference_front")
    if len(array) == 0 or array.shape[1] != reference.shape[1]:
        raise BadInput(f"points of shape {array.shape} and a front of shape {reference.shape}: must be [n, M], [K, M]")
    _, nearest = KDTree(reference).query(array)
    share = np.bincount(nearest) / len(array)
    share = share[share > 0]
    return float(max(0.0, -(share * np.log(share)).sum()))


class Portfolio(NamedTuple):
    """What `hsri` says.

    Attributes:
        indicator: the largest Sharpe ratio, ≥ 0; larger is better.
        investment: the share of each point in the portfolio which has it, [n], with sum 1.
    """

    indicator: float
    investment: Float[np.ndarray, "n"]


def hsri(points: ArrayLike, reference: ArrayLike, ideal: ArrayLike, *, maximise: Direction = None) -> Portfolio:
    """The hypervolume Sharpe-ratio indicator of points [n, M]: good and diverse points make a good portfolio.

    A point is an asset; its return is whether it dominates a point drawn uniformly from the box between the reference
    and the ideal. So the expected return p_i is the share of the box that point i dominates, p_ij the share which i
    and j both do, the covariance p_ij − p_i p_j, and with a riskless return of 0 the indicator is
    max over x ≥ 0, Σx = 1 of p·x / √(xᵀ(P − ppᵀ)x).
    It does not change under scaling x, so that it is √(v/(1 − v)) for v = 1 − min_{y ≥ 0} ‖Ay − b‖² with AᵀA = P,
    Aᵀb = p: the best non-negative combination of the points' indicator functions to be the constant 1. Infinite where a
    point reaches the ideal; 0, with a warning and nothing invested, where no point is inside the box.

    Reference: Guerreiro & Fonseca (2016), Hypervolume Sharpe-Ratio Indicator: Formalization and First Theoretical
    Results, PPSN XIV; there for minimisation.
    """
    from scipy.optimize import nnls

    array, upwards = _points(points), _upwards(maximise, np.shape(points)[-1])
    low, high = _corner(reference, array.shape[1], "reference"), _corner(ideal, array.shape[1], "ideal")
    sign = np.where(upwards, 1.0, -1.0)
    if not (sign * (high - low) > 0).all():
        raise BadInput(f"ideal {_shown(high)} must be better than the reference {_shown(low)} in every objective")
    sides = np.clip((array - low) / (high - low), 0.0, 1.0)
    investment = np.zeros(len(array))
    # Dominated points get nothing: a portfolio pays more the nearer to the reference, so that what a dominated point
    # covers is paid at least as well as what a dominating one covers besides. The same for all but one of equals.
    held = np.flatnonzero((sides > 0).all(axis=1))
    if len(held) == 0:
        warnings.warn(
            f"the reference point {_shown(low)} is dominated by none of the {len(array)} points: HSRI 0", stacklevel=2
        )
        return Portfolio(0.0, investment)
    held = held[nondominated(sides[held], maximise=True, duplicates=False)]
    sides = sides[held]
    mean = sides.prod(axis=1)
    both = np.ones((len(sides), len(sides)))
    for column in sides.T:
        both *= np.minimum.outer(column, column)
    values, vectors = np.linalg.eigh(both)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    root = np.sqrt(values[kept])
    target = vectors[:, kept].T @ mean / root
    solution, _ = nnls(root[:, None] * vectors[:, kept].T, target, maxiter=100 * len(sides))
    investment[held] = solution / solution.sum()
    covered = float(mean @ solution) ** 2 / float(solution @ both @ solution)
    ratio = float("inf") if covered >= 1.0 - 1e-12 else float(np.sqrt(covered / (1.0 - covered)))
    return Portfolio(ratio, investment)


def _points(points: ArrayLike, name: str = "points") -> Float[np.ndarray, "n M"]:
    array = np.asarray(points, np.float64)
    if array.ndim != 2 or array.shape[1] < 1:
        raise BadInput(f"{name} of shape {array.shape}: must be [n, M]")
    if not np.isfinite(array).all():
        row = int(np.argmax(~np.isfinite(array).all(axis=1)))
        raise BadInput(f"{name}: row {row} is {_shown(array[row])}; every value must be finite")
    return array


def _upwards(maximise: Direction, num_objectives: int) -> list[bool]:
    if maximise is None:
        raise BadInput(
            "maximise is missing: say maximise=True for objectives to be maximised, False for minimised ones, or a "
            "list with one of them for each objective"
        )
    upwards = np.asarray(maximise, bool)
    if upwards.ndim > 1 or (upwards.ndim == 1 and len(upwards) != num_objectives):
        raise BadInput(f"maximise has shape {upwards.shape}: must be one value, or one for each of {num_objectives}")
    return np.broadcast_to(upwards, (num_objectives,)).tolist()


def _corner(value: ArrayLike, num_objectives: int, name: str) -> Float[np.ndarray, "M"]:
    corner = np.asarray(value, np.float64)
    if corner.ndim > 1 or (corner.ndim == 1 and len(corner) != num_objectives) or not np.isfinite(corner).all():
        raise BadInput(f"{name} = {_shown(corner)}: must be finite, one number or one for each of {num_objectives}")
    return np.broadcast_to(corner, (num_objectives,)).copy()


def _two_sets(points: ArrayLike, reference_front: ArrayLike, maximise: Direction):
    array, target = _points(points), _points(reference_front, "reference_front")
    if len(array) == 0 or len(target) == 0 or array.shape[1] != target.shape[1]:
        raise BadInput(f"points of shape {array.shape} and a front of shape {target.shape}: must be [n, M] and [K, M]")
    return array, target, _upwards(maximise, array.shape[1])


def _blocks(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    size = max(1, _PAIRS_AT_ONCE // max(width, 1))
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _shown(point: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in np.ravel(point)) + ")"
