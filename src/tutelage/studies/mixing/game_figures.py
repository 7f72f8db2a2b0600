"""Figures of games: return mixing times as the games take turns, and what is forgotten meanwhile. On the host."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tutelage.continual.deep.config import SweepConfig
from tutelage.continual.deep.sweep import SweepPoint, growth, sweep
from tutelage.measures.forgetting import forgetting
from tutelage.measures.mixing import ScalingFit


def of_streams(streams: Mapping[str, ArrayLike], config: SweepConfig) -> dict[str, float]:
    """Figures of the streams f64 [N, L] of every game:

    - `reward_rate/GAME`: mean reward per step, and the mean over games without the name;
    - `t_ret/GAME`, and `t_ret/GAME+GAME@τ` of games in turns, in steps; left out where it was not reached;
    - `t_ret@Z,τ`: geometric mean over the choices of Z games, where all of them were reached;
    - `reached`: the share of the times that were;
    - `switching_exponent@Z`, `tasks_exponent@τ`: powers of τ and of |Z| with the bounds of their intervals (`_low`,
      `_high`), and their means over Z and τ without the `@`;
    - `tasks_ratio`: t_ret of the most games over that of the fewest in turns, geometric mean over the τ at which both
      are known; `tasks_power`: the power of |Z| that this ratio is, without a fit.

    Games that never score have no time, and neither have choices of them alone.
    """
    rates = {f"reward_rate/{name}": float(np.mean(np.asarray(stream))) for name, stream in streams.items()}
    rates["reward_rate"] = float(np.mean(list(rates.values())))
    return rates | of_points(sweep(streams, config, leave_out_silent=True))


def of_points(points: Sequence[SweepPoint]) -> dict[str, float]:
    """Times, shares and exponents of `of_streams`."""
    if not points:
        return {}
    figures = {_name(point): point.estimate.steps for point in points if point.estimate.reached}
    figures["reached"] = float(np.mean([point.estimate.reached for point in points]))

    def cell(point: SweepPoint) -> tuple[int, int]:
        return point.num_tasks, point.switch_every

    for (number, every), group in itertools.groupby(sorted(points, key=cell), cell):
        times = np.array([point.estimate.steps for point in group])
        if np.isfinite(times).all():
            figures[_cell(number, every)] = float(np.exp(np.log(times).mean()))
    figures |= _from_fewest_to_most(points, figures)
    in_switching, in_tasks = exponents(points)
    for word, fits in (("switching", in_switching), ("tasks", in_tasks)):
        for value, fit in fits.items():
            figures |= {
                f"{word}_exponent@{value}": fit.exponent,
                f"{word}_exponent_low@{value}": fit.low,
                f"{word}_exponent_high@{value}": fit.high,
            }
        if fits:
            figures[f"{word}_exponent"] = float(np.mean([fit.exponent for fit in fits.values()]))
    return figures


def exponents(points: Sequence[SweepPoint]) -> tuple[dict[int, ScalingFit], dict[int, ScalingFit]]:
    """Powers of τ by |Z|, and of |Z| by τ, of times that are not missing by their size.

    A choice of games enters the first where it was reached at every τ, a τ enters the second where all choices were
    reached: the slow ones are those that are missing, and a fit of the others would be too flat. Through fewer than
    three values of τ, or of |Z| ≥ 2, no power is fitted: any two points lie on one.
    """

    def whole(groups: Mapping[Any, list[SweepPoint]], scale: str) -> list[SweepPoint]:
        kept = [group for group in groups.values() if all(point.estimate.reached for point in group)]
        return [point for group in kept if len({getattr(each, scale) for each in group}) > 2 for point in group]

    by_choice: dict[tuple[str, ...], list[SweepPoint]] = {}
    by_time: dict[int, list[SweepPoint]] = {}
    for point in points:
        if point.num_tasks > 1:
            by_choice.setdefault(point.tasks, []).append(point)
            by_time.setdefault(point.switch_every, []).append(point)
    return growth(whole(by_choice, "switch_every")).in_switch_every, growth(whole(by_time, "num_tasks")).in_num_tasks


def of_turns(games: Sequence[str], table: ArrayLike) -> dict[str, float]:
    """Figures of a policy that learns games in turns, from the mean return of each game after each turn, [turns, Z]:

    - `return/GAME`: after the last turn; `average_return`: the mean over games;
    - after two turns `forgetting/GAME`: how far it is below the best one before;
    - `forgotten`: the same as a share of that best return, mean over the games but the one that was learnt last.
    """
    after = np.asarray(table, np.float64)
    if not len(after):
        return {}
    figures = {f"return/{game}": float(value) for game, value in zip(games, after[-1], strict=True)}
    figures["average_return"] = float(after[-1].mean())
    if len(after) < 2:
        return figures
    lost, best = forgetting(after), after[:-1].max(axis=0)
    figures |= {f"forgetting/{game}": float(value) for game, value in zip(games, lost, strict=True)}
    others = (np.arange(len(games)) != (len(after) - 1) % len(games)) & (best > 0)
    if others.any():
        figures["forgotten"] = float((lost[others] / best[others]).mean())
    return figures


def _from_fewest_to_most(points: Sequence[SweepPoint], figures: Mapping[str, float]) -> dict[str, float]:
    numbers = {point.num_tasks for point in points if point.num_tasks > 1}
    fewest, most = min(numbers, default=0), max(numbers, default=0)
    ends = [(_cell(fewest, every), _cell(most, every)) for every in {point.switch_every for point in points}]
    ratios = [figures[last] / figures[first] for first, last in ends if first in figures and last in figures]
    if fewest == most or not ratios:
        return {}
    ratio = float(np.exp(np.log(ratios).mean()))
    return {"tasks_ratio": ratio, "tasks_power": float(np.log(ratio) / np.log(most / fewest))}


def _cell(number: int, every: int) -> str:
    return f"t_ret@{number}" + (f",{every}" if number > 1 else "")


def _name(point: SweepPoint) -> str:
    return f"t_ret/{'+'.join(point.tasks)}" + (f"@{point.switch_every}" if point.num_tasks > 1 else "")
