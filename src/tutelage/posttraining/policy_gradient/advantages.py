"""Advantages: what a token, or a whole completion, earned beyond what was to be expected.

Rows are completions, columns their tokens; what stands where a mask is false has no influence and comes out as 0.
"""

from __future__ import annotations

import torch

from tutelage.lab.errors import BadInput, nearest

GROUP_KINDS = ("grpo", "rloo", "dr_grpo")
_LEAST_DEVIATION = 1e-4
"""Added to a group's standard deviation, as in TRL: a group of equal rewards has advantages of 0, not NaN."""


def gae(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, *, discount: float = 1.0, trace: float = 0.95
) -> torch.Tensor:
    """Generalised advantage estimates `[rows, width]`; with `values` added they are the value function's targets.

    A completion is over after its last real token, whether it ended or was cut off: the value after it is 0.

    Args:
        rewards: `[rows, width]` for each token.
        values: `[rows, width]` of the state *before* each token.
        mask: `[rows, width]` bool, true at the first tokens of every row.
        discount, trace: γ and λ, in [0, 1].

    References: Schulman et al. (2016), High-dimensional continuous control using generalized advantage estimation,
    arXiv 1506.02438, equation 16.
    """
    rewards, values = (torch.where(mask, given, 0.0) for given in (rewards, values))
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    errors = rewards + discount * following - values
    found = torch.zeros_like(errors)
    running = torch.zeros_like(errors[:, 0])
    for place in reversed(range(errors.shape[1])):
        running = errors[:, place] + discount * trace * running
        found[:, place] = running
    return found


def returns_to_go(rewards: torch.Tensor, mask: torch.Tensor, *, discount: float = 1.0) -> torch.Tensor:
    """`[rows, width]` discounted sum of the rewards from each token on."""
    return gae(rewards, torch.zeros_like(rewards), mask, discount=discount, trace=1.0)


def whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The values where the mask is true with their mean taken off, over their (population) standard deviation."""
    chosen = values[mask]
    if not len(chosen):
        raise BadInput("mask: no real token to whiten over")
    variance, mean = torch.var_mean(chosen, correction=0)
    return torch.where(mask, (values - mean) / (variance.sqrt() + 1e-8), 0.0)


def group_advantages(rewards: torch.Tensor, kind: str) -> torch.Tensor:
    """`[Q, K]` advantages of the K samples of each of Q questions, from their total rewards alone.

    Args:
        kind: `rloo` takes off the mean of the K−1 *other* samples (the expected update is the policy gradient);
            `dr_grpo` the mean of all K (the policy gradient times (K−1)/K); `grpo` divides that by the group's sample
            standard deviation as well (biased: questions with rare outcomes count more).

    Raises:
        BadInput: an unknown kind, or K = 1.

    References: Ahmadian et al. (2024), Back to basics, arXiv 2402.14740; Shao et al. (2024), DeepSeekMath, arXiv
    2402.03300; Liu et al. (2025), Understanding R1-Zero-like training, arXiv 2503.20783.
    """
    if kind not in GROUP_KINDS:
        raise BadInput(f"kind = {kind!r}: must be one of {', '.join(GROUP_KINDS)}{nearest(kind, GROUP_KINDS)}")
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise BadInput(f"rewards: got shape {tuple(rewards.shape)}; must be [Q, K] with K of at least 2 for {kind!r}")
    size = rewards.shape[1]
    centred = rewards - rewards.mean(1, keepdim=True)
    match kind:
        case "rloo":
            return centred * (size / (size - 1))
        case "grpo":
            return centred / (rewards.std(1, keepdim=True) + _LEAST_DEVIATION)
        case _:
            return centred
