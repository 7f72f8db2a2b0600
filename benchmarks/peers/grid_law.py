"""The exact law of a HyperGrid sampler from its action probabilities: NumPy only, the same for every contestant.

A state is D coordinates in 0 … H−1; action d < D raises coordinate d, action D stops. Tables are in C order of the
coordinates.
"""

from __future__ import annotations

import numpy as np


def cells(side: int, dims: int) -> np.ndarray:
    """All H^D cells, int [H^D, D]."""
    return np.stack(np.meshgrid(*[np.arange(side)] * dims, indexing="ij"), axis=-1).reshape(-1, dims)


def terminal_law(probabilities: np.ndarray, side: int, dims: int) -> np.ndarray:
    """P(stop at cell), f64 [H^D], of P_F given as [H^D, D + 1]; what an illegal action was given is ignored."""
    all_cells = cells(side, dims)
    legal = np.concatenate([all_cells < side - 1, np.ones((len(all_cells), 1), bool)], axis=1)
    policy = np.where(legal, probabilities.astype(np.float64), 0.0)
    policy /= policy.sum(axis=1, keepdims=True)
    stride = side ** np.arange(dims - 1, -1, -1)
    depth, reach = all_cells.sum(axis=1), np.zeros(len(all_cells))
    reach[0] = 1.0
    for level in range(dims * (side - 1)):
        [here] = np.nonzero(depth == level)
        for d in range(dims):
            movable = here[legal[here, d]]
            reach[movable + stride[d]] += reach[movable] * policy[movable, d]
    return reach * policy[:, dims]


def corners(side: int, dims: int, base: float) -> np.ndarray:
    """The reward of the classic HyperGrid (R0 = base, R1 = 0.5, R2 = 2), f64 [H^D], its boundaries in integers.

    |x/(H−1) − ½| > ¼ and 0.3 < |x/(H−1) − ½| < 0.4, multiplied by 20 (H−1).
    """
    distance = np.abs(20 * cells(side, dims) - 10 * (side - 1))
    outer = (distance > 5 * (side - 1)).all(axis=1)
    ring = ((distance > 6 * (side - 1)) & (distance < 8 * (side - 1))).all(axis=1)
    return base + 0.5 * outer + 2.0 * ring


def l1(law: np.ndarray, reward: np.ndarray) -> float:
    """Σ |P − R/ΣR|, in [0, 2]."""
    return float(np.abs(law - reward / reward.sum()).sum())
