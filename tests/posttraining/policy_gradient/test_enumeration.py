"""Written-down policies against brute force, and the gradient checks against estimators made wrong."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from posttraining import nano

from tutelage.lab.errors import BadInput
from tutelage.lm.sampling.next_token import Sampling
from tutelage.posttraining.policy_gradient import advantages, gradient_checks
from tutelage.posttraining.policy_gradient import losses as policy_loss
from tutelage.posttraining.policy_gradient import objective as policy_gradient
from tutelage.posttraining.policy_gradient.enumeration import (
    TabularPolicy,
    exact_kl,
    exact_objective,
    exact_reward,
    exact_values,
    model_logprobs,
    outputs_of,
)
from tutelage.posttraining.policy_gradient.gradient_checks import Comparison, check_policy_gradients


def test_outputs_are_all_that_a_sampler_can_give_each_once():
    for vocabulary, longest, end in ((2, 1, 0), (3, 3, 0), (4, 2, 2)):
        found = outputs_of(vocabulary, longest, end)
        expected = set()
        for tokens in itertools.product(range(vocabulary), repeat=longest):
            expected.add(tokens[: tokens.index(end) + 1] if end in tokens else tokens)
        assert len(found) == len(set(found))
        assert set(found) == expected


@pytest.mark.parametrize(
    ("arguments", "words"), [((1, 3), "at least 2 tokens"), ((3, 3, 5), "end = 5"), ((9, 9), "at most 20000")]
)
def test_what_cannot_be_written_down_is_refused(arguments, words):
    with pytest.raises(BadInput, match=words):
        outputs_of(*arguments)


def test_probabilities_are_products_of_softmaxes_and_sum_to_one():
    policy = TabularPolicy(3, 3, seed=2)
    found = policy.probabilities().detach()
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    tables = policy.logits.detach().softmax(-1)
    states = policy.states()
    for row, output in enumerate(policy.outputs):
        chance = math.prod(float(tables[states[row, t], token]) for t, token in enumerate(output))
        assert float(found[row]) == pytest.approx(chance, abs=1e-12)
        for other in range(len(policy.outputs)):  # the same prefix is the same state, another is another
            for t in range(min(len(output), len(policy.outputs[other]))):
                same = policy.outputs[other][:t] == output[:t]
                assert (states[row, t] == states[other, t]) == same
    some = policy.outputs[3:7]
    torch.testing.assert_close(policy.logprobs(some), policy.logprobs()[3:7])
    assert not policy.token_logprobs()[~policy.mask].any()


def test_samples_come_as_often_as_they_should():
    policy = TabularPolicy(3, 2, seed=1)
    drawn = policy.sample(20_000, seed=3)
    counts = np.array([drawn.count(output) for output in policy.outputs])
    expected = policy.probabilities().detach().numpy() * 20_000
    assert ((counts - expected) ** 2 / expected).sum() < 30  # chi-square of 6 degrees: 30 is one in 25,000


def test_a_transformers_outputs_sum_to_one_at_its_temperature():
    model = nano.model(3)
    for temperature in (1.0, 0.5):
        logprobs = model_logprobs(model, [1, 2], outputs_of(3, 4), temperature=temperature).detach()
        assert float(logprobs.sum(1).exp().sum()) == pytest.approx(1, abs=1e-5)


def test_expectation_and_divergence_by_hand():
    ours = torch.tensor([[0.2], [0.8]], dtype=torch.float64).log()
    theirs = torch.tensor([[0.5], [0.5]], dtype=torch.float64).log()
    divergence = 0.2 * math.log(0.4) + 0.8 * math.log(1.6)
    rewards = torch.tensor([3.0, 1.0], dtype=torch.float64)
    assert float(exact_reward(ours, rewards)) == pytest.approx(1.4)
    assert float(exact_kl(ours, theirs)) == pytest.approx(divergence)
    assert float(exact_objective(ours, rewards, theirs, 0.1)) == pytest.approx(1.4 - 0.1 * divergence)
    assert float(exact_kl(torch.tensor([[0.0], [-math.inf]]), theirs)) == pytest.approx(math.log(2))


def test_the_exact_gradient_is_that_of_finite_differences():
    policy, start = TabularPolicy(seed=4), TabularPolicy(seed=5)
    rewards, reference = policy.rewards(lambda output: float(sum(output))), start.token_logprobs().detach()

    def goal() -> torch.Tensor:
        return exact_objective(policy.token_logprobs(), rewards, reference, 0.3)

    [gradient] = torch.autograd.grad(goal(), [policy.logits])
    with torch.no_grad():
        for place in ((0, 0), (1, 2), (5, 1)):
            ends = []
            for sign in (1, -1):
                policy.logits[place] += sign * 1e-5
                ends.append(float(goal()))
                policy.logits[place] -= sign * 1e-5
            assert float(gradient[place]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-9)


def test_exact_values_are_expectations_and_their_errors_average_out():
    policy = TabularPolicy(seed=6)
    rewards = torch.where(policy.mask, torch.randn(policy.mask.shape, dtype=torch.float64), 0.0)
    logprobs = policy.token_logprobs().detach()
    values = exact_values(rewards, logprobs, policy.outputs)
    likely = logprobs.sum(1).exp()
    for row in (0, 4, 9):
        for t in range(len(policy.outputs[row])):
            same = [k for k, output in enumerate(policy.outputs) if output[:t] == policy.outputs[row][:t]]
            share = likely[same] / likely[same].sum()
            expected = float((share * rewards[same, t:].sum(1)).sum())
            assert float(values[row, t]) == pytest.approx(expected, abs=1e-12)


def test_refitting_to_weights_reaches_them_where_a_prefix_has_any():
    policy = TabularPolicy(seed=7)
    weights = torch.rand(len(policy.outputs), dtype=torch.float64)
    weights[::3] = 0
    fitted = policy.refit(weights)
    torch.testing.assert_close(fitted.probabilities(), weights / weights.sum())
    one = torch.zeros(len(policy.outputs), dtype=torch.float64)
    one[policy.outputs.index((1, 2, 0))] = 5.0
    alone = policy.refit(one)
    assert float(alone.probabilities().detach()[policy.outputs.index((1, 2, 0))]) == pytest.approx(1)
    unseen = policy.states([(2, 0)])[0, 1]
    torch.testing.assert_close(alone.logits[unseen], policy.logits[unseen])


@pytest.mark.parametrize("seed", [0, 3])
def test_expected_steps_are_the_exact_gradients(seed):
    found = check_policy_gradients(seed)
    assert [each.name for each in found if not each.ok] == []
    assert len({each.name for each in found}) == len(found) == 25


WRONG = {
    "gae": lambda r, v, m, **k: advantages.gae(r, v, m, **{**k, "trace": 0.5}),
    "group_advantages": lambda r, kind: r - r.mean(),
    "penalised": lambda r, p, q, m, c: policy_loss.penalised(r, p, q, m, 0.9 * c),
    "kl": lambda p, q, e: (p - q).abs(),
    "clipped_surrogate": lambda p, o, a, m, w, **k: policy_loss.clipped_surrogate(p, o, a.abs(), m, w, **k),
}


@pytest.mark.parametrize("part", list(WRONG))
def test_a_part_that_is_wrong_is_found(monkeypatch, part):
    monkeypatch.setattr(policy_gradient, part, WRONG[part])
    table = gradient_checks.tabular()
    found = [
        *gradient_checks._ppo(table, 0),
        *(gradient_checks._groups(table, name, 2) for name in ("rloo", "dr_grpo")),
        *gradient_checks._divergence_in_the_loss(table),
    ]
    assert not all(each.ok for each in found)


def test_a_wrong_sampler_is_found(monkeypatch):
    """One that draws at another temperature than it says."""
    right = gradient_checks.sample

    def hot(model, prompts, *, sampling, **others):
        return right(model, prompts, sampling=Sampling(sampling.max_new_tokens, temperature=2.0), **others)

    monkeypatch.setattr(gradient_checks, "sample", hot)
    failed = [each.name for each in gradient_checks._sampled(0, 4096) if not each.ok]
    assert failed
    assert all(name.startswith("transformer") for name in failed)


def test_a_comparison_that_is_not_a_number_fails():
    assert not Comparison("x", math.nan, 1.0).ok
