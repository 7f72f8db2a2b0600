"""Policies small enough to write down every output: exact expectations, divergences and gradients, by summing.

    policy = TabularPolicy(vocabulary=3, max_new_tokens=3)
    goal = exact_objective(policy.token_logprobs(), policy.rewards(lambda output: float(output[-1] == 2)))
    goal.backward()                                     # the gradient that estimators are to have on average

An output is a tuple of token ids: it ends with the end token, or is cut off at the longest length.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from tutelage.lab.errors import BadInput
from tutelage.lm.training.losses import length_mask
from tutelage.lm.training.shared_prefix import read_completions

Output = tuple[int, ...]

MOST_OUTPUTS = 20_000
"""More are not written down."""


def outputs_of(vocabulary: int, max_new_tokens: int, end: int = 0) -> list[Output]:
    """Every output of tokens 0 … vocabulary − 1, in order of length: (V−1)^(l−1) that end at each l, (V−1)^L cut off.

    Raises:
        BadInput: fewer than two tokens, an end token that is none of them, or more than `MOST_OUTPUTS` outputs.
    """
    if vocabulary < 2 or not 0 <= end < vocabulary or max_new_tokens < 1:
        raise BadInput(
            f"vocabulary = {vocabulary}, end = {end}, max_new_tokens = {max_new_tokens}: must be at least 2 tokens, "
            "the end token one of them, and at least 1 new token"
        )
    words = [token for token in range(vocabulary) if token != end]
    lengths = range(max_new_tokens)
    number = sum(len(words) ** length for length in lengths) + len(words) ** max_new_tokens
    if number > MOST_OUTPUTS:
        raise BadInput(
            f"vocabulary = {vocabulary}, max_new_tokens = {max_new_tokens}: {number} outputs; must be at "
            f"most {MOST_OUTPUTS}"
        )
    ended = [(*start, end) for length in lengths for start in itertools.product(words, repeat=length)]
    return ended + list(itertools.product(words, repeat=max_new_tokens))


class TabularPolicy(torch.nn.Module):
    """A softmax over the next token for every prefix: any distribution over outputs is one of these.

    Args:
        vocabulary: V. max_new_tokens: L. end: the end token.
        seed, spread: of the normal logits, 0 on average.

    Attributes:
        outputs: all of them. mask: `[N, L]` bool, their real tokens.
        logits: `[prefixes, V]` float64, the parameters.
    """

    def __init__(
        self, vocabulary: int = 3, max_new_tokens: int = 3, *, end: int = 0, seed: int = 0, spread: float = 1.0
    ) -> None:
        super().__init__()
        self.outputs = outputs_of(vocabulary, max_new_tokens, end)
        self.mask = length_mask([len(output) for output in self.outputs], max_new_tokens)
        prefixes = dict.fromkeys(output[:t] for output in self.outputs for t in range(len(output)))
        self._prefix = {prefix: place for place, prefix in enumerate(prefixes)}
        drawn = np.random.default_rng(seed).normal(size=(len(prefixes), vocabulary)) * spread
        self.logits = torch.nn.Parameter(torch.from_numpy(drawn))

    def token_logprobs(self, outputs: Sequence[Output] | None = None) -> torch.Tensor:
        """`[outputs, L]` log π of every token, 0 behind the end. All outputs by default."""
        states, tokens, mask = self._places(outputs)
        return torch.where(mask, self.logits.log_softmax(-1)[states, tokens], 0.0)

    def logprobs(self, outputs: Sequence[Output] | None = None) -> torch.Tensor:
        """`[outputs]` log π of whole outputs."""
        return self.token_logprobs(outputs).sum(1)

    def probabilities(self) -> torch.Tensor:
        """`[N]` π of all outputs; they sum to 1."""
        return self.logprobs().exp()

    def states(self, outputs: Sequence[Output] | None = None) -> torch.Tensor:
        """`[outputs, L]` row of `logits` that each token was drawn from; 0 behind the end."""
        return self._places(outputs)[0]

    def rewards(self, reward: Callable[[Output], float]) -> torch.Tensor:
        """`[N]` float64 of all outputs."""
        return torch.tensor([reward(output) for output in self.outputs], dtype=torch.float64)

    def sample(self, number: int, seed: int = 0) -> list[Output]:
        """Independent outputs."""
        weights = self.probabilities().detach().numpy()
        places = np.random.default_rng(seed).choice(len(self.outputs), number, p=weights / weights.sum())
        return [self.outputs[place] for place in places]

    def refit(self, weights: torch.Tensor) -> TabularPolicy:
        """The policy of highest likelihood on outputs with weights `[N]` ≥ 0, in closed form.

        With π's own probabilities of the outputs that succeed and 0 elsewhere it is π conditioned on success: what a
        round of expert iteration with endless samples reaches. Prefixes without weight keep their distribution.
        """
        fitted = TabularPolicy.__new__(TabularPolicy)
        torch.nn.Module.__init__(fitted)
        fitted.outputs, fitted.mask, fitted._prefix = self.outputs, self.mask, self._prefix
        states, tokens, mask = self._places(None)
        counts = torch.zeros_like(self.logits)
        spread = weights.double()[:, None].expand(mask.shape)
        counts.index_put_((states[mask], tokens[mask]), spread[mask], accumulate=True)
        seen = counts.sum(1, keepdim=True)
        fitted.logits = torch.nn.Parameter(torch.where(seen > 0, (counts / seen).log(), self.logits.detach()))
        return fitted

    def _places(self, outputs: Sequence[Output] | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        chosen = self.outputs if outputs is None else outputs
        mask = self.mask if outputs is None else length_mask([len(output) for output in chosen], self.mask.shape[1])
        states, tokens = (torch.zeros(mask.shape, dtype=torch.long) for _ in range(2))
        for row, output in enumerate(chosen):
            states[row, : len(output)] = torch.tensor([self._prefix[output[:t]] for t in range(len(output))])
            tokens[row, : len(output)] = torch.tensor(output)
        return states, tokens, mask


def model_logprobs(
    model: Any, prompt: Sequence[int], outputs: Sequence[Output], *, temperature: float = 1.0
) -> torch.Tensor:
    """`[outputs, L]` float32 log p of every token of outputs of a transformers model, with gradient."""
    return read_completions(model, [prompt], [outputs], temperature=temperature).logprobs


def exact_reward(token_logprobs: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
    """E[R] under the policy whose log-probabilities of *all* outputs are `[N, L]`, for rewards `[N]`."""
    return (token_logprobs.sum(1).exp() * rewards).sum()


def exact_kl(token_logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """KL(π ‖ π_ref) in nats between two policies, from the log-probabilities `[N, L]` of all outputs."""
    logprobs = token_logprobs.sum(1)
    ratios = torch.where(logprobs.isneginf(), 0.0, logprobs - reference.sum(1))
    return (logprobs.exp() * ratios).sum()


def exact_objective(
    token_logprobs: torch.Tensor,
    rewards: torch.Tensor,
    reference: torch.Tensor | None = None,
    coefficient: float = 0.0,
) -> torch.Tensor:
    """E[R] − β KL(π ‖ π_ref), whose gradient, by autograd, is the exact policy gradient."""
    goal = exact_reward(token_logprobs, rewards)
    return goal if reference is None else goal - coefficient * exact_kl(token_logprobs, reference)


def exact_values(token_rewards: torch.Tensor, token_logprobs: torch.Tensor, outputs: Sequence[Output]) -> torch.Tensor:
    """`[N, L]` expected rewards still to come before each token, given the tokens so far; 0 behind the end.

    Args:
        token_rewards, token_logprobs: `[N, L]` of all outputs.
    """
    weights = token_logprobs.detach().sum(1).exp()
    to_go = token_rewards.flip(1).cumsum(1).flip(1)
    sums: dict[Output, tuple[float, float]] = {}
    for row, output in enumerate(outputs):
        for t in range(len(output)):
            weight, total = sums.get(output[:t], (0.0, 0.0))
            chance = float(weights[row])
            sums[output[:t]] = (weight + chance, total + chance * float(to_go[row, t]))
    values = torch.zeros_like(token_rewards)
    for row, output in enumerate(outputs):
        for t in range(len(output)):
            weight, total = sums[output[:t]]
            values[row, t] = total / weight
    return values
