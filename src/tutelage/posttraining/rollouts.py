"""Drawing solutions: sampled, graded exactly, kept on disk, and never drawn twice.

Questions are drawn in blocks of fixed membership, each written at once. A block that a pool already holds whole is read
from there, so a round that was killed goes on at its first unfinished block, to the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Pool, PoolWriter, Rollout
from tutelage.lm.sampling.next_token import Sampling, hashed
from tutelage.posttraining.grading.answers import read_answer, same_answer
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rewards import Earned, check_rewards

Reward = Callable[[Sequence[Question], Sequence[Rollout]], Sequence[Earned]]
"""Questions and one rollout of each -> what each rollout earned, and where (`tutelage.posttraining.rewards`)."""

BLOCK = 32
"""Questions that are drawn, and written, together; more where there are few samples of each."""
ROWS = 1024
"""Samples that are drawn together if they are of more questions than that: fewer rows than this sample slowly."""


class Rollouts:
    """Draws rollouts of a training run and remembers them.

    Args:
        sampling: how; its temperature is the policy's in training.
        seed: of the run. A rollout depends on it, the stage, the round, the question and the sample's number alone.
        folder: a pool that is made or gone on with; None keeps nothing.

    Attributes:
        drawn: rollouts drawn so far by this object, those that a pool held already among them.
    """

    def __init__(self, sampling: Sampling, seed: int = 0, folder: str | Path | None = None) -> None:
        self.sampling, self.seed = sampling, seed
        self.folder = None if folder is None else Path(folder)
        self.drawn = 0
        self._writer: PoolWriter | None = None
        self._pool: Pool | None = None
        self._rows: dict[str, int] = {}  # by id; the rollouts themselves may be more than fit into memory

    def draw(
        self,
        policy: Policy,
        questions: Sequence[Question],
        num_samples: int,
        *,
        round: int = 0,
        stage: str = "train",
        prefixes: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Rollout]]:
        """`[questions][num_samples]` rollouts of the policy, each graded: `.answer`, `.scores["correct"]` 0 or 1.

        Args:
            round: the number of the draw within its stage: another one gives other samples of the same questions.
            stage: what they are for; part of the rollouts' origin.
            prefixes: for each question the tokens its solutions begin with. They are part of the rollouts' prompt and
                of what is graded, not of `completion` and `text`.

        Raises:
            BadInput: see `check`.
        """
        self.check(num_samples)
        writer = self._open()
        found: list[list[Rollout]] = []
        size = block_size(num_samples)
        begun = [()] * len(questions) if prefixes is None else prefixes
        for start in range(0, len(questions), size):
            block, before = questions[start : start + size], begun[start : start + size]
            planned = [
                self._planned(policy, question, num_samples, round, stage, prefix)
                for question, prefix in zip(block, before, strict=True)
            ]
            kept = self._read(writer, planned)
            if kept is None:
                kept = self._sampled(policy, block, planned, before)
                if writer is not None:
                    writer.append(rollout for group in kept for rollout in group)
                    writer.sync()
            found += kept
        self.drawn += len(questions) * num_samples
        return found

    def check(self, num_samples: int) -> None:
        """Raise `BadInput` for several samples at temperature 0, which would all be the same."""
        if num_samples > 1 and self.sampling.temperature == 0:
            raise BadInput(f"temperature = 0: {num_samples} samples of a question would all be the same; raise it")

    def close(self) -> None:
        """Let another process write the pool. It is opened again when something is drawn."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> PoolWriter | None:
        if self._writer is None and self.folder is not None:
            self._writer = PoolWriter(self.folder)
        return self._writer

    def _planned(
        self, policy: Policy, question: Question, number: int, round: int, stage: str, prefix: Sequence[int]
    ) -> list[Rollout]:
        begun = np.asarray(prefix, np.int64)
        keys = [int.from_bytes(blake2b(begun.tobytes(), digest_size=8).digest())] if len(begun) else []
        seeds = hashed(self.seed, *stage.encode(), round, int(question.id, 16), np.arange(number), *keys)
        none = np.zeros(1, np.int64)
        prompt = np.concatenate([policy.prompt(question), begun])
        plan = Rollout(question.id, prompt, none, none.astype(np.float32), policy=stage, round=round)
        return [replace(plan, sample_index=place, seed=seed) for place, seed in enumerate(seeds.tolist())]

    def _sampled(
        self,
        policy: Policy,
        questions: Sequence[Question],
        planned: list[list[Rollout]],
        prefixes: Sequence[Sequence[int]],
    ) -> list[list[Rollout]]:
        seeds = np.array([[rollout.seed for rollout in group] for group in planned], np.uint64)
        begun = {"prefixes": prefixes} if any(map(len, prefixes)) else {}
        samples = policy.sample(questions, seeds.shape[1], self.sampling, seeds, **begun)
        return [
            [
                graded(
                    question,
                    replace(
                        rollout,
                        completion=each.tokens,
                        logprobs=each.logprobs,
                        text=policy.text(each.tokens),
                        finish_reason=each.finish,
                    ),
                    policy.text([*prefix, *each.tokens]) if len(prefix) else None,
                )
                for rollout, each in zip(group, row, strict=True)
            ]
            for question, group, row, prefix in zip(questions, planned, samples, prefixes, strict=True)
        ]

    def _read(self, writer: PoolWriter | None, planned: list[list[Rollout]]) -> list[list[Rollout]] | None:
        """The block from the pool; None unless the pool has all of it."""
        if writer is None or self.folder is None or not all(each in writer for group in planned for each in group):
            return None
        pool = self._pool = self._pool or Pool(self.folder)
        if any(each.id not in self._rows for group in planned for each in group):
            first = len(self._rows)
            found = enumerate(pool) if not first else ((row, pool[row]) for row in range(first, len(pool)))
            self._rows.update({rollout.id: row for row, rollout in found})
        return [[pool[self._rows[each.id]] for each in group] for group in planned]


