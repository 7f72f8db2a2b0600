"""What a stationary law is measured by, the same for every contestant: NumPy only."""

from __future__ import annotations

import numpy as np


def reference_law(P: np.ndarray) -> np.ndarray:
    """The stationary law of an irreducible chain [S, S] in extended precision, by elimination without subtractions.

    Grassmann, Taksar & Heyman (1985): every entry is right to a few roundings of the precision, however slow the chain.
    """
    A = P.astype(np.longdouble)
    for n in range(len(A) - 1, 0, -1):
        A[:n, n] /= A[n, :n].sum()
        A[:n, :n] += A[:n, n, None] * A[None, n, :n]
    law = np.ones(len(A), np.longdouble)
    for n in range(1, len(A)):
        law[n] = law[:n] @ A[:n, n]
    return law / law.sum()


def errors(law: np.ndarray, reference: np.ndarray, P: np.ndarray) -> dict[str, float]:
    """How far a law is from the reference and from being stationary: Σ|μP − μ|, Σ|μ − reference|, max relative."""
    mu, transitions = law.astype(np.longdouble), P.astype(np.longdouble)
    return {
        "residual": float(np.abs(mu @ transitions - mu).sum()),
        "error": float(np.abs(mu - reference).sum()),
        "relative": float((np.abs(mu - reference) / reference).max()),
    }
