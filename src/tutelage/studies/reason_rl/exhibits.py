"""Tables of a finished run: solutions with their steps marked, and how many different right ones there are."""

from __future__ import annotations

from typing import Any

from tutelage.backends.torch_program import TorchProgram
from tutelage.lab.program import Program
from tutelage.lab.study import Exhibit
from tutelage.lm.pools import Rollout
from tutelage.posttraining.grading.solutions import steps
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import correct
from tutelage.posttraining.wordmath.solutions import mark_steps
from tutelage.studies.reason_rl.build import System
from tutelage.studies.reason_rl.config import Config
from tutelage.studies.reason_rl.start import greedy

SHOWN = 8
"""Test questions whose greedy answers are shown."""


def exhibits(config: Config, program: Program, state: Any) -> list[Exhibit]:
    """Greedy solutions before and after, of the first seed."""
    assert isinstance(program, TorchProgram)
    system = program.system(0)
    assert isinstance(system, System)
    of_seed = program.seed_state(state, 0)
    system.learner.enter(of_seed)
    start = system.start
    questions = start.tasks.test[: 4 * SHOWN]
    after = greedy(start, system.tested_policy(config.schedule.num_updates), questions)
    before = greedy(start, start.load(start.folder, start.starting_template), questions)
    # What changed says more than what did not: learnt first, then forgotten, then the rest.
    order = sorted(range(len(questions)), key=lambda i: (correct(before[i]) - correct(after[i]), i))
    rows = [("question and solution", "before", "after")]
    for place in order[:SHOWN]:
        rows += _rows(questions[place], before[place], after[place])
    caption = (
        f"Greedy solutions of the start and of the end, of {len(questions)} test questions those whose verdict changed "
        "first. ✓ a right step, ✗ a wrong one; the last line is the final answer."
    )
    return [Exhibit("solutions", "Solutions, step by step", caption, rows=tuple(rows))]


def _rows(question: Question, before: Rollout, after: Rollout) -> list[tuple[str, ...]]:
    """The question, then the lines of both solutions beside each other."""
    columns = [_lines(question, rollout) for rollout in (before, after)]
    depth = max(map(len, columns))
    padded = [column + [""] * (depth - len(column)) for column in columns]
    asked = f"{question.text} (answer {question.answer.value})"
    return [(asked if place == 0 else "", *pair) for place, pair in enumerate(zip(*padded, strict=True))]


def _lines(question: Question, rollout: Rollout) -> list[str]:
    """The lines of a solution, each with its mark."""
    text = rollout.text
    found = steps(text)
    right = mark_steps(question.problem, text) if question.problem is not None else [step.correct for step in found]
    marks: dict[int, bool] = {}
    for step, good in zip(found, right, strict=True):
        line = text.count("\n", 0, max(step.end - 1, 0))
        marks[line] = marks.get(line, True) and good  # of several steps on a line one is enough to make it wrong
    lines = [
        f"{'✓' if marks[number] else '✗'} {line}" if number in marks else line
        for number, line in enumerate(text.split("\n"))
    ]
    lines[-1] = f"{'✓' if correct(rollout) else '✗'} {lines[-1]}"
    return lines
