"""reason_rl: teaching language models to reason with reinforcement learning.

The composition of one paper and today's relatives. `study.map` says where each of their parts lives.

Deviations from the publication, each on purpose:
- no official code was released: what the paper leaves open follows trlX (PPO), RFT (deduplication) and GLoRe (ORM);
- the quick preset's base is a Llama-architecture model of 0.4 million parameters, made here from generated problems
  with noisy solutions, so that it is strong in skills and weak in policy; the same code runs a hub model on GSM8K;
- every metric is computed exactly for every k from one pool of samples, ties shared fairly;
- a return-conditioned policy never learns to emit its control tokens: they are conditions, put there by the sampler;
- dense outcome rewards are differences of the model's predictions, which do not pay for longer solutions.
"""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.lab.errors import BadInput
from tutelage.lab.program import Program, State
from tutelage.lab.study import Exhibit, Paper, RunResult, Study
from tutelage.studies.reason_rl.arms import ARMS, PRESETS
from tutelage.studies.reason_rl.claims import CLAIMS, PUBLISHED
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


def build(config: Config, seeds: Sequence[int]) -> Program:
    """The running system (imports PyTorch)."""
    from tutelage.studies.reason_rl.build import build

    return build(config, seeds)


def exhibits(config: Config, program: Program, state: State) -> list[Exhibit]:
    """Solutions before and after, with their steps marked."""
    from tutelage.studies.reason_rl.exhibits import exhibits

    return exhibits(config, program, state)


def panels(results: Sequence[RunResult]) -> list[Exhibit]:
    """Accuracy and coverage against samples drawn, their plane, and curves over k, of all runs."""
    from tutelage.studies.reason_rl.panels import panels

    return panels(results)


def work(config: Config) -> tuple[str, float]:
    """Rollouts drawn in one update; of the arms that draw none, demonstrations read."""
    train = config.task.num_train
    match config.algorithm:
        case "online":
            return "rollouts", float(config.online.num_questions * config.online.num_samples)
        case "expert_iteration":
            return "rollouts", float((config.iteration.questions_per_round or train) * config.iteration.num_samples)
        case "preferences":
            return "rollouts", float((config.preference.questions_per_round or train) * config.preference.num_samples)
        case "return_conditioned":
            return "rollouts", float(train * config.conditioned.num_samples)
    return "demonstrations", float(config.task.num_demonstrations)


study = Study(
    name="reason_rl",
    paper=Paper(
        "Teaching Large Language Models to Reason with Reinforcement Learning",
        "Havrilla, Du, Raparthy, Nalmpantis, Dwivedi-Yu, Zhuravinskyi, Hambro, Sukhbaatar, Raileanu",
        2024,
        "2403.04642",
    ),
    summary="A language model learns to solve word problems from whether its answers are right.",
    config=Config,
    arms=ARMS,
    presets=PRESETS,
    claims=CLAIMS,
    published=PUBLISHED,
    map={
        "Expert Iteration": "tutelage.posttraining.expert_iteration:ExpertIteration",
        "Deduplication of solutions (RFT)": "tutelage.posttraining.grading.solutions:deduplicate",
        "PPO, GRPO, RLOO": "tutelage.posttraining.policy_gradient.online:Online",
        "Generalised advantage estimation over tokens": "tutelage.posttraining.policy_gradient.advantages:gae",
        "Clipped surrogate": "tutelage.posttraining.policy_gradient.losses:clipped_surrogate",
        "Return-conditioned RL": "tutelage.posttraining.return_conditioned:ReturnConditioned",
        "DPO": "tutelage.posttraining.preferences:Preferences",
        "Sparse reward": "tutelage.posttraining.rewards:sparse",
        "Dense heuristic reward": "tutelage.posttraining.rewards:dense",
        "Outcome reward model (ORM)": "tutelage.posttraining.outcome.model:OutcomeModel",
        "Labels of a stepwise ORM": "tutelage.posttraining.outcome.continuations:continuation_labels",
        "Grader": "tutelage.posttraining.grading.answers:grade",
        "pass@K": "tutelage.measures.sampled_answers:pass_at_k",
        "maj@K": "tutelage.measures.sampled_answers:maj_at_k",
        "rerank@K": "tutelage.measures.sampled_answers:rerank_at_k",
        "Problems with known solutions": "tutelage.posttraining.wordmath.problems:problems",
        "Shared-prefix update": "tutelage.lm.training.shared_prefix:read_completions",
        "Exact policy gradients": "tutelage.posttraining.policy_gradient.enumeration:TabularPolicy",
    },
    check=check,
    build=build,
    work=work,
    exhibits=exhibits,
    panels=panels,
    headline="maj@1",
    main_arm="ei",
    jobs=0,
)
