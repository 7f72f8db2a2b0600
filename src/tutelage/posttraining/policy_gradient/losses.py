"""Losses of policy-gradient finetuning, each a sum over tokens whose weights say by what it is divided.

A weight belongs to a whole row (`row_weights`), so a loss over pieces of a batch adds up to that of the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from tutelage.lab.errors import BadInput, nearest

NORMALISERS = ("tokens", "sequences", "constant")


class Surrogate(NamedTuple):
    """A weighted sum over tokens, and at how many of them the clip holds the gradient back."""

    loss: torch.Tensor
    clipped: torch.Tensor


def row_weights(
    lengths: torch.Tensor, normaliser: str, *, num_tokens: float, num_rows: float, max_new_tokens: int
) -> torch.Tensor:
    """`[rows]` what one token of each completion counts in the loss of a batch.

    Args:
        lengths: `[rows]` real tokens of some completions of the batch, ≥ 1.
        normaliser: `tokens`: all tokens of the batch alike (PPO, RLOO); `sequences`: the mean over each completion,
            then over completions, so tokens of short ones count more (GRPO); `constant`: all alike, and over the
            *possible* tokens (Dr. GRPO), which does not depend on what was drawn.
        num_tokens, num_rows: of the whole batch.

    Raises:
        BadInput: an unknown normaliser, or an empty completion.
    """
    if normaliser not in NORMALISERS:
        known = ", ".join(NORMALISERS)
        raise BadInput(f"normaliser = {normaliser!r}: must be one of {known}{nearest(normaliser, NORMALISERS)}")
    if int(lengths.min()) < 1:
        raise BadInput("lengths: a completion has no token; must have at least one")
    ones = torch.ones(lengths.shape, device=lengths.device)
    match normaliser:
        case "tokens":
            return ones / num_tokens
        case "sequences":
            return ones / lengths / num_rows
        case _:
            return ones / (num_rows * max_new_tokens)


def weighted_sum(values: torch.Tensor, mask: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Σ over rows of their weight times the sum of their values where the mask is true."""
    return (torch.where(mask, values, 0.0).sum(1) * weights).sum()


def clipped_surrogate(
    logprobs: torch.Tensor,
    old: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    *,
    clip: float = 0.2,
    importance: torch.Tensor | None = None,
) -> Surrogate:
    """PPO's loss −Σ w min(ρA, clamp(ρ, 1−ε, 1+ε)A) with ρ = π/π_old for each token.

    Args:
        logprobs: `[rows, width]` of the policy that learns; the gradient goes through them alone.
        old: `[rows, width]` of the policy before its first step on this batch.
        advantages: `[rows, width]`. mask: `[rows, width]` bool. weights: `[rows]`, see `row_weights`.
        clip: ε > 0.
        importance: `[rows, width]` further factors without gradient (`importance_weights`).

    References: Schulman et al. (2017), Proximal policy optimization algorithms, arXiv 1707.06347, equation 7.
    """
    ratio = torch.where(mask, logprobs - old.detach(), 0.0).exp()
    plain, held = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    gain = torch.minimum(plain, held)
    if importance is not None:
        gain = gain * importance.detach()
    return Surrogate(-weighted_sum(gain, mask, weights), ((held < plain) & mask).sum())


def importance_weights(old: torch.Tensor, sampled: torch.Tensor, cap: float) -> torch.Tensor:
    """min(π_trainer/π_sampler, cap) for each token: corrects for a sampler whose numbers are not the trainer's.

    References: Ionides (2008), Truncated importance sampling.
    """
    return (old - sampled).exp().clamp(max=cap)


def value_loss(
    values: torch.Tensor,
    old: torch.Tensor,
    returns: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    *,
    clip: float = 0.2,
) -> Surrogate:
    """½ Σ w max((V − R)², (V_clipped − R)²), V_clipped within `clip` of the old value; a clip of 0 is none.

    Shapes as in `clipped_surrogate`; `returns` are the targets R.
    """
    error = (values - returns).square()
    if clip == 0:
        return Surrogate(weighted_sum(error, mask, weights) / 2, torch.zeros((), dtype=torch.long, device=mask.device))
    near = old + (values - old).clamp(-clip, clip)
    held = (near - returns).square()
    return Surrogate(weighted_sum(torch.maximum(error, held), mask, weights) / 2, ((held > error) & mask).sum())


def penalised(
    rewards: torch.Tensor, logprobs: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, coefficient: float
) -> torch.Tensor:
    """Rewards per token less β(log π − log π_ref): in expectation over completions, E[R] − β KL(π ‖ π_ref).

    References: Ziegler et al. (2019), Fine-tuning language models from human preferences, arXiv 1909.08593, equation 2.
    """
    return torch.where(mask, rewards - coefficient * (logprobs - reference), 0.0).detach()
