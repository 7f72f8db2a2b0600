"""Reading what a model said: every form that models use, and nothing read into what they did not say."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.lm.parsing import Tally, Unparsed, all_tagged, json_value, letter, number, numbers, tagged, violation


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<argument>yes</argument>", "yes"),
        ("<thinking>no</thinking>\n<argument>\n two lines\nhere </argument> bye", "two lines\nhere"),
        ("<argument>first</argument><argument>second</argument>", "second"),
        ("<argument>cut off in the mid", "cut off in the mid"),
        ("<ARGUMENT>loud</Argument>", "loud"),
        ("<argument>one <argument>two</argument>", "two"),
        ("<argument>kept</argument><argument></argument>", "kept"),
        ("<argument >spaced</argument >", "spaced"),
    ],
)
def test_tagged_spans(text: str, content: str) -> None:
    assert tagged(text, "argument") == content


def test_no_tag_or_an_empty_one_is_unparsed_with_the_tag_named() -> None:
    for text in ["plain", "", "<arguments>x</arguments>", "<argument>  </argument>"]:
        assert tagged(text, "argument") == Unparsed("there is no <argument>…</argument> with text in it")
    assert all_tagged("<q>a</q> <q></q> <q>b</q>", "q") == ["a", "", "b"]
    assert tagged("<q>a</q><q>b</q>", "q", last=False) == "a"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Answer: A", "A"),
        ("I think B at first. Answer: A\nWait.\nAnswer: B", "B"),
        ("answer: (b)", "B"),
        ("**Answer:** B.", "B"),
        ("Answer: **A**", "A"),
        ("The final answer is: A", "A"),
        ("Answer is B", "B"),
        ("Answer:\nB", "B"),
        ("A", "A"),
        (" (B) ", "B"),
        ("Answer: A) because a dog barked", "A"),
    ],
)
def test_last_answer_letter(text: str, answer: str) -> None:
    assert letter(text) == answer


@pytest.mark.parametrize("text", ["", "Answer: A or B", "Answer: C", "Both are good", "Answer: Apple", "Answer:", "AB"])
def test_no_single_letter_is_unparsed(text: str) -> None:
    assert isinstance(letter(text), Unparsed)


def test_words_as_options() -> None:
    assert letter("Answer: Yes, surely", ["yes", "no"]) == "yes"
    assert letter("Verdict: unsafe", ["safe", "unsafe"], cue="Verdict") == "unsafe"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,234 and -3", [1234, -3]),
        ("costs $12.50, or 5%", [12.5, 5]),
        (".5 − 1e3", [0.5, 1000]),
        ("−7", [-7]),
        ("v2 abc3 x", []),
        ("1,2,3", [1, 2, 3]),
        ("it is 12.", [12]),
        ("1e999", []),
    ],
)
def test_numbers_in_text(text: str, found: list[float]) -> None:
    assert numbers(text) == found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e6, 1e6, allow_nan=False)), max_size=6))
def test_numbers_written_are_the_numbers_read(values: list[float]) -> None:
    assert numbers(" and ".join(repr(value) for value in values)) == values


def test_a_number_in_its_range() -> None:
    assert number("I would say 3, no, 7/10", 1, 10) == 7
    assert number("Rating: 4 (of 5 that I saw)", 1, 5, cue="rating:") == 4
    assert number("8 out of 10", 1, 10) == 8
    assert number("0 or 11", 1, 10) == Unparsed("11 is not in the range 1 to 10")
    assert number("7.5", 1, 10, whole=True) == Unparsed("7.5 is not a whole number")
    assert number("none", 1, 10) == Unparsed("there is no number")
    assert number("5", cue="Score") == Unparsed("there is no 'Score'")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2], "b": "x"}',
        'Sure! Here it is:\n```json\n{"a": [1, 2], "b": "x"}\n```\nAnything else?',
        'The result is {"a": [1, 2], "b": "x"}',
        "{'a': [1, 2], 'b': 'x'}",
        '{"a": [1, 2,], "b": "x",}',
        '{"a": [1, 2], "b": "x"',
        '```\n{"a": [1, 2], // two\n "b": "x"}',
    ],
)
def test_json_alone_fenced_in_prose_and_mended(text: str) -> None:
    assert json_value(text) == {"a": [1, 2], "b": "x"}


def test_text_without_json_is_unparsed() -> None:
    for text in ["", "no braces here", "[", "{}}{" * 0]:
        assert json_value(text) == Unparsed("there is no JSON value")


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.one_of(st.booleans(), st.integers(-999, 999), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
        max_leaves=8,
    )
)
def test_valid_json_comes_back_as_it_was(value: object) -> None:
    assert json_value(json.dumps(value)) == value


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="{}[]\",:'ab1-.\\n<>/ Answer", max_size=40))
def test_no_text_whatever_makes_a_parser_raise(text: str) -> None:
    json_value(text)
    letter(text)
    tagged(text, "a")
    assert all(math.isfinite(value) for value in numbers(text))


def test_a_schema_is_checked_and_the_breach_named() -> None:
    schema = {
        "type": "object",
        "properties": {
            "score": {"type": "integer", "minimum": 1, "maximum": 5},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["score"],
        "additionalProperties": False,
    }
    assert json_value('{"score": 3, "tags": ["a"]}', schema) == {"score": 3, "tags": ["a"]}
    assert json_value('{"tags": []}', schema) == Unparsed("the value has no field 'score'")
    assert json_value('{"score": 9}', schema) == Unparsed("field 'score' is 9: must be in [1, 5]")
    assert json_value('{"score": true}', schema) == Unparsed("field 'score' is not of type integer")
    assert json_value('{"score": 1, "tags": [1]}', schema) == Unparsed("item 0 is not of type string")
    assert json_value('{"score": 1, "x": 2}', schema) == Unparsed("the value has the field 'x', which is not allowed")
    assert json_value("[1]", schema) == Unparsed("the value is not of type object")
    with pytest.raises(BadInput, match="schema keyword 'oneOf' is not checked"):
        violation(1, {"oneOf": []})


def test_too_many_unparsed_answers_stop_the_run() -> None:
    tally = Tally(abort_above=0.2, least=5)
    for _ in range(4):
        tally.add(1)
    assert tally.add(Unparsed("odd")) == Unparsed("odd")
    assert tally.unparsed == pytest.approx(0.2)
    with pytest.raises(BadInput, match=r"33% of 6 answers could not be read \(most often: odd\); allowed: 20%"):
        tally.add(Unparsed("odd"))
