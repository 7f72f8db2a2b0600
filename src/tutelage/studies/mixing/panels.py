"""Pictures of all runs together: reward rates and regret against steps, and a table; of games, times and returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tutelage.lab.drawing import comparisons
from tutelage.lab.study import Exhibit, RunResult
from tutelage.studies.mixing.game_exhibits import choices, growing, returns_over

REPORTED = ("last_rate", "reward_rate", "gain_regret", "rho_star")


def panels(results: Sequence[RunResult]) -> list[Exhibit]:
    """The comparisons of a study, of the runs that have an evaluation."""
    return [*_lives([result for result in results if "gain_regret" in result.figures]), *_games(results)]


def _lives(lives: Sequence[RunResult]) -> list[Exhibit]:
    if not lives:
        return []
    shown = []
    for figure, words in (("gain_regret", "Gain regret T·ρ* − Σr"), ("reward_rate", "Reward rate so far")):
        picture = comparisons.against(lives, figure, "steps", title=words, x_label="steps")
        caption = "Against the exact gain of the optimal policy. Means over seeds with their 95 % intervals."
        shown.append(Exhibit(f"steps-{figure.replace('_', '-')}", words, caption, svg=picture))
    rows = comparisons.table(lives, REPORTED, order="gain_regret")
    return [*shown, Exhibit("agents", "The agents by regret", "Means over seeds.", rows=rows)]


def _games(results: Sequence[RunResult]) -> list[Exhibit]:
    """Games in turns: times over the seeds of each arm that measures them, returns over training."""
    shown: list[Exhibit] = []
    for arm in dict.fromkeys(result.arm for result in results):
        runs = [result for result in results if result.arm == arm]
        timed = [run.figures for run in runs if "reached" in run.figures]
        if timed:
            shown += [_named(each, arm) for each in (*growing(timed), choices(timed))]
        names = [name for kind, name in runs[0].series if kind == "evaluation" and name.startswith("return/")]
        courses = {
            name: [run.series[key] for run in runs if (key := ("evaluation", name)) in run.series] for name in names
        }
        steps = [run.series["evaluation", "steps"][1] for run in runs if ("evaluation", "steps") in run.series]
        if names and steps:
            shortest = min(len(values) for of_game in courses.values() for _, values in of_game)
            returns = {
                name.removeprefix("return/"): np.array([values[:shortest] for _, values in of_game])
                for name, of_game in courses.items()
            }
            shown.append(_named(returns_over(steps[0][:shortest], returns), arm))
    return shown


def _named(exhibit: Exhibit, arm: str) -> Exhibit:
    return dataclasses.replace(exhibit, name=f"{arm.replace('_', '-')}-{exhibit.name}")
