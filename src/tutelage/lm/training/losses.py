"""Losses over tokens, with their masks and what they are divided by always in the open.

A mask is built from lengths, never from token ids, so a padding token that is also the end-of-sequence token changes
nothing. A mean names its normaliser: the number of tokens of the *whole* batch, over every micro-batch and process, so
that accumulation over pieces of different lengths is exactly one large batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from tutelage.lab.errors import BadInput, nearest


def length_mask(lengths: Sequence[int] | torch.Tensor, width: int) -> torch.Tensor:
    """`[rows, width]` bool: row i is true at its first `lengths[i]` places. Raises `BadInput` if one is longer."""
    limits = torch.as_tensor(lengths)
    if limits.numel() and (int(limits.max()) > width or int(limits.min()) < 0):
        raise BadInput(f"lengths: {int(limits.max())} is not in [0, {width}], the width of the batch")
    return torch.arange(width, device=limits.device) < limits[:, None]


def token_logprobs(
    logits: torch.Tensor, targets: torch.Tensor, *, temperature: float = 1.0, chunk: int = 0
) -> torch.Tensor:
    """`[…]` log p of `targets` under `logits` `[…, vocabulary]` divided by the temperature, in float32.

    Args:
        chunk: rows whose softmax exists at once; it is computed again in the backward pass. 0: all rows, kept.
    """
    rows, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)

    def part(some: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        scaled = some.float() if temperature == 1.0 else some.float() / temperature
        return -F.cross_entropy(scaled, ids, reduction="none")

    if not 0 < chunk < len(rows):
        return part(rows, wanted).reshape(targets.shape)
    pieces = [checkpoint(part, *piece, use_reentrant=False) for piece in zip(rows.split(chunk), wanted.split(chunk))]
    return torch.cat(pieces).reshape(targets.shape)  # type: ignore[arg-type]


def entropy(logits: torch.Tensor, *, temperature: float = 1.0) -> torch.Tensor:
    """`[…]` entropy in nats of the distributions `logits` `[…, vocabulary]`, in float32. −inf logits are allowed."""
    logp = (logits.float() / temperature).log_softmax(-1)
    return torch.special.entr(logp.exp()).sum(-1) if logp.isneginf().any() else -(logp.exp() * logp).sum(-1)


def masked_mean(values: torch.Tensor, mask: torch.Tensor, normaliser: float | torch.Tensor) -> torch.Tensor:
    """Sum of the values where the mask is true, over `normaliser`: usually the tokens of the whole batch.

    What stands where the mask is false has no influence, NaN included. Raises `BadInput` for a normaliser that is not
    positive, which is what a batch with every label masked has.
    """
    if values.shape != mask.shape:
        raise BadInput(f"mask: shape {tuple(mask.shape)} is not that of the values, {tuple(values.shape)}")
    if not float(normaliser) > 0:
        raise BadInput(f"normaliser = {float(normaliser):g}: must be positive; are all labels masked?")
    return torch.where(mask, values, 0.0).sum() / normaliser


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor, normaliser: float, *, chunk: int = 0
) -> torch.Tensor:
    """Masked cross-entropy in nats: −Σ log p(target) where the mask is true, over `normaliser`.

    Rows of `logits` `[…, vocabulary]` which the mask leaves out are dropped before the softmax.
    """
    if not float(normaliser) > 0:
        raise BadInput(f"normaliser = {float(normaliser):g}: must be positive; are all labels masked?")
    return -token_logprobs(logits[mask], targets[mask], chunk=chunk).sum() / normaliser


def _k1(ratio: torch.Tensor) -> torch.Tensor:
    return ratio


def _k2(ratio: torch.Tensor) -> torch.Tensor:
    return ratio.square() / 2


def _k3(ratio: torch.Tensor) -> torch.Tensor:
    return torch.expm1(-ratio) + ratio


KL_ESTIMATORS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"k1": _k1, "k2": _k2, "k3": _k3}


def kl(logprobs: torch.Tensor, reference: torch.Tensor, estimator: str = "k1") -> torch.Tensor:
    """Per-token estimate of KL(policy ‖ reference) at tokens drawn from the policy, in nats.

    With d = log π − log π_ref: `k1` = d (unbiased), `k2` = d²/2 (biased, low variance; as a *loss* its gradient is that
    of the KL), `k3` = e^(−d) − 1 + d (unbiased, never negative). Source: Schulman, "Approximating KL divergence", 2020.
    """
    if estimator not in KL_ESTIMATORS:
        known = ", ".join(KL_ESTIMATORS)
        raise BadInput(f"estimator = {estimator!r}: must be one of {known}{nearest(estimator, KL_ESTIMATORS)}")
    return KL_ESTIMATORS[estimator](logprobs - reference)
