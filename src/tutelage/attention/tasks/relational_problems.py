"""Problems of the four relations, as rows of objects, without pictures.

    same_different         a b                     0: same, 1: different
    match_to_sample        s s'  p p'  q q'        0 or 1: which pair is related as the first
    distribution_of_three  a b c  c a _  + four    which of the four completes the second row
    identity_rules         a b a  c d _  + four    which of the four makes the second row obey the first one's rule

The kinds of a relation (such as source pair same or different; AAA, ABA, ABB) are equally frequent. Problems are drawn
with replacement; the original enumerates small sets and repeats the rarer kinds until they balance, to the same end.

References: Webb, Sinha & Cohen (2021), Emergent Symbols through Binding in External Memory, arXiv 2012.14601.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tutelage.attention.tasks.relational_config import NEEDED

LENGTHS = {"same_different": 2, "match_to_sample": 6, "distribution_of_three": 9, "identity_rules": 9}
ANSWERS = {"same_different": 2, "match_to_sample": 2, "distribution_of_three": 4, "identity_rules": 4}
SEGMENTS = {"match_to_sample": 2}
"""Images that are normalised together, where these are not all of the problem's."""
HELD_OUT = 20


class Problems(NamedTuple):
    """P problems of T objects: `objects` int64 (P, T), `answers` int64 (P,)."""

    objects: np.ndarray
    answers: np.ndarray


def draw(relation: str, objects: np.ndarray, count: int, rng: np.random.Generator) -> Problems:
    """`count` problems over those objects; at least `NEEDED[relation]` must be given."""
    need = NEEDED[relation]
    picked = objects[_different(count, need, len(objects), rng)]
    kinds = {"same_different": 2, "match_to_sample": 2, "distribution_of_three": 1, "identity_rules": 3}[relation]
    kind = rng.permutation(np.arange(count) % kinds)
    match relation:
        case "same_different":
            a, b = picked.T
            return Problems(np.stack([a, np.where(kind == 0, a, b)], 1), kind)
        case "match_to_sample":
            a, b, c, d, e = picked.T
            source = np.stack([a, np.where(kind == 0, a, b)], 1)
            same, different = np.stack([c, c], 1), np.stack([d, e], 1)
            right, wrong = (np.where(kind[:, None] == k, same, different) for k in (0, 1))
            answers = rng.integers(2, size=count)
            first, second = (np.where(answers[:, None] == k, right, wrong) for k in (0, 1))
            return Problems(np.concatenate([source, first, second], 1), answers)
        case "distribution_of_three":
            rows = picked[:, :3], rng.permuted(picked[:, :3], axis=1)
            return _with_choices(np.concatenate(rows, 1), picked, rng)
    a, b, c, d = picked.T
    first = np.stack([a, np.where(kind == 0, a, b), np.choose(kind, [a, a, b])], 1)
    second = np.stack([c, np.where(kind == 0, c, d), np.choose(kind, [c, c, d])], 1)
    return _with_choices(np.concatenate([first, second], 1), picked, rng)


def held_out(problems: Problems, rank: np.ndarray) -> np.ndarray:
    """bool (P,): problems kept from training where no object is: those whose ranks sum to a multiple of 20.

    About one in twenty, whatever their order, the published share; among 100 pairs of the same object exactly ten.

    Args:
        rank: int (objects,), a permutation of the objects' numbers.
    """
    return rank[problems.objects].sum(1) % HELD_OUT == 0


def draw_split(relation: str, rank: np.ndarray, held: bool, count: int, rng: np.random.Generator) -> Problems:
    """`count` problems over all objects, of those that are held out or of the others."""
    found, size = [], 0
    while size < count:
        more = draw(relation, np.arange(len(rank)), count * (HELD_OUT if held else 1), rng)
        keep = held_out(more, rank) == held
        found.append(Problems(more.objects[keep], more.answers[keep]))
        size += int(keep.sum())
    return Problems(*(np.concatenate(columns)[:count] for columns in zip(*found)))


def _different(count: int, need: int, among: int, rng: np.random.Generator) -> np.ndarray:
    """int64 (count, need), each row `need` different numbers below `among`, every such row equally likely."""
    rows = np.empty((count, 0), np.int64)
    for taken in range(need):
        new = rng.integers(among - taken, size=count)
        for lower in np.sort(rows, axis=1).T:
            new += new >= lower
        rows = np.column_stack([rows, new])
    return rows


def _with_choices(rows: np.ndarray, choices: np.ndarray, rng: np.random.Generator) -> Problems:
    choices = rng.permuted(choices, axis=1)
    answers = (choices == rows[:, -1:]).argmax(1)
    return Problems(np.concatenate([rows[:, :-1], choices], 1), answers)
