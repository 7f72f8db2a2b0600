"""Times jaxued's own train step: `python jaxued_cycle.py --source CHECKOUT --arm plr_robust --cycles 12 --work JSON`.

The example scripts are run as they are, with their own command lines, up to the point where they jit the outer loop.
There we take from that function's closure the train step and the evaluation which it would have scanned over, and from
then on call those two ourselves, one cycle at a time, so that a cycle can be told by its kind. wandb is a stub.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stopwatch import Stopwatch, peak_memory, report

SCRIPTS = {"dr": "maze_dr.py", "plr_robust": "maze_plr.py", "accel": "maze_plr.py", "paired": "maze_paired.py"}


class Reached(BaseException):
    """Raised out of the script's `main` as soon as all that we want from it exists."""


def command_line(arm: str, work: dict[str, Any]) -> list[str]:
    """The script's options for the same work as everybody else's. The learning rate never changes the cost."""
    prefix = "student_" if arm == "paired" else ""
    options: dict[str, Any] = {
        "num_updates": 30000,
        "num_train_envs": work["num_envs"],
        f"{prefix}num_steps": work["num_steps"],
        f"{prefix}num_minibatches": work["num_minibatches"],
        f"{prefix}epoch_ppo": work["num_epochs"],
        "checkpoint_save_interval": 0,
        "eval_num_attempts": work["eval_episodes"],
    }
    if arm == "paired":
        # Three of jaxued's edits place goal and agent, two of ours; the number of teacher steps is what costs.
        options |= {
            "adv_num_steps": work["teacher_steps"],
            "adv_random_z_dimension": work["teacher_noise"],
            "adv_num_minibatches": work["num_minibatches"],
            "adv_epoch_ppo": work["num_epochs"],
        }
    else:
        options["n_walls"] = work["num_walls"]
    if arm in ("plr_robust", "accel"):
        options |= {
            "level_buffer_capacity": work["buffer_size"],
            "minimum_fill_ratio": work["min_fill"],
            "replay_prob": work["replay_probability"],
        }
    line = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    if arm == "accel":
        line += ["--use_accel", "--num_edits", str(work["num_edits"])]
    return line


def capture(script: Path, argv: list[str]) -> dict[str, Callable]:
    """Run `script` until it jits `train_and_eval_step`; the functions it has made by then."""
    import jax

    found: dict[str, Callable] = {}
    jit = jax.jit

    def watching(function: Callable, *args: Any, **kwargs: Any) -> Callable:
        name = getattr(function, "__name__", "")
        if name == "create_train_state":
            found[name] = jit(function, *args, **kwargs)
            return found[name]
        if name == "train_and_eval_step":
            for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                if variable in ("train_step", "eval"):
                    found[variable] = cell.cell_contents
            raise Reached
        return jit(function, *args, **kwargs)

    jax.jit, before = watching, sys.argv
    sys.argv = [str(script), *argv]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Reached:
        return found
    finally:
        jax.jit, sys.argv = jit, before
    raise SystemExit(f"{script.name} ended before it jitted train_and_eval_step: not the version this driver knows")


def kind_of(arm: str, before: Any, after: Any) -> str:
    """Which branch the cycle took, told by the counter that it moved."""
    if arm in ("dr", "paired"):
        return "train"
    counters = {"new": "num_dr_updates", "replay": "num_replay_updates", "mutate": "num_mutation_updates"}
    for kind, counter in counters.items():
        if int(getattr(after, counter)) > int(getattr(before, counter)):
            return kind
    raise SystemExit("no counter moved")


def main() -> None:
    clock = Stopwatch()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="checkout of jaxued")
    parser.add_argument("--arm", choices=list(SCRIPTS), required=True)
    parser.add_argument("--cycles", type=int, default=10, help="cycles timed after the warm-up")
    parser.add_argument("--evaluations", type=int, default=2, help="evaluations timed after the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=json.loads, required=True)
    given = parser.parse_args()

    sys.path.insert(0, str(given.source / "src"))
    import jax

    captured = capture(given.source / "examples" / SCRIPTS[given.arm], command_line(given.arm, given.work))
    clock.mark("imported")
    k_init, k_train, k_eval = jax.random.split(jax.random.PRNGKey(given.seed), 3)
    state = jax.block_until_ready(captured["create_train_state"](k_init))
    carry = (k_train, state)
    clock.mark("initialised")

    step = jax.jit(captured["train_step"])

    def cycle(carry: Any) -> Any:
        return jax.block_until_ready(step(carry, None))[0]

    carry, first = clock.time(cycle, carry)
    clock.mark("first_update")
    # Python numbers in the initial state are weakly typed, so the second call compiles once more.
    carry, second = clock.time(cycle, carry)

    cycles = []
    for _ in range(given.cycles):
        before = carry[1]
        carry, cost = clock.time(cycle, carry)
        cycles.append({"kinds": {kind_of(given.arm, before, carry[1]): 1}, **cost})
    memory = peak_memory()

    student = carry[1].pro_train_state if given.arm == "paired" else carry[1]
    evaluate = jax.jit(jax.vmap(captured["eval"], (0, None)))
    keys = jax.random.split(k_eval, given.work["eval_episodes"])
    costs = [
        clock.time(lambda: jax.block_until_ready(evaluate(keys, student)))[1] for _ in range(1 + given.evaluations)
    ]

    report(
        library="jaxued",
        arm=given.arm,
        versions={name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
        marks=clock.marks,
        first_call=first,
        second_call=second,
        cycles=cycles,
        evaluation={"first": costs[0], "later": costs[1:]},
        peak_memory_bytes=memory,
    )


if __name__ == "__main__":
    main()
