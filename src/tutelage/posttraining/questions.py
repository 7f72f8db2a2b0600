"""Questions with worked answers from a local file in GSM8K's form: a JSON object per line, `question` and `answer`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

from tutelage.lab.errors import BadInput, nearest
from tutelage.posttraining.grading import Answer, reference_answer
from tutelage.posttraining.solutions import numbers_in, steps
from tutelage.posttraining.wordmath import Problem


@dataclass(frozen=True)
class Question:
    """A question with its reference.

    Attributes:
        text: the question. `solution`: worked, ending in a marker; or the bare answer.
        answer: the reference answer.
        results: the results of the reference solution's steps, in order, the answer's among them.
        numbers: the numbers that the question itself names.
        problem: what it was generated from, if it was: then every right solution is known.
    """

    text: str
    solution: str
    answer: Answer
    results: tuple[Fraction, ...] = ()
    numbers: tuple[Fraction, ...] = ()
    problem: Problem | None = None

    @cached_property
    def id(self) -> str:
        """16 hex digits (BLAKE2b) of the text."""
        return blake2b(self.text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @classmethod
    def of(cls, text: str, solution: str) -> Question:
        """From its texts.

        Raises:
            BadInput: the solution has no answer that can be parsed.
        """
        results = tuple(step.value for step in steps(solution))
        return cls(text, solution, reference_answer(solution), results, numbers_in(text))

    @classmethod
    def of_problem(cls, problem: Problem, solution: str) -> Question:
        """From a generated problem and one of its right solutions."""
        results = tuple(map(Fraction, problem.intermediate))
        numbers = tuple(map(Fraction, problem.numbers))
        return cls(problem.question, solution, Answer(Fraction(problem.answer)), results, numbers, problem)


def load_questions(path: Path | str, *, question: str = "question", answer: str = "answer") -> list[Question]:
    """The questions of a JSONL file; `question` and `answer` name its fields. Empty lines are skipped.

    Raises:
        BadInput: no such file, no rows, or a row (its index, from 0, is given) that is not an object with both texts
            or has no reference answer that can be parsed.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"questions: cannot read {path}: {error}") from None
    rows = []
    for index, line in enumerate(line for line in lines if line.strip()):
        place = f"{path}: row {index}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise BadInput(f"{place}: not JSON; must be one object per line") from None
        if not isinstance(row, dict):
            raise BadInput(f"{place}: got {type(row).__name__}; must be an object")
        for name in (question, answer):
            if not isinstance(row.get(name), str | int | float) or not str(row[name]).strip():
                raise BadInput(f"{place}: no text under {name!r}{nearest(name, map(str, row))}")
        try:
            rows.append(Question.of(str(row[question]), str(row[answer])))
        except BadInput as error:
            raise BadInput(f"{place}: {error}") from None
    if not rows:
        raise BadInput(f"questions: {path} has no rows")
    return rows


def check_disjoint(train: Sequence[Question], test: Sequence[Question]) -> None:
    """That no test question is a training question, up to white space and case.

    Raises:
        BadInput: one is; the first pair of rows is named, and how many there are.
    """
    places = {_plain(question.text): index for index, question in reversed(list(enumerate(train)))}
    shared = [(places[text], i) for i, text in enumerate(_plain(question.text) for question in test) if text in places]
    if shared:
        ours, theirs = shared[0]
        raise BadInput(
            f"test questions: {len(shared)} are training questions too; the first is test row {theirs}, "
            f"training row {ours}: {test[theirs].text[:60]!r}"
        )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
