"""Questions with worked answers, from files in GSM8K's form: JSON objects with a `question` and an `answer`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.files import read_text
from tutelage.posttraining.grading.answers import Answer, reference_answer
from tutelage.posttraining.grading.arithmetic import numbers_in
from tutelage.posttraining.grading.solutions import steps
from tutelage.posttraining.wordmath.problems import Problem


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
    """The questions of a file (see `read_rows`); `question` and `answer` name its fields.

    Raises:
        BadInput: no such file, no rows, or a row (its index, from 0, is given) that is not an object with both texts
            or has no reference answer that can be parsed.
    """
    return questions_of(read_rows(path), str(path), question=question, answer=answer)


def questions_of(
    rows: Iterable[Any], name: str, *, question: str = "question", answer: str = "answer"
) -> list[Question]:
    """Questions from objects with two texts each; `name` is what the rows are from, for messages.

    Raises:
        BadInput: as `load_questions`.
    """
    found = []
    for index, row in enumerate(rows):
        place = f"{name}: row {index}"
        texts = [field_text(row, field, place) for field in (question, answer)]
        try:
            found.append(Question.of(*texts))
        except BadInput as error:
            raise BadInput(f"{place}: {error}") from None
    return found


def read_rows(path: Path | str) -> list[Any]:
    """The values of a JSON list, or of JSON lines (empty ones are skipped).

    Raises:
        BadInput: the file cannot be read, is not JSON, or has no rows.
    """
    path = Path(path)
    text = read_text(path)
    rows: list[Any] = []
    if text.lstrip().startswith("[") and path.suffix == ".json":
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError):
            raise BadInput(f"{path}: not JSON; must be a list of objects, or one object per line") from None
    else:
        for index, line in enumerate(line for line in text.split("\n") if line.strip()):
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                raise BadInput(f"{path}: row {index}: not JSON; must be one object per line") from None
    if not rows:
        raise BadInput(f"questions: {path} has no rows")
    return rows


def field_text(row: Any, name: str, place: str) -> str:
    """A field of a row as text.

    Raises:
        BadInput: the row is no object, or has no text and no number under that name; `place` begins the message.
    """
    if not isinstance(row, Mapping):
        raise BadInput(f"{place}: got {type(row).__name__}; must be an object")
    if name not in row:
        raise BadInput(f"{place}: no text under {name!r}{nearest(name, map(str, row))}")
    if isinstance(row[name], bool) or not isinstance(row[name], str | int | float):
        kind = "null" if row[name] is None else type(row[name]).__name__
        raise BadInput(f"{place}: {name!r} is {kind}; must be text or a number")
    if not str(row[name]).strip():
        raise BadInput(f"{place}: {name!r} is empty; must be text or a number")
    return str(row[name])


def distinct(questions: Iterable[Question]) -> list[Question]:
    """The first of all questions that are the same up to white space and case, in order."""
    found: dict[str, Question] = {}
    for question in questions:
        found.setdefault(_plain(question.text), question)
    return list(found.values())


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
