"""Preferences: loss and gradient against literal references, the optimum in closed form, pairs, rounds, kills."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from posttraining.guessing import QUESTIONS, guessing, weights

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Pool, Rollout
from tutelage.lm.sampling.next_token import Sampling
from tutelage.posttraining import policy as policies
from tutelage.posttraining.config import PreferenceConfig
from tutelage.posttraining.preferences import Pair, Preferences, paired, preference_loss
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import Rollouts

SAMPLING = Sampling(max_new_tokens=24)
CONFIG = PreferenceConfig(num_samples=8, num_epochs=2, batch_size=5, learning_rate=3e-4)


def learner(config: PreferenceConfig = CONFIG, folder: Path | None = None, **rest: Any) -> Preferences:
    return Preferences(guessing(), rest.pop("questions", QUESTIONS), Rollouts(SAMPLING, 1, folder), config, 7, **rest)


def run(some: Preferences, rounds: int) -> tuple[dict, list[dict[str, float]]]:
    state, figures = some.init(), []
    try:
        for _ in range(rounds):
            state, found = some.update(state)
            figures.append(found)
    finally:
        some.rollouts.close()
    return state, figures


def rollout(tokens: list[int], right: bool, finish: str = "stop") -> Rollout:
    ids = np.array(tokens)
    return Rollout(
        "q", np.array([1]), ids, np.zeros(len(ids), np.float32), "", finish, scores={"correct": float(right)}
    )


# The loss.


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_papers(smoothing: float) -> None:
    margins = torch.tensor([-3.0, 0.0, 0.5, 20.0], dtype=torch.float64)
    found = preference_loss(margins, beta=0.3, label_smoothing=smoothing)
    for value, delta in zip(found.tolist(), margins.tolist(), strict=True):
        right = 1 / (1 + math.exp(-0.3 * delta))
        assert value == pytest.approx(-(1 - smoothing) * math.log(right) - smoothing * math.log(1 - right), abs=1e-12)
    squared = preference_loss(margins, loss="ipo", beta=0.25)
    assert squared.tolist() == [(delta - 2.0) ** 2 for delta in margins.tolist()]


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_the_optimum_of_dpo_is_the_reference_tilted_by_the_reward(beta: float) -> None:
    """All pairs, weighted as Bradley–Terry says for rewards r: π* ∝ π_ref exp(r/β) (Rafailov et al., equation 4)."""
    generator = torch.Generator().manual_seed(3)
    reference, reward = (torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(2))
    logits = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    pairs = torch.tensor(list(itertools.permutations(range(6), 2)))
    chance = torch.sigmoid(reward[pairs[:, 0]] - reward[pairs[:, 1]])
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=2000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        ratios = logits.log_softmax(0) - reference.log_softmax(0)
        loss = (chance * preference_loss(ratios[pairs[:, 0]] - ratios[pairs[:, 1]], beta=beta)).sum()
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    wanted = (reference.log_softmax(0) + reward / beta).softmax(0)
    torch.testing.assert_close(logits.detach().softmax(0), wanted, rtol=0, atol=1e-6)


def test_the_optimum_of_ipo_keeps_a_margin_even_if_one_always_wins() -> None:
    delta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        [slope] = torch.autograd.grad(preference_loss(delta, loss="ipo", beta=0.1).sum(), delta)
        delta = (delta - 0.25 * slope).detach().requires_grad_()
    assert delta.item() == pytest.approx(1 / (2 * 0.1))


# Pairs.


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["stop", "length"])), max_size=14),
    st.integers(0, 6),
    st.integers(0, 99),
)
def test_pairs_are_right_against_wrong_each_once_and_use_every_sample(rows: list, most: int, seed: int) -> None:
    """Token ids 0–2 are right, 3–5 wrong."""
    group = [rollout([kind, 9], kind < 3, finish) for kind, finish in rows]
    found = [(int(a.completion[0]), int(b.completion[0])) for a, b in paired(group, [seed], most)]
    right = {kind for kind, finish in rows if finish == "stop" and kind < 3}
    wrong = {kind for kind, finish in rows if finish == "stop" and kind >= 3}
    full = max(len(right), len(wrong)) if right and wrong else 0
    assert len(found) == len(set(found)) == min(full, most or full)
    assert {a for a, _ in found} <= right and {b for _, b in found} <= wrong
    if len(found) == full and full:
        assert {a for a, _ in found} == right and {b for _, b in found} == wrong
    assert [(int(a.completion[0]), int(b.completion[0])) for a, b in paired(group, [seed], most)] == found


def test_the_pairing_follows_the_seed() -> None:
    group = [rollout([kind, 9], kind < 6) for kind in range(12)]
    found = {tuple((int(a.completion[0]), int(b.completion[0])) for a, b in paired(group, [s], 3)) for s in range(20)}
    assert len(found) > 15


# A round.


def literal_losses(model, start, pairs: list[Pair], config: PreferenceConfig) -> torch.Tensor:
    """One unpadded sequence after another."""

    def logp(some, prompt: np.ndarray, solution: np.ndarray) -> torch.Tensor:
        ids = torch.from_numpy(np.concatenate([prompt, solution]))[None]
        rows = some(input_ids=ids).logits[0, :-1].log_softmax(-1)
        each = rows[torch.arange(len(rows)), ids[0, 1:]][len(prompt) - 1 :]
        return each.mean() if config.length_normalised else each.sum()

    found = []
    for pair in pairs:
        with torch.no_grad():
            before = logp(start, pair.prompt, pair.chosen) - logp(start, pair.prompt, pair.rejected)
        delta = logp(model, pair.prompt, pair.chosen) - logp(model, pair.prompt, pair.rejected) - before
        if config.loss == "ipo":
            found.append((delta - 1 / (2 * config.beta)) ** 2)
        else:
            right = torch.sigmoid(config.beta * delta)
            e = config.label_smoothing
            found.append(-(1 - e) * right.log() - e * (1 - right).log())
    return torch.stack(found)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"label_smoothing": 0.1, "beta": 0.5},
        {"length_normalised": True},
        {"loss": "ipo", "micro_tokens": 40, "max_grad_norm": 0.0},
    ],
)
def test_a_round_equals_a_plain_loop_over_single_sequences(tmp_path: Path, change: dict) -> None:
    """Pairs, order, loss, gradient, clipping and AdamW, with transformers' own forward."""
    config = replace(CONFIG, **change)
    some = learner(config, tmp_path)
    _, [figures] = run(some, 1)
    pairs = []
    for place, question in enumerate(QUESTIONS):
        group = [r for r in Pool(tmp_path) if r.question == question.id]
        pairs += [Pair(a.prompt, a.completion, b.completion) for a, b in paired(group, [7, 0, place], config.pairs)]
    model, start = guessing().model, guessing().model
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=0.0)
    norms = []
    for epoch in range(2):
        order = np.random.default_rng([7, 0, epoch]).permutation(len(pairs)).tolist()
        for first in range(0, len(order), 5):
            optimizer.zero_grad()
            literal_losses(model, start, [pairs[place] for place in order[first : first + 5]], config).mean().backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm or math.inf)))
            optimizer.step()
    assert figures["pairs"] == len(pairs) > 5
    assert figures["grad_norm"] == pytest.approx(np.mean(norms), rel=1e-3)
    torch.testing.assert_close(weights(some.policy.model), weights(model), rtol=0, atol=3e-5)
    with torch.no_grad():
        assert figures["loss"] == pytest.approx(float(literal_losses(model, start, pairs, config).mean()), rel=1e-3)
    assert all(isinstance(value, float) and math.isfinite(value) for value in figures.values())


