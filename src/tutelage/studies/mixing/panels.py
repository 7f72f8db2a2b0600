"""Pictures of all runs together: reward rates and regret against steps, and a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tutelage.lab import comparisons
from tutelage.lab.study import Exhibit, RunResult

REPORTED = ("last_rate", "reward_rate", "gain_regret", "rho_star")


def panels(results: Sequence[RunResult]) -> list[Exhibit]:
    """The comparisons of a study, of the runs that have an evaluation."""
    lives = [result for result in results if "gain_regret" in result.figures]
    if not lives:
        return []
    shown = []
    for figure, words in (("gain_regret", "Gain regret T·ρ* − Σr"), ("reward_rate", "Reward rate so far")):
        picture = comparisons.against(lives, figure, "steps", title=words, x_label="steps")
        caption = "Against the exact gain of the optimal policy. Means over seeds with their 95 % intervals."
        shown.append(Exhibit(f"steps-{figure.replace('_', '-')}", words, caption, svg=picture))
    return [*shown, _table(lives)]


def _table(results: Sequence[RunResult]) -> Exhibit:
    rows = []
    for arm in dict.fromkeys(result.arm for result in results):
        runs = [result for result in results if result.arm == arm]
        cells = [_mean(run.figures.get(name) for run in runs) for name in REPORTED]
        rows.append((cells[2], (arm, *(f"{cell:,.4g}" for cell in cells))))
    body = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    return Exhibit("agents", "The agents by regret", "Means over seeds.", rows=(("arm", *REPORTED), *body))


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")
