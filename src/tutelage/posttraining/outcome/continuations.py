"""Labels of steps from where they lead: is there a way on from here to the right answer?

    labels = continuation_labels(start, questions, groups, Rollouts(sampling, seed, folder), num_continuations=4)
    sorm = OutcomeModel.train(start, questions, groups, labels=labels)      # a stepwise outcome model

References: Havrilla et al. (2024), GLoRe: When, Where, and How to Improve LLM Reasoning via Global and Local
Refinements, arXiv 2402.10963 (the stepwise ORM).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.posttraining.outcome.training import prefixes
from tutelage.posttraining.policy import Policy, spans
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rewards import tokens_at
from tutelage.posttraining.rollouts import Rollouts, correct


def continuation_labels(
    policy: Policy,
    questions: Sequence[Question],
    groups: Sequence[Sequence[Rollout]],
    rollouts: Rollouts,
    num_continuations: int = 4,
    *,
    round: int = 0,
    stage: str = "continuation",
) -> list[list[np.ndarray]]:
    """For each rollout `[L]` 0 or 1: does any of so many fresh continuations of a prefix reach the right answer?

    Approximates V*, the value of the prefix to a policy that then makes the best of it. The prefixes are those that
    `OutcomeModel.step_scores` judges; the last one is the whole solution, whose label is whether it is correct.
    Equal prefixes of a question are continued once. About samples × steps × `num_continuations` continuations are
    drawn, so hand over a part of the questions.

    Args:
        groups: graded rollouts of each question, drawn by a policy with the same tokenizer.
        rollouts: draws the continuations; with a folder, none is drawn twice.
    """
    if num_continuations < 1:
        raise BadInput(f"num_continuations = {num_continuations}: must be at least 1")
    places: dict[tuple[str, bytes], int] = {}
    asked: list[Question] = []
    begun: list[list[int]] = []
    wanted: list[list[list[int]]] = []
    for question, group in zip(questions, groups, strict=True):
        wanted.append([])
        for rollout in group:
            ends = tokens_at(spans(policy.tokenizer, rollout.completion), prefixes(rollout.text)[:-1])
            wanted[-1].append([])
            for end in ends.tolist():
                prefix = rollout.completion[: end + 1]
                key = (question.id, prefix.tobytes())
                if key not in places:
                    places[key] = len(asked)
                    asked.append(question)
                    begun.append(prefix.tolist())
                wanted[-1][-1].append(places[key])
    drawn = rollouts.draw(policy, asked, num_continuations, round=round, stage=stage, prefixes=begun)
    reached = [float(any(map(correct, group))) for group in drawn]
    return [
        [
            np.array([*(reached[place] for place in row), float(correct(rollout))])
            for row, rollout in zip(rows, group, strict=True)
        ]
        for rows, group in zip(wanted, groups, strict=True)
    ]
