"""Arms and presets: names for changes of the configuration, as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tutelage.lab.configuration import arm, differences, flatten, override
from tutelage.lab.study import Preset
from tutelage.studies.reason_rl.config import Config

EI = {"algorithm": "expert_iteration"}
PPO = {"algorithm": "online", "online.algorithm": "ppo"}
RCRL = {"algorithm": "return_conditioned"}


ARMS = {
    "ei": arm("Expert Iteration: refit the base on all right solutions found so far.", EI),
    "ppo": arm("PPO with the sparse reward: 1 for a right final answer.", PPO),
    "rcrl": arm("Return-conditioned RL: learn good and bad solutions, ask for good ones.", RCRL),
    "base": arm(
        "The pretrained model as it is; few-shot where base.few_shot says so.",
        {"algorithm": "none", "start": "pretrained", "base.few_shot": 2},
        "baseline",
    ),
    "sft": arm(
        "More and more epochs over the demonstrations.", {"algorithm": "sft", "start": "pretrained"}, "baseline"
    ),
    "ei_pretrained": arm(
        "Expert Iteration without any demonstration; first samples few-shot where base.few_shot says so.",
        {**EI, "start": "pretrained", "base.few_shot": 2},
    ),
    "ppo_pretrained": arm("PPO straight from the pretrained model.", {**PPO, "start": "pretrained"}),
    "ei_orm": arm(
        "Expert Iteration on right solutions that the outcome model likes too.", {**EI, "iteration.filter": "both"}
    ),
    "ppo_dense": arm("PPO with credit for intermediate results.", {**PPO, "reward.kind": "dense"}),
    "ppo_potential": arm(
        "PPO with that credit as a potential, which leaves the optimum where it is.",
        {**PPO, "reward.kind": "dense_potential"},
        "ablation",
    ),
    "ppo_orm": arm("PPO on the outcome model's score of the whole solution.", {**PPO, "reward.kind": "orm"}),
    "ppo_orm_dense": arm("PPO on differences of the outcome model's scores.", {**PPO, "reward.kind": "orm_dense"}),
    "ppo_sorm_dense": arm(
        "PPO on differences of the scores of a stepwise outcome model.", {**PPO, "reward.kind": "sorm_dense"}
    ),
    "ppo_lora": arm(
        "PPO on an adapter; its reference is itself without it.", {**PPO, "online.lora_rank": 8}, "ablation"
    ),
    "rcrl_step": arm(
        "Return-conditioned RL by steps, which the outcome model labels.",
        {**RCRL, "conditioned.level": "step", "conditioned.labels": "outcome_model"},
    ),
    "grpo": arm(
        "GRPO: rewards standardised within each question's samples.", {**PPO, "online.algorithm": "grpo"}, "baseline"
    ),
    "rloo": arm("RLOO: each sample against the mean of the others.", {**PPO, "online.algorithm": "rloo"}, "baseline"),
    "dr_grpo": arm("GRPO without its two normalisations.", {**PPO, "online.algorithm": "dr_grpo"}, "baseline"),
    "dpo": arm("DPO on right against wrong samples of the same question.", {"algorithm": "preferences"}, "baseline"),
    "rft": arm(
        "Rejection-sampling fine-tuning: one round of Expert Iteration.", {**EI, "schedule.num_updates": 1}, "baseline"
    ),
    "rest_em": arm(
        "ReST-EM: every round's own right solutions only.", {**EI, "iteration.cumulative": False}, "baseline"
    ),
    "ei_continue": arm(
        "Expert Iteration that goes on from the last policy instead of the base.",
        {**EI, "iteration.refit": "continue"},
        "ablation",
    ),
    "ei_duplicates": arm(
        "Expert Iteration that keeps every right sample.", {**EI, "iteration.deduplicate": "none"}, "ablation"
    ),
    "ei_k4": arm("Expert Iteration with 4 samples a question.", {**EI, "iteration.num_samples": 4}, "ablation"),
    "ei_k16": arm("Expert Iteration with 16 samples a question.", {**EI, "iteration.num_samples": 16}, "ablation"),
    "ei_k48": arm("Expert Iteration with 48 samples a question.", {**EI, "iteration.num_samples": 48}, "ablation"),
    "ei_small": arm("Expert Iteration on a base of half the size.", {**EI, "base.pretrain.size": "micro"}, "ablation"),
}

SMALLER = {"small": "mini", "mini": "micro", "micro": "nano"}
Updates = dict[str, int]
"""Updates, or updates between evaluations, by algorithm: a round, an iteration and an epoch are not the same amount."""


def _fit(part: str, num_epochs: float, learning_rate: float, **more: Any) -> dict[str, Any]:
    settings = {"num_epochs": num_epochs, "batch_size": 32, "learning_rate": learning_rate, "warmup": 0.1, **more}
    return {f"{part}.{name}": value for name, value in settings.items()}


def _scaled(changes: dict[str, Any], updates: Updates, every: Updates, samples: Callable[[int], int]) -> Any:
    """The changes, as many updates as the algorithm needs, and K of Expert Iteration in proportion to the arm's.

    What an arm has set stays: an ablation of what the preset changes for all would otherwise be the arm it ablates.
    """

    def configure(config: Config) -> Config:
        kind = config.algorithm
        of_arm = differences(flatten(Config()), flatten(config))
        one_round = kind == "expert_iteration" and config.schedule.num_updates == 1
        schedule: dict[str, Any] = {
            "schedule.num_updates": 1 if one_round else updates[kind],
            "schedule.evaluate_every": every[kind],
            "schedule.evaluate_first": True,
            "schedule.log_every": 1,
            "iteration.num_samples": samples(config.iteration.num_samples),
        }
        if "base.pretrain.size" in changes and config.base.pretrain.size == "micro":  # the arm with the smaller base
            schedule["base.pretrain.size"] = SMALLER[changes["base.pretrain.size"]]
        if kind == "sft":
            schedule["supervised.num_epochs"] = float(updates[kind])
        few = (
            {"base.few_shot": 0} if "base.name" not in changes else {}
        )  # the small bases never saw two problems at once
        return override(config, {path: changes[path] for path in changes if path not in of_arm} | schedule | few)

    return configure


QUICK = {
    "task.num_train": 640,
    "task.num_test": 160,
    "task.num_demonstrations": 64,
    "task.difficulty.max_steps": 2,
    "task.difficulty.max_given": 12,
    "task.difficulty.max_value": 40,
    "task.difficulty.max_factor": 4,
    "task.difficulty.templates": 1,
    "base.pretrain.size": "micro",
    "base.pretrain.num_epochs": 4.0,
    "base.corpus.documents": 14_000,
    "base.corpus.fact_sheets": 3000,
    "base.corpus.noise": 0.05,
    "base.corpus.wrong_plan": 0.5,
    "base.corpus.habit": 0.8,
    **_fit("demonstration", 2.0, 2e-4),
    **_fit("supervised", 24.0, 2e-4, schedule="constant"),
    **_fit("iteration.sft", 2.0, 3e-4),
    **_fit("conditioned.sft", 2.0, 1e-3),
    "conditioned.good_share": 0.5,
    "sampling.max_new_tokens": 48,
    "iteration.deduplicate": "equation",
    "iteration.cap": 4,
    "conditioned.num_samples": 8,
    "preference.num_samples": 8,
    "preference.learning_rate": 2e-5,
    "outcome.num_samples": 8,
    "outcome.num_epochs": 6.0,
    "outcome.tokens": "every",
    "outcome.learning_rate": 1e-3,
    "evaluation.num_samples": 32,
    "evaluation.interim_samples": 8,
}
STANDARD = QUICK | {
    "task.num_train": 4000,
    "task.num_test": 500,
    "task.num_demonstrations": 500,
    "task.difficulty.max_steps": 4,
    "task.difficulty.max_given": 20,
    "task.difficulty.max_value": 99,
    "task.difficulty.max_factor": 5,
    "task.difficulty.templates": 3,
    "base.pretrain.size": "small",
    "base.corpus.documents": 60_000,
    "base.corpus.fact_sheets": 10_000,
    "sampling.max_new_tokens": 96,
    "conditioned.num_samples": 32,
    "preference.num_samples": 32,
    "outcome.num_samples": 32,
    "evaluation.num_samples": 96,
    "evaluation.interim_samples": 16,
}
PAPER = {
    "task.source": "gsm8k",
    "task.num_train": 0,
    "task.num_test": 0,
    "task.num_demonstrations": 7473,
    "base.name": "meta-llama/Llama-2-7b-hf",
    "base.dtype": "float32",  # steps of these sizes are lost in bfloat16 weights
    "base.template": "Question: {question}\\nAnswer:\\n",
    **_fit("demonstration", 2.0, 2e-5),
    **_fit("supervised", 4.0, 2e-5),
    **_fit("iteration.sft", 2.0, 2e-5),
    **_fit("conditioned.sft", 2.0, 2e-5),
    "online.kl": 0.05,
    "online.num_epochs": 4,
    "online.learning_rate": 1e-6,
    "online.lora_rank": 128,
    "conditioned.num_samples": 96,
    "preference.learning_rate": 1e-6,
    "outcome.num_samples": 96,
    "sampling.max_new_tokens": 256,
}

PRESETS = {
    "quick": Preset(
        "One or two steps, a base of 0.4 million parameters made here: minutes on two CPU cores.",
        _scaled(
            QUICK,
            {"expert_iteration": 3, "online": 12, "return_conditioned": 1, "preferences": 3, "none": 1, "sft": 24},
            {"expert_iteration": 1, "online": 4, "return_conditioned": 1, "preferences": 1, "none": 1, "sft": 4},
            lambda number: {96: 8}.get(number, number),
        ),
        arms=("ei", "ei_pretrained", "ppo", "ppo_dense", "rcrl", "sft", "grpo"),
        seeds=3,
    ),
    "standard": Preset(
        "Up to four steps, a base of 3 million parameters made here: one GPU, at most an hour.",
        _scaled(
            STANDARD,
            {"expert_iteration": 4, "online": 100, "return_conditioned": 1, "preferences": 4, "none": 1, "sft": 24},
            {"expert_iteration": 1, "online": 10, "return_conditioned": 1, "preferences": 1, "none": 1, "sft": 2},
            lambda number: {96: 32}.get(number, number),
        ),
        seeds=3,
        jobs=1,  # they share a GPU
    ),
    "paper": Preset(
        "GSM8K and Llama-2 7B, 96 samples a question; needs the hub (or --base.name FOLDER) and GPUs.",
        _scaled(
            PAPER,
            {"expert_iteration": 5, "online": 1000, "return_conditioned": 1, "preferences": 5, "none": 1, "sft": 4},
            {"expert_iteration": 1, "online": 50, "return_conditioned": 1, "preferences": 1, "none": 1, "sft": 1},
            lambda number: number,
        ),
        seeds=1,
        jobs=1,
    ),
}
