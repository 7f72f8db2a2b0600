"""Judges for the claims of a study: each makes a function of all seeds' results to holds, fails or undecided.

A claim holds when the whole bootstrap interval over seeds lies on the claim's side of the threshold, fails when all of
it lies on the other side, and is undecided in between, with fewer than `min_seeds` seeds, or where an arm or a figure
is missing: never quietly true.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from tutelage.lab import bootstrap
from tutelage.lab.bootstrap import Interval
from tutelage.lab.errors import BadInput
from tutelage.lab.study import Claim, Judgement, RunResult
from tutelage.measures.performance import iqm
from tutelage.measures.rank_correlation import spearman

Judge = Callable[[Sequence[RunResult]], Judgement]
Centre = Literal["mean", "iqm"]


class _Undecided(Exception):
    """Why no interval can be given, and how many seeds there were."""

    def __init__(self, reason: str, num_seeds: int = 0) -> None:
        super().__init__(reason)
        self.num_seeds = num_seeds


class _Evidence(NamedTuple):
    interval: Interval
    num_seeds: int


def at_least(
    figure: str, arm: str, threshold: float, *, centre: Centre = "mean", min_seeds: int = 3, confidence: float = 0.95
) -> Judge:
    """The arm's figure, averaged over seeds, is at least `threshold`."""
    return _one_arm(figure, arm, threshold, "above", centre, min_seeds, confidence)


def at_most(
    figure: str, arm: str, threshold: float, *, centre: Centre = "mean", min_seeds: int = 3, confidence: float = 0.95
) -> Judge:
    """The arm's figure, averaged over seeds, is at most `threshold`."""
    return _one_arm(figure, arm, threshold, "below", centre, min_seeds, confidence)


def better(
    figure: str,
    arm: str,
    than: str,
    margin: float = 0.0,
    *,
    higher: bool = True,
    centre: Centre = "mean",
    min_seeds: int = 3,
    confidence: float = 0.95,
) -> Judge:
    """The arm beats `than` by more than `margin`: the interval of the difference (unpaired seeds) is above it.

    With `higher` false lower figures are better: the difference is of `than` minus the arm. No difference at all is
    not better: it fails.
    """
    first, second = (arm, than) if higher else (than, arm)
    statistic = f"{_CENTRES[centre][0]} of {figure}: {first} − {second} > {_signed(margin)}"
    estimate = _difference(figure, first, second, centre, min_seeds, confidence)
    return _judge(statistic, margin, "above", estimate, confidence, strict=True)


def not_worse(
    figure: str,
    arm: str,
    than: str,
    margin: float,
    *,
    higher: bool = True,
    centre: Centre = "mean",
    min_seeds: int = 3,
    confidence: float = 0.95,
) -> Judge:
    """The arm is at most `margin` worse than `than` (non-inferiority): the difference is at least −margin."""
    if margin < 0:
        raise BadInput(f"margin: {margin} is outside [0, inf)")
    first, second = (arm, than) if higher else (than, arm)
    statistic = f"{_CENTRES[centre][0]} of {figure}: {first} − {second} ≥ {_signed(-margin)}"
    estimate = _difference(figure, first, second, centre, min_seeds, confidence)
    return _judge(statistic, -margin, "above", estimate, confidence)


def times(
    figure: str,
    arm: str,
    than: str,
    factor: float,
    *,
    centre: Centre = "mean",
    min_seeds: int = 3,
    confidence: float = 0.95,
) -> Judge:
    """The arm's figure is at least `factor` times that of `than`: the interval of arm − factor · than is not below 0.

    A difference and not a quotient, so that a baseline at 0 is no accident. `factor` below 1: at most so much worse.
    """
    if factor <= 0:
        raise BadInput(f"factor: {factor} is outside (0, inf)")
    statistic = f"{_CENTRES[centre][0]} of {figure}: {arm} − {factor:g} · {than} ≥ 0"
    estimate = _difference(figure, arm, than, centre, min_seeds, confidence, factor)
    return _judge(statistic, 0.0, "above", estimate, confidence)


