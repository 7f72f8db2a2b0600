"""PPO, RLOO, GRPO and Dr. GRPO as pure functions: settings, advantages of a draw, and the loss of some of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from tutelage.lab.settings import setting
from tutelage.lm.training.losses import KL_ESTIMATORS, kl
from tutelage.posttraining.advantages import gae, group_advantages, returns_to_go, whiten
from tutelage.posttraining.policy_loss import (
    Surrogate,
    clipped_surrogate,
    importance_weights,
    penalised,
    row_weights,
    weighted_sum,
)

NORMALISERS = {"ppo": "tokens", "rloo": "tokens", "grpo": "sequences", "dr_grpo": "constant"}
"""What each algorithm divides its loss by (`policy_loss.row_weights`)."""


@dataclass(frozen=True)
class OnlineConfig:
    """How a policy learns from its own samples. What concerns values and whitening is PPO's alone."""

    algorithm: str = setting(
        "ppo", "Where advantages come from: a value function (ppo) or groups.", choices=tuple(NORMALISERS)
    )
    num_questions: int = setting(64, "Questions of an update.", interval="[1, inf)")
    num_samples: int = setting(8, "Completions of each question.", interval="[1, inf)")
    num_epochs: int = setting(2, "Passes over the completions.", interval="[1, inf)", source="trlX has 4")
    num_minibatches: int = setting(4, "Steps of the optimiser in a pass, split by questions.", interval="[1, inf)")
    learning_rate: float = setting(1e-4, "Adam's step size.", interval="(0, inf)")
    beta1: float = setting(0.9, "Adam's decay of the mean gradient.", interval="[0, 1)")
    beta2: float = setting(0.95, "Adam's decay of the mean squared gradient.", interval="[0, 1)", source="trlX")
    max_grad_norm: float = setting(1.0, "Longest gradient; 0: any.", interval="[0, inf)")
    kl: float = setting(
        0.02, "Weight of the KL divergence from the start; 0: none.", interval="[0, inf)", source="paper: 0.05"
    )
    kl_in: str = setting(
        "reward", "Where it goes: off each token's reward, or into the loss (GRPO).", choices=("reward", "loss")
    )
    kl_estimator: str = setting(
        "k3", "Its estimator in the loss.", choices=tuple(KL_ESTIMATORS), source="GRPO, arXiv 2402.03300"
    )
    discount: float = setting(1.0, "Discount between tokens.", interval="[0, 1]")
    trace: float = setting(0.95, "λ of generalised advantage estimation.", interval="[0, 1]", source="trlX")
    clip: float = setting(0.2, "How far from 1 the ratio to the old policy counts.", interval="(0, 1)", source="trlX")
    value_clip: float = setting(
        0.2, "How far a value may move on one draw; 0: any.", interval="[0, inf)", source="trlX"
    )
    value_coefficient: float = setting(0.5, "Weight of the values' loss.", interval="[0, inf)")
    value_learning_rate: float = setting(
        1e-3, "Adam's step size for parameters that only values depend on.", interval="(0, inf)"
    )
    value_network: str = setting(
        "trunk", "A linear head on the policy's trunk, or on a copy of the start.", choices=("trunk", "separate")
    )
    whiten: bool = setting(True, "Advantages of an update get mean 0 and deviation 1.", source="trlX")
    importance_cap: float = setting(
        0.0, "Largest weight against sampler and trainer disagreeing on a token; 0: no weights.", interval="[0, inf)"
    )
    lora_rank: int = setting(0, "Rank of an adapter that alone is trained; 0: train everything.", interval="[0, inf)")
    micro_tokens: int = setting(16384, "Most tokens, padding included, in one forward pass.", interval="[1, inf)")

    @property
    def penalises(self) -> bool:
        """Whether the KL divergence is taken off the reward."""
        return self.kl > 0 and self.kl_in == "reward"


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