def block_size(num_samples: int) -> int:
    """Questions that are drawn, and written, together."""
    return max(BLOCK, ROWS // num_samples)


def graded(question: Question, rollout: Rollout, whole: str | None = None) -> Rollout:
    """The rollout with its parsed answer and `scores["correct"]`; a truncated one is not right, whatever it says.

    Args:
        whole: the text that is graded where the rollout holds only the rest of it.
    """
    answer = read_answer(rollout.text if whole is None else whole) if rollout.finish_reason == "stop" else None
    right = answer is not None and same_answer(answer, question.answer)
    text = None if answer is None else str(answer.value)
    return replace(rollout, answer=text, scores={**rollout.scores, "correct": float(right)})


def correct(rollout: Rollout) -> bool:
    """Whether a graded rollout is right."""
    return rollout.scores["correct"] == 1.0


def each(function: Callable[[Question, str], float]) -> Reward:
    """A reward from a plain function of a question and a solution's text; it stands at the solution's end."""

    def reward(questions: Sequence[Question], rollouts: Sequence[Rollout]) -> list[Earned]:
        amounts = [function(question, rollout.text) for question, rollout in zip(questions, rollouts, strict=True)]
        checked = check_rewards(amounts, len(rollouts))
        return [[(len(rollout.text), float(amount))] for rollout, amount in zip(rollouts, checked)]

    return reward


def rule(function: Callable[[Question, str, bool], Earned]) -> Reward:
    """A reward from a function of a question, a solution's text, and whether it came to its end."""

    def reward(questions: Sequence[Question], rollouts: Sequence[Rollout]) -> list[Earned]:
        pairs = zip(questions, rollouts, strict=True)
        return [function(question, rollout.text, rollout.finish_reason == "stop") for question, rollout in pairs]

    return reward


def flat(questions: Sequence[Question], groups: Sequence[Sequence[Rollout]]) -> tuple[list[Question], list[Rollout]]:
    """Groups as one list, and the question of each rollout beside it."""
    pairs = [(question, rollout) for question, group in zip(questions, groups, strict=True) for rollout in group]
    return [question for question, _ in pairs], [rollout for _, rollout in pairs]


def truncated_share(rollouts: Iterable[Rollout]) -> float:
    """Share of rollouts that were cut off before they ended."""
    ends = [rollout.finish_reason == "length" for rollout in rollouts]
    return sum(ends) / max(len(ends), 1)


def warn_truncated(share: float, sampling: Sampling) -> bool:
    """Warn, with the rate, where more than a fifth of the rollouts were cut off: they can teach nothing."""
    if share > 0.2:
        cut = f"{share:.0%} of the samples were cut off before their end"
        warnings.warn(f"max_new_tokens = {sampling.max_new_tokens}: {cut}; raise it", stacklevel=3)
    return share > 0.2