def correlation(
    series: tuple[str, str], arm: str, at_least: float, *, min_seeds: int = 3, confidence: float = 0.95
) -> Judge:
    """A recorded series rises over training: Spearman's ρ against the step in each seed, averaged over seeds.

    Args:
        series: (kind, figure), as `("metrics", "replayed_path_length")`.
        at_least: the ρ that the whole interval must reach.
    """
    kind, figure = series

    def estimate(results: Sequence[RunResult]) -> _Evidence:
        def rho(result: RunResult) -> float:
            if series not in result.series:
                raise KeyError(figure)
            steps, values = (np.asarray(axis, dtype=np.float64) for axis in result.series[series])
            finite = np.isfinite(values)
            return float(spearman(steps[finite], values[finite])) if finite.sum() > 1 else math.nan

        values = _values(results, arm, f"series {kind}/{figure}", rho, min_seeds)
        return _Evidence(bootstrap.bootstrap(bootstrap.mean, values, confidence=confidence), values.size)

    statistic = f"mean over seeds of Spearman's ρ of {figure} with the step, {arm} ≥ {_signed(at_least)}"
    return _judge(statistic, at_least, "above", estimate, confidence)


def always(
    predicate: Callable[[RunResult], bool], statistic: str, *, arms: Sequence[str] = (), min_seeds: int = 3
) -> Judge:
    """An exact invariant: true of every run of the named arms (of all arms when empty).

    One counterexample refutes it, however few seeds there are; to hold it needs `min_seeds` seeds in each named arm.
    The estimate is the share of runs of which it is true; an invariant has no interval. A predicate that looks up a
    figure which a run lacks (`KeyError`) leaves it undecided.
    """

    def judge(results: Sequence[RunResult]) -> Judgement:
        chosen = [result for result in results if not arms or result.arm in arms]
        names = list(arms) or sorted({result.arm for result in chosen})
        counts = {name: len({result.seed for result in chosen if result.arm == name}) for name in names}
        fewest = min(counts.values(), default=0)

        def judgement(verdict: Literal["holds", "fails", "undecided"], share: float, reason: str) -> Judgement:
            return Judgement(verdict, statistic, share, share, share, 1.0, reason, "above", fewest)

        try:
            outcomes = [bool(predicate(result)) for result in chosen]
        except KeyError as error:
            return judgement("undecided", math.nan, f"a run lacks {error.args[0] if error.args else 'a figure'}")
        share = sum(outcomes) / len(outcomes) if outcomes else math.nan
        if not all(outcomes):
            broken = [f"{r.arm} seed {r.seed}" for r, held in zip(chosen, outcomes, strict=True) if not held]
            more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
            return judgement("fails", share, f"not so in {', '.join(broken[:3])}{more}")
        if fewest < min_seeds:
            name = min(counts, key=lambda arm: counts[arm], default="any arm")
            return judgement("undecided", share, _too_few(name, fewest, min_seeds))
        return judgement("holds", share, f"so in all {len(outcomes)} runs")

    return judge


def judge_all(claims: Iterable[Claim], results: Sequence[RunResult]) -> list[tuple[Claim, Judgement]]:
    """Every claim with its judgement. A judge that breaks on these results leaves its claim undecided and says how."""
    judged = []
    for claim in claims:
        try:
            judgement = claim.judge(results)
        except Exception as error:
            reason = f"the judge could not read the results: {type(error).__name__}: {error}"
            judgement = Judgement("undecided", "", math.nan, math.nan, math.nan, math.nan, reason)
        judged.append((claim, judgement))
    return judged


def _one_arm(
    figure: str,
    arm: str,
    threshold: float,
    side: Literal["above", "below"],
    centre: Centre,
    min_seeds: int,
    confidence: float,
) -> Judge:
    def estimate(results: Sequence[RunResult]) -> _Evidence:
        values = _final(results, arm, figure, min_seeds)
        return _Evidence(bootstrap.bootstrap(_CENTRES[centre][1], values, confidence=confidence), values.size)

    sign = "≥" if side == "above" else "≤"
    return _judge(
        f"{_CENTRES[centre][0]} of {figure}, {arm} {sign} {_signed(threshold)}", threshold, side, estimate, confidence
    )


