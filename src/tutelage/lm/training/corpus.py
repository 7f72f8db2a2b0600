"""Texts and questions to train and test small models on: people's files, and generators that are built in."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.lab.errors import BadInput, nearest

_NAMES = ("Ada", "Ben", "Cleo", "Dev", "Eva", "Finn", "Gita", "Hugo")
_THINGS = ("apples", "books", "coins", "marbles", "pens", "shells", "stamps", "tickets")


@dataclass(frozen=True)
class Problem:
    """A question and its reference answer: worked steps, one a line, and `#### result` last where there are steps."""

    question: str
    answer: str

    @property
    def prompt(self) -> str:
        """What a model reads before it answers; it ends in a new line, over which no tokenizer joins tokens."""
        return f"Question: {self.question}\nAnswer:\n"

    @property
    def text(self) -> str:
        return self.prompt + self.answer


def arithmetic(number: int, seed: int = 0) -> list[Problem]:
    """Problems about somebody's things, of one to three additions, subtractions and multiplications, results 0–99."""
    draw = random.Random(seed)
    return [_arithmetic(draw) for _ in range(number)]


GENERATORS: dict[str, Callable[[int, int], list[Problem]]] = {"arithmetic": arithmetic}


def texts(sources: Sequence[str], *, number: int = 20_000, seed: int = 0) -> list[str]:
    """The documents of files (`.txt`: one by blank line; `.jsonl`: one by line) and of built-in generators by name.

    Args:
        number: how many documents each generator makes.

    Raises `BadInput` for no source, an unknown one, a file without text, and a line that has no text in it.
    """
    if not sources:
        raise BadInput(f"corpus: give files (.txt, .jsonl) or a generator: {', '.join(GENERATORS)}")
    found: list[str] = []
    for source in sources:
        if source in GENERATORS:
            found += [problem.text for problem in GENERATORS[source](number, seed)]
        elif Path(source).suffix == ".jsonl":
            found += [_document(record, source, line) for line, record in _records(Path(source))]
        else:
            found += [part.strip("\n") for part in _read(source).split("\n\n") if part.strip()]
    if not found:
        raise BadInput(f"corpus: there is no text in {', '.join(sources)}")
    return found


def problems(path: str) -> list[Problem]:
    """The `question` and `answer` of every line of a JSONL file. Raises `BadInput` naming the line that lacks one."""
    found = []
    for line, record in _records(Path(path)):
        if not all(isinstance(record.get(name), str) and record[name] for name in ("question", "answer")):
            raise BadInput(f"line {line} of {path}: needs the texts 'question' and 'answer'")
        found.append(Problem(record["question"], record["answer"]))
    if not found:
        raise BadInput(f"{path}: there is no question in it")
    return found


def has_questions(path: str) -> bool:
    """Whether a file is JSONL whose first line is a question with its answer."""
    first = next(iter(_records(Path(path))), None) if Path(path).suffix == ".jsonl" else None
    return first is not None and {"question", "answer"} <= first[1].keys()


def _arithmetic(draw: random.Random) -> Problem:
    name, thing = draw.choice(_NAMES), draw.choice(_THINGS)
    total = draw.randint(2, 30)
    story, steps = [f"{name} has {total} {thing}."], []
    for _ in range(draw.randint(1, 3)):
        kinds = [kind for kind in "+-*" if kind == "-" or (total < 90 if kind == "+" else 0 < total < 25)]
        kind = draw.choice(kinds)
        other = {"+": (1, max(1, min(30, 99 - total))), "-": (0, total), "*": (2, max(2, 99 // max(total, 1)))}[kind]
        amount = draw.randint(other[0], min(other[1], 4) if kind == "*" else other[1])
        result = {"+": total + amount, "-": total - amount, "*": total * amount}[kind]
        story.append({"+": f"Then come {amount} more.", "-": f"Then {amount} are lost."}.get(kind, ""))
        if kind == "*":
            story[-1] = f"Then there are {amount} times as many."
        steps.append(f"{total} {kind} {amount} = {result}")
        total = result
    question = " ".join([*story, f"How many {thing} are there now?"])
    return Problem(question, "\n".join([*steps, f"#### {total}"]))


def _document(record: dict[str, Any], source: str, line: int) -> str:
    if isinstance(record.get("text"), str) and record["text"]:
        return record["text"]
    if {"question", "answer"} <= record.keys():
        return Problem(str(record["question"]), str(record["answer"])).text
    raise BadInput(f"line {line} of {source}: needs 'text', or 'question' and 'answer'")


def _records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for number, line in enumerate(_read(str(path)).split("\n"), start=1):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError as error:
                raise BadInput(f"line {number} of {path} is not JSON") from error
            if not isinstance(record, dict):
                raise BadInput(f"line {number} of {path} is not a JSON object")
            found.append((number, record))
    return found


def _read(source: str) -> str:
    try:
        return Path(source).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{source}: is not UTF-8 text") from error
    except OSError as error:
        hint = nearest(source, GENERATORS)
        raise BadInput(f"{source}: neither a file that can be read nor one of {', '.join(GENERATORS)}{hint}") from error
