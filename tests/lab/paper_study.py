"""A study folder such as a real run leaves, without running anything: six arms, five seeds, every kind of verdict.

The curves are formulas with noise; the claims are judged by the real judges. Names, captions and values from outside
hold what an attacker would put there, so every test of the report is a test of its escaping too.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tutelage.lab import configuration
from tutelage.lab.drawing import comparisons
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting
from tutelage.lab.storage import record
from tutelage.lab.study import Arm, Claim, Exhibit, Paper, Preset, Published, Study
from tutelage.lab.verdicts import verdicts_of, write_claims
from tutelage.measures.claims import always, at_least, at_most, better, correlation, judge_all, not_worse

NUM_UPDATES, WORK = 500, 2048
MAZES = ("Labyrinth", "SixteenRooms", "StandardMaze", "FourRooms")
ATTACK = '<script>document.title="attacked"</script>&"\'</style><img src=https://example.invalid/x.png>'


@dataclass(frozen=True)
class LearnerConfig:
    """The learner."""

    learning_rate: float = setting(1e-4, "Step size of Adam.", interval="(0, inf)")
    discount: float = setting(0.995, "Discount γ per step.", interval="[0, 1]")
    clip: float = setting(0.2, "Clip range of the probability ratio.", interval="(0, inf)")


@dataclass(frozen=True)
class PaperConfig:
    """A teacher, a learner and how long."""

    teacher: str = setting("dr", "Who chooses the levels.", choices=("dr", "plr", "accel", "paired"))
    replay: float = setting(0.0, "Probability of replaying a level.", interval="[0, 1]")
    num_edits: int = setting(0, "Edits of a replayed level.", interval="[0, inf)")
    learner: LearnerConfig = part(LearnerConfig)
    schedule: Schedule = part(Schedule)


def _arm(summary, role="system", **changes):
    changes = {path.replace("__", "."): value for path, value in changes.items()}
    return Arm(summary, lambda config: configuration.override(config, changes), role)


ARMS = {
    "dr": _arm("A new random level every episode.", "baseline"),
    "plr": _arm("Prioritised level replay.", teacher="plr", replay=0.5, learner__learning_rate=3e-4),
    "plr_robust": _arm("Learns from replayed levels only.", teacher="plr", replay=0.5, learner__learning_rate=3e-4),
    "accel": _arm("Replay and edits.", teacher="accel", replay=0.8, num_edits=20, learner__learning_rate=3e-4),
    "paired": _arm("An adversary builds the levels.", teacher="paired"),
    "random_replay": _arm("The buffer without priorities.", "ablation", teacher="plr", replay=0.5),
}
LEVEL = {"dr": 0.66, "plr": 0.72, "plr_robust": 0.76, "accel": 0.87, "paired": 0.41, "random_replay": 0.65}

CLAIMS = (
    Claim(
        "accel_generalises",
        "Editing levels (ACCEL) generalises to unseen mazes better than domain randomisation.",
        "Parker-Holder et al. 2022, arXiv 2203.01302",
        better("suite_solved", "accel", than="dr"),
    ),
    Claim(
        "learns",
        "Domain randomisation solves at least 60 % of held-out random levels.",
        "specification of the quick preset",
        at_least("held_out_solved", "dr", 0.6),
    ),
    Claim(
        "complexity_grows",
        "Starting from empty rooms, the levels that ACCEL replays become more complex (Spearman ≥ 0.7).",
        "Parker-Holder et al. 2022, arXiv 2203.01302",
        correlation(("metrics", "level/shortest_path"), "accel", at_least=0.7),
    ),
    Claim(
        "losses_finite",
        "No update leaves the trust region.",
        "Schulman et al. 2017, arXiv 1707.06347",
        always(lambda run: run.figures["suite_solved"] <= 1, "suite_solved ≤ 1 in every run"),
    ),
    Claim(
        "replay_beats_random",
        "Priorities matter: PLR⊥ generalises better than the same buffer replayed uniformly.",
        "Jiang et al. 2021, arXiv 2110.02439",
        better("suite_solved", "plr", than="random_replay", margin=0.05),
    ),
    Claim(
        "paired_competitive",
        "PAIRED is as good as domain randomisation on unseen mazes (within 5 %).",
        "Dennis et al. 2020, arXiv 2012.02096",
        not_worse("suite_solved", "paired", than="dr", margin=0.05),
    ),
    Claim(
        "walks_short",
        "Episodes of PLR⊥ take at most 20 steps.",
        f"a source with {ATTACK}",
        at_most("episode_length", "plr_robust", 20),
    ),
    Claim(
        "sfl_robust",
        f"Sampling for learnability is more robust than PLR⊥ {ATTACK}.",
        "Rutherford et al. 2024, arXiv 2408.15099",
        better("suite_solved", "sfl", than="plr_robust"),
    ),
)

PUBLISHED = (
    Published("Wall-time speed-up over the PyTorch references", "> 120×", "Jiang et al. 2023, abstract"),
    Published("Solved rate of ACCEL on the suite", "0.9 (invented)", "no paper", "accel", "suite_solved"),
)


def _no_build(config, seeds):
    raise AssertionError("the report never builds a program")


def panels(results):
    """Two comparisons in our own drawing, one from elsewhere, one in numbers."""
    drawn = comparisons.against(results, "suite_solved", "held_out_return", x_label="held-out return")
    yield Exhibit("against-return", "Solved against return", f"Mean over seeds. {ATTACK}", svg=drawn)
    drawn = comparisons.plane(results, "held_out_solved", "episode_length")
    yield Exhibit("plane", "Solved and how fast", "A small point for each run.", svg=drawn)
    yield Exhibit("hostile", "A comparison that attacks", "It must stay a picture.", svg=HOSTILE)
    rows = [(run.arm, f"{run.figures['suite_solved']:.2f}") for run in results if run.seed == 0]
    yield Exhibit("first", "First seeds", "In numbers.", rows=(("arm", "solved"), *rows))


STUDY = Study(
    name="paper",
    paper=Paper("Invented: Curricula in a Study Made of Formulas", "Nobody, Nemo & Niemand", 2026, "0000.00000"),
    question="Which lever is best?",
    summary="A teacher chooses the mazes in which a student learns, so that it solves mazes nobody trained it on.",
    config=PaperConfig,
    arms=ARMS,
    presets={"quick": Preset("Small.", lambda config: config)},
    claims=CLAIMS,
    published=PUBLISHED,
    map={},
    check=lambda config: [],
    build=_no_build,
    work=lambda config: ("learning steps", float(WORK)),
    headline="suite_solved",
    panels=lambda results: list(panels(results)),
    main_arm="accel",
)


def write_study(folder: Path, *, arms=tuple(ARMS), seeds=5, exhibits=True) -> Path:
    """A finished study folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for arm in arms:
        for seed in range(seeds):
            write_run(folder / arm / f"seed-{seed}", arm, seed, exhibits=exhibits and seed == 0)
    plan = {"format": 1, "study": "paper", "preset": "quick", "arms": list(arms), "seeds": list(range(seeds))}
    _write(folder / "study.json", plan | {"overrides": {"schedule.num_updates": NUM_UPDATES}})
    results = [r for arm in arms for seed in range(seeds) for r in record.read_results(folder / arm / f"seed-{seed}")]
    write_claims(folder / "claims.json", verdicts_of(judge_all(CLAIMS, results)))
    return folder