def _difference(
    figure: str, first: str, second: str, centre: Centre, min_seeds: int, confidence: float, factor: float = 1.0
) -> Callable[[Sequence[RunResult]], _Evidence]:
    of = _CENTRES[centre][1]

    def estimate(results: Sequence[RunResult]) -> _Evidence:
        ours, theirs = (_final(results, arm, figure, min_seeds) for arm in (first, second))
        interval = bootstrap.bootstrap(lambda a, b: of(a) - factor * of(b), ours, theirs, confidence=confidence)
        return _Evidence(interval, min(ours.size, theirs.size))

    return estimate


def _judge(
    statistic: str,
    threshold: float,
    side: Literal["above", "below"],
    estimate: Callable[[Sequence[RunResult]], _Evidence],
    confidence: float,
    strict: bool = False,
) -> Judge:
    """Compare the interval with the threshold; `strict`: the threshold itself is on the wrong side.

    Rounding must not decide (the mean of three times 0.1 is more than 0.1), so 1e-9 of the scale counts as equal.
    """

    def judge(results: Sequence[RunResult]) -> Judgement:
        try:
            interval, num_seeds = estimate(results)
        except _Undecided as why:
            nothing = math.nan
            return Judgement(
                "undecided", statistic, nothing, nothing, nothing, threshold, str(why), side, why.num_seeds
            )
        middle, low, high = (float(part) for part in interval)
        sign = 1 if side == "above" else -1
        near, far = sorted((sign * (low - threshold), sign * (high - threshold)))
        equal = 1e-9 * max(1.0, abs(threshold))
        reached = near > equal if strict else near >= -equal
        missed = far <= equal if strict else far < -equal
        limit = _signed(threshold)
        interval_name = f"{100 * confidence:g} % interval over {num_seeds} seeds"
        if reached:
            verdict, reason = "holds", f"the whole {interval_name} is on the claim's side of {limit}"
        elif missed:
            verdict, reason = "fails", f"the whole {interval_name} is on the wrong side of {limit}"
        else:
            verdict, reason = "undecided", f"the {interval_name} contains {limit}"
        return Judgement(verdict, statistic, middle, low, high, threshold, reason, side, num_seeds)

    return judge


def _final(results: Sequence[RunResult], arm: str, figure: str, min_seeds: int) -> np.ndarray:
    return _values(results, arm, figure, lambda result: result.figures[figure], min_seeds)


def _values(
    results: Sequence[RunResult], arm: str, what: str, read: Callable[[RunResult], float], min_seeds: int
) -> np.ndarray:
    """One finite number per seed of the arm, in the order of the seeds, or `_Undecided` with the reason."""
    by_seed: dict[int, float] = {}
    lacking: list[int] = []
    for result in results:
        if result.arm != arm:
            continue
        if result.seed in by_seed or result.seed in lacking:
            raise _Undecided(f"{arm} seed {result.seed} is there twice; give each run once")
        try:
            value = float(read(result))
        except KeyError:
            value = math.nan
        if math.isfinite(value):
            by_seed[result.seed] = value
        else:
            lacking.append(result.seed)
    if not by_seed and not lacking:
        raise _Undecided(f"no run of {arm}")
    if lacking:
        raise _Undecided(f"{arm} seed {lacking[0]} has no finite {what}", len(by_seed))
    if len(by_seed) < min_seeds:
        raise _Undecided(_too_few(arm, len(by_seed), min_seeds), len(by_seed))
    return np.array([by_seed[seed] for seed in sorted(by_seed)])


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _too_few(arm: str, count: int, needed: int) -> str:
    return f"{count} {'seed' if count == 1 else 'seeds'} of {arm}; the claim needs {needed}"


_CENTRES: Mapping[Centre, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "mean": ("mean", bootstrap.mean),
    "iqm": ("interquartile mean", lambda sample: iqm(sample[..., None])),
}
