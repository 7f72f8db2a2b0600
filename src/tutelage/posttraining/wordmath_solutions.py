"""Solutions of `wordmath` problems: written right, or wrong at known steps; and the marking of anybody's steps."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.posttraining.solutions import steps as read_steps
from tutelage.posttraining.wordmath import Problem
from tutelage.posttraining.wordmath_templates import ANNOTATED, STEPS

_NOISE_TRIES = 30


@dataclass(frozen=True, slots=True)
class Solution:
    """A worked solution: its text, the order of its steps, and the places (in that order) whose result is wrong."""

    text: str
    order: tuple[int, ...]
    wrong: tuple[int, ...] = ()


def solve(
    problem: Problem, rng: random.Random, *, noise: float = 0.0, max_value: int | None = None, annotated: bool = False
) -> Solution:
    """A random solution: any valid order, phrasing and order of commuting operands, all equally likely.

    Args:
        noise: chance that a step's result is wrong, by up to 9. Later steps go on with the wrong value, each of them
            computed correctly unless it is noisy itself; all values stay whole numbers in [1, max_value] (a step
            for which no such wrong value was found stays right).
        max_value: by default the largest value of the problem or 99.
        annotated: write steps as `<< 12 + 3 = 15 >> 15 apples`, in GSM8K's notation.
    """
    order = rng.choice(list(problem.orders()))
    highest = max(99, *(q.value for q in problem.quantities)) if max_value is None else max_value
    values = {index: problem.quantities[index].value for index in order}
    slips: dict[int, int] = {}
    for index in order:
        if rng.random() < noise:
            for _ in range(_NOISE_TRIES):
                slip = rng.choice([-1, 1]) * (1 + rng.randrange(9))
                run = _follow(problem, order, slips | {index: slip}, highest)
                if run is not None:
                    slips[index], values = slip, run
                    break
    phrasing = STEPS[rng.randrange(len(STEPS))]
    lines = []
    for index in order:
        equation = rng.choice(problem.equations(index, values))
        blanks = {"c": problem.quantities[index].name, "value": values[index], "things": problem.thing}
        lines.append((ANNOTATED if annotated else phrasing).format(equation=equation, **blanks))
    text = "\n".join([*lines, f"#### {values[problem.target]}"])
    return Solution(text, order, tuple(place for place, index in enumerate(order) if index in slips))


def mark_steps(problem: Problem, text: str) -> list[bool]:
    """Whether each step of a solution is right: the equation of a needed step not yet done, after those it needs."""
    needed = set(problem.steps)
    after = {index: needed.intersection(problem.quantities[index].operands) for index in needed}
    written = {index: {equation.replace(" ", "") for equation in problem.equations(index)} for index in needed}
    # Two steps may have the same equation: all sets of steps that can have been done are kept.
    done: set[frozenset[int]] = {frozenset()}
    marks = []
    for step in read_steps(text):
        fits = {
            past | {index}
            for past in done
            for index in needed - past
            if step.equation in written[index] and after[index] <= past
        }
        done = fits or done
        marks.append(bool(fits))
    return marks


def _follow(problem: Problem, order: tuple[int, ...], slips: Mapping[int, int], highest: int) -> dict[int, int] | None:
    """The values of the steps if some are off by a slip and the rest follow; None where one is not in [1, highest]."""
    values: dict[int, int] = {}
    for index in order:
        quantity = problem.quantities[index]
        sides = [values.get(i, problem.quantities[i].value) for i in quantity.operands]
        a, b = (*sides, quantity.literal or 0)[:2]
        if quantity.op == "/" and a % b:
            return None
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[quantity.op] + slips.get(index, 0)
        if not 1 <= result <= highest:
            return None
        values[index] = result
    return values