def write_run(folder: Path, arm: str, seed: int, *, exhibits: bool = False) -> Path:
    """One finished run folder of one seed."""
    folder.mkdir(parents=True, exist_ok=True)
    config = ARMS[arm].configure(PaperConfig())
    config = dataclasses.replace(config, schedule=dataclasses.replace(config.schedule, num_updates=NUM_UPDATES))
    about = {"format": 1, "study": "paper", "arm": arm, "preset": "quick", "seeds": [seed]}
    versions = {"python": "3.11.9", "tutelage": "0.1.0", "jax": "0.10.2", "numpy": "2.4.0"}
    asked = {"overrides": {"schedule.num_updates": NUM_UPDATES}, "config": configuration.to_json(config)}
    _write(folder / "config.json", about | asked | {"versions": versions})

    rng = np.random.default_rng([list(ARMS).index(arm), seed])
    reach = LEVEL[arm] + 0.03 * rng.normal()
    lines, last = [], {}
    for step in range(10, NUM_UPDATES + 1, 10):
        lines.append({"kind": "metrics", "seed": seed, "step": step, **_metrics(rng, arm, step)})
        if step % 50 == 0:
            last = _figures(rng, reach, step)
            lines.append({"kind": "evaluation", "seed": seed, "step": step, **last})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cost = {
        "wall_seconds": 96 + 20 * rng.random(),
        "compile_seconds": 21 + rng.random(),
        "updates_per_second": 6.5,
        "work_per_second": {"unit": "learning steps", "value": 6.5 * WORK},
        "peak_memory_bytes": int(7.4e8),
    }
    result = about | {"step": NUM_UPDATES, "figures": {str(seed): last}, **cost, "device": "CPU, 2 cores"}
    if exhibits:
        (folder / "figures").mkdir(exist_ok=True)
        record.write_exhibits(folder / "figures", list(_exhibits(rng, arm)))
    record.write_result(record.RunFolder(folder), result | {"finished": True})
    return folder


