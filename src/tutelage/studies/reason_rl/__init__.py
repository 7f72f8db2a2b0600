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

from tutelage.lab.study import Paper, Study
from tutelage.studies.reason_rl.arms import ARMS, PRESETS
from tutelage.studies.reason_rl.checks import check
from tutelage.studies.reason_rl.claims import CLAIMS, PUBLISHED
from tutelage.studies.reason_rl.config import Config, work
from tutelage.studies.reason_rl.tools import TOOLS

study = Study(
    name="reason_rl",
    paper=Paper(
        "Teaching Large Language Models to Reason with Reinforcement Learning",
        "Havrilla, Du, Raparthy, Nalmpantis, Dwivedi-Yu, Zhuravinskyi, Hambro, Sukhbaatar, Raileanu",
        2024,
        "2403.04642",
    ),
    question="How much better does a language model reason once it learns from right answers?",
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
    build="tutelage.studies.reason_rl.build:build",
    work=work,
    exhibits="tutelage.studies.reason_rl.exhibits:exhibits",
    panels="tutelage.studies.reason_rl.panels:panels",
    tools=TOOLS,
    extra="lm",
    headline="maj@1",
    main_arm="ei",
    jobs=0,
)
