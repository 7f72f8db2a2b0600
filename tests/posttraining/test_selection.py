"""Selection against literal references: what passes, what counts as the same, what joins what was there."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posttraining.guessing import QUESTIONS, guessing

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.lab.errors import BadInput
from tutelage.lab.storage import checkpoint
from tutelage.lm.pools import Rollout
from tutelage.posttraining.grading.solutions import solution_key
from tutelage.posttraining.rollouts import each
from tutelage.posttraining.selection import Dataset, distinct, passing, union, variety

FORMS = [
    "1+1=2\n#### 2",
    "1 + 1 = 2\n#### 2",
    "1+1=2 \n####  2",
    "2*1=2\n#### 2",
    "1+1=3\n#### 2",
    "#### 2",
    "2+0=2\n#### 2",
]
LEVELS = ("exact", "normalised", "equation", "none")


def rollout(text: str, right: bool = True, finish: str = "stop", tokens: Sequence[int] | None = None) -> Rollout:
    ids = np.array([*map(ord, text), 0] if tokens is None else tokens, np.int64)
    return Rollout(
        "q", np.array([1]), ids, np.zeros(len(ids), np.float32), text, finish, scores={"correct": float(right)}
    )


def text_of(tokens: np.ndarray) -> str:
    return "".join(map(chr, tokens[:-1]))


def levenshtein(a: Sequence[int], b: Sequence[int]) -> int:
    table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            change = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
            table[i][j] = min(change, table[i - 1][j] + 1, table[i][j - 1] + 1)
    return table[-1][-1]


def literal_key(one: Rollout, level: str):
    return tuple(one.completion) if level == "exact" else solution_key(one.text, level)  # type: ignore[arg-type]


def literal_distinct(group: list[Rollout], level: str) -> list[Rollout]:
    """RFT's rule as it is told: the first of each key, then each key's choice against those of the other keys."""
    if level == "none":
        return group
    names = []
    for one in group:
        name = literal_key(one, level)
        if name is not None and name not in names:
            names.append(name)
    members = {name: [place for place, one in enumerate(group) if literal_key(one, level) == name] for name in names}
    stays = {name: members[name][0] for name in names}
    for name in names:
        others = [group[stays[other]].completion.tolist() for other in names if other != name]
        sums = [sum(levenshtein(group[place].completion.tolist(), o) for o in others) for place in members[name]]
        stays[name] = members[name][sums.index(max(sums))]
    return [group[place] for place in sorted(stays.values())]


texts = st.sampled_from(FORMS)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, max_size=7), st.sampled_from(LEVELS))
def test_what_is_left_of_a_question_equals_rfts_rule_done_literally(some: list[str], level: str) -> None:
    group = [rollout(text) for text in some]
    found, wanted = distinct(group, level), literal_distinct(group, level)
    assert list(map(id, found)) == list(map(id, wanted))


def test_of_two_equally_distant_solutions_stays_the_earlier_even_if_it_is_repeated() -> None:
    group = [rollout("1+1=2", tokens=[ids]) for ids in (1, 2, 1)] + [rollout("2*1=2", tokens=[3])]
    assert [r.completion.tolist() for r in distinct(group, "equation")] == [[1], [3]]


def test_token_ids_not_text_decide_at_the_exact_level() -> None:
    group = [rollout("a", tokens=[5, 6]), rollout("a", tokens=[7]), rollout("a", tokens=[5, 6])]
    assert list(map(id, distinct(group, "exact"))) == [id(group[0]), id(group[1])]
    assert len(distinct(group, "normalised")) == 1


def test_the_equation_level_rejects_wrong_equations_and_solutions_without_any() -> None:
    group = [rollout("1+1=3\n#### 2"), rollout("#### 2"), rollout("1+1=2\n#### 2")]
    assert [r.text for r in distinct(group, "equation")] == ["1+1=2\n#### 2"]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from(["stop", "length", "error"]), st.floats(-1, 1)), max_size=12),
    st.sampled_from(["correct", "reward", "both"]),
    st.floats(-1, 1),
)
def test_what_passes_equals_brute_force_and_is_never_cut_off(rows: list, filter: str, threshold: float) -> None:
    groups: list[list[Rollout]] = [[], [], []]
    amounts = {}
    for number, (right, finish, amount) in enumerate(rows):
        groups[number % 3].append(rollout(str(number), right, finish))
        amounts[str(number)] = amount
    reward = each(lambda question, text: amounts[text])
    found = passing(QUESTIONS[:3], groups, filter=filter, threshold=threshold, reward=reward)
    wanted = [[] for _ in groups]
    for number, (right, finish, amount) in enumerate(rows):
        fits = {"correct": right, "reward": amount >= threshold, "both": right and amount >= threshold}[filter]
        if finish == "stop" and fits:
            wanted[number % 3].append(str(number))
    assert [[r.text for r in group] for group in found] == wanted


def test_rewards_along_a_solution_count_by_their_sum() -> None:
    def reward(questions, rollouts):
        return [[(1, 0.25), (2, 0.5)], [(1, 0.5), (2, 0.2)]]

    groups = [[rollout("ab"), rollout("cd")]]
    assert [r.text for r in passing(QUESTIONS[:1], groups, filter="reward", threshold=0.75, reward=reward)[0]] == ["ab"]


def test_a_reward_is_asked_only_about_what_could_be_kept() -> None:
    asked = []

    def reward(questions, rollouts):
        asked.extend((question.text, r.text) for question, r in zip(questions, rollouts, strict=True))
        return [[(0, 1.0)]] * len(rollouts)

    groups = [[rollout("a", False), rollout("b")], [rollout("c", True, "length"), rollout("d")]]
    passing(QUESTIONS[:2], groups, filter="both", reward=reward)
    assert asked == [("1+1", "b"), ("1+2", "d")]
    asked.clear()
    assert passing(QUESTIONS[:1], [[rollout("a", False)]], filter="both", reward=reward) == [[]]
    assert not asked


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), texts), max_size=8),
    st.lists(st.tuples(st.integers(0, 2), texts), max_size=8),
    st.sampled_from(LEVELS),
    st.integers(0, 2),
)
def test_a_union_is_the_old_in_order_and_what_it_has_not(old: list, new: list, level: str, cap: int) -> None:
    first, second = (Dataset.of([(q, rollout(text).completion) for q, text in some]) for some in (old, new))
    found = union(first, second, level, text_of, cap=cap)
    wanted = [(q, rollout(text)) for q, text in old]
    for question in range(3):
        assert sum(q == question for q, _ in found.pairs()[len(old) :]) <= (cap or 99)
    taken = {0: 0, 1: 0, 2: 0}
    for q, text in new:
        made = rollout(text)
        name = literal_key(made, level) if level != "none" else object()
        there = level != "none" and any(p == q and literal_key(r, level) == name for p, r in wanted)
        if name is not None and not there and (not cap or taken[q] < cap):
            wanted.append((q, made))
            taken[q] += 1
    assert [(q, tokens.tolist()) for q, tokens in found.pairs()] == [(q, r.completion.tolist()) for q, r in wanted]


def test_a_union_with_oneself_adds_nothing_unless_nothing_counts_as_the_same() -> None:
    data = Dataset.of([(q, rollout(text).completion) for q in (0, 1) for text in FORMS])
    for level in LEVELS:
        assert len(union(data, data, level, text_of)) == (2 if level == "none" else 1) * len(data)


def test_variety_counts_the_distinct_solutions_by_each_level() -> None:
    group = [rollout(text) for text in FORMS + FORMS[:2]]
    keys = {level: {literal_key(r, level) for r in group} - {None} for level in ("exact", "normalised", "equation")}
    assert variety(group) == {level: len(found) for level, found in keys.items()}
    assert variety([]) == {"exact": 0, "normalised": 0, "equation": 0}


@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_dataset_survives_a_checkpoint(tmp_path: Path, number: int) -> None:
    generator = random.Random(number)
    data = Dataset.of(
        [
            (generator.randrange(4), np.array(generator.choices(range(9), k=generator.randint(1, 5))))
            for _ in range(number)
        ]
    )
    path = tmp_path / checkpoint.file_name(1)
    checkpoint.save(path, to_arrays({"data": data.tensors()}), step=1, seeds=[0], config_hash="x")
    found = Dataset.from_tensors(from_arrays(checkpoint.load(path).arrays)["data"])
    assert len(found) == number and found.questions.dtype == np.int64
    assert [(q, s.tolist()) for q, s in found.pairs()] == [(q, s.tolist()) for q, s in data.pairs()]


def test_examples_ask_as_the_policy_does() -> None:
    policy = guessing()
    data = Dataset.of([(2, np.array([5, 6])), (0, np.array([7])), (2, np.array([8]))])
    examples = data.examples(policy, QUESTIONS)
    assert [e.response.tolist() for e in examples] == [[5, 6], [7], [8]]
    assert [e.prompt.tolist() for e in examples] == [policy.prompt(QUESTIONS[q]).tolist() for q in (2, 0, 2)]


def test_bad_input_is_named() -> None:
    group = [rollout("a")]
    with pytest.raises(
        BadInput, match="filter = 'corect': must be one of correct, reward, both; did you mean 'correct'"
    ):
        passing(QUESTIONS[:1], [group], filter="corect")
    with pytest.raises(BadInput, match="filter = 'both': needs a reward"):
        passing(QUESTIONS[:1], [group], filter="both")
    with pytest.raises(BadInput, match=r"level = 'equations': must be one of .* did you mean 'equation'"):
        distinct(group, "equations")
    with pytest.raises(BadInput, match="reward: nan for sample 0; must be finite"):
        passing(QUESTIONS[:1], [group], filter="reward", reward=lambda q, r: [[(0, 1.0), (1, math.nan)]])
    with pytest.raises(BadInput, match=r"reward: got shape \(0,\); must be \(1,\)"):
        passing(QUESTIONS[:1], [group], filter="reward", reward=lambda q, r: [])
