"""How long is long enough: return mixing times from rollouts, and how they grow.

    t_ret(ε) = the first h from which on the running average reward of a rollout stays within ε|ρ̂| of ρ̂,

ρ̂ the mean reward of the rollouts' second halves together, and the rollouts' times combined by their largest (or a
quantile). That is about single runs, noise included, as a user meets them; the exact t_ret of a table
(`tutelage.continual.return_mixing`) is about expectations, and no larger up to estimation. Start the rollouts from
states that are spread, or the time from the worst start is not in them.

A time beyond half of the rollouts' length is "not reached": ρ̂ itself is then not to be trusted.

References: Riemer et al. (2022), Continual Learning In Environments With Polynomial Mixing Times, arXiv 2112.07066.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tutelage.lab.bootstrap import bootstrap
from tutelage.lab.errors import BadInput


class ReturnMixingEstimate(NamedTuple):
    """An estimated return mixing time.

    Attributes:
        steps: t_ret in steps; inf if not reached within half of the rollouts' length.
        low, high: bootstrap interval over rollouts, in steps; `high` is inf where it is beyond that half; NaN for one
            rollout.
        eps: ε.
        tolerance: the deviation that ε stands for, in units of reward.
        gain: ρ̂, reward per step.
        num_rollouts, length: N and T.
        definition: what the number means.
    """

    steps: float
    low: float
    high: float
    eps: float
    tolerance: float
    gain: float
    num_rollouts: int
    length: int
    definition: str

    @property
    def reached(self) -> bool:
        """Whether the rollouts were long enough to tell."""
        return math.isfinite(self.steps)

    def __str__(self) -> str:
        if not self.reached:
            found = f"not reached within {self.length // 2} steps, half of the rollouts' length"
        else:
            high = "not reached" if math.isinf(self.high) else f"{self.high:.0f}"
            found = f"{self.steps:.0f} steps" + ("" if math.isnan(self.low) else f" [{self.low:.0f}, {high}]")
        return f"t_ret({self.eps:g}) = {found}, {self.definition}"


class ScalingFit(NamedTuple):
    """time ≈ factor · scale^exponent, by least squares on logarithms.

    Attributes:
        exponent, factor: of the fit.
        low, high: Student-t interval of the exponent; NaN for two points, which leave no residual.
        r_squared: share of the variance of log time that is explained, in [0, 1].
    """

    exponent: float
    low: float
    high: float
    factor: float
    r_squared: float

    def __str__(self) -> str:
        return f"∝ scale^{self.exponent:.2f} [{self.low:.2f}, {self.high:.2f}]"


class MixingReport(NamedTuple):
    """Whether an evaluation window is long enough.

    Attributes:
        window: steps over which the evaluation averages.
        estimate: of the return mixing time.
        mixing_times: window / t_ret; 0 stands for "not known" where t_ret was not reached.
        windows_needed: t_ret / window; inf where t_ret was not reached.
    """

    window: int
    estimate: ReturnMixingEstimate
    mixing_times: float
    windows_needed: float

    @property
    def enough(self) -> bool:
        """Whether the window is at least one return mixing time."""
        return self.windows_needed <= 1

    def __str__(self) -> str:
        one = self.estimate
        if not one.reached:
            return (
                f"your evaluation window of {self.window} steps cannot be judged: {one}. It is less than "
                f"{2 * self.window / one.length:.2g} return-mixing times; longer rollouts would be needed"
            )
        verdict = "which is enough" if self.enough else f"{self.windows_needed:.2g} such windows would be needed"
        separator = ", " if self.enough else "; "
        return (
            f"your evaluation window of {self.window} steps is {self.mixing_times:.2g} return-mixing times"
            f"{separator}{verdict}. {one}"
        )


def return_mixing_estimate(
    rewards: ArrayLike,
    eps: float = 0.1,
    *,
    absolute: bool = False,
    quantile: float = 1.0,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> ReturnMixingEstimate:
    """t_ret of N rollouts [N, T], with a bootstrap interval over the rollouts (ρ̂ is estimated anew in each resample).

    With quantile 1 the interval tells little upwards: no resample holds a rollout slower than the slowest seen.

    Args:
        rewards: of each step of each rollout, f64 [N, T], T ≥ 2.
        eps: allowed deviation from ρ̂: a share of |ρ̂|, in (0, 1); with `absolute` in units of reward, > 0.
        quantile: share of the rollouts that must have settled, in (0, 1]; 1 is all.
        confidence: of the interval, in (0, 1).

    Raises:
        BadInput: settings outside their ranges, rewards of another shape or not finite (the rollouts are named), ρ̂ = 0
            with a relative ε.
    """
    values = _rollouts(rewards)
    _check(eps, absolute, quantile)
    num_rollouts, length = values.shape
    tails = values[:, length // 2 :].mean(axis=1)
    averages = values.cumsum(axis=1) / np.arange(1, length + 1)
    # The last step out of a band is found by bisection: what an average still reaches, from h on, only shrinks with h.
    highest = np.maximum.accumulate(averages[:, ::-1], axis=1)  # [:, k]: over the last k + 1 horizons.
    lowest = np.minimum.accumulate(averages[:, ::-1], axis=1)
    kth = math.ceil(quantile * num_rollouts - 1e-9) - 1

    def combined(rollouts: np.ndarray) -> np.ndarray:
        """Settling time of resamples of rollout numbers, [B, N] -> [B]; `length` + 1 where not even the end settles."""
        gain = tails[rollouts].mean(axis=1)
        width = _width(gain, eps, absolute)
        settled = np.empty((len(rollouts), num_rollouts))
        for n in range(num_rollouts):
            inside = np.minimum(
                np.searchsorted(highest[n], gain + width, side="right"),
                np.searchsorted(-lowest[n], -(gain - width), side="right"),
            )
            settled[:, n] = length - inside + 1
        return np.sort(np.take_along_axis(settled, rollouts, axis=1), axis=1)[:, kth]

    gain = float(tails.mean())
    if gain == 0 and not absolute:
        raise BadInput("eps: relative to an average reward of 0; give absolute=True and eps in units of reward")
    found = bootstrap(
        lambda numbers: combined(numbers.astype(np.int64)),
        np.arange(num_rollouts),
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )
    steps, low, high = (math.inf if bound > length / 2 else float(bound) for bound in found)
    many = "all rollouts" if quantile == 1 else f"{quantile:.0%} of the rollouts"
    band = f"{eps:g}" if absolute else f"{eps:.3g}·|ρ̂|"
    meaning = (
        f"the first h from which on the running average reward of {many} stays within {band} of ρ̂ = {gain:.6g} "
        f"({num_rollouts} rollouts of {length} steps)"
    )
    width = float(_width(np.asarray(gain), eps, absolute))
    return ReturnMixingEstimate(steps, low, high, eps, width, gain, num_rollouts, length, meaning)


def mixing_report(
    rewards: ArrayLike, window: int | None = None, *, eps: float = 0.1, absolute: bool = False, quantile: float = 1.0
) -> MixingReport:
    """Whether averages over `window` steps tell the long-run reward of what produced these rollouts [N, T].

    Args:
        window: steps over which the evaluation averages; T when not given.
        eps, absolute, quantile: of `return_mixing_estimate`.

    Raises:
        BadInput: as `return_mixing_estimate`; a window below 1.
    """
    values = _rollouts(rewards)
    length = int(values.shape[1]) if window is None else window
    if length < 1:
        raise BadInput(f"window = {length}: must be in [1, inf)")
    estimate = return_mixing_estimate(values, eps, absolute=absolute, quantile=quantile)
    return MixingReport(length, estimate, length / estimate.steps, estimate.steps / length)


def scaling_exponent(scale: ArrayLike, time: ArrayLike, *, confidence: float = 0.95) -> ScalingFit:
    """How times grow with a scale, [n] and [n]: the slope of log time over log scale with its Student-t interval.

    Several times of one scale (seeds) are given as so many pairs. The interval takes the deviations from a power law to
    be independent and normal; for exact times it describes how well a power law fits, not a sampling error.

    Raises:
        BadInput: shapes that differ, fewer than two different scales, numbers that are not positive and finite.
    """
    from scipy.special import stdtrit  # SciPy is slow to import, and command lines pass by here.

    x, y = np.asarray(scale, np.float64), np.asarray(time, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise BadInput(f"scale, time: shapes {x.shape}, {y.shape}; must be [n] and [n]")
    for name, values in (("scale", x), ("time", y)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise BadInput(f"{name}: {values[~(np.isfinite(values) & (values > 0))][0]}; must be in (0, inf)")
    if np.unique(x).size < 2:
        raise BadInput(f"scale: {np.unique(x).size} different values; must be at least 2")
    if not 0 < confidence < 1:
        raise BadInput(f"confidence = {confidence}: must be in (0, 1)")
    x, y = np.log(x), np.log(y)
    centred = x - x.mean()
    spread = float(centred @ centred)
    exponent = float(centred @ y) / spread
    residual = y - y.mean() - exponent * centred
    total = float(((y - y.mean()) ** 2).sum())
    explained = 1 - float(residual @ residual) / total if total > 0 else 1.0
    freedom = x.size - 2
    if freedom:
        error = math.sqrt(float(residual @ residual) / freedom / spread)
        half = float(stdtrit(freedom, (1 + confidence) / 2)) * error
    else:
        half = math.nan
    factor = math.exp(float(y.mean() - exponent * x.mean()))
    return ScalingFit(exponent, exponent - half, exponent + half, factor, explained)


def _rollouts(rewards: ArrayLike) -> np.ndarray:
    values = np.asarray(rewards, np.float64)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise BadInput(f"rewards: shape {values.shape}; must be [rollouts, steps] with at least 2 steps")
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if broken.size:
        raise BadInput(f"rewards: rollouts {broken[:5].tolist()} have entries that are not finite")
    if (largest := float(np.abs(values).max())) > np.finfo(np.float64).max / (4 * values.size):
        raise BadInput(f"rewards: entries of {largest:.3g} overflow when they are summed; give them in another unit")
    return values


def _check(eps: float, absolute: bool, quantile: float) -> None:
    if absolute and not 0 < eps < math.inf:
        raise BadInput(f"eps = {eps}: must be in (0, inf), in units of reward")
    if not absolute and not 0 < eps < 1:
        raise BadInput(f"eps = {eps}: must be in (0, 1), a share of the average reward")
    if not 0 < quantile <= 1:
        raise BadInput(f"quantile = {quantile}: must be in (0, 1]")


def _width(gain: np.ndarray, eps: float, absolute: bool) -> np.ndarray:
    """The allowed deviation, forgiving what rounding adds to a running sum."""
    return (np.full_like(gain, eps) if absolute else eps * np.abs(gain)) + 1e-12 * np.abs(gain)
