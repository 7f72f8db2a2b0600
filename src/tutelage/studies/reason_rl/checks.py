"""What the settings of this study may not be together, refused before any work."""

from __future__ import annotations

from tutelage.lab.errors import BadInput
from tutelage.studies.reason_rl.config import Config


def check(config: Config) -> list[str]:
    """Refuse what no single field shows; return warnings, one line each.

    Raises:
        BadInput: one line naming the field, its value and what is allowed.
    """
    task, base = config.task, config.base
    if not base.name and task.source != "wordmath":
        raise BadInput(
            f"base.name is empty and task.source = {task.source!r}: the small base knows 'wordmath' alone; "
            "give a folder or hub id of a causal language model"
        )
    if base.template.count("{question}") != 1:
        raise BadInput(f"base.template = {base.template!r}: must have {{question}} in it, once")
    if task.num_demonstrations < 1 and (need := _shown(config)):
        raise BadInput(f"task.num_demonstrations = {task.num_demonstrations}: {need} needs at least 1")
    if base.few_shot > task.num_demonstrations:
        raise BadInput(
            f"base.few_shot = {base.few_shot}: must be at most task.num_demonstrations = {task.num_demonstrations}"
        )
    if config.algorithm == "sft" and config.schedule.num_updates > config.supervised.num_epochs:
        raise BadInput(
            f"schedule.num_updates = {config.schedule.num_updates}: an update is an epoch, and supervised.num_epochs = "
            f"{config.supervised.num_epochs:g}"
        )
    if config.algorithm == "online" and 0 < task.num_train < config.online.num_questions:
        raise BadInput(
            f"online.num_questions = {config.online.num_questions}: must be at most task.num_train = {task.num_train}"
        )
    online = config.online
    if config.algorithm == "online" and online.num_minibatches > online.num_questions:
        raise BadInput(
            f"online.num_minibatches = {online.num_minibatches}: must be at most online.num_questions = "
            f"{online.num_questions}"
        )
    for name, few in (("iteration", config.iteration), ("preference", config.preference)):
        if 0 < task.num_train < few.questions_per_round:
            raise BadInput(
                f"{name}.questions_per_round = {few.questions_per_round}: must be at most task.num_train = "
                f"{task.num_train}"
            )
    if config.algorithm == "online" and online.algorithm != "ppo" and online.num_samples < 2:
        raise BadInput(
            f"online.num_samples = {online.num_samples}: {online.algorithm} compares the samples of a question, so it "
            "must be at least 2"
        )
    if config.evaluation.interim_samples > config.evaluation.num_samples:
        raise BadInput(
            f"evaluation.interim_samples = {config.evaluation.interim_samples}: must be at most "
            f"evaluation.num_samples = {config.evaluation.num_samples}"
        )
    return []


def _shown(config: Config) -> str:
    """What needs demonstrations; empty if nothing does. An outcome model is trained from the supervised start."""
    judged = {
        "reward.kind": config.algorithm == "online" and "orm" in config.reward.kind,
        "iteration.filter": config.algorithm == "expert_iteration" and config.iteration.filter != "correct",
        "conditioned.labels": config.algorithm == "return_conditioned" and config.conditioned.labels != "answer",
        "evaluation.rerank": config.evaluation.rerank,
    }
    if config.start == "sft" or config.algorithm == "sft":
        return "a supervised start" if config.start == "sft" else "supervised fine-tuning"
    return next((f"the outcome model of {name}" for name, wanted in judged.items() if wanted), "")
