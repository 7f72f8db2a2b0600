"""The scripted model: answers from a hash of the request, faults that pass, exact log-probabilities."""

from __future__ import annotations

import asyncio
import math
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tutelage.lab.errors import BadInput
from tutelage.lm.model import LM, run
from tutelage.lm.request import Completion, Message, Request, Scoring
from tutelage.lm.scripted import Faults, Grammar, Scripted

FACES = Grammar({"start": ["{face} {face}"], "face": [("heads", 3), ("tails", 1)]})


def _texts(model: Scripted, requests: list[Request]) -> list[str]:
    return [completion.text for completion in run(model.generate(requests))]


def test_a_table_answers_and_sample_index_picks_among_several_answers():
    model = Scripted({"2+2?": "4", "sea?": ["blue", "green"]})
    asked = [Request(prompt="sea?", sample_index=index) for index in range(3)] + [Request(prompt="2+2?")]
    assert _texts(model, asked) == ["blue", "green", "blue", "4"]
    assert isinstance(model, LM)


def test_messages_are_found_whole_or_by_the_last_one():
    messages = (Message("system", "Be brief."), Message("user", "sea?"))
    assert _texts(Scripted({"Be brief.\nsea?": "whole"}), [Request(messages=messages)]) == ["whole"]
    assert _texts(Scripted({"sea?": "last"}), [Request(messages=messages)]) == ["last"]


def test_a_missing_answer_is_a_final_failure_that_names_the_nearest():
    [completion] = run(Scripted({"2+2?": "4"}).generate([Request(prompt="2+3?")]))
    assert completion.error is not None and not completion.error.passing
    assert "2+2?" in completion.error.message and "\n" not in completion.error.message


def test_a_function_may_take_the_request_alone_or_with_randomness_of_its_own():
    assert _texts(Scripted(lambda request: request.tag), [Request(prompt="x", tag="judge")]) == ["judge"]
    model = Scripted(lambda request, source: str(source.random()), seed=3)
    asked = [Request(prompt="x", sample_index=index) for index in range(50)]
    first = _texts(model, asked)
    assert len(set(first)) == 50
    assert _texts(model, asked[::-1]) == first[::-1]  # neither order nor repetition matters
    assert _texts(Scripted(lambda request, source: str(source.random()), seed=4), asked) != first


def test_a_grammar_follows_its_weights():
    texts = _texts(Scripted(FACES), [Request(prompt="toss", seed=seed) for seed in range(4000)])
    counts = Counter(texts)
    expected = {"heads heads": 9 / 16, "heads tails": 3 / 16, "tails heads": 3 / 16, "tails tails": 1 / 16}
    statistic = sum((counts[text] - 4000 * p) ** 2 / (4000 * p) for text, p in expected.items())
    assert set(counts) == set(expected)
    assert statistic < 16.3  # chi-square, 3 degrees of freedom, p = 0.001; the seeds are fixed


def test_a_grammar_that_would_grow_without_end_comes_to_one():
    for productions in [("({start}{start}{start})", 50), "leaf"], [("{start}.", 5000), "leaf"]:
        text = Grammar({"start": productions}).expand(random.Random(0))
        assert text.count("(") == text.count(")") and "leaf" in text and len(text) < 5000


@pytest.mark.parametrize(
    ("rules", "part"),
    [
        ({"start": ["{anmal}"], "animal": ["cat"]}, "did you mean 'animal'"),
        ({"start": ["{start} again"]}, "never comes to an end"),
        ({"start": [("a", 0)]}, "weights above 0"),
        ({"start": []}, "must have productions"),
        ({"begin": ["a"]}, "'start' has no rule"),
    ],
)
def test_a_wrong_grammar_is_refused_in_one_line(rules, part):
    with pytest.raises(BadInput, match=part):
        Grammar(rules)


def test_answers_end_at_stop_texts_and_at_max_tokens():
    model = Scripted({"count": "one two three END four"})
    stopped, cut, whole = run(
        model.generate(
            [
                Request(prompt="count", stop=("END",)),
                Request(prompt="count", max_tokens=2),
                Request(prompt="count"),
            ]
        )
    )
    assert (stopped.text, stopped.finish_reason) == ("one two three ", "stop")
    assert (cut.text, cut.finish_reason, cut.usage.completion) == ("one two", "length", 2)
    assert (whole.usage.prompt, whole.usage.completion) == (1, 5)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("rate_limit", "rate_limit"), ("server", "server"), ("disconnect", "connection"), ("malformed", "malformed")],
)
def test_an_injected_fault_passes_after_the_given_attempts(fault, kind):
    model = Scripted({"a": "b"}, faults=Faults(**{fault: 1.0}, attempts=2, retry_after=7))
    errors = [run(model.generate([Request(prompt="a")]))[0] for _ in range(3)]
    assert [each.error and each.error.kind for each in errors] == [kind, kind, None]
    assert errors[0].error is not None and errors[0].error.passing
    assert (errors[0].error.retry_after == 7) == (fault == "rate_limit")
    assert errors[2].text == "b"
    assert model.calls["generate"] == 3


