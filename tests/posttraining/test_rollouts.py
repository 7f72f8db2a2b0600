"""Rollouts are graded, follow from what names them alone, and are never drawn twice."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from posttraining.guessing import QUESTIONS, TEMPLATE, guessing

from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Pool, Rollout
from tutelage.lm.sampling.next_token import Sampling
from tutelage.posttraining import policy as policies
from tutelage.posttraining import rollouts as module
from tutelage.posttraining.grading.answers import read_answer, same_answer
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import (
    BLOCK,
    Rollouts,
    correct,
    each,
    flat,
    graded,
    truncated_share,
    warn_truncated,
)

SAMPLING = Sampling(max_new_tokens=16)
MANY = [
    Question.of("+".join(digits), f"#### {sum(map(int, digits))}")
    for length in (2, 3, 4, 5)
    for digits in itertools.product("12", repeat=length)
][: 2 * BLOCK - 10]
"""A block and a part of one."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks of few samples."""
    monkeypatch.setattr("tutelage.posttraining.rollouts.ROWS", 1)


def rollout(text: str, finish: str = "stop") -> Rollout:
    return Rollout("q", np.array([1]), np.array([3, 2]), np.zeros(2, np.float32), text=text, finish_reason=finish)


def contents(groups: list[list[Rollout]]) -> list:
    return [
        [
            (r.id, r.completion.tolist(), r.logprobs.tobytes(), r.text, r.answer, r.finish_reason, dict(r.scores))
            for r in group
        ]
        for group in groups
    ]


