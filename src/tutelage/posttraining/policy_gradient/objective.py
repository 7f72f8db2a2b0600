"""PPO, RLOO, GRPO and Dr. GRPO as pure functions: settings, advantages of a draw, and the loss of some of its rows."""

from __future__ import annotations

from typing import NamedTuple

import torch

from tutelage.lm.training.losses import kl
from tutelage.posttraining.config import NORMALISERS, OnlineConfig
from tutelage.posttraining.policy_gradient.advantages import gae, group_advantages, returns_to_go, whiten
from tutelage.posttraining.policy_gradient.losses import (
    Surrogate,
    clipped_surrogate,
    importance_weights,
    penalised,
    row_weights,
    weighted_sum,
)


class Estimates(NamedTuple):
    """What is learnt from, each `[rows, width]`, 0 where nothing is real.

    Attributes:
        advantages: of each token. returns: what was earned from each token on, less the KL penalty if it is there.
        targets: what values are fitted to; None for group algorithms.
    """

    advantages: torch.Tensor
    returns: torch.Tensor
    targets: torch.Tensor | None


def estimate(
    config: OnlineConfig,
    rewards: torch.Tensor,
    mask: torch.Tensor,
    num_samples: int,
    *,
    logprobs: torch.Tensor | None = None,
    reference: torch.Tensor | None = None,
    values: torch.Tensor | None = None,
) -> Estimates:
    """Advantages and targets for completions in groups of `num_samples`, row after row.

    Args:
        rewards: `[rows, width]` per token. mask: `[rows, width]` bool, real tokens.
        logprobs, reference: `[rows, width]` of the policy that sampled and of the start; needed where the config
            `penalises`.
        values: `[rows, width]` of the state before each token; needed for PPO.
    """
    if config.penalises:
        assert logprobs is not None
        assert reference is not None
        rewards = penalised(rewards, logprobs, reference, mask, config.kl)
    returns = returns_to_go(rewards, mask, discount=config.discount)
    if config.algorithm == "ppo":
        assert values is not None
        found = gae(rewards, values, mask, discount=config.discount, trace=config.trace)
        targets = torch.where(mask, found + values, 0.0)
        return Estimates(whiten(found, mask) if config.whiten else found, returns, targets)
    groups = group_advantages(returns[:, 0].view(-1, num_samples), config.algorithm)
    return Estimates(torch.where(mask, groups.view(-1, 1), 0.0), returns, None)


def objective(
    config: OnlineConfig,
    logprobs: torch.Tensor,
    old: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    weights: torch.Tensor,
    *,
    sampled: torch.Tensor | None = None,
    reference: torch.Tensor | None = None,
) -> Surrogate:
    """The policy's loss over some rows, to be minimised: the clipped surrogate, and the KL divergence if it is in it.

    Args:
        logprobs: `[rows, width]`, with gradient. old: before the first step on this draw.
        weights: `[rows]`, see `loss_weights`.
        sampled: the sampler's log-probabilities; needed with an `importance_cap`.
        reference: the start's; needed with the KL divergence in the loss.

    What the KL terms do: taken off the reward, the expected gradient is that of −β KL(π ‖ π_ref). In the loss it is
    not: `k1` has an expected gradient of 0, `k2` that of the per-token KL(π ‖ π_ref) with the distribution of prefixes
    held fixed, `k3` that of the per-token KL(π_ref ‖ π), likewise.
    """
    importance = None
    if config.importance_cap:
        assert sampled is not None
        importance = importance_weights(old, sampled, config.importance_cap)
    found = clipped_surrogate(logprobs, old, advantages, mask, weights, clip=config.clip, importance=importance)
    if config.kl and config.kl_in == "loss":
        assert reference is not None
        divergence = weighted_sum(kl(logprobs, reference, config.kl_estimator), mask, weights)
        return found._replace(loss=found.loss + config.kl * divergence)
    return found


def loss_weights(config: OnlineConfig, lengths: torch.Tensor, whole: torch.Tensor, max_new_tokens: int) -> torch.Tensor:
    """`[rows]` what a token of some completions (`lengths`) counts in the loss of a batch (lengths `whole`)."""
    return row_weights(
        lengths,
        NORMALISERS[config.algorithm],
        num_tokens=float(whole.sum()),
        num_rows=len(whole),
        max_new_tokens=max_new_tokens,
    )
