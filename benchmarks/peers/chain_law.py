"""What a stationary law is measured by, the same for every contestant: NumPy only."""

from __future__ import annotations

import numpy as np


def reference_law(P: np.ndarray) -> np.ndarray:
    """The stationary law of a chain [S, S] with one closed class, in extended precision (where the machine has one).

    μ (P − I) = 0 with the last equation replaced by Σ μ = 1, solved in float64 and refined with residuals in extended
    precision (Wilkinson 1963) until they do not shrink any more. Rows of float64 sum to 1 but for a rounding, to which
    the law of a slow chain is sensitive: as in the algorithm of Grassmann, Taksar and Heyman, what counts is what is
    off the diagonal.
    """
    equations = P.T.astype(np.longdouble)
    np.fill_diagonal(equations, 0)
    np.fill_diagonal(equations, -equations.sum(axis=0))
    equations[-1] = 1
    right = np.zeros(len(P), np.longdouble)
    right[-1] = 1
    inverse = np.linalg.inv(equations.astype(np.float64))
    law, left, least = np.zeros_like(right), right, np.inf
    while (size := float(np.abs(left).max())) < least:
        least = size
        law = law + inverse @ left.astype(np.float64)
        left = right - equations @ law
    return law


def errors(law: np.ndarray, reference: np.ndarray, P: np.ndarray) -> dict[str, float]:
    """How far a law is from being stationary and from the reference: Σ|μP − μ|, Σ|μ − reference|, largest relative."""
    mu = law.astype(np.longdouble)
    return {
        "residual": float(np.abs(mu @ P.astype(np.longdouble) - mu).sum()),
        "error": float(np.abs(mu - reference).sum()),
        "relative": float((np.abs(mu - reference) / reference).max()),
    }
