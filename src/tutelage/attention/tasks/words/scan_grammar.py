"""SCAN as its grammar says: every command with its actions, and the published ways to divide them.

    C → S and S | S after S | S        S → V twice | V thrice | V
    V → U | turn d | U d | (U | turn) opposite d | (U | turn) around d
    U → walk | look | run | jump       d → left | right

34 verb phrases V make 102 sentences S and 20,910 commands C. The meaning is built along with the words, bottom-up; the
parser in `scan_interpreter` goes the other way and shares nothing with it.

References: Lake & Baroni (2018), Generalization without Systematicity, arXiv 1711.00350, appendix.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

PADDING, EOS = 0, 0
WORDS = [
    "walk",
    "look",
    "run",
    "jump",
    "turn",
    "left",
    "right",
    "opposite",
    "around",
    "twice",
    "thrice",
    "and",
    "after",
]
"""The input vocabulary: word w has number `WORDS.index(w) + 1`, `PADDING` is 0."""
ACTIONS = ["I_WALK", "I_LOOK", "I_RUN", "I_JUMP", "I_TURN_LEFT", "I_TURN_RIGHT"]
"""The output vocabulary: action a has number `ACTIONS.index(a) + 1`, `EOS` is 0."""

_Phrase = tuple[tuple[str, ...], tuple[str, ...]]


class Commands(NamedTuple):
    """All commands, in the order of the grammar. K = 20,910.

    Attributes:
        words: int8 (K, 9), `PADDING` at the end.
        actions: int8 (K, 49), `EOS` at the end of each and after it.
        num_words: int64 (K,).
        num_actions: int64 (K,), without the `EOS`; at most 48.
    """

    words: np.ndarray
    actions: np.ndarray
    num_words: np.ndarray
    num_actions: np.ndarray


@cache
def commands() -> Commands:
    """Every command of the grammar, once."""
    simple = [once for verb in _verb_phrases() for once in _repeated(verb)]
    joined = [((*w1, "and", *w2), a1 + a2) for w1, a1 in simple for w2, a2 in simple]
    turned = [((*w1, "after", *w2), a2 + a1) for w1, a1 in simple for w2, a2 in simple]
    words, actions = zip(*(simple + joined + turned))
    num_words, num_actions = (np.array([len(one) for one in column]) for column in (words, actions))
    found = Commands(_table(words, WORDS, 0), _table(actions, ACTIONS, 1), num_words, num_actions)
    for array in found:
        array.setflags(write=False)
    return found


def out_of_distribution(split: str, cutoff: int) -> np.ndarray:
    """bool (K,): the commands of the split's test. One of `scan_config.SPLITS`; `cutoff` matters to `length` only."""
    found = commands()
    match split:
        case "length":
            return found.num_actions > cutoff
        case "jump" | "turn_left":
            phrase = tuple(split.split("_"))
            return _contains(found.words, phrase) & ~bare(phrase)
    return np.zeros(len(found.words), bool)


def bare(phrase: tuple[str, ...]) -> np.ndarray:
    """bool (K,): the one command which is that phrase and nothing else."""
    found = commands()
    return _contains(found.words, phrase) & (found.num_words == len(phrase))


def numbers(words: tuple[str, ...]) -> np.ndarray:
    """int8 (L,) of words of the vocabulary."""
    return np.array([WORDS.index(word) + 1 for word in words], np.int8)


def _contains(table: np.ndarray, phrase: tuple[str, ...]) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(table, len(phrase), axis=1)
    return (windows == numbers(phrase)).all(-1).any(-1)


def _verb_phrases() -> list[_Phrase]:
    primitives: list[_Phrase] = [((word,), (f"I_{word.upper()}",)) for word in ("walk", "look", "run", "jump")]
    found = list(primitives)
    turning: _Phrase = (("turn",), ())
    for verb, action in [*primitives, turning]:
        for side in ("left", "right"):
            turn = (f"I_TURN_{side.upper()}",)
            found.append(((*verb, side), turn + action))
            found.append(((*verb, "opposite", side), turn + turn + action))
            found.append(((*verb, "around", side), 4 * (turn + action)))
    return found


def _repeated(phrase: _Phrase) -> list[_Phrase]:
    words, actions = phrase
    return [phrase, ((*words, "twice"), 2 * actions), ((*words, "thrice"), 3 * actions)]


def _table(rows: tuple[tuple[str, ...], ...], vocabulary: list[str], more: int) -> np.ndarray:
    number = {symbol: index for index, symbol in enumerate(vocabulary, start=1)}
    table = np.zeros((len(rows), max(map(len, rows)) + more), np.int8)
    for row, symbols in zip(table, rows):
        row[: len(symbols)] = [number[symbol] for symbol in symbols]
    return table
