"""Arms and presets: names for changes of the configuration, as data.

An arm sets what the publication's configuration of that method sets (minimax 0.2.0, configs/maze/*.json); a preset then
sets the scale. The quick preset also replaces the learner's numbers, which were tuned for 30 000 updates.
"""

from __future__ import annotations

from tutelage.lab.configuration import arm, changing
from tutelage.lab.study import Arm, Preset

DR = {"teacher.kind": "dr", "ppo.learning_rate": 1e-4, "ppo.discount": 0.995, "ppo.entropy_coefficient": 1e-3}
PLR = {
    "teacher.kind": "plr",
    "teacher.replay.robust": False,
    "teacher.replay.probability": 0.5,
    "teacher.replay.staleness": 0.3,
    "teacher.replay.temperature": 0.3,
    "teacher.replay.score": "max_mc",
    "ppo.learning_rate": 3e-4,
    "ppo.discount": 0.999,
    "ppo.entropy_coefficient": 0.0,
}
PLR_ROBUST = {**PLR, "teacher.replay.robust": True}
PLR_PARALLEL = {
    **PLR_ROBUST,
    "teacher.replay.parallel": True,
    "teacher.replay.probability": 1.0,
    "teacher.replay.staleness": 0.5,
    "ppo.gae_lambda": 0.95,
}
ACCEL = {
    **PLR_ROBUST,
    "teacher.kind": "accel",
    "teacher.replay.probability": 0.8,
    "teacher.replay.staleness": 0.5,
    "teacher.edit.num_edits": 20,
    "num_training_walls": 0,
}
ACCEL_PARALLEL = {
    **ACCEL,
    "teacher.replay.parallel": True,
    "teacher.replay.probability": 1.0,
    "ppo.learning_rate": 1e-4,
    "ppo.entropy_coefficient": 1e-3,
}
PAIRED = {
    "teacher.kind": "paired",
    "rollout.num_students": 2,
    "ppo.learning_rate": 1e-4,
    "ppo.discount": 0.995,
    "ppo.entropy_coefficient": 1e-3,
}
SFL = {
    "teacher.kind": "sfl",
    "ppo.learning_rate": 2.5e-4,
    "ppo.clip": 0.04,
    "ppo.discount": 0.995,
    "ppo.entropy_coefficient": 1e-3,
    "rollout.num_tasks": 256,
}


def _score(name: str, sentence: str) -> Arm:
    return arm(f"PLR⊥ with another score: {sentence}.", {**PLR_ROBUST, "teacher.replay.score": name}, "ablation")


ARMS = {
    "accel": arm("ACCEL: robust replay, and edits of what was replayed, from empty rooms.", ACCEL),
    "accel_parallel": arm("Parallel ACCEL: new, replayed and edited levels in one rollout.", ACCEL_PARALLEL),
    "plr": arm("Prioritised level replay; learns from new levels too.", PLR),
    "plr_robust": arm("PLR⊥: gradients from replayed levels only.", PLR_ROBUST),
    "plr_parallel": arm("Parallel PLR⊥: new and replayed levels in one rollout.", PLR_PARALLEL),
    "dr": arm("Domain randomisation: a new random level every episode.", DR, "baseline"),
    "paired": arm("PAIRED: an adversary builds levels for the regret of protagonist against antagonist.", PAIRED),
    "paired_population": arm(
        "Population PAIRED: regret of the mean against the best of four students.",
        {**PAIRED, "teacher.kind": "population_paired", "rollout.num_students": 4},
    ),
    "minimax": arm(
        "Minimax adversary: levels on which the student fails.",
        {**PAIRED, "teacher.kind": "minimax", "rollout.num_students": 1},
        "baseline",
    ),
    "sfl": arm("Sampling for learnability: half of the levels from those solved half of the time.", SFL),
    "random_replay": arm(
        "The buffer without priorities: replay drawn uniformly.",
        {**PLR_ROBUST, "teacher.replay.prioritisation": "uniform"},
        "ablation",
    ),
    "score_pvl": _score("positive_value_loss", "positive value loss"),
    "score_l1": _score("l1_value_loss", "L1 value loss"),
    "score_learnability": _score("learnability", "p(1−p) of the solved rate"),
    "score_true_regret": _score("true_regret", "the regret against the exact solver"),
}

QUICK = {
    "maze.height": 9,
    "maze.width": 9,
    "maze.num_walls": 16,
    "maze.max_steps": 64,
    "maze.num_actions": 3,
    "network.body": "gru",
    "network.hidden": 64,
    "ppo.learning_rate": 1e-3,
    "ppo.discount": 0.99,
    "ppo.gae_lambda": 0.95,
    "ppo.entropy_coefficient": 0.01,
    "ppo.num_epochs": 4,
    "ppo.clip": 0.2,
    "rollout.num_tasks": 32,
    "rollout.num_steps": 64,
    "teacher.replay.buffer_size": 512,
    "teacher.adversary.budget": 16,
    "teacher.adversary.net.hidden": 64,
    "teacher.adversary.net.num_filters": 16,
    "teacher.sfl.every": 50,
    "teacher.sfl.num_batches": 4,
    "teacher.sfl.batch_size": 256,
    "teacher.sfl.rollout_steps": 256,
    "teacher.sfl.keep": 128,
    "evaluation.final_episodes": 20,
    "evaluation.robust_levels": 512,
    "schedule.num_updates": 200,
    "schedule.log_every": 10,
    "schedule.evaluate_every": 40,
}
STANDARD = {
    "rollout.num_tasks": 256,
    "schedule.num_updates": 4000,
    "schedule.log_every": 20,
    "schedule.evaluate_every": 200,
    "evaluation.robust_levels": 4096,
}
PAPER = {
    "schedule.num_updates": 30_000,
    "schedule.log_every": 100,
    "schedule.evaluate_every": 100,
    "evaluation.suite": "all",
    "evaluation.robust_levels": 10_000,
}


PRESETS = {
    "quick": Preset("9×9 rooms, GRU of 64: minutes on two CPU cores.", changing(QUICK), seeds=5),
    "standard": Preset("13×13, LSTM of 256, 256 levels: at most an hour on one GPU.", changing(STANDARD), seeds=5),
    "paper": Preset("The publication's settings: 30 000 updates of 32 levels.", changing(PAPER), seeds=10),
}
