"""Arms and presets: names for changes of the configuration, as data."""

from __future__ import annotations

from typing import Any

from tutelage.lab.configuration import override
from tutelage.lab.study import Arm, Preset
from tutelage.studies.reason_rl.config import Config

EI = {"algorithm": "expert_iteration"}
PPO = {"algorithm": "online", "online.algorithm": "ppo"}
RCRL = {"algorithm": "return_conditioned"}


def _arm(summary: str, changes: dict[str, Any], role: str = "system") -> Arm:
    return Arm(summary, lambda config: override(config, changes), role)  # type: ignore[arg-type]


ARMS = {
    "ei": _arm("Expert Iteration: refit the base on all right solutions found so far.", EI),
    "ppo": _arm("PPO with the sparse reward: 1 for a right final answer.", PPO),
    "rcrl": _arm("Return-conditioned RL: learn good and bad solutions, ask for good ones.", RCRL),
    "base": _arm(
        "The pretrained model as it is, asked with worked examples.",
        {"algorithm": "none", "start": "pretrained", "base.few_shot": 2},
        "baseline",
    ),
    "sft": _arm("More and more epochs over the demonstrations.", {"algorithm": "sft", "start": "pretrained"}, "baseline"),
    "ei_pretrained": _arm(
        "Expert Iteration without any demonstration, first samples few-shot.",
        {**EI, "start": "pretrained", "base.few_shot": 2},
    ),
    "ppo_pretrained": _arm("PPO straight from the pretrained model.", {**PPO, "start": "pretrained"}),
    "ei_orm": _arm("Expert Iteration on right solutions that the outcome model likes too.", {**EI, "iteration.filter": "both"}),
    "ppo_dense": _arm("PPO with credit for intermediate results.", {**PPO, "reward.kind": "dense"}),
    "ppo_potential": _arm(
        "PPO with that credit as a potential, which leaves the optimum where it is.",
        {**PPO, "reward.kind": "dense_potential"},
        "ablation",
    ),
    "ppo_orm": _arm("PPO on the outcome model's score of the whole solution.", {**PPO, "reward.kind": "orm"}),
    "ppo_orm_dense": _arm("PPO on differences of the outcome model's scores.", {**PPO, "reward.kind": "orm_dense"}),
    "ppo_sorm_dense": _arm(
        "PPO on differences of the scores of a stepwise outcome model.", {**PPO, "reward.kind": "sorm_dense"}
    ),
    "ppo_lora": _arm("PPO on an adapter; its reference is itself without it.", {**PPO, "online.lora_rank": 8}, "ablation"),
    "rcrl_step": _arm(
        "Return-conditioned RL by steps, which the outcome model labels.", {**RCRL, "conditioned.level": "step"}
    ),
    "grpo": _arm("GRPO: rewards standardised within each question's samples.", {**PPO, "online.algorithm": "grpo"}, "baseline"),
    "rloo": _arm("RLOO: each sample against the mean of the others.", {**PPO, "online.algorithm": "rloo"}, "baseline"),
    "dr_grpo": _arm("GRPO without its two normalisations.", {**PPO, "online.algorithm": "dr_grpo"}, "baseline"),
    "dpo": _arm("DPO on right against wrong samples of the same question.", {"algorithm": "preferences"}, "baseline"),
    "rft": _arm("Rejection-sampling fine-tuning: one round of Expert Iteration.", {**EI, "schedule.num_updates": 1}, "baseline"),
    "rest_em": _arm(
        "ReST-EM: every round's own right solutions only.", {**EI, "iteration.cumulative": False}, "baseline"
    ),
    "ei_continue": _arm(
        "Expert Iteration that goes on from the last policy instead of the base.",
        {**EI, "iteration.refit": "continue"},
        "ablation",
    ),
    "ei_duplicates": _arm(
        "Expert Iteration that keeps every right sample.", {**EI, "iteration.deduplicate": "none"}, "ablation"
    ),
    "ei_k4": _arm("Expert Iteration with 4 samples a question.", {**EI, "iteration.num_samples": 4}, "ablation"),
    "ei_k16": _arm("Expert Iteration with 16 samples a question.", {**EI, "iteration.num_samples": 16}, "ablation"),
    "ei_k48": _arm("Expert Iteration with 48 samples a question.", {**EI, "iteration.num_samples": 48}, "ablation"),
    "ei_small": _arm("Expert Iteration on a base of half the size.", {**EI, "base.pretrain.size": "micro"}, "ablation"),
}

TASK_QUICK = {
    "task.num_train": 1200,
    "task.num_test": 200,
    "task.num_demonstrations": 100,
    "task.difficulty.max_steps": 2,
    "task.difficulty.max_given": 12,
    "task.difficulty.max_value": 40,
    "task.difficulty.max_factor": 4,
    "task.difficulty.templates": 1,
    "base.pretrain.size": "micro",
    "base.pretrain.num_epochs": 2.0,
    "base.corpus.documents": 12_000,
    "base.corpus.fact_sheets": 2000,
    "base.corpus.noise": 0.15,
    "base.corpus.wrong_plan": 0.2,
}
"""The quick preset's task and base: tuned so that the base is strong in skills and weak in policy."""
FIT_QUICK = {"num_epochs": 2.0, "batch_size": 32, "learning_rate": 5e-4, "warmup": 0.1}
QUICK = {
    **TASK_QUICK,
    **{f"demonstration.{name}": value for name, value in {**FIT_QUICK, "num_epochs": 4.0}.items()},
    **{f"supervised.{name}": value for name, value in {**FIT_QUICK, "num_epochs": 24.0, "schedule": "constant"}.items()},
    **{f"iteration.sft.{name}": value for name, value in FIT_QUICK.items()},
    **{f"conditioned.sft.{name}": value for name, value in FIT_QUICK.items()},
    "sampling.max_new_tokens": 48,
    "iteration.deduplicate": "equation",
    "conditioned.num_samples": 8,
    "preference.num_samples": 8,
    "preference.learning_rate": 1e-4,
    "outcome.num_samples": 8,
    "evaluation.num_samples": 32,
    "evaluation.interim_samples": 16,
    "schedule.log_every": 1,
}
UPDATES_QUICK = {"expert_iteration": 3, "online": 16, "return_conditioned": 1, "preferences": 2, "none": 1, "sft": 24}
EVALUATIONS_QUICK = {"online": 4, "sft": 4}


def _quick(config: Config) -> Config:
    changed = dict(QUICK)
    samples = config.iteration.num_samples
    changed["iteration.num_samples"] = min(samples, 8) if samples in (96, 4) else samples // 4 * 2
    return _scheduled(config, override(config, changed), UPDATES_QUICK, EVALUATIONS_QUICK)