@pytest.fixture
def rows_sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows every call of the sampler was asked for."""
    counts: list[int] = []
    sample = policies.sample

    def counting(model, prompts, *, num_samples, **rest):
        counts.append(len(prompts) * num_samples)
        return sample(model, prompts, num_samples=num_samples, **rest)

    monkeypatch.setattr(policies, "sample", counting)
    return counts


def test_grading_takes_the_answer_after_the_marker_and_never_that_of_a_cut_off_solution() -> None:
    right, wrong, none, cut = (
        graded(QUESTIONS[1], each)
        for each in (rollout("so\n#### 3.0"), rollout("#### 4"), rollout("3"), rollout("#### 3", "length"))
    )
    assert [correct(r) for r in (right, wrong, none, cut)] == [True, False, False, False]
    assert [r.answer for r in (right, wrong, none, cut)] == ["3", "4", None, None]


def test_grading_keeps_other_scores() -> None:
    before = Rollout("q", np.array([1]), np.array([2]), np.zeros(1, np.float32), text="#### 3", scores={"judge": 0.5})
    assert dict(graded(QUESTIONS[1], before).scores) == {"judge": 0.5, "correct": 1.0}


def test_drawn_rollouts_carry_prompt_text_origin_and_verdict() -> None:
    policy = guessing()
    groups = Rollouts(SAMPLING, seed=4).draw(policy, QUESTIONS, 6, round=2, stage="probe")
    assert [len(group) for group in groups] == [6] * 4
    assert 0 < np.mean([correct(r) for group in groups for r in group]) < 1
    for question, group in zip(QUESTIONS, groups, strict=True):
        for place, r in enumerate(group):
            assert (r.question, r.round, r.policy, r.sample_index) == (question.id, 2, "probe", place)
            assert r.prompt.tolist() == policy.prompt(question).tolist()
            assert r.text == policy.text(r.completion)
            answer = read_answer(r.text)
            stopped = r.completion[-1] == policy.tokenizer.eos_token_id
            assert correct(r) == (stopped and answer is not None and same_answer(answer, question.answer))


def test_a_rollout_follows_from_seed_stage_round_question_and_place_alone() -> None:
    policy = guessing()

    def completions(questions: list[Question], number: int, seed: int = 0, **name) -> dict:
        groups = Rollouts(SAMPLING, seed).draw(policy, questions, number, **name)
        return {(r.question, r.sample_index): r.completion.tolist() for group in groups for r in group}

    whole = completions(QUESTIONS, 8)
    fewer = completions([QUESTIONS[2], QUESTIONS[0]], 5)
    assert len(fewer) == 10
    assert all(whole[name] == fewer[name] for name in fewer)
    for others in (
        completions(QUESTIONS, 8, seed=1),
        completions(QUESTIONS, 8, round=1),
        completions(QUESTIONS, 8, stage="test"),
    ):
        assert others != whole
    places = [whole[QUESTIONS[0].id, place] for place in range(8)]
    assert len({tuple(tokens) for tokens in places}) > 1


def test_a_pool_that_holds_everything_is_read_and_nothing_is_sampled(tmp_path: Path, rows_sampled: list[int]) -> None:
    policy = guessing()
    first = Rollouts(SAMPLING, 3, tmp_path)
    drawn = first.draw(policy, MANY, 2)
    assert rows_sampled == [2 * BLOCK, 2 * (len(MANY) - BLOCK)]
    again = first.draw(policy, MANY, 2)
    first.close()
    second = Rollouts(SAMPLING, 3, tmp_path)
    resumed = second.draw(policy, MANY, 2)
    second.close()
    assert len(rows_sampled) == 2
    assert (
        contents(drawn) == contents(again) == contents(resumed) == contents(Rollouts(SAMPLING, 3).draw(policy, MANY, 2))
    )
    assert (first.drawn, second.drawn) == (4 * len(MANY), 2 * len(MANY))
    assert len(Pool(tmp_path)) == 2 * len(MANY)


def test_rounds_that_come_later_are_found_again_too(tmp_path: Path, rows_sampled: list[int]) -> None:
    policy = guessing()
    rollouts = Rollouts(SAMPLING, 3, tmp_path)
    drawn = []
    for round in range(3):
        drawn.append(contents(rollouts.draw(policy, QUESTIONS, 2, round=round)))
        assert contents(rollouts.draw(policy, QUESTIONS, 2, round=round)) == drawn[-1]
    rollouts.close()
    assert rows_sampled == [8, 8, 8]
    assert drawn[0] != drawn[1] != drawn[2]


def test_a_killed_draw_samples_only_the_blocks_that_were_not_finished(tmp_path: Path, rows_sampled: list[int]) -> None:
    policy = guessing()
    whole = contents(Rollouts(SAMPLING, 3).draw(policy, MANY, 2))
    rows_sampled.clear()
    killed = Rollouts(SAMPLING, 3, tmp_path)
    killed.draw(policy, MANY[:BLOCK], 2)
    part = killed._sampled(
        policy,
        MANY[BLOCK:],
        [killed._planned(policy, q, 2, 0, "train", ()) for q in MANY[BLOCK:]],
        [()] * len(MANY[BLOCK:]),
    )
    with killed._open() as writer:  # the kill falls between two records of the second block
        writer.append([r for group in part for r in group][:11])
    rows_sampled.clear()
    resumed = Rollouts(SAMPLING, 3, tmp_path)
    assert contents(resumed.draw(policy, MANY, 2)) == whole
    assert rows_sampled == [2 * (len(MANY) - BLOCK)]
    resumed.close()
    assert len({r.id for r in Pool(tmp_path)}) == len(Pool(tmp_path)) == 2 * len(MANY)


def test_another_process_may_write_after_close_and_not_before(tmp_path: Path) -> None:
    policy = guessing()
    first, second = Rollouts(SAMPLING, 0, tmp_path), Rollouts(SAMPLING, 0, tmp_path)
    first.draw(policy, QUESTIONS, 1)
    with pytest.raises(BadInput):
        second.draw(policy, QUESTIONS, 1, round=1)
    first.close()
    second.draw(policy, QUESTIONS, 1, round=1)
    second.close()
    first.draw(policy, QUESTIONS, 1, round=1)
    assert len(Pool(tmp_path)) == 8
    first.close()


def test_a_template_is_part_of_what_names_a_rollout(tmp_path: Path, rows_sampled: list[int]) -> None:
    policy = guessing()
    rollouts = Rollouts(SAMPLING, 0, tmp_path)
    plain = rollouts.draw(policy, QUESTIONS, 2)
    shots = rollouts.draw(Policy(policy.model, policy.tokenizer, "1+1?\n2\n#### 2\n" + TEMPLATE), QUESTIONS, 2)
    assert len(rows_sampled) == 2
    assert not {r.id for g in plain for r in g} & {r.id for g in shots for r in g}
    rollouts.close()


def test_several_samples_at_temperature_0_are_refused_and_one_is_greedy() -> None:
    greedy = Rollouts(Sampling(max_new_tokens=16, temperature=0))
    with pytest.raises(BadInput, match="temperature = 0: 2 samples of a question would all be the same"):
        greedy.draw(guessing(), QUESTIONS, 2)
    one = greedy.draw(guessing(), QUESTIONS, 1)
    other = Rollouts(Sampling(max_new_tokens=16, temperature=0), seed=9).draw(guessing(), QUESTIONS, 1)
    assert [g[0].completion.tolist() for g in one] == [g[0].completion.tolist() for g in other]


def test_a_plain_function_is_a_reward_at_the_end_of_the_text() -> None:
    reward = each(lambda question, text: float(len(text)) if question is QUESTIONS[0] else -1)
    assert reward(QUESTIONS[:2], [rollout("abc"), rollout("")]) == [[(3, 3.0)], [(0, -1.0)]]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_refused_by_its_place(wrong: float) -> None:
    function: Callable[[Question, str], float] = lambda question, text: wrong if text == "b" else 0.0  # noqa: E731
    with pytest.raises(BadInput, match=r"reward: (nan|inf) for sample 1; must be finite"):
        each(function)(QUESTIONS[:2], [rollout("a"), rollout("b")])


def test_groups_are_flattened_beside_their_questions() -> None:
    groups = [[rollout("a"), rollout("b")], [], [rollout("c")]]
    asked, found = flat(QUESTIONS[:3], groups)
    assert asked == [QUESTIONS[0], QUESTIONS[0], QUESTIONS[2]]
    assert [r.text for r in found] == ["a", "b", "c"]


def test_truncation_warns_above_a_fifth_with_the_rate() -> None:
    some = [rollout("a")] * 4 + [rollout("b", "length")]
    assert truncated_share(some) == 0.2 and truncated_share([]) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_truncated(truncated_share(some), SAMPLING)
    with pytest.warns(UserWarning, match=r"max_new_tokens = 16: 21% of the samples were cut off"):
        module.warn_truncated(0.21, SAMPLING)
