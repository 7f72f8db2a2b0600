"""The sections of pictures: what compares the arms of a study, and what the runs left, by arm."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

from tutelage.lab.drawing.svg import rendered
from tutelage.lab.report import numbers
from tutelage.lab.report.gather import Material, Run, ShownExhibit
from tutelage.lab.report.markup import Markup, element
from tutelage.lab.report.tables import table
from tutelage.lab.study import Exhibit, Study

_BUDGET = 12_000_000
"""Bytes of pictures in one page."""
_BROAD = 640
"""Pictures wider than this many pixels get the whole row."""


def section(material: Material, arms: list[str], study: Study | None) -> Markup | None:
    """For each arm the exhibits of its first run that has any; the main arm is open, the others unfold."""
    chosen = {arm: run for arm in arms if (run := _first(material, arm)) is not None}
    if not chosen:
        return None
    left, parts = _BUDGET, []
    main = study.main_arm if study and study.main_arm in chosen else next(iter(chosen))
    for arm in [main, *(arm for arm in chosen if arm != main)]:
        shown, dropped = [], []
        for exhibit in chosen[arm].exhibits:
            if len(exhibit.svg) > left:
                dropped.append(exhibit.title)
                continue
            left -= len(exhibit.svg)
            shown.append(_exhibit(exhibit))
        parts.append(_of_arm(material, chosen[arm], shown, dropped, is_open=arm == main))
    return element(
        "section",
        element("h2", "Exhibits", id="exhibits"),
        element(
            "p",
            "Made from the final state of one run of each arm. Animations are part of the pictures.",
            class_="soft small",
        ),
        parts,
        aria_labelledby="exhibits",
    )


def comparisons(panels: Sequence[ShownExhibit], title: str = "Comparisons") -> Markup | None:
    """Pictures and tables in a grid, under a title if there is one."""
    if not panels:
        return None
    return element(
        "section",
        element("h2", title, id="comparisons") if title else None,
        element("div", [_exhibit(panel) for panel in panels], class_="panels"),
        aria_labelledby="comparisons",
    )


def shown(exhibit: Exhibit) -> ShownExhibit:
    """An exhibit that a study made just now. A picture that is not of our own drawing is treated as one from a file."""
    own = rendered(exhibit.svg)
    svg, inline = (b"", exhibit.svg) if own else (exhibit.svg.encode(), "")
    return ShownExhibit(exhibit.name, exhibit.title, exhibit.caption, svg, exhibit.rows, inline)


def _first(material: Material, arm: str) -> Run | None:
    runs = [run for run in material.runs if run.arm == arm and run.exhibits]
    return min(runs, key=lambda run: run.seeds) if runs else None


def _of_arm(material: Material, run: Run, shown: list[Markup], dropped: list[str], *, is_open: bool) -> Markup:
    notes: list[Any] = []
    others = [other.label for other in material.runs if other.arm == run.arm and other.exhibits and other is not run]
    if others:
        notes.append(element("p", f"Other runs have theirs in figures/: {', '.join(others)}.", class_="soft small"))
    if dropped:
        notes.append(element("p", f"Left out to keep the page light: {', '.join(dropped)}.", class_="soft small"))
    title = f"{run.arm} (seed {numbers.seeds(run.seeds[:1])}): {len(shown)} exhibits"
    return element(
        "details", element("summary", title), element("div", shown, class_="exhibits"), notes, open=is_open or None
    )


def _exhibit(exhibit: ShownExhibit) -> Markup:
    caption = element("figcaption", element("b", exhibit.title), exhibit.caption)
    if exhibit.rows:
        head, *rows = exhibit.rows
        body = [
            element(
                "tr",
                [
                    element("th" if i == 0 else "td", cell, scope="row" if i == 0 else None)
                    for i, cell in enumerate(row)
                ],
            )
            for row in rows
        ]
        return element(
            "figure", table(list(head), body, label=exhibit.title, numeric=len(head)), caption, class_="broad"
        )
    kind = "broad" if _width(exhibit.svg or exhibit.inline.encode()) > _BROAD else None
    if exhibit.inline:
        return element("figure", Markup(exhibit.inline), caption, class_=kind)
    # In an <img> a picture can neither run scripts nor fetch anything; animations still play.
    source = "data:image/svg+xml;base64," + base64.b64encode(exhibit.svg).decode("ascii")
    picture = element("img", src=source, alt=f"{exhibit.title}. {exhibit.caption}")
    return element("figure", picture, caption, class_=kind)


def _width(svg: bytes) -> float:
    """The width that the root element asks for, in pixels, or 0."""
    found = re.search(rb"<svg\b[^>]*?\swidth\s*=\s*[\"'](\d{1,5})(?:\.\d+)?(?:px)?[\"']", svg[:4000])
    return float(found[1]) if found else 0.0
