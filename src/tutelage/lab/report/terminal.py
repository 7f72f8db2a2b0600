"""The report in short for the terminal: claims with their verdicts, and the headline figures of every arm."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.lab.report import claims, numbers, summary
from tutelage.lab.report.fitting import misfits
from tutelage.lab.report.gather import Material, gather
from tutelage.lab.study import Study

_FIGURES = 4
_COLOURS = {"holds": "green", "fails": "red", "undecided": "yellow"}


def terminal_table(
    paths: Sequence[Path], *, study: Study | None = None, known: Collection[str] = (), console: Console | None = None
) -> None:
    """Print claims and headline figures of run and study folders; plain lines where nobody watches a terminal.

    Raises:
        BadInput: a path is no folder or holds nothing to report.
    """
    material = gather([Path(path) for path in paths])
    console = console or Console()
    for problem in misfits(material, study, known):
        console.print(_printable(problem), markup=False, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        for line in _lines(material, study):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    if material.verdicts:
        table = Table(title="Claims", title_justify="left", header_style="bold", expand=False)
        for title in ("verdict", "claim", "estimate", "threshold"):
            table.add_column(title, justify="right" if title in ("estimate", "threshold") else "left")
        for verdict in material.verdicts:
            judgement = verdict.judgement
            word = Text(claims.SIGNS[judgement.verdict], style=_COLOURS[judgement.verdict])
            sentence = Text(_printable(verdict.sentence))
            sentence.append(f"\n{_printable(judgement.reason)}", style="dim")
            table.add_row(word, sentence, _interval(verdict_numbers(verdict)), numbers.number(judgement.threshold))
        console.print(table)
    arms, figures, cells = _figures(material, study)
    if figures:
        table = Table(title="Final figures", title_justify="left", header_style="bold")
        table.add_column("arm")
        for figure in figures:
            table.add_column(Text(_printable(figure)), justify="right")
        for arm, row in zip(arms, cells, strict=True):
            table.add_row(Text(_printable(arm)), *row)
        console.print(table)
    for problem in dict.fromkeys(material.problems):
        console.print(Text(_printable(problem), style="yellow"))


def _lines(material: Material, study: Study | None) -> list[str]:
    lines = []
    for verdict in material.verdicts:
        judgement = verdict.judgement
        figures = _interval(verdict_numbers(verdict))
        lines.append(f"{judgement.verdict}: {verdict.name}: {figures} ({judgement.reason})")
    arms, figures, cells = _figures(material, study)
    for arm, row in zip(arms, cells, strict=True):
        lines.append(f"{arm}: " + ", ".join(f"{figure} {cell}" for figure, cell in zip(figures, row, strict=True)))
    return [_printable(line) for line in [*lines, *dict.fromkeys(material.problems)]]


def verdict_numbers(verdict: claims.Verdict) -> tuple[float, float, float]:
    """Estimate, low and high of a verdict."""
    return verdict.judgement.estimate, verdict.judgement.low, verdict.judgement.high


def _figures(material: Material, study: Study | None) -> tuple[list[str], list[str], list[list[str]]]:
    headline = study.headline if study else ""
    figures = summary.figures(material, "evaluation", headline)[:_FIGURES]
    arms = material.arms(study.arms if study else ())
    cells = []
    for arm in arms:
        found = [summary.final(material.results(arm), figure) for figure in figures]
        cells.append(["–" if entry is None else _interval(entry[1:]) for entry in found])
    return (arms if figures else []), figures, (cells if figures else [])


def _interval(figures: Sequence[float]) -> str:
    estimate, low, high = numbers.alike(list(figures))
    return estimate if math.isnan(figures[1]) else f"{estimate} [{low}, {high}]"


def _printable(line: str) -> str:
    """Names from files may not steer the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in line)
