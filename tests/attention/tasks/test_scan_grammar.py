"""SCAN's commands: how many there are, what they mean, how they are divided."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.attention.tasks.words.scan_grammar import ACTIONS, WORDS, bare, commands, out_of_distribution
from tutelage.attention.tasks.words.scan_interpreter import interpret
from tutelage.lab.errors import BadInput


@cache
def in_grammar() -> frozenset[str]:
    return frozenset(words_of(row) for row in commands().words)


def words_of(row: np.ndarray) -> str:
    return " ".join(WORDS[number - 1] for number in row if number)


def actions_of(row: np.ndarray) -> tuple[str, ...]:
    return tuple(ACTIONS[number - 1] for number in row if number)


def rewritten(command: str) -> tuple[str, ...]:
    """A third reading, by rewriting the text: no grammar, only replacements until capitals remain."""
    text = re.sub(r"^(.*) after (.*)$", r"\2 and \1", command)
    verb, side = "(walk|look|run|jump|turn)", "(left|right)"
    text = re.sub(f"{verb} around {side}", r"\1 \2 \1 \2 \1 \2 \1 \2", text)
    text = re.sub(f"{verb} opposite {side}", r"turn \2 \1 \2", text)
    parts = []
    for part in text.split(" and "):
        words = part.split()
        times = {"twice": 2, "thrice": 3}.get(words[-1], 1)
        parts += times * (words[:-1] if times > 1 else words)
    text = re.sub(f"(walk|look|run|jump) {side}", r"turn \2 \1", " ".join(parts))
    text = re.sub(f"turn {side}", lambda found: f"turn_{found[1]}", text)
    return tuple(f"I_{word.upper()}" for word in text.split())


def test_counts_are_the_published_ones():
    found = commands()
    assert len(WORDS) == 13 and len(ACTIONS) == 6
    assert found.words.shape == (20910, 9) and len(np.unique(found.words, axis=0)) == 20910
    assert found.num_actions.max() == 48 and found.actions.shape == (20910, 49)
    assert set(np.unique(found.words)) == set(range(14)) and set(np.unique(found.actions)) == set(range(7))
    joined = np.isin(found.words, [WORDS.index("and") + 1, WORDS.index("after") + 1]).any(1)
    repeated = np.isin(found.words, [WORDS.index("twice") + 1, WORDS.index("thrice") + 1]).any(1)
    assert (~joined).sum() == 102 and (~joined & ~repeated).sum() == 34


def test_splits_have_the_published_sizes():
    long = out_of_distribution("length", 22)
    assert ((~long).sum(), long.sum()) == (16990, 3920)
    assert out_of_distribution("jump", 22).sum() == 7706
    assert out_of_distribution("turn_left", 22).sum() == 1208
    assert not out_of_distribution("simple", 22).any()
    assert bare(("jump",)).sum() == bare(("turn", "left")).sum() == 1


@pytest.mark.parametrize("cutoff", [22, 24, 25, 26, 27, 28, 30, 47])
def test_length_split_divides_at_the_cutoff(cutoff: int):
    long, length = out_of_distribution("length", cutoff), (commands().actions > 0).sum(1)
    assert length[long].min() == min(n for n in length if n > cutoff) and length[~long].max() <= cutoff


def test_generated_actions_agree_with_the_parser_and_with_rewriting():
    found = commands()
    for words, actions in zip(found.words, found.actions):
        command = words_of(words)
        assert actions_of(actions) == interpret(command) == rewritten(command)


def test_meanings_by_hand():
    assert interpret("jump") == ("I_JUMP",)
    assert interpret("turn opposite right") == ("I_TURN_RIGHT", "I_TURN_RIGHT")
    assert interpret("walk after run left twice") == (*2 * ("I_TURN_LEFT", "I_RUN"), "I_WALK")
    assert interpret("look around left and turn left thrice") == (*4 * ("I_TURN_LEFT", "I_LOOK"), *3 * ("I_TURN_LEFT",))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("hop left", "'hop' is no word of SCAN"),
        ("jum", "did you mean 'jump'"),
        ("turn", "'turn' is no verb phrase"),
        ("walk twice twice", "'walk twice' is no verb phrase"),
        ("walk and run and jump", "at most one 'and' or 'after'"),
        ("walk and", "'' is no verb phrase"),
        ("", "'' is no verb phrase"),
    ],
)
def test_parser_refuses_by_name_what_the_grammar_cannot_make(command: str, said: str):
    with pytest.raises(BadInput, match=re.escape(said)):
        interpret(command)


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=7).map(" ".join))
def test_parser_accepts_exactly_the_commands_of_the_grammar(command: str):
    try:
        interpret(command)
    except BadInput:
        assert command not in in_grammar()
    else:
        assert command in in_grammar()
