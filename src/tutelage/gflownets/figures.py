"""The figures of an evaluation: how good, how different and how well spread the samples of many preferences are."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tutelage.gflownets.environment import Objects
from tutelage.gflownets.objectives import log_scalar
from tutelage.gflownets.problem import Problem
from tutelage.lab.errors import BadInput
from tutelage.measures import pareto
from tutelage.measures.top_k import mean_pairwise_distance, top_k

_OBJECTS_AT_ONCE = 64
"""Whose distances are asked for in one call: all pairs are computed, and those of different preferences thrown away."""


def sample_figures(
    rewards: Float[np.ndarray, "P n M"],
    objects: Objects,
    preferences: Float[np.ndarray, "P M"],
    problem: Problem,
    *,
    k: int = 10,
    scalarisation: str = "weighted_sum",
    with_hsri: bool = False,
) -> dict[str, float]:
    """What n samples for each of P preferences are worth.

    Over all samples together: `hypervolume` (reference 0), `r2` as published and `r2_mean` (the preferences as weights,
    each objective's largest reward as the ideal), `pc_ent` (nats), `num_distinct`, and `hsri` on request. Where the
    exact front is known: `hypervolume_share` of the front's, `igd_plus` and `gd_plus` of the non-dominated samples to
    it. In the mean over preferences: `topk_reward`, the mean R(x | w) of the k best samples, and `topk_diversity`, the
    mean distance between two of these (equal objects are at distance 0; NaN, with a warning, for k = 1).

    Args:
        rewards: of the samples, to be maximised, ≥ 0.
        objects: the samples, [P, n, …].
        preferences: what each row was asked for.
        problem: whose distances, exact front and largest rewards are used.
        k: samples that count as the best, 1 … n.
        scalarisation: what R(x | w) is.

    Raises:
        BadInput: on shapes that do not fit together, k outside 1 … n, or rewards that are not finite.
    """
    shape, objects = rewards.shape, np.asarray(objects)
    if objects.shape[:2] != shape[:2] or preferences.shape != (shape[0], shape[2]):
        raise BadInput(
            f"rewards {shape}, objects {objects.shape}, preferences {preferences.shape}: must be [P, n, M], [P, n, …], "
            "[P, M]"
        )
    every = rewards.reshape(-1, shape[-1]).astype(np.float64)
    best_points = pareto.front(every, maximise=True)
    ideal = np.array(problem.objectives.upper or (1.0,) * shape[-1])
    scores = _scalarised(rewards, preferences, scalarisation)
    best = top_k(scores, k)
    # A point beyond the ideal is as far from it as one on this side: then all of them have to be looked at.
    near = best_points if (best_points <= ideal).all() else every
    result = {
        "hypervolume": pareto.hypervolume(best_points, 0.0, maximise=True),
        "r2": pareto.r2(near, preferences, ideal, normalise="official"),
        "r2_mean": pareto.r2(near, preferences, ideal, normalise="mean"),
        "pc_ent": pareto.pc_ent(every),
        "topk_reward": float(np.take_along_axis(scores, best, axis=-1).mean()),
        "topk_diversity": _diversity(objects, best, problem.distances),
        "num_distinct": float(len(np.unique(objects.reshape(len(every), -1), axis=0))),
    }
    if problem.front is not None:
        known, volume = _known_front(problem.front)
        result["hypervolume_share"] = result["hypervolume"] / volume
        result["igd_plus"] = pareto.igd_plus(best_points, known, maximise=True)
        result["gd_plus"] = pareto.gd_plus(best_points, known, maximise=True)
    if with_hsri:
        result["hsri"] = pareto.hsri(best_points, 0.0, ideal, maximise=True).indicator
    return result


@functools.lru_cache(maxsize=8)
def _known_front(front: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Computed once: an enumeration may be behind it."""
    points = np.asarray(front(), np.float64)
    return points, pareto.hypervolume(points, 0.0, maximise=True)


def _scalarised(rewards: np.ndarray, preferences: np.ndarray, scalarisation: str) -> np.ndarray:
    with jax.enable_x64(True):
        weights = jnp.asarray(np.broadcast_to(preferences[:, None], rewards.shape), jnp.float64)
        return np.exp(np.asarray(log_scalar(jnp.asarray(rewards, jnp.float64), weights, scalarisation)))


def _diversity(objects: np.ndarray, best: np.ndarray, distances: Callable[[np.ndarray, np.ndarray], np.ndarray]):
    """The mean over preferences of the mean distance between two of the best [P, k]."""
    number, k = best.shape
    if k == 1:
        warnings.warn("k = 1: the diversity of one item is undefined: NaN", stacklevel=3)
        return float("nan")
    chosen = objects[np.arange(number)[:, None], best]
    together = max(1, _OBJECTS_AT_ONCE // k)
    total = 0.0
    for start in range(0, number, together):
        rows = chosen[start : start + together].reshape(-1, *chosen.shape[2:])
        flat = rows.reshape(len(rows), -1)
        _, first, which = np.unique(flat, axis=0, return_index=True, return_inverse=True)
        apart = np.asarray(distances(rows[first], rows[first]))
        if apart.shape != (len(first), len(first)):
            raise BadInput(f"distances of {len(first)} objects: got shape {apart.shape}; must be {(len(first),) * 2}")
        which = which.reshape(-1, k)
        total += mean_pairwise_distance(apart[which[:, :, None], which[:, None, :]]).sum()
    return float(total / number)
