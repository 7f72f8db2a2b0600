"""What was drawn for one update, as tensors: tokens, masks from lengths, rewards on tokens, pieces of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.lm.training.losses import length_mask
from tutelage.posttraining.policy import spans
from tutelage.posttraining.rewards import Earned, check_rewards, place


class Piece(NamedTuple):
    """Completions that go through a model together.

    Attributes:
        prompts: the questions' token ids. completions: token ids of some samples of each.
        rows: `[n]` their rows in the experience. width: the longest completion.
    """

    prompts: list[list[int]]
    completions: list[list[list[int]]]
    rows: torch.Tensor
    width: int


@dataclass(frozen=True, eq=False)
class Experience:
    """Q questions with K completions each; row q·K + k is sample k of question q.

    Attributes:
        prompts: token ids of each question. completions: token ids of each row.
        mask: `[Q·K, width]` bool, real tokens.
        sampled: `[Q·K, width]` float32, the sampler's log-probabilities. rewards: `[Q·K, width]` float32.
    """

    num_samples: int
    prompts: list[list[int]]
    completions: list[list[int]]
    mask: torch.Tensor
    sampled: torch.Tensor
    rewards: torch.Tensor

    @classmethod
    def of(
        cls,
        tokenizer: object,
        groups: Sequence[Sequence[Rollout]],
        earned: Sequence[Earned],
        device: torch.device | str = "cpu",
    ) -> Experience:
        """From rollouts `[Q][K]` and what each of the Q·K earned.

        Raises:
            BadInput: rewards that are not one for each rollout, or not finite.
        """
        flat = [rollout for group in groups for rollout in group]
        lengths = [len(rollout.completion) for rollout in flat]
        shape = (len(flat), max(lengths))
        sampled = np.zeros(shape, np.float32)
        for row, rollout in enumerate(flat):
            sampled[row, : lengths[row]] = rollout.logprobs
        rewards = token_rewards(tokenizer, flat, earned, shape[1])
        return cls(
            len(groups[0]),
            [np.asarray(group[0].prompt).tolist() for group in groups],
            [np.asarray(rollout.completion).tolist() for rollout in flat],
            length_mask(lengths, shape[1]).to(device),
            torch.from_numpy(sampled).to(device),
            torch.from_numpy(rewards).float().to(device),
        )

    @property
    def totals(self) -> torch.Tensor:
        """`[Q, K]` everything that each completion earned."""
        return self.rewards.sum(1).view(-1, self.num_samples)

    def pieces(self, questions: Sequence[int], max_tokens: int) -> list[Piece]:
        """The completions of some questions in pieces whose tokens, padding included, are at most `max_tokens`.

        Each prompt counts once for a piece. A question too large for a piece is spread over several; a single
        completion longer than that is a piece of its own. Similar lengths come together, the longest first.
        """
        size = self.num_samples
        longest = {q: max(map(len, self.completions[q * size : (q + 1) * size])) for q in questions}
        found: list[list[int]] = []
        for question in sorted(questions, key=lambda q: -longest[q]):
            rows = list(range(question * size, (question + 1) * size))
            if found and self._tokens(found[-1] + rows) <= max_tokens:
                found[-1] += rows
                continue
            if self._tokens(rows) <= max_tokens:
                found.append(rows)
                continue
            found.append([])
            for row in sorted(rows, key=lambda row: -len(self.completions[row])):
                if found[-1] and self._tokens([*found[-1], row]) > max_tokens:
                    found.append([])
                found[-1].append(row)
        return [self._piece(rows) for rows in found]

    def _tokens(self, rows: Sequence[int]) -> int:
        questions = {row // self.num_samples for row in rows}
        prompts = len(questions) * max(len(self.prompts[question]) for question in questions)
        return prompts + len(rows) * max(len(self.completions[row]) for row in rows)

    def _piece(self, rows: Sequence[int]) -> Piece:
        groups: dict[int, list[list[int]]] = {}
        for row in rows:
            groups.setdefault(row // self.num_samples, []).append(self.completions[row])
        width = max(len(self.completions[row]) for row in rows)
        index = torch.tensor(rows, device=self.mask.device)
        return Piece([self.prompts[question] for question in groups], list(groups.values()), index, width)


def token_rewards(tokenizer: object, rollouts: Sequence[Rollout], earned: Sequence[Earned], width: int) -> np.ndarray:
    """`[rows, width]` what was earned, on the tokens at which it was earned (`rewards.place`).

    Raises:
        BadInput: another number of rewards than of rollouts, or one that is not finite.
    """
    try:
        totals = [sum(amount for _, amount in pairs) for pairs in earned]
    except (TypeError, ValueError):
        raise BadInput("reward: must give each rollout a list of pairs (characters of the text, amount)") from None
    check_rewards(totals, len(rollouts))
    rewards = np.zeros((len(rollouts), width))
    for row, (rollout, pairs) in enumerate(zip(rollouts, earned)):
        if all(end >= len(rollout.text) for end, _ in pairs):  # which token wrote which character is not asked
            rewards[row, len(rollout.completion) - 1] = totals[row]
        else:
            rewards[row, : len(rollout.completion)] = place(pairs, spans(tokenizer, rollout.completion))
    return rewards
