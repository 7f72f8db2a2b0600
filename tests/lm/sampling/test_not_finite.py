"""Logits that are no distribution end a row with a failure that names the token: never silently, never by an index."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import VOCABULARY, speaking, tiny, tokenizer

from tutelage import lm
from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lm.huggingface import HuggingFace
from tutelage.lm.request import Completion, Message, Request, Scoring
from tutelage.lm.sampling.decoding import Decoder, sample
from tutelage.lm.sampling.fallback import Generating
from tutelage.lm.sampling.next_token import Sampling, draw
from tutelage.lm.sampling.rows import Row
from tutelage.lm.sampling.scoring import Reading, read
from tutelage.lm.serving.server import running
from tutelage.lm.training import evaluation
from tutelage.lm.training.shared_prefix import read_completions
from tutelage.studies.reason_rl.config import SamplingConfig

BAD = (math.nan, math.inf, -math.inf)
KNOBS = [(0, 0, 1, 0), (1, 0, 1, 0), (0.5, 0, 1, 0), (1, 3, 1, 0), (2, 0, 0.8, 0), (1, 0, 1, 0.1), (1e-6, 0, 1, 0)]
PROMPTS = [[3, 9, 4], [8], [5, 6, 7, 11, 12, 13], [10, 10]]


@functools.cache
def base() -> Any:
    return tiny("llama").eval()


@contextmanager
def broken(model: Any, name: str, place: int | slice, value: float) -> Iterator[None]:
    """With one weight (or a row of them) replaced."""
    weight = dict(model.named_parameters())[name].data.view(-1)
    kept = weight.clone()
    weight[place] = value
    try:
        yield
    finally:
        weight.copy_(kept)


def decoded(model: Any, engine: Any, temperature: float) -> list[Row]:
    """Rows that were to have four tokens, each once through."""
    sampling = Sampling(max_new_tokens=4, temperature=temperature)
    rows = [Row(np.array(prompt), sampling, seed) for seed, prompt in enumerate(PROMPTS)]
    with engine(model) as decoder:
        through = decoder.admit(rows)
        while decoder.live:
            through += decoder.step()
    assert sorted(map(id, through)) == sorted(map(id, rows))
    return rows


def no_distribution(logits: torch.Tensor) -> bool:
    return bool(logits.isnan().any() or logits.isposinf().any() or logits.isneginf().all())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_draw_is_nan_exactly_where_a_row_is_no_distribution_and_others_are_as_without_it(data: st.DataObject) -> None:
    rows, width = data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 5, 64, 130]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    logits = torch.from_numpy(rng.normal(size=(rows, width)).astype(np.float32) * 4)
    clean = logits.clone()
    for row in range(rows):
        if data.draw(st.booleans()):
            for value in data.draw(st.lists(st.sampled_from(BAD), min_size=1, max_size=2)):
                everywhere = value == -math.inf and data.draw(st.booleans())
                logits[row, slice(None) if everywhere else data.draw(st.integers(0, width - 1))] = value
    knobs, random = (
        np.array(data.draw(st.lists(st.sampled_from(KNOBS), min_size=rows, max_size=rows))),
        rng.random(rows),
    )
    allowed = {}
    for row in range(rows):
        if data.draw(st.integers(0, 3)) == 0:
            allowed[row] = data.draw(st.lists(st.integers(0, width - 1), min_size=1, max_size=3, unique=True))
    tokens, logprobs = draw(logits, random, knobs, allowed)
    assert bool(((tokens >= 0) & (tokens < width)).all())
    expected, _ = draw(clean, random, knobs, allowed)
    for row in range(rows):
        some = logits[row, allowed[row]] if row in allowed else logits[row]
        impossible = some.isneginf().all() and len(some) > 1
        assert bool(logprobs[row].isnan()) == (no_distribution(logits[row]) or bool(impossible))
        if torch.equal(logits[row], clean[row]):
            assert tokens[row] == expected[row]
        elif not logprobs[row].isnan() and len(some) > 1:
            assert logits[row, tokens[row]] > -math.inf


@pytest.mark.parametrize("engine", [Decoder, Generating])
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_row_fails_at_the_token_at_which_the_plain_model_would(engine: Any, data: st.DataObject) -> None:
    """Each row as if it were alone, whatever happens in the others."""
    model, size = base(), VOCABULARY * 32
    name = data.draw(st.sampled_from(["model.embed_tokens.weight", "lm_head.weight"]))
    temperature = data.draw(st.sampled_from([0.0, 1.0, 1e-6]))
    with broken(model, name, data.draw(st.integers(0, size - 1)), data.draw(st.sampled_from(BAD))):
        for row in decoded(model, engine, temperature):
            for place in range(len(row.tokens) + 1 if row.failure else 4):
                with torch.no_grad():
                    logits = model(input_ids=torch.tensor([[*row.prompt, *row.tokens[:place]]])).logits[0, -1]
                if no_distribution(logits):
                    assert len(row.tokens) == place and row.finish == "error"
                    what = "NaN" if logits.isnan().any() else "an infinite logit"
                    assert row.failure == f"the model gave {what} at token {place + 1}"
                    break
            else:
                assert row.failure == "" and len(row.tokens) == 4
            assert np.isfinite(row.logprobs).all()


@pytest.mark.parametrize("engine", [Decoder, Generating])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_no_weight_that_is_nan_or_infinite_is_silent(engine: Any, data: st.DataObject) -> None:
    """Kernels differ in what they make of it (torch's attention may read NaN as masked), none gives it as an answer."""
    model = base()
    name, weight = data.draw(st.sampled_from(list(model.named_parameters())))
    temperature = data.draw(st.sampled_from([0.0, 1.0, 0.5]))
    place, value = data.draw(st.integers(0, weight.numel() - 1)), data.draw(st.sampled_from(BAD))
    with broken(model, name, place, value):
        for row in decoded(model, engine, temperature):
            assert np.isfinite(row.logprobs).all() and len(row.tokens) == len(row.logprobs)
            assert row.failure.endswith(f"at token {len(row.tokens) + 1}") if row.failure else len(row.tokens) == 4


@settings(max_examples=8, deadline=None)
@given(st.sampled_from([7, 9, 10, 11, 0, 50]), st.sampled_from(["model.embed_tokens.weight", "lm_head.weight"]))
def test_a_score_is_nan_from_the_token_on_at_which_the_plain_model_is(token: int, name: str) -> None:
    model, readings = base(), [Reading(prompt, [[7, 8, 9, 7], [10], [11, 3]]) for prompt in PROMPTS]
    with broken(model, name, token * 32, math.nan):
        found = read(model, readings)
        for reading, parts in zip(readings, found):
            for suffix, part in zip(reading.suffixes, parts):
                # The model's own attention too multiplies what it masks by 0: each text is read without what follows.
                for place in range(len(suffix)):
                    whole = torch.tensor([[*reading.prefix, *suffix[:place]]])
                    with torch.no_grad():
                        logits = model(input_ids=whole).logits[0, -1]
                    assert np.isnan(part[place]) == no_distribution(logits)


def test_samples_for_training_stop_the_run_with_the_prompt_and_the_token() -> None:
    model = base()
    with broken(model, "lm_head.weight", 5, math.nan):
        for temperature in (0.0, 1.0):
            with pytest.raises(BadInput, match=r"prompt \d: the model gave NaN at token 1"):
                sample(model, PROMPTS, num_samples=2, sampling=Sampling(temperature=temperature))


def test_a_constraint_that_leaves_only_banned_tokens_is_a_failure_that_says_so() -> None:
    class Banning(torch.nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            logits = super().forward(input)
            logits[..., 7:9] = -math.inf
            return logits

    model = tiny("llama").eval()
    head = Banning(32, VOCABULARY, bias=False)
    head.weight = model.lm_head.weight
    model.lm_head = head  # type: ignore[assignment]
    [[free]] = sample(model, [[3, 4]], sampling=Sampling(max_new_tokens=60))
    assert not {7, 8} & set(free.tokens.tolist()) and np.isfinite(free.logprobs).all()
    with pytest.raises(BadInput, match="prompt 0: the model gave no token that may come here a chance"):
        sample(model, [[3, 4]], allowed=lambda row: [7, 8])


@pytest.fixture(scope="module")
def backend() -> Iterator[HuggingFace]:
    """A model that gives NaN after it read a token of `!`, over a server too."""
    model = HuggingFace(speaking(), tokenizer())
    [mark] = model.tokenizer("!", add_special_tokens=False)["input_ids"]
    spoil(model.model, mark)
    yield model
    lm.run(model.close())


def spoil(model: Any, token: int) -> None:
    """It gives NaN after this token."""
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = math.nan


def kinds(answers: Sequence[Any]) -> list[str]:
    return [answer.error.kind if answer.error else "" for answer in answers]


@pytest.mark.parametrize("place", ["here", "served"])
def test_every_way_of_asking_gives_a_final_failure_and_the_others_their_answers(
    place: str, backend: HuggingFace
) -> None:
    requests = [Request(prompt=text, max_tokens=4, temperature=0) for text in ("yes", "yes!", "the")]
    requests.append(Request(prompt="a!", choices=("yes", "no")))
    requests.append(Request(messages=(Message("user", "a!"),), max_tokens=3))
    scorings = [Scoring("yes", ("no", " b!", "b!!")), Scoring("yes", ("no", " b")), Scoring("a!", ("b",))]
    alone = [lm.run(backend.generate([request]))[0] for request in requests]

    def check(model: Any) -> None:
        """The same here and over a server."""
        found = lm.run(model.generate(requests))
        assert kinds(found) == ["", "not_finite", "", "not_finite", "not_finite"] == kinds(alone)
        assert [each.text for each in found] == [each.text for each in alone]
        for each in found:
            if each.error is not None:
                assert "the model gave NaN at token 1" in each.error.message and not each.error.passing
        scored = lm.run(model.score(scorings))
        assert kinds(scored) == ["not_finite", "", "not_finite"]
        assert scored[0].error is not None and "at token 3 of continuation 2" in scored[0].error.message
        last = lm.run(_last(model, Request(prompt="yes!", max_tokens=4)))
        assert last.error is not None and last.error.kind == "not_finite"

    if place == "here":
        check(backend)
        with pytest.raises(BadInput, match="text 1: the model gave NaN"):
            lm.run(backend.embed(["yes", "no!", "yes"]))
    else:
        with running(backend, name="it") as url:
            remote = lm.connect(f"{url}#it")
            try:
                check(remote)
            finally:
                lm.run(remote.close())


async def _last(model: Any, request: Request) -> Completion:
    return [piece async for piece in model.stream(request)][-1]


def test_the_loss_of_a_model_that_gives_nan_is_refused() -> None:
    model, words = speaking(), tokenizer()
    spoil(model, words.get_vocab()["!"])
    with pytest.raises(BadInput, match="loss is nan"):
        evaluation.prediction(model, words, [("yes", "!no")])


@pytest.mark.parametrize("value", [1e-45, 9.9e-7, -1.0, math.nan, math.inf, 1.1e6, -1e-6])
def test_a_temperature_out_of_range_is_refused_wherever_one_is_taken(value: float) -> None:
    with pytest.raises(BadInput, match=r"temperature is .*: must be 0 \(greedy\), or in \[1e-06, 1e\+06\]"):
        Request(prompt="x", temperature=value)
    with pytest.raises(BadInput, match=r"temperature is .*: must be 0 \(greedy\), or in \[1e-06, 1e\+06\]"):
        Sampling(temperature=value)
    with pytest.raises(BadInput, match=r"temperature = .*: must be in \[1e-06, 1e\+06\]"):
        read_completions(base(), [[1]], [[[2]]], temperature=value)
    with pytest.raises(BadInput, match="temperature = "):
        validate(SamplingConfig(temperature=value))


@pytest.mark.parametrize("value", [0, 1e-6, 1, 1e6])
def test_temperatures_up_to_the_ends_of_the_range_give_finite_log_probabilities(value: float) -> None:
    [[row]] = sample(base(), [[3, 4]], sampling=Sampling(max_new_tokens=8, temperature=value, stop_ids=()))
    assert np.isfinite(row.logprobs).all() and len(row.tokens) == 8