def _figures(rng, reach, step):
    share = 1 - np.exp(-step / 130)
    rates = {f"solved/{maze}": reach * share * d for maze, d in zip(MAZES, (0.8, 1.05, 0.95, 1.1), strict=True)}
    rates = {name: float(np.clip(rate + 0.03 * rng.normal(), 0, 1)) for name, rate in rates.items()}
    return {
        "held_out_return": float(0.8 * reach * share),
        "held_out_solved": float(np.clip(1.02 * reach * share + 0.01 * rng.normal(), 0, 1)),
        "suite_solved": float(np.mean(list(rates.values()))),
        **rates,
        "episode_length": float(64 - 40 * share + rng.normal()),
    }


def _metrics(rng, arm, step):
    rise = step / NUM_UPDATES
    return {
        "loss/total": float(0.3 * np.exp(-3 * rise) + 0.01 * rng.normal()),
        "loss/value": float(0.1 * np.exp(-2 * rise) + 0.004 * rng.normal()),
        "entropy": float(1.1 - 0.6 * rise + 0.02 * rng.normal()),
        "return": float(LEVEL[arm] * rise + 0.02 * rng.normal()),
        "level/shortest_path": float(4 + (16 * rise if arm == "accel" else 3) + 0.5 * rng.normal()),
        "level/num_walls": float(16 + rng.normal()),
        "buffer/score": float(0.4 + 0.03 * rng.normal()),
        "grad_norm": float(0.5 + 0.1 * rng.random()),
    }


def _exhibits(rng, arm):
    yield Exhibit(
        "walk-labyrinth", "Walk: Labyrinth", f"A maze that nobody trained on. {ATTACK}", svg=maze(rng, walk=True)
    )
    yield Exhibit("walk-rooms", "Walk: SixteenRooms", "Solved in 6 of 8 attempts.", svg=maze(rng, walk=True))
    yield Exhibit("levels", "Levels of the highest score", "Of 512 levels in the buffer.", svg=gallery(rng))
    table = (("level", "score", ATTACK), ("a", "0.93", "4 walls"), ("b", "0.88", "7 walls"))
    yield Exhibit("table", "The best levels in numbers", "Scores at the end.", rows=table)
    if arm == "accel":
        yield Exhibit("hostile", "A picture that attacks", "It must stay a picture.", svg=HOSTILE)


HOSTILE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="200" height="60" viewBox="0 0 200 60" '
    'onload="parent.document.title=\'attacked\'"><script>parent.document.title="attacked";'
    'fetch("https://example.invalid/from-script")</script>'
    '<image href="https://example.invalid/picture.png" width="10" height="10"/>'
    '<style>@import url("https://example.invalid/style.css");rect{fill:#2d6996}</style>'
    '<rect width="200" height="60" rx="6"/></svg>'
)


def maze(rng, *, walk=False, side=13, x=0, y=0, document=True):
    """A random maze picture; with `walk` a square wanders over it by SMIL."""
    walls = np.argwhere(rng.random((side, side)) < 0.3)
    cells = "".join(f'<rect x="{c}" y="{r}" width="1" height="1" class="wall"/>' for r, c in walls)
    path = ";".join(f"{k % side},{k // side * 4 % side}" for k in range(3 * side))
    animation = (
        f'<animateTransform attributeName="transform" type="translate" values="{path}" dur="4s" '
        'repeatCount="indefinite"/>'
    )
    agent = f'<rect width="1" height="1" class="agent" id="agent">{animation if walk else ""}</rect>'
    drawn = f'<rect width="{side}" height="{side}" class="floor"/>{cells}{agent}'
    if not document:
        return f'<g transform="translate({x} {y})">{drawn}</g>'
    return _svg(drawn, side, side, 20)


def gallery(rng):
    """Ten small mazes in one wide picture."""
    return _svg(
        "".join(maze(rng, x=10 * k % 50, y=10 * (k // 5), side=9, document=False) for k in range(10)), 49, 19, 18
    )


def _svg(inner, width, height, cell):
    style = (
        ".wall{fill:#5b6676}.floor{fill:#f4f1ea}.agent{fill:#d9482b}"
        "@media (prefers-color-scheme:dark){.wall{fill:#8892a3}.floor{fill:#1b2028}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width * cell}" '
        f'height="{height * cell}"><style>{style}</style>{inner}</svg>'
    )


def _write(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
