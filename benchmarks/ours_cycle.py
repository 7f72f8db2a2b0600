"""Times our own updates: `python ours_cycle.py --arm plr_robust --cycles 12 --work JSON`.

Goes the way of `tutelage run`: the study's arm with the paper preset, the common sizes over it, the study's `Program`.
One update of ours ends with a gradient step and holds the cycles without one that robust replay put before it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from stopwatch import Stopwatch, peak_memory, report

ARMS = ("dr", "plr_robust", "accel", "paired")


def overrides(arm: str, work: dict[str, Any]) -> dict[str, Any]:
    """The common sizes as fields of the study's configuration."""
    changes: dict[str, Any] = {
        "maze.num_walls": work["num_walls"],
        "num_training_walls": -1,
        "rollout.num_tasks": work["num_envs"],
        "rollout.num_steps": work["num_steps"],
        "ppo.num_epochs": work["num_epochs"],
        "ppo.num_minibatches": work["num_minibatches"],
        "evaluation.suite": "fixed",
        "evaluation.num_episodes": work["eval_episodes"],
        "evaluation.final_episodes": work["eval_episodes"],
        "evaluation.num_held_out": 1,
        "evaluation.robust_levels": 0,
    }
    if arm in ("plr_robust", "accel"):
        changes |= {
            "teacher.replay.buffer_size": work["buffer_size"],
            "teacher.replay.min_fill": work["min_fill"],
            "teacher.replay.probability": work["replay_probability"],
        }
    if arm == "accel":
        changes["teacher.edit.num_edits"] = work["num_edits"]
    if arm == "paired":
        changes |= {
            "teacher.adversary.budget": work["teacher_steps"] - 2,
            "teacher.adversary.noise": work["teacher_noise"],
            "teacher.adversary.ppo.num_epochs": work["num_epochs"],
            "teacher.adversary.ppo.num_minibatches": work["num_minibatches"],
        }
    return changes


def kinds_of(arm: str, cycles: int) -> dict[str, int]:
    """The batches of rollouts in an update of so many cycles, the last of which was learnt from.

    The first cycle after a replayed batch holds its children in ACCEL; all others are new levels.
    """
    if arm in ("dr", "paired"):
        return {"train": cycles}
    mutated = int(arm == "accel")
    kinds = {"replay": 1, "mutate": mutated, "new": cycles - 1 - mutated}
    return {kind: number for kind, number in kinds.items() if number > 0}


def main() -> None:
    clock = Stopwatch()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=ARMS, required=True)
    parser.add_argument("--cycles", type=int, default=10, help="updates timed after the warm-up")
    parser.add_argument("--evaluations", type=int, default=2, help="evaluations timed after the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=json.loads, required=True)
    given = parser.parse_args()

    from tutelage import studies
    from tutelage.lab.configuration import configure

    study = studies.load("minimax")
    config, _ = configure(study, given.arm, "paper", overrides(given.arm, given.work))
    program = study.program(config, [given.seed])
    clock.mark("imported")
    state = program.init()
    clock.mark("initialised")

    def update(state: Any) -> tuple[Any, int]:
        state, metrics = program.update(state, 1)
        return state, round(metrics()[0]["cycles"])

    (state, done), first = clock.time(update, state)
    clock.mark("first_update")
    (state, done), second = clock.time(update, state)

    cycles = []
    for _ in range(given.cycles):
        before = done
        (state, done), cost = clock.time(update, state)
        cycles.append({"kinds": kinds_of(given.arm, done - before), **cost})
    memory = peak_memory()
    costs = [clock.time(program.evaluate, state, 0)[1] for _ in range(1 + given.evaluations)]
    report(
        library="tutelage",
        arm=given.arm,
        versions={name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "equinox", "numpy")},
        marks=clock.marks,
        first_call=first,
        second_call=second,
        cycles=cycles,
        evaluation={"first": costs[0], "later": costs[1:]},
        peak_memory_bytes=memory,
    )


if __name__ == "__main__":
    main()