def test_refusals_and_garbled_answers_come_as_answers():
    [refused] = run(Scripted({"a": "b c"}, faults=Faults(refusal=1)).generate([Request(prompt="a")]))
    assert refused.finish_reason == "content_filter" and refused.error is None
    [garbled] = run(Scripted({"a": "b c"}, faults=Faults(garbled=1)).generate([Request(prompt="a")]))
    assert garbled.text == "b\ufffd" and garbled.finish_reason == "stop"


def test_faults_strike_their_share_of_requests_and_no_other_answer_changes():
    asked = [Request(prompt="toss", sample_index=index) for index in range(3000)]
    clean = _texts(Scripted(FACES), asked)
    model = Scripted(FACES, faults=Faults(rate_limit=0.3, malformed=0.05, attempts=1))
    assert model.identity == Scripted(FACES).identity
    first = run(model.generate(asked))
    kinds = Counter(completion.error.kind for completion in first if completion.error)
    assert abs(kinds["rate_limit"] / 3000 - 0.3) < 0.03 and abs(kinds["malformed"] / 3000 - 0.05) < 0.015
    assert all(text == completion.text for text, completion in zip(clean, first, strict=True) if not completion.error)
    assert _texts(model, asked) == clean


@pytest.mark.parametrize("wrong", [{"refusal": 1.5}, {"rate_limit": 0.7, "server": 0.7}, {"latency": -1}])
def test_wrong_faults_are_refused(wrong):
    with pytest.raises(BadInput, match="faults"):
        Faults(**wrong)


def test_latency_is_waited_for_and_told_and_the_same_every_time():
    model = Scripted({"a": "b"}, faults=Faults(latency=0.001))
    first, second = (run(model.generate([Request(prompt="a")]))[0] for _ in range(2))
    assert first.latency == second.latency > 0


def test_log_probabilities_are_those_of_the_words():
    model = Scripted({"ask": "yes no"}, words={"yes": 6, "no": 3, "maybe": 1})
    [plain, warm, greedy] = run(
        model.generate(
            [
                Request(prompt="ask", top_logprobs=2),
                Request(prompt="ask", temperature=2.0, logprobs=True),
                Request(prompt="ask", temperature=0.0, logprobs=True),
            ]
        )
    )
    assert np.allclose(plain.logprobs, np.log([0.6, 0.3])) and np.allclose(greedy.logprobs, np.log([0.6, 0.3]))
    assert [list(each) for each in plain.top_logprobs] == [["yes", "no"]] * 2
    roots = np.sqrt([6, 3, 1])
    assert np.allclose(warm.logprobs, np.log(roots[:2] / roots.sum())) and warm.top_logprobs is None
    assert model.capabilities.score and model.capabilities.logprobs == 20
    assert not Scripted({"a": "b"}).capabilities.score


def test_scores_are_exact_sums_under_a_distribution_that_sees_the_text_so_far():
    def words(text: str) -> dict[str, float]:
        return {"A": 0.9, "B": 0.1} if text.endswith("A") else {"A": 0.2, "B": 0.8}

    model = Scripted({}, words=words)
    [scored] = run(model.score([Scoring("first", (" A A", " B A", " C", ""))]))
    expected = [math.log(0.2 * 0.9), math.log(0.8 * 0.2), -math.inf, 0.0]
    assert np.allclose(scored.totals, expected)
    assert [len(each) for each in scored.tokens] == [2, 2, 1, 0]
    [unable] = run(Scripted({}).score([Scoring("first", (" A",))]))
    assert unable.error is not None and unable.error.kind == "unsupported"


def test_embeddings_have_unit_length_and_tell_near_from_far():
    model = Scripted({})
    near, same, far, empty = run(model.embed(["the cat sat", "the cat sits", "quantum chromodynamics", ""]))
    assert near.dtype == np.float32 and near.shape == (256,)
    assert np.allclose([np.linalg.norm(each) for each in (near, same, far, empty)], 1)
    assert near @ same > near @ far


def test_the_identity_changes_with_what_decides_the_answers_and_with_nothing_else(tmp_path: Path):
    def one(request: Request) -> str:
        return "one"

    def two(request: Request) -> str:
        return "two"

    two.__qualname__ = one.__qualname__
    models = [Scripted({"a": "b"}), Scripted({"a": "c"}), Scripted({"a": "b"}, seed=1), Scripted(FACES), Scripted(one)]
    assert len({model.identity for model in [*models, Scripted(two), Scripted({"a": "b"}, words={"b": 1})]}) == 7
    script = tmp_path / "identity.py"
    script.write_text(
        "from tutelage.lm.scripted import Scripted\n"
        "def answer(request):\n    return 'y' if request.tag in {'a', 'b', 'c', 'd'} else (lambda: 'n')()\n"
        "print(Scripted(answer).identity)\n"
    )
    told = [
        subprocess.run(
            [sys.executable, str(script)],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert len(set(told)) == 1


def test_a_function_may_give_a_whole_completion():
    model = Scripted(lambda request: Completion("x", finish_reason="length"))
    [completion] = asyncio.run(model.generate([Request(prompt="a")]))
    assert (completion.text, completion.finish_reason, completion.model) == ("x", "length", model.identity)


@pytest.mark.parametrize("wrong", [lambda: Scripted(3), lambda: Scripted({}, dimensions=0)])  # type: ignore[arg-type]
def test_what_is_no_script_is_refused(wrong):
    with pytest.raises(BadInput):
        wrong()