def test_a_policy_that_hardly_moves_has_no_margin_and_the_loss_of_a_coin() -> None:
    _, [figures] = run(learner(replace(CONFIG, learning_rate=1e-12)), 1)
    assert figures["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert abs(figures["margin"]) + abs(figures["chosen_drift"]) + abs(figures["rejected_drift"]) < 1e-3


def test_a_round_raises_the_margin_of_its_pairs() -> None:
    _, [figures] = run(learner(replace(CONFIG, num_epochs=6, learning_rate=1e-3)), 1)
    assert figures["margin"] > 0 and figures["accuracy"] > 0.6
    assert figures["loss"] < math.log(2)
    assert figures["margin"] == pytest.approx(0.1 * (figures["chosen_drift"] - figures["rejected_drift"]), rel=1e-4)


def test_the_reference_is_the_start_or_the_rounds_own_beginning() -> None:
    """In the first round they are one; afterwards a round that does not move has no margin against itself only."""
    config = replace(CONFIG, num_epochs=3, learning_rate=1e-3)
    for reference, zero in (("start", False), ("round", True)):
        some = learner(replace(config, reference=reference))
        state, _ = some.update(some.init())
        for group in some.optimizer.param_groups:
            group["lr"] = 0.0
        state, figures = some.update(state)
        assert (abs(figures["chosen_drift"]) < 1e-4) is zero


def test_samples_come_from_the_policy_or_from_the_start() -> None:
    config = replace(CONFIG, num_epochs=3, learning_rate=1e-3)
    start = Rollouts(SAMPLING, 1).draw(guessing(), QUESTIONS, 8, round=1)
    wanted = np.mean([r.scores["correct"] for group in start for r in group])
    drawn = {}
    for on_policy in (True, False):
        some = learner(replace(config, on_policy=on_policy))
        texts: list[list[str]] = []
        draw = some.rollouts.draw
        some.rollouts.draw = lambda *a, _draw=draw, _texts=texts, **k: [  # type: ignore[method-assign]
            _texts.append([r.text for r in group]) or group for group in _draw(*a, **k)
        ]
        _, figures = run(some, 2)
        drawn[on_policy] = texts[4:]
        moved = weights(some.policy.model)
        assert not torch.equal(moved, weights(guessing().model))
        if not on_policy:
            assert figures[1]["correct"] == wanted
    assert drawn[False] == [[r.text for r in group] for group in start]
    assert drawn[True] != drawn[False]


# Kills and bad input.


def test_rounds_go_on_from_disk_to_the_same_bits_in_a_new_learner(tmp_path: Path) -> None:
    """Weights and the optimiser's history, against a reference that is the start's."""
    whole = learner()
    ended, figures = run(whole, 3)
    half = learner(folder=tmp_path)
    state, _ = run(half, 1)
    arrays = to_arrays(state)
    torch.manual_seed(99)
    resumed = learner(folder=tmp_path)
    state = from_arrays(arrays)
    for round in (1, 2):
        state, figure = resumed.update(state)
        assert figure == figures[round]
    resumed.rollouts.close()
    ours, theirs = to_arrays(state), to_arrays(ended)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_round_that_was_killed_while_learning_samples_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = learner()
    _, figures = run(whole, 1)
    killed = learner(folder=tmp_path)
    monkeypatch.setattr(killed, "_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(killed, 1)
    monkeypatch.setattr(policies, "sample", lambda *_, **__: pytest.fail("sampled again"))
    resumed = learner(folder=tmp_path)
    assert run(resumed, 1)[1] == figures
    assert torch.equal(weights(resumed.policy.model), weights(whole.policy.model))


@pytest.mark.parametrize("answer", ["77", "1"])
def test_a_round_without_a_pair_stops_with_rates_and_leaves_the_state(answer: str) -> None:
    some = learner(questions=[Question.of(question.text, f"#### {answer}") for question in QUESTIONS])
    state = some.init()
    before = weights(some.policy.model).clone()
    with pytest.raises(BadInput) as error:
        some.update(state)
    assert "round 1: no question has both a right and a wrong sample: 0.00% of 32 samples are right" in str(error.value)
    assert "larger num_samples" in str(error.value) and "\n" not in str(error.value)
    assert state["step"] == 0 and torch.equal(weights(some.policy.model), before)


def test_truncation_warns_and_is_in_no_pair() -> None:
    some = Preferences(guessing(), QUESTIONS, Rollouts(Sampling(max_new_tokens=9), 1), CONFIG)
    end = some.policy.tokenizer.eos_token_id
    with pytest.warns(UserWarning, match=r"max_new_tokens = 9: \d\d% of the samples were cut off"):
        pairs, _ = some._round(0)
    assert pairs and all(pair.chosen[-1] == pair.rejected[-1] == end for pair in pairs)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_samples": 1}, r"num_samples = 1: must be in \[2, inf\)"),
        ({"loss": "kto"}, "loss = 'kto': must be one of 'dpo', 'ipo'"),
        ({"label_smoothing": 0.5}, r"label_smoothing = 0.5: must be in \[0, 0.5\)"),
        ({"loss": "ipo", "label_smoothing": 0.1}, "label_smoothing = 0.1: must be 0 for loss = 'ipo'"),
        ({"questions_per_round": 9}, "questions_per_round = 9: there are only 4"),
        ({"beta": 0.0}, r"beta = 0.0: must be in \(0, inf\)"),
    ],
)
def test_bad_input_is_named_before_any_work(change: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        learner(replace(CONFIG, **change))


def test_no_questions_greedy_samples_and_used_up_states_are_refused() -> None:
    with pytest.raises(BadInput, match="questions: there are none"):
        learner(questions=[])
    with pytest.raises(BadInput, match="temperature = 0: 8 samples"):
        Preferences(guessing(), QUESTIONS, Rollouts(Sampling(temperature=0)), CONFIG)
    some = learner()
    first = some.init()
    some.update(first)
    with pytest.raises(BadInput, match="was used up"):
        some.update(first)
    with pytest.raises(BadInput, match="init: this learner has begun"):
        some.init()
