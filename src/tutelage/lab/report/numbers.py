"""Numbers as a reader wants them: as many digits as mean something, and units."""

from __future__ import annotations

import math
from typing import Any

_STEPS = (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12))


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` significant digits; thousands apart; a dash for NaN."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size > 8:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:,.{max(0, digits - 1 - size)}f}".replace(",", " ").replace("-", "−")


def alike(values: list[float], digits: int = 3) -> list[str]:
    """Several numbers with the decimals of the largest, so that an estimate and its bounds compare at a glance."""
    finite = [abs(value) for value in values if math.isfinite(value) and value != 0]
    if not finite or not 1e-4 < max(finite) < 1e6:
        return [number(value, digits) for value in values]
    decimals = max(0, digits - 1 - max(math.floor(math.log10(max(finite))), 0))
    if max(finite) < 0.1:
        decimals = digits - 1 - math.floor(math.log10(max(finite)))
    return [f"{value:.{decimals}f}".replace("-", "−") if math.isfinite(value) else number(value) for value in values]


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 05 min."""
    if math.isnan(seconds):
        return "–"
    if seconds < 99.5:
        return f"{number(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def size(count: float) -> str:
    """Bytes in MiB or GiB."""
    if math.isnan(count):
        return "–"
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"


def rate(value: float) -> str:
    """A count in a second with its thousands as letters: 1.2k, 3.45M."""
    if math.isnan(value):
        return "–"
    for letter, step in reversed(_STEPS):
        if abs(value) >= step:
            return f"{value / step:.3g}{letter}"
    return f"{value:.3g}"


def real(value: Any) -> float:
    """A number from a file, or NaN for whatever is none (the lab writes NaN and infinities as text)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def seeds(values: list[int] | tuple[int, ...]) -> str:
    """Seeds as the command line takes them: `0:5` for 0 1 2 3 4, else `1,4,7`."""
    ordered = sorted(set(values))
    if len(ordered) > 1 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}:{ordered[-1] + 1}"
    return ",".join(str(seed) for seed in ordered)
