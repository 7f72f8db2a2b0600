"""Times minimax-lib's own update: `python minimax_cycle.py --arm plr_robust --cycles 12 --work JSON`.

The library's configuration of each method (`minimax/config/configs/maze/*.json`) goes through the library's own parser
and runner; only the sizes of the common work are put over it. What is timed is `runner.run`, one update without the
test episodes; these are timed apart, through the library's `EvalRunner`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.resources
import json
import sys
from typing import Any

from stopwatch import Stopwatch, peak_memory, report

CONFIGS = {"dr": "dr.json", "plr_robust": "plr.json", "accel": "accel.json", "paired": "paired.json"}


def options(arm: str, work: dict[str, Any]) -> dict[str, Any]:
    """The published configuration with the common sizes over it, flag by flag."""
    text = (importlib.resources.files("minimax.config.configs.maze") / CONFIGS[arm]).read_text()
    flags = {name: values[0] for name, values in json.loads(text)["args"].items()}
    flags |= {
        "n_parallel": work["num_envs"],
        "n_rollout_steps": work["num_steps"],
        "student_ppo_n_epochs": work["num_epochs"],
        "student_ppo_n_minibatches": work["num_minibatches"],
        "track_env_metrics": work["level_metrics"],
        "maze_n_walls": work["num_walls"],
        "test_n_episodes": work["eval_episodes"],
        "from_last_checkpoint": False,
        "checkpoint_interval": 0,
    }
    if arm in ("plr_robust", "accel"):
        flags |= {
            "plr_buffer_size": work["buffer_size"],
            "plr_min_fill_ratio": work["min_fill"],
            "plr_replay_prob": work["replay_probability"],
        }
    if arm == "accel":
        flags["plr_n_mutations"] = work["num_edits"]
    if arm == "paired":
        flags |= {
            "teacher_ppo_n_epochs": work["num_epochs"],
            "teacher_ppo_n_minibatches": work["num_minibatches"],
            "maze_ued_n_walls": work["teacher_steps"] - 2,
            "maze_ued_noise_dim": work["teacher_noise"],
        }
    return flags


def make_experiment(flags: dict[str, Any]) -> Any:
    """The library's `ExperimentRunner`, built from a command line as its own `train` module builds it."""
    sys.argv = ["train", *(f"--{name}={value}" for name, value in flags.items())]
    from minimax.arguments import parser
    from minimax.runners import ExperimentRunner

    parsed = parser.parse_args()
    return ExperimentRunner(
        train_runner=parsed.train_runner,
        env_name=parsed.env_name,
        agent_rl_algo=parsed.agent_rl_algo,
        student_model_name=parsed.student_model_name,
        teacher_model_name=parsed.teacher_model_name,
        train_runner_kwargs=parsed.train_runner_args,
        env_kwargs=parsed.env_args,
        ued_env_kwargs=parsed.ued_env_args,
        student_rl_kwargs=parsed.student_rl_args,
        teacher_rl_kwargs=parsed.teacher_rl_args,
        student_model_kwargs=parsed.student_model_args,
        teacher_model_kwargs=parsed.teacher_model_args,
        eval_kwargs=parsed.eval_args,
        eval_env_kwargs=parsed.eval_env_args,
        n_devices=parsed.n_devices,
    )


def kinds_of(arm: str, updates_before: int, updates_after: int) -> dict[str, int]:
    """The batches of rollouts in the update, told by whether the learner was updated.

    An ACCEL update that learns replays a batch *and* evaluates its children.
    """
    if arm in ("dr", "paired"):
        return {"train": 1}
    if updates_after == updates_before:
        return {"new": 1}
    return {"replay": 1, "mutate": 1} if arm == "accel" else {"replay": 1}


def main() -> None:
    clock = Stopwatch()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=list(CONFIGS), required=True)
    parser.add_argument("--cycles", type=int, default=10, help="updates timed after the warm-up")
    parser.add_argument("--evaluations", type=int, default=2, help="evaluations timed after the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=json.loads, required=True)
    given = parser.parse_args()

    import jax

    experiment = make_experiment(options(given.arm, given.work))
    runner = experiment.runner
    clock.mark("imported")
    k_train, k_eval = jax.random.split(jax.random.PRNGKey(given.seed))
    state = jax.block_until_ready(runner.reset(k_train))
    clock.mark("initialised")

    def update(state: Any) -> Any:
        return jax.block_until_ready(runner.run(*state))[1:]

    def grad_updates(state: Any) -> int:
        return int(state[1].n_updates.sum())

    state, first = clock.time(update, state)
    clock.mark("first_update")
    state, second = clock.time(update, state)

    cycles = []
    for _ in range(given.cycles):
        before = grad_updates(state)
        state, cost = clock.time(update, state)
        cycles.append({"kinds": kinds_of(given.arm, before, grad_updates(state)), **cost})
    memory = peak_memory()

    def evaluate() -> None:
        jax.block_until_ready(experiment.eval_runner.run(k_eval, state[1].params))

    costs = [clock.time(evaluate)[1] for _ in range(1 + given.evaluations)]
    report(
        library="minimax-lib",
        arm=given.arm,
        versions={name: importlib.metadata.version(name) for name in ("minimax-lib", "jax", "jaxlib", "flax", "numpy")},
        marks=clock.marks,
        first_call=first,
        second_call=second,
        cycles=cycles,
        evaluation={"first": costs[0], "later": costs[1:]},
        peak_memory_bytes=memory,
    )


if __name__ == "__main__":
    main()
