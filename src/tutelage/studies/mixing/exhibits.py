"""Pictures of a finished run: how fast the best policy's chain forgets, where it stays, and how a family scales."""

from __future__ import annotations

from typing import Any

import numpy as np

from tutelage.continual.mixing_time import mixing_time, tv_curve
from tutelage.continual.planning import solve_gain
from tutelage.continual.return_mixing import return_mixing_time
from tutelage.continual.stationary import stationary
from tutelage.continual.tabular import induced
from tutelage.lab.drawing import plots
from tutelage.lab.program import Program
from tutelage.lab.study import Exhibit
from tutelage.measures.mixing import scaling_exponent
from tutelage.studies.mixing.build import MEASURED, SweepState, world_of
from tutelage.studies.mixing.config import Config
from tutelage.studies.mixing.game_exhibits import choices, growing, over_turns
from tutelage.studies.mixing.games import game_sweep

POINTS = 60
RETURN_EPS = 0.01
"""Of the return-mixing time, in units of reward."""


def exhibits(config: Config, program: Program, state: Any) -> list[Exhibit]:
    """Everything the report shows of one run."""
    of_seed = program.seed_state(state, 0)
    match config.task:
        case "game_sweep":
            return swept(config, program, state)
        case "game_turns":
            return [over_turns(config, np.asarray(of_seed.table)[None])]
        case "life":
            return forgetting(config)
        case "sweep":
            return [scaling(config, of_seed), members(config, of_seed)]
        case _:
            return [thresholds(config, of_seed)]


def swept(config: Config, program: Program, state: Any) -> list[Exhibit]:
    """The first seed's return mixing times. They are not in the state, and are measured once more by the same key."""
    alone = game_sweep(config, program.seeds[:1])
    of_seed = alone.load({name: rows[:1] for name, rows in program.save(state).items()})
    [figures] = alone.evaluate(of_seed, config.schedule.num_updates, final=True)
    return [*growing([figures]), choices([figures])]


def forgetting(config: Config) -> list[Exhibit]:
    """Of the world, not the agent: d(t) of the optimal and the uniform policy, their numbers, and where they stay."""
    world = world_of(config.world)
    mdp = world.mdp
    solution = solve_gain(mdp)
    uniform = np.full(mdp.R.shape, 1 / mdp.R.shape[1])
    chains = {"optimal": induced(mdp, np.asarray(solution.policy)), "uniform": induced(mdp, uniform)}
    times = {name: mixing_time(chain) for name, chain in chains.items()}
    finite = [time.steps for time in times.values() if np.isfinite(time.steps)]
    last = max(4, int(3 * max(finite, default=100)))
    at = np.unique(np.linspace(0, last, POINTS).round().astype(int))
    lines = [
        plots.Curve(name, at, np.asarray(tv_curve(chain, at)), series=series)
        for series, (name, chain) in enumerate(chains.items())
    ]
    picture = plots.curves(lines, title="How fast the start is forgotten", x_label="steps t", y_label="d(t)")
    caption = "d(t) = max over starts of the total variation between the law after t steps and the stationary law."
    shown = [Exhibit("forgetting", "Distance from the stationary law", caption, svg=picture)]
    rows = [("policy", "gain ρ", "t_mix(¼)", "period", "relaxation time", f"t_ret({RETURN_EPS:g})")]
    for name, chain in chains.items():
        returns = return_mixing_time(chain, RETURN_EPS)
        time = times[name]
        rows.append(
            (
                name,
                f"{returns.gain:.6f}",
                f"{time.steps:g}",
                f"{time.period}",
                f"{time.relaxation:.1f}",
                f"{returns.steps:g}",
            )
        )
    shown.append(Exhibit("numbers", "Numbers of the world", times["optimal"].definition, rows=tuple(rows)))
    if world.picture is not None:
        law = np.asarray(stationary(chains["optimal"]))
        caption = "Share of its time that the optimal policy spends in each cell, rooms side by side."
        shown.append(Exhibit("residence", "Where the optimal policy is", caption, svg=world.picture(law.tolist())))
    return shown


def _rows(config: Config, state: SweepState) -> tuple[np.ndarray, np.ndarray]:
    rows = np.asarray(state.rows, np.float64)[: int(state.done)]
    return np.asarray(config.sweep.values[: len(rows)], np.float64), rows


def scaling(config: Config, state: SweepState) -> Exhibit:
    """Mixing time against scale with the fitted power law."""
    scale, rows = _rows(config, state)
    steps = rows[:, 1]
    lines = [plots.Curve("measured", scale, steps)]
    caption = f"Exact mixing times of the {config.sweep.policy} policy."
    if len(scale) >= 3 and np.isfinite(steps).all():
        fit = scaling_exponent(scale, steps)
        lines.append(plots.Curve("fit", scale, fit.factor * scale**fit.exponent, series=1))
        caption += f" Fitted power of the scale: {fit.exponent:.2f} [{fit.low:.2f}, {fit.high:.2f}]."
    picture = plots.curves(lines, title="Mixing time and scale", x_label=config.sweep.scale, y_label="t_mix, steps")
    return Exhibit("scaling", "How mixing slows down", caption, svg=picture)


def members(config: Config, state: SweepState) -> Exhibit:
    """The measured numbers."""
    scale, rows = _rows(config, state)
    body = [(f"{value:g}", f"{row[0]:.8f}", f"{row[1]:g}", f"{row[2]:.4f}") for value, row in zip(scale, rows)]
    head = (config.sweep.scale, *MEASURED)
    return Exhibit("members", "The family, measured", "Gain, mixing time and diameter.", rows=(head, *body))


def thresholds(config: Config, state: SweepState) -> Exhibit:
    """γ* of each length."""
    scale, rows = _rows(config, state)
    body = [
        (f"{n:g}", f"{1 - row[0] / n:.6f}", f"{row[0]:.4f}", "yes" if row[1] else "no") for n, row in zip(scale, rows)
    ]
    caption = "Below γ* the loop with half the gain is preferred. n (1 − γ*) tends to 1.2564."
    head = ("n", "γ*", "n (1 − γ*)", "the planner changes there")
    return Exhibit("thresholds", "Myopia of discounting", caption, rows=(head, *body))
