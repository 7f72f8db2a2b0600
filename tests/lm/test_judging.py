"""Judges answer the same question in four ways; probabilities, swaps and votes are as worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tutelage.lab.errors import BadInput
from tutelage.lm.judging import METHODS, choose, compare, rate
from tutelage.lm.model import Capabilities, LanguageModel, run
from tutelage.lm.parsing import Unparsed
from tutelage.lm.request import Completion, Failure, Message, Request, Scored, Scoring


class Judge(LanguageModel):
    """Says what it is told to; keeps what it was asked."""

    identity = "judge"

    def __init__(
        self,
        say: Callable[[Request], Completion | str] = lambda _: "",
        score: Callable[[str], float] | None = None,
        logprobs: int = 0,
        schema: bool = False,
    ) -> None:
        self.say, self.likes = say, score
        self.capabilities = Capabilities(logprobs=logprobs, score=score is not None, schema=schema)
        self.asked: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        said = self.say(request)
        return said if isinstance(said, Completion) else Completion(said)

    async def score_one(self, item: Scoring) -> Scored:
        assert self.likes is not None
        parts = tuple(np.array([self.likes(option)]) for option in item.continuations)
        return Scored(np.array([part.sum() for part in parts]), parts)


QUESTION = Request(messages=(Message("user", "A or B?"),))


def test_score_gives_the_softmax_of_the_options() -> None:
    choice = run(choose(Judge(score={"A": math.log(0.1), "B": math.log(0.3)}.__getitem__), QUESTION, ["A", "B"]))
    assert (choice.index, choice.method) == (1, "score")
    assert choice.probabilities == pytest.approx([0.25, 0.75])


def test_scores_per_token_do_not_favour_short_options() -> None:
    class Long(Judge):
        async def score_one(self, item: Scoring) -> Scored:
            return Scored(np.array([-2.0, -3.0]), (np.array([-2.0]), np.array([-1.0, -1.0, -1.0])))

    model = Long(score=lambda _: 0.0)
    assert run(choose(model, QUESTION, ["a", "b c d"])).index == 0
    assert run(choose(model, QUESTION, ["a", "b c d"], per_token=True)).index == 1


def test_first_token_adds_the_spellings_of_one_answer() -> None:
    first = {"A": math.log(0.2), " A": math.log(0.3), "B": math.log(0.1), "\n": math.log(0.4)}
    model = Judge(lambda _: Completion("A", top_logprobs=(first,)), logprobs=20)
    choice = run(choose(model, QUESTION, ["A", "B"]))
    assert choice.method == "first_token"
    assert choice.probabilities == pytest.approx([5 / 6, 1 / 6])
    assert model.asked[0].max_tokens == 1 and model.asked[0].temperature == 0


def test_options_with_one_first_letter_are_not_told_apart_by_the_first_token() -> None:
    model = Judge(lambda request: request.choices[1] if request.choices else "", logprobs=20, schema=True)
    choice = run(choose(model, QUESTION, ["same start", "same end"]))
    assert (choice.index, choice.method) == (1, "constrained")


def test_reading_is_the_last_resort_and_its_failure_is_said() -> None:
    choice = run(choose(Judge(lambda _: "Hm. Answer: B"), QUESTION, ["A", "B"]))
    assert (choice.index, choice.method, list(choice.probabilities)) == (1, "parse", [0, 1])
    choice = run(choose(Judge(lambda _: "Hm."), QUESTION, ["A", "B"]))
    assert choice.index is None and isinstance(choice.problem, Unparsed)
    broken = Completion.failed(Failure("server", "500"))
    choice = run(choose(Judge(lambda _: broken), QUESTION, ["A", "B"]))
    assert choice.index is None and choice.problem == broken.error


def test_all_ways_agree_where_all_are_possible() -> None:
    def say(request: Request) -> Completion:
        if request.choices:
            return Completion("B")
        return Completion("Answer: B", top_logprobs=({"A": math.log(0.2), "B": math.log(0.8)},))

    model = Judge(say, score={"A": math.log(0.2), "B": math.log(0.8)}.__getitem__, logprobs=20, schema=True)
    for method in METHODS:
        choice = run(choose(model, QUESTION, ["A", "B"], methods=[method]))
        assert (choice.index, choice.method) == (1, method)


def test_a_way_that_turns_out_to_be_refused_gives_place_to_the_next() -> None:
    class Boasting(Judge):
        async def score_one(self, item: Scoring) -> Scored:
            return Scored(np.empty(0), (), error=Failure("unsupported", "no scores here"))

    model = Boasting(lambda _: "Rating: 4. Answer: B", score=lambda _: 0.0)
    assert run(choose(model, QUESTION, ["A", "B"])).method == "parse"
    assert run(compare(model, ask, "x", "y")).method == "parse"
    assert run(rate(model, QUESTION)).value == 4
    assert isinstance(run(choose(model, QUESTION, ["A", "B"], methods=["score"])).problem, Failure)


def test_a_rating_is_the_expectation_over_the_scale() -> None:
    likes = {"1": math.log(0.1), "2": math.log(0.2), "3": math.log(0.7)}
    rating = run(rate(Judge(score=likes.__getitem__), QUESTION, (1, 3)))
    assert rating.value == pytest.approx(0.1 + 0.4 + 2.1)
    assert run(rate(Judge(lambda _: "Rating: 7/10"), QUESTION)).value == 7
    read = run(rate(Judge(lambda _: "eleven, 11"), QUESTION))
    assert read.value is None and read.problem == Unparsed("11 is not in the range 1 to 10")


def ask(first: str, second: str) -> Request:
    return Request(prompt=f"A: {first}\nB: {second}\nWhich?")


def test_a_judge_with_only_a_position_bias_prefers_nobody() -> None:
    result = run(compare(Judge(lambda _: "Answer: A"), ask, "x", "y"))
    assert (result.preference, result.by_order, result.winner) == (0.5, (1.0, 0.0), None)
    assert run(compare(Judge(lambda _: "Answer: A"), ask, "x", "y", swap=False)).winner == 0
    assert run(compare(Judge(lambda _: "Answer: A"), ask, "x", "x")).preference == 0.5


def test_a_judge_who_knows_prefers_the_better_in_both_orders() -> None:
    def say(request: Request) -> str:
        return "Answer: A" if request.text().startswith("A: good") else "Answer: B"

    assert run(compare(Judge(say), ask, "good", "bad")).by_order == (1.0, 1.0)
    assert run(compare(Judge(say), ask, "bad", "good")).winner == 1


def test_votes_are_distinct_samples_and_unread_ones_count_for_nobody() -> None:
    def say(request: Request) -> str:
        return ["Answer: A", "mumble", "Answer: A"][request.sample_index]

    model = Judge(say)
    result = run(compare(model, ask, "x", "y", votes=3))
    assert sorted(request.sample_index for request in model.asked) == [0, 0, 1, 1, 2, 2]
    assert result.unread == pytest.approx(1 / 3) and result.by_order == (1.0, 0.0)
    silent = run(compare(Judge(lambda _: "mumble"), ask, "x", "y"))
    assert silent.preference is None and silent.unread == 1 and silent.winner is None


def test_exact_methods_ask_once_however_many_votes_are_wanted() -> None:
    model = Judge(lambda _: Completion("A", top_logprobs=({"A": -0.1, "B": -3.0},)), logprobs=5)
    run(compare(model, ask, "x", "y", votes=5))
    assert len(model.asked) == 2


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: choose(Judge(), QUESTION, ["A"]), "options are .'A'.: must be at least two different texts"),
        (lambda: choose(Judge(), QUESTION, ["A", "A"]), "must be at least two different"),
        (lambda: choose(Judge(), QUESTION, ["A", "B"], methods=["scores"]), "did you mean 'score'"),  # type: ignore[list-item]
        (lambda: choose(Judge(), QUESTION, ["A", "B"], methods=["score"]), "more than judge is capable of"),
        (lambda: rate(Judge(), QUESTION, (5, 1)), "the lower first"),
        (lambda: compare(Judge(), ask, "x", "y", votes=0), "votes is 0: must be at least 1"),
    ],
)
def test_bad_questions_are_refused_in_one_line(work: Callable, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(work())
