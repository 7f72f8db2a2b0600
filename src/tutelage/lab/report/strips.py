"""Small drawings of intervals, one line high, drawn by hand as SVG: for the claims and for the headline table."""

from __future__ import annotations

import math
from collections.abc import Callable

from tutelage.lab.report.markup import Markup, element
from tutelage.lab.report.numbers import alike, number
from tutelage.lab.study import Judgement

_WIDTH, _EDGE = 240.0, 12.0


def claim_strip(judgement: Judgement) -> Markup | None:
    """The interval against the threshold; the claim's side is shaded. None where there is no estimate."""
    points = [judgement.estimate, judgement.low, judgement.high, judgement.threshold]
    if not all(math.isfinite(point) for point in points):
        return None
    least, most = min(points), max(points)
    room = (most - least) * 0.18 or max(abs(most) * 0.1, 0.05)
    place = _scale(least - room, most + room)
    low, high, estimate, threshold = (
        place(v) for v in (judgement.low, judgement.high, judgement.estimate, judgement.threshold)
    )
    shade = None
    if judgement.side:
        start, end = (threshold, _WIDTH) if judgement.side == "above" else (0.0, threshold)
        shade = element("rect", x=_at(start), y=0, width=_at(end - start), height=30, class_="side")
    anchor = "start" if threshold < 30 else "end" if threshold > _WIDTH - 30 else "middle"
    words = f"estimate {number(judgement.estimate)}, interval {number(judgement.low)} to {number(judgement.high)}, "
    return element(
        "svg",
        element("title", f"{words}threshold {number(judgement.threshold)}"),
        shade,
        element("line", x1=0, x2=_at(_WIDTH), y1=15, y2=15, class_="rail"),
        element("line", x1=_at(threshold), x2=_at(threshold), y1=0, y2=30, class_="threshold"),
        element("rect", x=_at(low), y=11, width=_at(max(high - low, 2)), height=8, rx=2, class_="interval"),
        element("circle", cx=_at(estimate), cy=15, r=5, class_="estimate"),
        element(
            "text",
            f"{judgement.threshold:.4g}".replace("-", "−"),
            x=_at(threshold),
            y=43,
            text_anchor=anchor,
            class_="tick",
        ),
        viewBox=f"0 0 {_WIDTH:g} 46",
        role="img",
        class_=f"strip {judgement.verdict}",
        focusable="false",
    )


def value_strip(
    values: tuple[float, ...], estimate: float, low: float, high: float, least: float, most: float
) -> Markup:
    """One arm's figure on a scale shared by all arms: the seeds, their mean and its interval."""
    place = _scale(least, most)
    interval = None
    if math.isfinite(low) and math.isfinite(high):
        start, end = place(low), place(high)
        interval = element("rect", x=_at(start), y=8, width=_at(max(end - start, 2)), height=8, rx=2, class_="interval")
    shown = alike([estimate, low, high])
    words = f"mean {shown[0]}" + (f", interval {shown[1]} to {shown[2]}" if interval is not None else ", one seed")
    return element(
        "svg",
        element("title", words),
        element("line", x1=0, x2=_at(_WIDTH), y1=12, y2=12, class_="rail"),
        interval,
        [element("circle", cx=_at(place(value)), cy=12, r=2.4, class_="seed") for value in values],
        element("circle", cx=_at(place(estimate)), cy=12, r=5, class_="estimate"),
        viewBox=f"0 0 {_WIDTH:g} 24",
        role="img",
        class_="strip",
        focusable="false",
    )


def _scale(least: float, most: float) -> Callable[[float], float]:
    span = most - least or 1.0
    return lambda value: _EDGE + (value - least) / span * (_WIDTH - 2 * _EDGE)


def _at(position: float) -> str:
    return f"{position:.1f}"
