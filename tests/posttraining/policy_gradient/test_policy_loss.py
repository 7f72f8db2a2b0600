"""Losses against literal loops over tokens, and their gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tutelage.lab.errors import BadInput
from tutelage.lm.training.losses import length_mask
from tutelage.posttraining.policy_gradient.losses import (
    clipped_surrogate,
    importance_weights,
    penalised,
    row_weights,
    value_loss,
)

LENGTHS = [3, 1, 5, 2]
MASK = length_mask(LENGTHS, 5)


def numbers(seed: int, scale: float = 0.4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 5))) * scale


def weights(normaliser: str) -> torch.Tensor:
    return row_weights(torch.tensor(LENGTHS), normaliser, num_tokens=11, num_rows=4, max_new_tokens=6)


def test_the_three_normalisers_are_what_they_are_called():
    values = numbers(0)
    per_row = [values[row, :length].tolist() for row, length in enumerate(LENGTHS)]
    expected = {
        "tokens": sum(map(sum, per_row)) / 11,
        "sequences": sum(sum(row) / len(row) for row in per_row) / 4,
        "constant": sum(map(sum, per_row)) / (4 * 6),
    }
    for normaliser, mean in expected.items():
        found = -clipped_surrogate(numbers(1), numbers(1), values, MASK, weights(normaliser)).loss  # ratios of 1
        assert float(found) == pytest.approx(mean)


def test_pieces_of_a_batch_add_up_to_it():
    new, old, advantages = (numbers(seed) for seed in range(3))
    for normaliser in ("tokens", "sequences", "constant"):
        whole = clipped_surrogate(new, old, advantages, MASK, weights(normaliser)).loss
        parts = [
            clipped_surrogate(*(t[rows] for t in (new, old, advantages, MASK, weights(normaliser)))).loss
            for rows in ([0, 3], [1, 2])
        ]
        assert float(sum(parts)) == pytest.approx(float(whole))


def test_the_surrogate_is_ppos_and_counts_where_the_clip_holds():
    new, old, advantages = (numbers(seed) for seed in range(3))
    extra = numbers(3).exp()
    found = clipped_surrogate(new, old, advantages, MASK, weights("tokens"), clip=0.2, importance=extra)
    total, held = 0.0, 0
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            ratio, a = math.exp(new[row, t] - old[row, t]), float(advantages[row, t])
            clipped = min(max(ratio, 0.8), 1.2)
            total -= min(ratio * a, clipped * a) * float(extra[row, t]) / 11
            held += clipped * a < ratio * a
    assert float(found.loss) == pytest.approx(total)
    assert int(found.clipped) == held > 0


def test_gradients_are_those_of_finite_differences():
    old, advantages, targets = (numbers(seed) for seed in range(3))
    point = (old + numbers(4)).requires_grad_()
    losses = [
        lambda x: clipped_surrogate(x, old, advantages, MASK, weights("sequences"), clip=0.3).loss,
        lambda x: value_loss(x, old, targets, MASK, weights("tokens"), clip=0.3).loss,
    ]
    for loss in losses:
        assert torch.autograd.gradcheck(loss, (point,))


def test_no_gradient_flows_where_the_clip_holds_nor_behind_a_completion():
    old = torch.zeros(1, 4)
    new = torch.tensor([[0.5, -0.5, 0.5, 9.0]], requires_grad=True)
    advantages = torch.tensor([[1.0, 1.0, -1.0, 1.0]])
    mask = torch.tensor([[True, True, True, False]])
    found = clipped_surrogate(new, old, advantages, mask, torch.ones(1), clip=0.2)
    found.loss.backward()
    assert (new.grad != 0).tolist() == [[False, True, True, False]]
    assert int(found.clipped) == 1


def test_the_value_loss_is_the_larger_of_plain_and_clipped_error():
    new, old, targets = (numbers(seed, 1.0) for seed in range(3))
    for clip in (0.2, 0.0):
        found = value_loss(new, old, targets, MASK, weights("tokens"), clip=clip)
        total = 0.0
        for row, length in enumerate(LENGTHS):
            for t in range(length):
                v, o, r = (float(x[row, t]) for x in (new, old, targets))
                near = min(max(v, o - clip), o + clip) if clip else v
                total += 0.5 * max((v - r) ** 2, (near - r) ** 2) / 11
        assert float(found.loss) == pytest.approx(total)
        assert (int(found.clipped) > 0) == (clip > 0)


def test_garbage_behind_completions_changes_nothing():
    new, old, advantages = (numbers(seed) for seed in range(3))
    wild = [torch.where(MASK, x, 50.0) for x in (new, old, advantages)]
    assert torch.equal(
        clipped_surrogate(*wild, MASK, weights("tokens")).loss,
        clipped_surrogate(new, old, advantages, MASK, weights("tokens")).loss,
    )
    assert torch.equal(
        value_loss(*wild, MASK, weights("tokens")).loss,
        value_loss(new, old, advantages, MASK, weights("tokens")).loss,
    )
    assert torch.equal(penalised(*wild, MASK, 0.5), penalised(new, old, advantages, MASK, 0.5))


def test_importance_weights_are_ratios_up_to_the_cap():
    old, sampled = torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([-1.0, -0.5, -3.0])
    found = importance_weights(old, sampled, 2.0)
    assert found.tolist() == pytest.approx([1.0, math.exp(-0.5), 2.0])


def test_the_penalty_is_the_log_ratio_and_carries_no_gradient():
    rewards, new, start = numbers(0), numbers(1).requires_grad_(), numbers(2)
    found = penalised(rewards, new, start, MASK, 0.3)
    torch.testing.assert_close(found[MASK], (rewards - 0.3 * (new - start))[MASK].detach())
    assert not found.requires_grad
    assert not found[~MASK].any()


def test_bad_input():
    with pytest.raises(BadInput, match="did you mean 'tokens'"):
        weights("token")
    with pytest.raises(BadInput, match="no token"):
        row_weights(torch.tensor([2, 0]), "sequences", num_tokens=2, num_rows=2, max_new_tokens=4)
