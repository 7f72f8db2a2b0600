"""Questions become prompts, solutions become examples, and tokens keep their place in the text, for each tokenizer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posttraining.guessing import QUESTIONS, guessing, tokenizer
from tiny_models import tokenizer as byte_level

from tutelage.lab.errors import BadInput
from tutelage.lm.sampling.next_token import Sampling
from tutelage.posttraining.policy import PLAIN, Policy, spans

KINDS = ("word", "character", "bpe")
SOLUTION = "so 2+1=3\n#### 3"


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_is_the_begin_token_the_filled_template_and_the_suffix(kind: str) -> None:
    tok = tokenizer(kind)
    prompt = Policy(None, tok, "example: {question}?\n", suffix=(7, 5)).prompt(QUESTIONS[3])
    assert prompt.dtype == np.int64 and prompt[0] == tok.bos_token_id and prompt[-2:].tolist() == [7, 5]
    assert tok.decode(prompt[1:-2]) == "example: 2+1?\n"


def test_a_tokenizer_without_a_begin_token_puts_none_and_braces_in_a_question_are_left_alone() -> None:
    tok = byte_level(bos=False)
    policy = Policy(None, tok, PLAIN)
    question = QUESTIONS[0].of("{question} {0}", "#### 1")
    assert tok.decode(policy.prompt(question)) == "Question: {question} {0}\nAnswer:\n"


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_is_the_prompt_and_the_solution_with_its_end(kind: str) -> None:
    tok = tokenizer(kind)
    policy = Policy(None, tok, "{question}?\n")
    example = policy.example(QUESTIONS[1], SOLUTION)
    assert example.prompt.tolist() == policy.prompt(QUESTIONS[1]).tolist()
    assert example.response[-1] == tok.eos_token_id and tok.eos_token_id not in example.response[:-1]
    assert tok.unk_token_id not in example.response
    assert policy.text(example.response) == SOLUTION


@pytest.mark.parametrize("kind", KINDS)
def test_spans_say_where_each_token_of_a_solution_stands(kind: str) -> None:
    policy = Policy(None, tokenizer(kind), "{question}?\n")
    ids = policy.example(QUESTIONS[1], SOLUTION).response
    found = spans(policy.tokenizer, ids)
    assert found.shape == (len(ids), 2) and found.dtype == np.int64
    assert [SOLUTION[start:end] for start, end in found] == [policy.text([token]) for token in ids]
    assert found[-1].tolist() == [len(SOLUTION)] * 2  # the end-of-sequence token has no text


def test_spans_of_a_character_of_several_tokens_are_not_empty_twice() -> None:
    """Bytes of one character: the first holds it, the others nothing; what follows stands where it should."""
    tok = byte_level()
    text = "東x"
    ids = tok.encode(text, add_special_tokens=False)
    found = spans(tok, ids)
    assert len(ids) >= 3
    assert [text[start:end] for start, end in found if end > start] == ["東", "x"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.integers(0, 10**6), max_size=12))
def test_spans_of_any_tokens_lie_end_to_end_over_the_text(kind: str, ids: list[int]) -> None:
    tok = tokenizer(kind)
    ids = [each % len(tok) for each in ids]
    policy = Policy(None, tok, "{question}")
    found = spans(tok, ids)
    prefixes = [len(policy.text(ids[: place + 1])) for place in range(len(ids))]
    assert found.shape == (len(ids), 2)
    assert found[:, 1].tolist() == np.maximum.accumulate(np.array(prefixes, int)).tolist()
    assert found[:, 0].tolist() == [0, *found[:-1, 1]][: len(ids)]


def test_sampling_asks_each_question_by_its_prompt_and_leaves_the_model_in_its_mode() -> None:
    policy = guessing()
    policy.model.train()
    found = policy.sample(QUESTIONS[:2], 3, Sampling(max_new_tokens=12), 5)
    assert [len(group) for group in found] == [3, 3]
    assert policy.model.training
    again = policy.sample(QUESTIONS[:2], 3, Sampling(max_new_tokens=12), 5)
    assert [[s.tokens.tolist() for s in group] for group in found] == [
        [s.tokens.tolist() for s in group] for group in again
    ]


def test_a_constraint_is_asked_before_every_token() -> None:
    policy = guessing()
    three = policy.tokenizer.convert_tokens_to_ids("3")
    forced = Policy(policy.model, policy.tokenizer, policy.template, allowed=lambda row: [three])
    [[sample]] = forced.sample(QUESTIONS[:1], 1, Sampling(max_new_tokens=4))
    assert forced.text(sample.tokens) == "3333" and sample.finish == "length"


@pytest.mark.parametrize("template", ["no place for it", "{question} and {question}"])
def test_a_template_without_the_question_or_with_it_twice_is_refused(template: str) -> None:
    with pytest.raises(BadInput, match=r"template: .*must have \{question\} in it, once"):
        Policy(None, tokenizer(), template)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    import copy

    tok = copy.deepcopy(tokenizer())
    tok.eos_token = None
    with pytest.raises(BadInput, match="eos_token"):
        Policy(None, tok)
