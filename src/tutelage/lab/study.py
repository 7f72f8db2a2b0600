"""A study: one paper as a program, with its arms, presets, claims, published figures and map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tutelage.lab.naming import Named, resolve
from tutelage.lab.program import Program, State

if TYPE_CHECKING:
    import numpy as np

Config = Any
"""A frozen dataclass of nested parts with a `schedule: Schedule`; every field made by `setting`."""


@dataclass(frozen=True)
class Paper:
    """Where a system was published."""

    title: str
    authors: str
    year: int
    arxiv: str


@dataclass(frozen=True)
class Arm:
    """The system itself, a baseline or an ablation: a name for a change of configuration."""

    summary: str
    configure: Callable[[Config], Config]
    role: Literal["system", "baseline", "ablation"] = "system"


@dataclass(frozen=True)
class Preset:
    """A scale. Applied after the arm, so it may shrink what the arm set; before the user's own overrides.

    Attributes:
        arms: the arms that `tutelage study` runs at this scale (all when empty).
        seeds: how many seeds `tutelage study` runs when not told.
        jobs: how many runs it has at a time when not told (0: one per core); None: as the study says.
    """

    summary: str
    configure: Callable[[Config], Config]
    arms: tuple[str, ...] = ()
    seeds: int = 5
    jobs: int | None = None


@dataclass(frozen=True)
class RunResult:
    """What one seed of one finished run gives to the claims and the report.

    Attributes:
        figures: the final evaluation, name to value.
        series: `(kind, figure) -> (steps [K], values [K])`, kind "metrics" or "evaluation".
        cost: wall_seconds, compile_seconds, updates_per_second, peak_memory_bytes, … of its run.
    """

    arm: str
    seed: int
    figures: Mapping[str, float]
    series: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict with the statistic that it rests on. `estimate`, `low`, `high` may be NaN when undecided.

    Attributes:
        side: the side of the threshold on which the claim holds; empty where there is none.
        num_seeds: how many seeds the statistic rests on; of two arms, the fewer.
    """

    verdict: Literal["holds", "fails", "undecided"]
    statistic: str
    estimate: float
    low: float
    high: float
    threshold: float
    reason: str
    side: Literal["above", "below", ""] = ""
    num_seeds: int = 0


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper (or of a successor) and the function that judges it from the results of all seeds."""

    name: str
    sentence: str
    source: str
    judge: Callable[[Sequence[RunResult]], Judgement]


@dataclass(frozen=True)
class Published:
    """A figure that the paper prints, shown beside ours. `figure` names our figure, or is empty if we have none."""

    quantity: str
    value: str
    source: str
    arm: str = ""
    figure: str = ""


@dataclass(frozen=True)
class Exhibit:
    """A picture or table of a finished run, made from its state: kept under `figures/`, shown in the report.

    Exactly one of `svg` (a complete SVG document) and `rows` (a table, first row the head) is given.
    """

    name: str
    title: str
    caption: str
    svg: str = ""
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Tool:
    """What a user does with a study's method and data, a model or an environment of their own: `tutelage STUDY TOOL …`.

    Attributes:
        summary: one sentence: what goes in and what comes out.
        arguments: a frozen dataclass of `setting`s; those made with `word=True` are the words after the tool's name, in
            order, and the last of them takes all that are left if it is a tuple.
        run: `arguments -> None`, a function or its name. It prints, writes what it was asked to, and refuses bad input
            (`BadInput`) before any work.
    """

    summary: str
    arguments: type
    run: Named


@dataclass(frozen=True)
class Study:
    """One paper's composition, as data. Its module imports no framework.

    What computes is given as a name, "tutelage.studies.minimax.build:build", and loaded when it is needed
    (`tutelage.lab.naming`); a function will do too, where all is in one file.

    Attributes:
        question: what the system answers, as one would ask it, in one line: `list` and the README show it.
        summary: what it does, one sentence.
        map: "Eq. 3 score" -> "tutelage.curricula.scores:max_mc"; a test imports every symbol.
        seeds: "vmap" (side by side in one program) or "loop" (one after another).
        check: refuses combinations that no single field shows (`BadInput`); returns warnings, one line each.
        build: `(config, seeds) -> Program`.
        work: `config -> (unit, amount of it in one update)`, e.g. ("environment steps", 8192), for the throughput.
        exhibits: `(config, program, its state) -> exhibits`, at the end of a run.
        panels: `(results of all runs, arm by arm) -> exhibits` that compare the arms, for the report of a study
            (`tutelage.lab.drawing.comparisons` draws them). Runs may be missing or unfinished, and lack figures.
        tools: name to tool, in the order in which they are listed.
        extra: the extra of the package that it needs ("lm"), empty if the base is enough.
        headline: the evaluation figure that progress, tables and curves show first.
        jobs: how many runs `tutelage study` has at a time when not told: 1 where a run uses all cores or a device by
            itself, 0 for one per core.
    """

    name: str
    paper: Paper
    question: str
    summary: str
    config: type
    arms: Mapping[str, Arm]
    presets: Mapping[str, Preset]
    claims: tuple[Claim, ...]
    published: tuple[Published, ...]
    map: Mapping[str, str]
    check: Callable[[Config], list[str]]
    build: Named
    work: Callable[[Config], tuple[str, float]]
    headline: str
    exhibits: Named = ""
    panels: Named = ""
    tools: Mapping[str, Tool] = field(default_factory=dict)
    extra: str = ""
    seeds: Literal["vmap", "loop"] = "loop"
    main_arm: str = ""
    jobs: int = 1

    def program(self, config: Config, seeds: Sequence[int]) -> Program:
        """The running system for these seeds (`build`); loads its framework."""
        return resolve(self.build)(config, seeds)

    def exhibits_of(self, config: Config, program: Program, state: State) -> list[Exhibit]:
        """The pictures and tables of a run's state; none where the study draws none."""
        return resolve(self.exhibits)(config, program, state) if self.exhibits else []

    def panels_of(self, results: Sequence[RunResult]) -> list[Exhibit]:
        """The pictures that compare the arms; none where the study draws none."""
        return resolve(self.panels)(results) if self.panels else []
