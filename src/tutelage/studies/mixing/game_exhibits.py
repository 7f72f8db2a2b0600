"""Pictures of games, of one run or of several seeds: return mixing times over τ and |Z|, returns over turns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from tutelage.lab.bootstrap import bootstrap, mean
from tutelage.lab.drawing import plots
from tutelage.lab.study import Exhibit
from tutelage.studies.mixing.config import Config

_CELL = re.compile(r"t_ret@([1-9]\d*),([1-9]\d*)")
_CHOICE = re.compile(r"t_ret/([^@]+)(?:@([1-9]\d*))?")


def growing(runs: Sequence[Mapping[str, float]]) -> list[Exhibit]:
    """t_ret against τ, a curve for each |Z|, and against |Z|, a curve for each τ; several runs are seeds."""
    cells = {(int(m[1]), int(m[2])) for run in runs for name in run if (m := _CELL.fullmatch(name))}
    times = {
        (number, every): values
        for number, every in sorted(cells)
        if (values := [run[f"t_ret@{number},{every}"] for run in runs if f"t_ret@{number},{every}" in run])
    }
    shown = []
    for place, other, word, title, x_label in (
        (1, 0, "|Z| =", "Return mixing time and switching time", "switching time τ, steps"),
        (0, 1, "τ =", "Return mixing time and number of games", "games in turns |Z|"),
    ):
        lines = []
        for series, fixed in enumerate(sorted({cell[other] for cell in times})):
            row = {cell[place]: values for cell, values in times.items() if cell[other] == fixed}
            if len(row) > 1:
                middle, low, high = zip(*(_mean(values) for values in row.values()))
                lines.append(plots.Curve(f"{word} {fixed}", list(row), middle, low, high, series))
        if lines:
            name = "growth-in-switching" if place else "growth-in-tasks"
            picture = plots.curves(lines, title=title, x_label=x_label, y_label="t_ret, steps", size=(560, 340))
            shown.append(Exhibit(name, title, _caption(runs, "switching" if place else "tasks"), svg=picture))
    return shown


def choices(runs: Sequence[Mapping[str, float]]) -> Exhibit:
    """Every choice of games, with its time at each τ: the mean over seeds, empty where one did not reach it."""
    found: dict[str, dict[int, float]] = {}
    for name in dict.fromkeys(name for run in runs for name in run):
        if (m := _CHOICE.fullmatch(name)) and all(name in run for run in runs):
            found.setdefault(m[1], {})[int(m[2] or 0)] = float(np.mean([run[name] for run in runs]))
    everies = sorted({every for times in found.values() for every in times} - {0})
    body = [
        (
            choice.replace("+", ", "),
            *(f"{times.get(every, times.get(0, np.nan)):,.0f}".replace("nan", "") for every in everies),
        )
        for choice, times in found.items()
    ]
    caption = "Steps until the running mean reward stays near its limit. One game alone does not switch."
    head = ("games", *(f"τ = {every}" for every in everies))
    return Exhibit("choices", "Return mixing times of every choice of games", caption, rows=(head, *body))


def over_turns(config: Config, tables: np.ndarray) -> Exhibit:
    """Returns of each game after each turn, `tables` [seeds, turns, Z]."""
    games = config.games
    steps = np.arange(1, tables.shape[1] + 1) * games.training.updates_per_task * games.steps_per_update
    return returns_over(steps, dict(zip(games.names, np.moveaxis(tables, 2, 0))))


def returns_over(steps: np.ndarray, returns: Mapping[str, np.ndarray]) -> Exhibit:
    """Returns of each game, [seeds, K] each, at K numbers of steps."""
    lines = []
    for series, (game, values) in enumerate(returns.items()):
        middle, low, high = np.array([_mean(column) for column in values.T]).T
        lines.append(plots.Curve(game, steps, middle, low, high, series))
    picture = plots.curves(
        lines, title="Returns as the games take turns", x_label="steps", y_label="mean return", size=(680, 340)
    )
    caption = "Mean return of whole episodes of each game, measured at the end of each turn." + _seeds(
        len(next(iter(returns.values()))) if returns else 1
    )
    return Exhibit("turns", "What is learnt and forgotten", caption, svg=picture)


def _caption(runs: Sequence[Mapping[str, float]], word: str) -> str:
    name = f"{word}_exponent"
    known = [run[name] for run in runs if name in run]
    text = "Geometric mean over the choices of so many games."
    if known:
        text += f" Fitted power: {_interval(*_mean(known))}."
    ratios = [run["tasks_ratio"] for run in runs if word == "tasks" and "tasks_ratio" in run]
    if ratios:
        text += f" From the fewest games in turns to the most: {_interval(*_mean(ratios))} times as long."
    if len(runs) == 1:
        fits = [
            f"{'|Z|' if word == 'switching' else 'τ'} = {value}: {runs[0][f'{word}_exponent_low@{value}']:.2f} to "
            f"{runs[0][f'{word}_exponent_high@{value}']:.2f}"
            for value in _values(runs[0], f"{word}_exponent_low@")
        ]
        text += f" Intervals of the fits, over choices: {'; '.join(fits)}." if fits else ""
    return text + _seeds(len(runs))


def _values(run: Mapping[str, float], prefix: str) -> list[int]:
    return sorted(int(name.removeprefix(prefix)) for name in run if name.startswith(prefix))


def _interval(middle: float, low: float, high: float) -> str:
    return f"{middle:.2f}" + (f" [{low:.2f}, {high:.2f}]" if np.isfinite(low) else "")


def _seeds(number: int) -> str:
    return f" Mean of {number} seeds with its 95 % interval." if number > 1 else ""


def _mean(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """The mean over seeds and its interval; NaN for one seed."""
    found = bootstrap(mean, np.asarray(values, np.float64), num_resamples=1000)
    return float(found.estimate), float(found.low), float(found.high)
