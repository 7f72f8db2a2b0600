"""Whether a record of rewards, of a run or in a file, is long enough to tell its long-run average."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.files import read_text
from tutelage.lab.storage.record import RunFolder, read_results
from tutelage.measures.mixing import MixingReport, mixing_report
from tutelage.studies.mixing.tools import FILES, ReportArguments


class Rewards(NamedTuple):
    """Rollouts to be judged: values [N, T], where they come from, and what one of their steps is."""

    values: np.ndarray
    source: str
    step: str


def report(chosen: ReportArguments) -> None:
    """Print how many return-mixing times an evaluation window is: a sentence, and a table over ε.

    Raises:
        BadInput: as `read_rewards`; too few steps; what `mixing_report` refuses.
    """
    rewards = read_rewards(Path(chosen.record), chosen.figure)
    length = rewards.values.shape[1] - chosen.skip
    if length < 2:
        raise BadInput(f"{rewards.source}: {rewards.values.shape[1]} steps less the {chosen.skip} skipped; need 2")
    values = rewards.values[:, chosen.skip :]

    def judged(eps: float) -> MixingReport:
        return mixing_report(values, chosen.window or None, eps=eps, absolute=chosen.absolute, quantile=chosen.quantile)

    found = judged(chosen.eps)
    if chosen.json:
        print(json.dumps(_record(found, rewards), indent=2))
        return
    print(f"{rewards.source}: {_counted(len(values))} of {length} steps; one step is {rewards.step}")
    if len(values) > length:
        print("  (rows were taken for rollouts and columns for steps; transpose the array if it is the other way)")
    print(found)
    wider = [judged(2 * chosen.eps)] if chosen.absolute or 2 * chosen.eps < 1 else []
    _print_table([judged(chosen.eps / 2), found, *wider])


def read_rewards(path: Path, figure: str = "") -> Rewards:
    """The rollouts of a run's figure, or of a file.

    Raises:
        BadInput: neither a run nor a file of a known kind, no such figure (the nearest is named), nothing to read.
    """
    if path.is_dir():
        return _of_run(path, figure)
    if not path.exists():
        raise BadInput(f"{path}: no such run folder or file")
    if path.suffix not in FILES:
        raise BadInput(f"{path}: must be a run folder or a file ending in {', '.join(FILES)}")
    try:
        values = np.asarray(_of_file(path, figure), np.float64)
    except BadInput:
        raise
    except (ValueError, TypeError, OSError) as error:
        raise BadInput(f"{path}: cannot be read as rewards: {' '.join(str(error).split())}") from error
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or values.size == 0:
        raise BadInput(f"{path}: shape {values.shape}; must be [rollouts, steps]")
    return Rewards(values, str(path), "one entry of the file")


def _of_file(path: Path, figure: str) -> np.ndarray:
    if path.suffix != ".npz" and figure:
        raise BadInput(f"--figure {figure}: {path} holds no named series")
    if path.suffix == ".csv":
        lines = [line for line in read_text(path).splitlines() if line.strip()]
        rows = [[float(cell) for cell in line.split(",")] for line in lines]
        if len({len(row) for row in rows}) > 1:
            raise BadInput(f"{path}: lines of {min(map(len, rows))} to {max(map(len, rows))} entries; must be equal")
        return np.array(rows)
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        if {"timesteps", "results"} <= {*loaded.files}:
            raise BadInput(
                f"{path}: Stable-Baselines3's evaluations: `results` are returns [evaluations, episodes], not rewards "
                "of consecutive steps; give the rewards of every step, [rollouts, steps]"
            )
        return loaded[_choice(figure, dict.fromkeys(loaded.files), str(path))]


def _of_run(folder: Path, figure: str) -> Rewards:
    patterns = ("config.json", "*/config.json", "*/*/config.json")
    runs = [file.parent for pattern in patterns for file in sorted(folder.glob(pattern))]
    if not runs:
        raise BadInput(f"{folder}: holds no run")
    arms = {str(RunFolder(run).config().get("arm")) for run in runs}
    if len(arms) > 1:
        raise BadInput(f"{folder}: holds runs of {', '.join(sorted(arms))}; name a folder further down")
    results = [result for run in runs for result in read_results(run)]
    # What is recorded at every step comes before what is evaluated now and then.
    found = {name: kind for result in results for kind, name in sorted(result.series)}
    found |= {name: kind for result in results for kind, name in result.series if kind == "metrics"}
    name = _choice(figure, found, str(folder))
    series = [result.series[found[name], name] for result in results if (found[name], name) in result.series]
    if len(series) < len(results):
        raise BadInput(f"{folder}: {name} is recorded for {len(series)} of {len(results)} seeds")
    length = min(len(values) for _, values in series)
    strides = np.unique(np.concatenate([np.diff(steps[:length]) for steps, _ in series]))
    step = f"{strides[0]} updates" if strides.size == 1 else "one record, of unequal numbers of updates"
    return Rewards(np.stack([values[:length] for _, values in series]), f"{folder}, {name}", step)


def _choice(figure: str, known: Mapping[str, object], source: str) -> str:
    """The figure asked for; without one, the only one there is or the reward by its usual names."""
    if figure in known:
        return figure
    if figure:
        raise BadInput(f"--figure {figure}: {source} has no such figure{nearest(figure, known)}")
    usual = [name for name in ("reward", "reward_rate", "rewards", "return") if name in known]
    if usual or len(known) == 1:
        return usual[0] if usual else next(iter(known))
    raise BadInput(f"{source}: choose by --figure among {', '.join(sorted(known)) or 'none, nothing is recorded'}")


def _record(report: MixingReport, rewards: Rewards) -> dict[str, object]:
    def plain(value: float) -> float | None:
        return value if math.isfinite(value) else None

    estimate = {
        name: plain(value) if isinstance(value, float) else value for name, value in report.estimate._asdict().items()
    }
    return {
        "source": rewards.source,
        "step": rewards.step,
        "window": report.window,
        "mixing_times": report.mixing_times if report.estimate.reached else None,
        "windows_needed": plain(report.windows_needed),
        "estimate": estimate,
    }


def _print_table(reports: list[MixingReport]) -> None:
    rows = [("ε", "within", "t_ret", "interval", "window / t_ret", "windows needed")]
    for report in reports:
        one = report.estimate
        interval = "" if math.isnan(one.low) else f"[{_steps(one.low)}, {_steps(one.high)}]"
        known = one.reached
        rows.append(
            (
                f"{one.eps:.3g}",
                f"{one.gain:.4g} ± {one.tolerance:.3g}",
                _steps(one.steps),
                interval,
                f"{report.mixing_times:.3g}" if known else f"< {2 * report.window / one.length:.3g}",
                f"{report.windows_needed:.3g}" if known else f"> {one.length / 2 / report.window:.3g}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip())


def _steps(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "not reached"


def _counted(rollouts: int) -> str:
    return "1 rollout" if rollouts == 1 else f"{rollouts} rollouts"
