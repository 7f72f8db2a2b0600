"""Functions of the square [−1, 1]² that serve as rewards of a grid, on the host in float64.

The formulas are those of the published HyperGrid study (recursionpharma/gflownet: branin, currin) and of the
order-preserving GFlowNets' (OP-GFN: sphere, beale, shubert). They are made to lie in [0, 1], and nearly do: `currin`
reaches 1.0015 on the grid of side 32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, "*shape"]


def branin(x1: Values, x2: Values) -> Values:
    """1 − Branin(15u₁ − 5, 15u₂)/308.13 with u = x/2 + ½."""
    a, b = 15 * _unit(x1) - 5, 15 * _unit(x2)
    bowl = b - 5.1 * a**2 / (4 * np.pi**2) + 5 * a / np.pi - 6
    return 1 - (bowl**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10) / 308.13


def currin(x1: Values, x2: Values) -> Values:
    """Currin's exponential function /13.77 with u = x/2 + ½; its limit e^{−1/(2u₂)} = 0 at u₂ = 0."""
    u1, u2 = _unit(x1), _unit(x2)
    decay = np.exp(-1 / np.maximum(2 * u2, 1e-300))
    ratio = (2300 * u1**3 + 1900 * u1**2 + 2092 * u1 + 60) / (100 * u1**3 + 500 * u1**2 + 4 * u1 + 20)
    return (1 - decay) * ratio / 13.77


def sphere(x1: Values, x2: Values) -> Values:
    """(x₁² + x₂²)/2."""
    return (x1**2 + x2**2) / 2


def beale(x1: Values, x2: Values) -> Values:
    """Beale's three squares /38.8."""
    return np.sum([(c - x1 + x1 * x2**power) ** 2 for power, c in enumerate((1.5, 2.25, 2.625), 1)], axis=0) / 38.8


def shubert(x1: Values, x2: Values) -> Values:
    """(S(−1.5x₁)·S(−1.5x₂) + 186.8)/397 with S(z) = Σ_{i=1..5} i·cos((i + 1)z + i)."""
    return (_shubert_sum(-1.5 * x1) * _shubert_sum(-1.5 * x2) + 186.8) / 397


LANDSCAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "branin": branin,
    "currin": currin,
    "shubert": shubert,
    "beale": beale,
    "sphere": sphere,
}


def positions(side: int) -> Float[np.ndarray, "H"]:
    """Where the cells 0 … H − 1 of an axis lie in [−1, 1]."""
    return np.linspace(-1.0, 1.0, side)


def surface(name: str, side: int) -> Float[np.ndarray, "H H"]:
    """A function's values at all pairs of cells."""
    x = positions(side)
    return LANDSCAPES[name](*np.meshgrid(x, x, indexing="ij"))


def _unit(x: Values) -> Values:
    return x / 2 + 0.5


def _shubert_sum(z: Values) -> Values:
    return np.sum([i * np.cos((i + 1) * z + i) for i in range(1, 6)], axis=0)
