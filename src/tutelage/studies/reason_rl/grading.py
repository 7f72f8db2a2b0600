"""Anybody's samples: graded against references, and what k of them are good for."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.lab.drawing import plots
from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.files import check_table, write_rows
from tutelage.lab.report.document import write_exhibits_page
from tutelage.lab.report.printed import print_tables
from tutelage.lab.storage import atomic
from tutelage.lab.study import Exhibit
from tutelage.measures.intervals import Interval
from tutelage.measures.sampled_answers import answer_ids, maj_at_k, over_questions, pass_at_k, rerank_at_k
from tutelage.posttraining.grading.answers import grade_samples, reference_answer
from tutelage.posttraining.grading.markers import after_marker
from tutelage.posttraining.grading.symbolic import SymbolicGrader
from tutelage.posttraining.questions.question import field_text, read_rows
from tutelage.studies.reason_rl.tools import CurvesArguments, GradeArguments

USUAL = ("samples", "completions", "responses", "completion", "response", "output", "outputs", "prediction", "text")
"""Names under which samples are looked for."""


Judge = Callable[[Sequence[str], str], tuple[list[Any], list[bool]]]
"""`(samples, reference) -> (votes, correct)`."""


@dataclass(frozen=True)
class Graded:
    """A question's samples, judged.

    Attributes:
        texts: the samples; empty where only their grades were given.
        votes: what each votes for, None where it has no answer.
        correct: whether each is right.
        scores: of each, where there are any.
    """

    texts: list[str]
    votes: list[Any]
    correct: list[bool]
    scores: list[float] | None = None


def grade(arguments: GradeArguments) -> None:
    """Grade a file, print the figures, and write the rows with their grades.

    Raises:
        BadInput: naming file, row and field: what cannot be read, a reference that is no answer, no samples.
    """
    if arguments.out:
        check_table(arguments.out)
    rows = read_rows(arguments.file)
    name = arguments.samples or _usual(rows[0], arguments.file)
    with contextlib.ExitStack() as stack:
        judge = _numbers
        if arguments.symbolic:
            judge = _symbolic(stack.enter_context(SymbolicGrader(timeout=arguments.timeout)))
        graded = [_of_row(row, place, arguments.answer, name, judge) for place, row in _placed(rows, arguments.file)]
    figures = _figures(graded)
    if arguments.out:
        write_rows(arguments.out, [{**row, **_record(each)} for row, each in zip(rows, graded)])
    if arguments.json:
        print(json.dumps(atomic.plain(figures), indent=2))
        return
    counts = f"{figures['questions']} questions, {figures['samples']} samples (from {name!r})"
    print(f"{arguments.file}: {counts}")
    words = {
        "correct": "right, mean over questions",
        "any_correct": "questions with a right sample",
        "unparsed": "samples without one number to grade",
        "without_marker": "samples without `####`, `Answer:` or `\\boxed`",
    }
    for figure, sentence in words.items():
        value = figures[figure]
        shown = f"{value['mean']:.4f}  [{value['low']:.4f}, {value['high']:.4f}]"
        print(f"  {shown}  {sentence}")
    unparsed = [text for each in graded for text, vote in zip(each.texts, each.votes) if vote is None]
    for text in unparsed[: arguments.show]:
        print(f"  unparsed: …{' '.join(text.split())[-100:]}")
    if arguments.out:
        print(f"graded: {arguments.out}")


def curves(arguments: CurvesArguments) -> None:
    """pass@k, maj@k and rerank@k of a file: a table, and a page with the curves.

    Raises:
        BadInput: naming file, row and field: what cannot be read, questions with different numbers of samples, a k
            beyond them.
    """
    if arguments.out and not Path(arguments.out).absolute().parent.is_dir():
        raise BadInput(f"--out {arguments.out}: there is no such folder")
    found = read_samples(arguments.file, arguments.answer, arguments.samples, arguments.scores, arguments.limit)
    size = len(found[0].correct)
    ks = sorted(set(arguments.ks)) or sorted({2**power for power in range(size.bit_length())} | {size})
    if ks[-1] > size:
        raise BadInput(f"ks = {', '.join(map(str, ks))}: must be at most the {size} samples of a question")
    table = tables_over_k(found, ks)
    if arguments.json:
        plain = {name: [interval._asdict() for interval in values] for name, values in table.items()}
        print(json.dumps(atomic.plain({"questions": len(found), "samples": size, "ks": ks, **plain}), indent=2))
    rows = [("k", *table)]
    for place, k in enumerate(ks):
        cells = (
            f"{values[place].estimate:.3f} [{values[place].low:.3f}, {values[place].high:.3f}]"
            for values in table.values()
        )
        rows.append((str(k), *cells))
    about = f"{len(found)} questions, {size} samples each, of {arguments.file}."
    intervals = "Exact for every k, from all samples; 95 % intervals are over questions."
    shown = [Exhibit("table", about, intervals, rows=tuple(rows))]
    if not arguments.json:
        print_tables(shown)
    if arguments.out:
        lines = [
            plots.Curve(name, ks, *zip(*values), series=series)  # an interval is its estimate, low and high
            for series, (name, values) in enumerate(table.items())
        ]
        picture = plots.curves(lines, title="What k samples are good for", x_label="k", y_label="share", scale="log2")
        shown.insert(0, Exhibit("curves", "Over k", intervals, svg=picture))
        page = write_exhibits_page(arguments.out, "Samples over k", about, shown)
        if not arguments.json:
            print(f"page: {page}")


def read_samples(
    file: str, answer: str = "answer", samples: str = "", scores: str = "scores", limit: int = 0
) -> list[Graded]:
    """The questions of a file with their samples graded: by us, or as `correct` and `answers` of each row say.

    Args:
        limit: samples of each question that are used, the first ones; 0: all.

    Raises:
        BadInput: naming file, row and field; questions with different numbers of samples.
    """
    rows = read_rows(file)
    given = isinstance(rows[0], Mapping) and "correct" in rows[0]
    name = samples or ("" if given else _usual(rows[0], file))
    found = []
    for place, row in _placed(rows, file):
        each = _as_given(row, place) if given else _of_row(row, place, answer, name, _numbers)
        found.append(Graded(each.texts, each.votes, each.correct, _scores(row, place, scores, len(each.correct))))
    if limit:
        for place, each in enumerate(found):
            if len(each.correct) < limit:
                raise BadInput(f"limit = {limit}: row {place} of {file} has {len(each.correct)} samples")
        found = [
            Graded(each.texts[:limit], each.votes[:limit], each.correct[:limit], each.scores and each.scores[:limit])
            for each in found
        ]
    numbers = {len(each.correct) for each in found}
    if len(numbers) > 1:
        raise BadInput(
            f"{file}: questions have {min(numbers)} to {max(numbers)} samples; must be equally many "
            f"(--limit {min(numbers)} uses the first {min(numbers)} of each)"
        )
    return found


def tables_over_k(found: Sequence[Graded], ks: Sequence[int]) -> dict[str, list[Interval]]:
    """pass@k, maj@k where samples vote and rerank@k where they have scores: means over questions, with intervals."""
    right = np.array([each.correct for each in found])
    of = {"pass@k": pass_at_k(right, ks)}
    if any(vote is not None for each in found for vote in each.votes):
        of["maj@k"] = maj_at_k(answer_ids([each.votes for each in found]), right, ks)
    if all(each.scores is not None for each in found):
        of["rerank@k"] = rerank_at_k(np.array([each.scores for each in found]), right, ks)
    return {name: [over_questions(values[:, place]) for place in range(len(ks))] for name, values in of.items()}


def _numbers(texts: Sequence[str], reference: str) -> tuple[list[Any], list[bool]]:
    return grade_samples(texts, reference)


def _symbolic(grader: SymbolicGrader) -> Judge:
    """Numbers as ever; where the reference is none, expressions after the last marker. What was not judged is wrong."""

    def judge(texts: Sequence[str], reference: str) -> tuple[list[Any], list[bool]]:
        with contextlib.suppress(BadInput):
            return grade_samples(texts, reference_answer(reference))
        truth = _answer_text(reference) or reference
        answers = [_answer_text(text) for text in texts]
        correct = [answer is not None and grader(answer, truth) is True for answer in answers]
        return [truth if right else answer for answer, right in zip(answers, correct)], correct

    return judge


def _answer_text(text: str) -> str | None:
    tail = after_marker(text)
    return tail.strip() or None if tail is not None else None


def _placed(rows: Sequence[Any], file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise BadInput(f"{file}: row {number}: got {type(row).__name__}; must be an object")
        yield f"{file}: row {number}", row


def _usual(row: Any, file: str) -> str:
    names = list(row) if isinstance(row, Mapping) else []
    if found := next((name for name in USUAL if name in names), ""):
        return found
    raise BadInput(
        f"{file}: row 0 has {', '.join(map(str, names)) or 'nothing'}; say by --samples which are the samples"
    )


def _of_row(row: Mapping[str, Any], place: str, answer: str, name: str, judge: Judge) -> Graded:
    texts = row.get(name)
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadInput(f"{place}: {name!r} must be a text or a list of texts{nearest(name, map(str, row))}")
    reference = field_text(row, answer, place)
    try:
        votes, correct = judge(texts, reference)
    except BadInput as error:
        raise BadInput(f"{place}: {error}") from None
    return Graded(texts, votes, correct)


def _as_given(row: Mapping[str, Any], place: str) -> Graded:
    correct, answers = row.get("correct"), row.get("answers")
    if not isinstance(correct, list) or not correct or not all(value in (0, 1) for value in correct):
        raise BadInput(f"{place}: 'correct' must be a list of true and false, one for each sample")
    if answers is not None and (not isinstance(answers, list) or len(answers) != len(correct)):
        raise BadInput(f"{place}: 'answers' must be a list of {len(correct)}, as many as 'correct'")
    votes = [None] * len(correct) if answers is None else [_vote(each) for each in answers]
    return Graded([], votes, [bool(value) for value in correct])


def _vote(answer: Any) -> str | None:
    return None if answer is None else json.dumps(answer, sort_keys=True)


def _scores(row: Mapping[str, Any], place: str, name: str, count: int) -> list[float] | None:
    scores = row.get(name)
    if scores is None:
        return None
    if not isinstance(scores, list) or len(scores) != count:
        raise BadInput(f"{place}: {name!r} must be a list of {count} numbers, one for each sample")
    if not all(
        isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score) for score in scores
    ):
        raise BadInput(f"{place}: {name!r} must be finite numbers")
    return [float(score) for score in scores]


def _record(graded: Graded) -> dict[str, Any]:
    return {"votes": [None if vote is None else str(vote) for vote in graded.votes], "correct": graded.correct}


def _figures(graded: Sequence[Graded]) -> dict[str, Any]:
    """What `grade` prints: counts, and means over questions with their intervals."""
    of = {
        "correct": [float(np.mean(each.correct)) for each in graded],
        "any_correct": [float(any(each.correct)) for each in graded],
        "unparsed": [float(np.mean([vote is None for vote in each.votes])) for each in graded],
        "without_marker": [float(np.mean([after_marker(text) is None for text in each.texts])) for each in graded],
    }
    figures: dict[str, Any] = {"questions": len(graded), "samples": sum(len(each.correct) for each in graded)}
    for name, values in of.items():
        interval = over_questions(values)
        figures[name] = {"mean": float(interval.estimate), "low": float(interval.low), "high": float(interval.high)}
    return figures
