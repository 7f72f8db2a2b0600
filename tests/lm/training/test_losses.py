"""Losses against closed forms and plain loops over single tokens."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.lm.training import losses


def test_token_logprobs_and_entropy_equal_a_loop_in_float64() -> None:
    logits = 3 * torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(10).reshape(2, 5)
    logp, spread = losses.token_logprobs(logits, targets, temperature=0.7), losses.entropy(logits, temperature=0.7)
    for row in range(2):
        for place in range(5):
            scaled = logits[row, place].double().numpy() / 0.7
            p = np.exp(scaled) / np.exp(scaled).sum()
            assert float(logp[row, place]) == pytest.approx(math.log(p[targets[row, place]]), abs=1e-5)
            assert float(spread[row, place]) == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)


def test_entropy_of_a_distribution_with_forbidden_tokens_is_finite() -> None:
    logits = torch.tensor([0.0, 0.0, -torch.inf])
    assert float(losses.entropy(logits)) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 10, 99])
def test_chunks_change_neither_value_nor_gradient(chunk: int) -> None:
    logits = torch.randn(2, 5, 7, requires_grad=True)
    targets = torch.randint(7, (2, 5))
    weights = torch.randn(2, 5)
    found = []
    for size in (0, chunk):
        logp = losses.token_logprobs(logits, targets, chunk=size)
        (gradient,) = torch.autograd.grad((logp * weights).sum(), logits)
        found.append((logp.detach(), gradient))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=0, atol=1e-7)


def test_masked_tokens_have_no_influence_even_when_they_are_nan() -> None:
    values = torch.tensor([[1.0, 3.0, torch.nan], [5.0, torch.inf, torch.nan]], requires_grad=True)
    mask = losses.length_mask([2, 1], 3)
    mean = losses.masked_mean(values, mask, mask.sum())
    mean.backward()
    assert float(mean.detach()) == 3.0
    assert values.grad is not None
    assert torch.equal(values.grad, mask / 3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 5), st.integers(1, 4))
def test_accumulated_micro_batches_of_any_lengths_equal_one_large_batch(
    lengths: list[int], extra: int, parts: int
) -> None:
    """The gradient of the sum of parts, each over the global count, is that of the mean over all real tokens."""
    table = torch.randn(13, 6, dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(len(lengths))
    rows = [torch.randint(6, (length,), generator=generator) for length in lengths]
    places = [torch.randint(13, (length,), generator=generator) for length in lengths]
    plain = torch.stack([-table[s].log_softmax(-1)[t] for p, r in zip(places, rows) for s, t in zip(p, r)]).mean()
    (wanted,) = torch.autograd.grad(plain, table)
    total = torch.zeros_like(table)
    for start in range(parts):
        some = range(start, len(lengths), parts)
        if len(some):
            width = max(lengths[i] for i in some) + extra
            ids, state = (torch.zeros(len(some), width, dtype=torch.long) for _ in range(2))
            for line, i in enumerate(some):
                ids[line, : lengths[i]], state[line, : lengths[i]] = rows[i], places[i]
            mask = losses.length_mask([lengths[i] for i in some], width)
            loss = losses.cross_entropy(table[state], ids, mask, sum(lengths))
            total += torch.autograd.grad(loss, table)[0]
    torch.testing.assert_close(total, wanted, rtol=0, atol=1e-6)


def test_kl_estimators_have_their_expectations() -> None:
    """Summed over a whole distribution: k1 and k3 give the KL exactly, k2 gives E[d²]/2."""
    p, q = (torch.randn(20, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    exact = float((p.exp() * (p - q)).sum())
    for name in ("k1", "k3"):
        assert float((p.exp() * losses.kl(p, q, name)).sum()) == pytest.approx(exact, abs=1e-12)
    assert float((p.exp() * losses.kl(p, q, "k2")).sum()) == pytest.approx(float((p.exp() * (p - q) ** 2 / 2).sum()))
    assert bool((losses.kl(p, q, "k3") >= 0).all())


def test_the_gradient_of_k2_as_a_loss_is_that_of_the_kl() -> None:
    logits, reference = torch.randn(9, dtype=torch.float64, requires_grad=True), torch.randn(9, dtype=torch.float64)
    logp, logq = logits.log_softmax(-1), reference.log_softmax(-1)
    (exact,) = torch.autograd.grad((logp.exp() * (logp - logq)).sum(), logits, retain_graph=True)
    (estimate,) = torch.autograd.grad((logp.exp().detach() * losses.kl(logp, logq, "k2")).sum(), logits)
    torch.testing.assert_close(estimate, exact)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: losses.kl(torch.zeros(1), torch.zeros(1), "k4"), "did you mean 'k"),
        (lambda: losses.masked_mean(torch.ones(2), torch.zeros(2, dtype=torch.bool), 0), "all labels masked"),
        (lambda: losses.masked_mean(torch.ones(2), torch.ones(1, dtype=torch.bool), 1), "shape"),
        (lambda: losses.cross_entropy(torch.ones(1, 3), torch.ones(1).long(), torch.tensor([False]), 0), "masked"),
        (lambda: losses.length_mask([4], 3), "width"),
    ],
)
def test_bad_input_is_one_line(call, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
