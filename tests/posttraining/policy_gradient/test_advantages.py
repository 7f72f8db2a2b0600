"""Advantages against literal loops over single completions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.lm.training.losses import length_mask
from tutelage.posttraining.policy_gradient.advantages import gae, group_advantages, returns_to_go, whiten


def drawn(seed: int, rows: int = 5, width: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, width + 1, rows)
    rewards, values = (torch.from_numpy(random.normal(size=(rows, width))) for _ in range(2))
    return rewards, values, length_mask(lengths.tolist(), width)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.sampled_from([0.3, 0.99, 1.0]))
def test_gae_is_the_sum_of_discounted_errors_of_each_completion_alone(seed, trace, discount):
    rewards, values, mask = drawn(seed)
    found = gae(rewards, values, mask, discount=discount, trace=trace)
    for row in range(len(mask)):
        length = int(mask[row].sum())
        r, v = rewards[row, :length].tolist(), [*values[row, :length].tolist(), 0.0]
        errors = [r[t] + discount * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((discount * trace) ** (k - t) * errors[k] for k in range(t, length))
            assert float(found[row, t]) == pytest.approx(expected, abs=1e-12)
        assert not found[row, length:].any()


def test_with_a_trace_of_one_advantages_are_returns_less_values():
    rewards, values, mask = drawn(3)
    returns = returns_to_go(rewards, mask, discount=0.9)
    expected = torch.where(mask, returns - values, 0.0)
    torch.testing.assert_close(gae(rewards, values, mask, discount=0.9, trace=1.0), expected)
    for row in range(len(mask)):
        length = int(mask[row].sum())
        own = rewards[row, :length].tolist()
        for t in range(length):
            assert float(returns[row, t]) == pytest.approx(sum(0.9 ** (k - t) * own[k] for k in range(t, length)))


def test_what_stands_behind_a_completion_has_no_influence():
    rewards, values, mask = drawn(4)
    wild = [torch.where(mask, given, float("nan")) for given in (rewards, values)]
    assert torch.equal(gae(*wild, mask), gae(rewards, values, mask))
    assert torch.equal(returns_to_go(wild[0], mask), returns_to_go(rewards, mask))
    assert torch.equal(whiten(wild[0], mask), whiten(rewards, mask))


def test_whitened_values_have_mean_zero_and_deviation_one_over_real_tokens():
    rewards, _, mask = drawn(5)
    white = whiten(rewards * 3 + 7, mask)
    real = rewards[mask].numpy() * 3 + 7
    np.testing.assert_allclose(white[mask].numpy(), (real - real.mean()) / real.std(), atol=1e-7)
    assert not white[~mask].any()
    assert not whiten(torch.full_like(rewards, 4.0), mask).any()
    with pytest.raises(BadInput, match="no real token"):
        whiten(rewards, torch.zeros_like(mask))


def test_group_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 4.0]], dtype=torch.float64)
    for kind in ("rloo", "dr_grpo", "grpo"):
        found = group_advantages(rewards, kind)
        for q, group in enumerate(rewards.tolist()):
            for k, own in enumerate(group):
                others = group[:k] + group[k + 1 :]
                expected = {
                    "rloo": own - sum(others) / 3,
                    "dr_grpo": own - sum(group) / 4,
                    "grpo": (own - sum(group) / 4) / (np.std(group, ddof=1) + 1e-4),
                }[kind]
                assert float(found[q, k]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["rloo", "dr_grpo", "grpo"])
def test_a_group_of_one_is_refused(kind):
    with pytest.raises(BadInput, match="K of at least 2"):
        group_advantages(torch.ones(3, 1), kind)


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'grpo'"):
        group_advantages(torch.ones(3, 2), "gropo")
