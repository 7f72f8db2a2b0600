"""Other people's questions: GSM8K and SVAMP from files or the hub, and the generators of reasoning_gym.

`datasets` and `reasoning_gym` are optional packages; they are imported when they are asked for.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from tutelage.lab.errors import BadInput, nearest
from tutelage.posttraining.grading.answers import parse_answer, read_answer
from tutelage.posttraining.questions.question import Question, field_text, questions_of, read_rows

GSM8K = "openai/gsm8k:main"
SVAMP = "ChilleD/SVAMP"

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_OPERATION = re.compile(rf"\(\s*({_NUMBER})\s*([-+*/])\s*({_NUMBER})\s*\)")
_EXACT_NUMBER = re.compile(r"[-+]?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?")


def is_file(name: str) -> bool:
    """Whether a name is a file's, there or not, rather than that of a data set on the hub."""
    return Path(name).suffix in (".json", ".jsonl") or name.startswith((".", "/", "~")) or Path(name).exists()


def rows(name: str, split: str) -> list[Any]:
    """The rows of a local file (`read_rows`) or of one split of a hub's data set, `owner/name` or `owner/name:config`.

    Raises:
        BadInput: a file that cannot be read; `datasets` is not installed; the hub has no such data, or is out of reach.
    """
    if is_file(name):
        return read_rows(Path(name).expanduser())
    try:
        import datasets  # type: ignore[import-not-found]
    except ImportError:
        raise BadInput(
            f"{name}: no such file; for a data set of the hub install the package datasets (pip install datasets)"
        ) from None
    path, _, config = name.partition(":")
    try:
        return [dict(row) for row in datasets.load_dataset(path, config or None, split=split)]
    except Exception as error:  # whatever the hub's client raises: offline, no such name, split or configuration
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{name}: cannot be loaded from the hub; give a local file instead: {reason}") from error


def gsm8k(name: str = GSM8K, split: str = "train") -> list[Question]:
    """Questions in GSM8K's form: `question`, and `answer` with `<<a*b=c>>` and a last line `#### c`.

    References: Cobbe et al. (2021), Training Verifiers to Solve Math Word Problems, arXiv 2110.14168.
    """
    return questions_of(rows(name, split), name)


def svamp(name: str = SVAMP, split: str = "train") -> list[Question]:
    """Questions in SVAMP's form: objects with `Body`, `Question`, `Answer` and, if it is known, `Equation`.

    The solution is the equation, a step a line, where it gives the answer (in the published data one does not);
    otherwise the answer alone.

    Raises:
        BadInput: see `rows`; a row (its index is given) that lacks a text or has no answer that can be parsed.

    References: Patel, Bhattamishra & Goyal (2021), arXiv 2103.07191.
    """
    found = []
    for index, row in enumerate(rows(name, split)):
        place = f"{name}: row {index}"
        body, asked, answer = (field_text(row, field, place).strip() for field in ("Body", "Question", "Answer"))
        truth = parse_answer(answer)
        if truth is None:
            raise BadInput(f"{place}: Answer: no single number in {answer[:60]!r}")
        steps = worked(str(row.get("Equation", "")))
        if steps is None or read_answer(steps) != truth:
            steps = f"#### {truth.value}"
        found.append(Question.of(f"{body} {asked}", steps))
    return found


def worked(equation: str) -> str | None:
    """`( ( 8.0 + 3.0 ) * 2.0 )` as lines `8 + 3 = 11`, `11 * 2 = 22`, `#### 22`.

    None for what is not such a nest of brackets, or has a result without a finite decimal form.
    """
    lines = []
    while match := _OPERATION.search(equation):
        a, op, b = Fraction(match[1]), match[2], Fraction(match[3])
        if op == "/" and b == 0:
            return None
        result = _decimal({"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1)}[op])
        if result is None:
            return None
        lines.append(f"{_decimal(a)} {op} {_decimal(b)} = {result}")
        # With spaces, so that `2( 3 + 4 )` does not become 27.
        equation = f"{equation[: match.start()]} {result} {equation[match.end() :]}"
    if not re.fullmatch(_NUMBER, equation.strip()):
        return None
    return "\n".join([*lines, f"#### {_decimal(Fraction(equation.strip()))}"])


def _decimal(value: Fraction) -> str | None:
    places = next((n for n in range(13) if (value * 10**n).denominator == 1), None)
    if places is None:
        return None
    digits = str(abs(value.numerator * 10**places // value.denominator)).rjust(places + 1, "0")
    whole, rest = (digits[:-places], "." + digits[-places:]) if places else (digits, "")
    return "-" * (value < 0) + whole + rest


def reasoning_gym(task: str, size: int, seed: int = 0) -> Iterator[Question]:
    """Endlessly many questions of one of reasoning_gym's tasks whose answers are numbers; some may come twice.

    The solution is the worked one where the task has one (`gsm_symbolic`), otherwise the answer alone. The same
    arguments give the same questions, as far as the installed version of the package does.

    Args:
        size: how many are made at once.

    Raises:
        BadInput: the package is not installed; no such task, or one that needs further settings; an entry (its index is
            given) whose answer is not an exact number, which an exact grader cannot judge.
    """
    try:
        import reasoning_gym as gym  # type: ignore[import-not-found]
        from reasoning_gym.factory import DATASETS  # type: ignore[import-not-found]
    except ImportError:
        raise BadInput("source: 'reasoning_gym' needs the package reasoning_gym: pip install 'tutelage[gym]'") from None
    if task not in DATASETS:
        raise BadInput(f"task: {task!r}; must be one of reasoning_gym's{nearest(task, DATASETS)}")
    # Entry i of a data set follows from its seed + i: parts join to one, and those of other seeds lie far apart. Seeds
    # must be below 2^32 for some tasks.
    first = seed * 1_000_003 % 2**31
    for start in itertools.count(step=size):
        try:
            entries = gym.create_dataset(task, size=size, seed=first + start)
        except Exception as error:  # a task's own check of its settings
            raise BadInput(f"task: {task!r} of reasoning_gym needs settings of its own: {error}") from error
        for index in range(size):
            yield _entry(entries[index], f"task: {task!r} of reasoning_gym: entry {start + index}")


def _entry(entry: Any, place: str) -> Question:
    answer = str(entry["answer"]).strip()
    truth = parse_answer(answer) if _EXACT_NUMBER.fullmatch(answer) else None
    if truth is None:
        raise BadInput(
            f"{place} has the answer {answer[:40]!r}, which is not an exact number; choose a task whose answers are, "
            "such as gsm_symbolic or chain_sum"
        )
    solution = str(entry.get("metadata", {}).get("answer_cot", ""))
    return Question.of(str(entry["question"]).strip(), solution if read_answer(solution) == truth else f"#### {answer}")
