"""Tokens are drawn from the stated distribution, and a draw depends on its row alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tutelage.lab.errors import BadInput
from tutelage.lm.sampling.next_token import Sampling, draw, hashed, top_logprobs, uniforms


def enumerated(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The truncated distribution, written as its definition says: top-k, then top-p of what is left, then min-p."""
    p = np.exp((logits - logits.max()) / sampling.temperature)
    p /= p.sum()
    order = sorted(range(len(p)), key=lambda token: (-p[token], token))
    if sampling.top_k:
        order = order[: sampling.top_k]
    if sampling.top_p < 1:
        kept, mass, whole = [], 0.0, sum(p[token] for token in order)
        for token in order:
            if mass >= sampling.top_p * whole:
                break
            kept.append(token)
            mass += p[token]
        order = kept
    order = [token for token in order if p[token] >= sampling.min_p * p.max()]
    law = np.zeros_like(p)
    law[order] = p[order] / p[order].sum()
    return law


LAWS = [
    Sampling(),
    Sampling(temperature=0.6),
    Sampling(top_k=7),
    Sampling(top_p=0.7),
    Sampling(min_p=0.15),
    Sampling(temperature=1.7, top_k=40, top_p=0.9, min_p=0.02),
]


@pytest.mark.parametrize("sampling", LAWS, ids=repr)
@pytest.mark.parametrize("width", [50, 64, 1000])
def test_frequencies_pass_a_chi_square_test_against_the_enumerated_law(sampling: Sampling, width: int) -> None:
    number = 20_000
    logits = np.random.default_rng(3).normal(size=width).astype(np.float32)
    knobs = np.array([sampling.knobs] * number)
    rows = torch.from_numpy(logits).expand(number, -1)
    tokens, _ = draw(rows, uniforms(np.arange(number, dtype=np.uint64), np.zeros(number, np.uint64)), knobs)
    counts = np.bincount(tokens.numpy(), minlength=width)
    law = enumerated(logits.astype(float), sampling)
    assert not counts[law == 0].any()
    expected = law * number
    common = expected >= 5
    observed = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([3, 63, 64, 65, 200]), st.floats(0, 1, exclude_max=True))
def test_inverse_cdf_equals_a_running_sum_and_never_takes_what_is_impossible(seed: int, width: int, u: float) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4, width)) * 3
    logits[rng.random((4, width)) < 0.3] = -np.inf
    logits[:, 1] = 0.5
    tokens, logprobs = draw(torch.from_numpy(logits), np.full(4, u), np.array([Sampling().knobs] * 4))
    for row, token, logprob in zip(logits, tokens.tolist(), logprobs.tolist()):
        p = np.exp(row - np.logaddexp.reduce(row))
        running = np.cumsum(p)
        assert p[token] > 0 and logprob == pytest.approx(np.log(p[token]), abs=1e-5)
        assert running[token] >= u - 1e-5 and running[token] - p[token] <= u + 1e-5


def test_rows_with_different_knobs_in_one_batch_draw_as_they_would_alone() -> None:
    rng = np.random.default_rng(0)
    settings_ = [*LAWS, Sampling(temperature=0), Sampling(top_k=1)]
    logits = torch.from_numpy(rng.normal(size=(len(settings_), 300)))
    random, knobs = rng.random(len(settings_)), np.array([each.knobs for each in settings_])
    tokens, logprobs = draw(logits, random, knobs)
    for row in range(len(settings_)):
        alone = draw(logits[row : row + 1], random[row : row + 1], knobs[row : row + 1])
        assert alone[0][0] == tokens[row] and alone[1][0] == pytest.approx(float(logprobs[row]), abs=1e-6)
    assert tokens[-1] == logits[-1].argmax() and tokens[-2] == logits[-2].argmax()


def test_log_probabilities_are_tempered_but_not_truncated_and_plain_when_greedy() -> None:
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    knobs = np.array([each.knobs for each in (Sampling(temperature=0.5, top_k=2), Sampling(temperature=0), Sampling())])
    tokens, logprobs = draw(logits, np.array([0.3, 0.3, 0.3]), knobs)
    for row, temperature in enumerate((0.5, 1.0, 1.0)):
        expected = torch.log_softmax(logits[row] / temperature, -1)[tokens[row]]
        assert float(logprobs[row]) == pytest.approx(float(expected), abs=1e-6)
    ids, values = top_logprobs(logits[0], 3, 0.5)
    assert ids == logits[0].topk(3).indices.tolist()
    assert values == pytest.approx(torch.log_softmax(logits[0] * 2, -1).topk(3).values.tolist(), abs=1e-6)


def test_of_equal_logits_the_lower_id_survives_truncation() -> None:
    logits = torch.zeros(200, 400)
    tokens, _ = draw(logits, np.linspace(0, 0.999, 200), np.array([Sampling(top_k=3).knobs] * 200))
    assert set(tokens.tolist()) == {0, 1, 2}


def test_allowed_tokens_are_kept_to_however_unlikely_and_drawn_in_proportion() -> None:
    logits = torch.zeros(3000, 10)
    logits[:, 7] = -300.0
    logits[:, 8] = -300.0 + float(np.log(3))
    allowed = {row: [7, 8] for row in range(3000)}
    tokens, logprobs = draw(
        logits, uniforms(np.arange(3000), np.zeros(3000)), np.array([Sampling().knobs] * 3000), allowed
    )
    assert set(tokens.tolist()) == {7, 8}
    assert float((tokens == 8).float().mean()) == pytest.approx(0.75, abs=0.03)
    assert float(logprobs[0]) < -250


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_among_allowed_tokens_the_temperature_counts_once(temperature: float) -> None:
    logits, knobs = torch.tensor([[0.0, 1.0, 5.0]]), np.array([Sampling(temperature=temperature).knobs] * 1000)
    allowed = {row: [0, 1] for row in range(1000)}
    tokens, _ = draw(logits.repeat(1000, 1), (np.arange(1000) + 0.5) / 1000, knobs, allowed)
    assert float((tokens == 1).double().mean()) == pytest.approx(1 / (1 + np.exp(-1 / temperature)), abs=2e-3)


def test_random_numbers_are_uniform_and_uncorrelated_over_seeds_and_positions() -> None:
    grid = np.stack([uniforms(np.arange(400), np.full(400, position)) for position in range(100)])
    assert grid.min() >= 0 and grid.max() < 1
    assert stats.kstest(grid.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(grid[0], grid[1])[0, 1]) < 0.2 and abs(np.corrcoef(grid[:, 0], grid[:, 1])[0, 1]) < 0.35
    assert len(np.unique(hashed(7, np.arange(300)[:, None], np.arange(300)[None]))) == 90_000
    assert hashed(7, 3)[0] != hashed(3, 7)[0] and hashed(-1)[0] == hashed(2**64 - 1)[0]


@pytest.mark.parametrize(
    "wrong",
    [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"min_p": 1.0}, {"top_logprobs": -1}],
)
def test_bad_settings_are_named_in_one_line(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))) as found:
        Sampling(**wrong)  # type: ignore[arg-type]
    assert "\n" not in str(found.value)
