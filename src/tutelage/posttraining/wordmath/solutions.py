"""Solutions of `wordmath` problems: written right, or wrong at known steps; and the marking of anybody's steps."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tutelage.posttraining.grading.solutions import steps as read_steps
from tutelage.posttraining.wordmath.problems import Problem, Quantity
from tutelage.posttraining.wordmath.templates import ANNOTATED, STEPS

_NOISE_TRIES = 30


@dataclass(frozen=True, slots=True)
class Solution:
    """A worked solution: its text, the order of its steps, and the places (in that order) where it goes wrong.

    Attributes:
        wrong: places whose result is not that of their own left side.
        misplanned: places whose left side is not what the problem asks for.
    """

    text: str
    order: tuple[int, ...]
    wrong: tuple[int, ...] = ()
    misplanned: tuple[int, ...] = ()


def solve(
    problem: Problem,
    rng: random.Random,
    *,
    noise: float = 0.0,
    wrong_plan: float = 0.0,
    habit: float = 0.0,
    max_value: int | None = None,
    annotated: bool = False,
) -> Solution:
    """A random solution: any valid order, phrasing and order of commuting operands, all equally likely.

    Args:
        noise: chance that a step's result is wrong, by up to 9. Later steps go on with the wrong value, each of them
            computed correctly unless it is noisy itself; all values stay whole numbers in [1, max_value] (a step
            for which no such wrong value was found stays right).
        wrong_plan: chance that a step takes another operation, another known quantity or another number of the question
            than the problem says, all such mistakes equally likely; its equation is then none of the problem's. Later
            steps go on with what it gives, all values as above (a step that allows no such mistake stays right).
        habit: chance that such a mistake is the habitual one, where the numbers allow it: to add whatever should be
            something else, and to subtract what should be added.
        max_value: by default the largest value of the problem or 99.
        annotated: write steps as `<< 12 + 3 = 15 >> 15 apples`, in GSM8K's notation.
    """
    order = rng.choice(list(problem.orders()))
    highest = max(99, *(q.value for q in problem.quantities)) if max_value is None else max_value
    values = {index: problem.quantities[index].value for index in order}
    plan = problem
    slips: dict[int, int] = {}
    misplanned = []
    for place, index in enumerate(order):
        if wrong_plan and rng.random() < wrong_plan:
            mistakes = _other_plans(problem, plan, order[:place], index, rng)
            if rng.random() < habit:
                mistakes.sort(key=lambda other: not _is_habitual(problem.quantities[index], other.quantities[index]))
            for other in mistakes:
                run = _follow(other, order, slips, highest)
                if run is not None and _is_wrong(problem, other, index, values, run):
                    plan, values = other, run
                    misplanned.append(place)
                    break
        if rng.random() < noise:
            for _ in range(_NOISE_TRIES):
                slip = rng.choice([-1, 1]) * (1 + rng.randrange(9))
                run = _follow(plan, order, slips | {index: slip}, highest)
                if run is not None:
                    slips[index], values = slip, run
                    break
    phrasing = STEPS[rng.randrange(len(STEPS))]
    lines = []
    for index in order:
        equation = rng.choice(plan.equations(index, values))
        blanks = {"c": problem.quantities[index].name, "value": values[index], "things": problem.thing}
        lines.append((ANNOTATED if annotated else phrasing).format(equation=equation, **blanks))
    text = "\n".join([*lines, f"#### {values[problem.target]}"])
    wrong = tuple(place for place, index in enumerate(order) if index in slips)
    return Solution(text, order, wrong, tuple(misplanned))


def mark_steps(problem: Problem, text: str) -> list[bool]:
    """Whether each step of a solution is right: the equation of a needed step not yet done, after those it needs."""
    after, written = _needs(problem)
    # Two steps may have the same equation: all sets of steps that can have been done are kept.
    done: set[frozenset[int]] = {frozenset()}
    marks = []
    for step in read_steps(text):
        fits = {
            past | {index}
            for past in done
            for index in written.get(step.equation, ())
            if index not in past and after[index] <= past
        }
        done = fits or done
        marks.append(bool(fits))
    return marks


@lru_cache(maxsize=1 << 12)
def _needs(problem: Problem) -> tuple[dict[int, set[int]], dict[str, list[int]]]:
    """What each step needs, and the steps that an equation can be."""
    after = {index: set(problem.steps).intersection(problem.quantities[index].operands) for index in problem.steps}
    written: dict[str, list[int]] = {}
    for index in after:
        for equation in problem.equations(index):
            written.setdefault(equation.replace(" ", ""), []).append(index)
    return after, written


def _other_plans(problem: Problem, plan: Problem, done: Sequence[int], index: int, rng: random.Random) -> list[Problem]:
    """The plan with one mistake in a step, in random order: what was told, and the steps `done`, can be operands."""
    right = problem.quantities[index]
    turned = right.operands[::-1]
    found = [replace(right, op=op) for op in "+-*/" if op != right.op]
    if right.literal is None:
        found += [replace(right, op=op, operands=turned) for op in "-/"]
    else:
        found += [replace(right, literal=number) for number in sorted({*problem.numbers} - {right.literal})]
    known = [i for i in problem.told if not problem.quantities[i].op] + list(done)
    for place in range(len(right.operands)):
        before, after = right.operands[:place], right.operands[place + 1 :]
        found += [replace(right, operands=(*before, i, *after)) for i in known if i not in right.operands]
    rng.shuffle(found)
    return [_with(plan, index, mistake) for mistake in found]


def _is_habitual(right: Quantity, mistake: Quantity) -> bool:
    changed = replace(right, op="-" if right.op == "+" else "+")
    return mistake == changed


def _with(plan: Problem, index: int, quantity: Quantity) -> Problem:
    return replace(plan, quantities=(*plan.quantities[:index], quantity, *plan.quantities[index + 1 :]))


def _is_wrong(problem: Problem, plan: Problem, index: int, values: Mapping[int, int], run: Mapping[int, int]) -> bool:
    """Whether a step of the plan, written with the values of its run, is no equation that the problem asks for."""
    right = {equation for step in problem.steps for equation in problem.equations(step)}
    return right.union(problem.equations(index, values)).isdisjoint(plan.equations(index, run))


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
