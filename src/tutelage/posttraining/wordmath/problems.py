"""`wordmath`: generated word problems of which everything is known.

A problem is a small graph of named quantities: some are told, the others follow by one operation each. So every
intermediate value, every valid order of the steps and all right solutions are known, and coverage and novelty of
sampled solutions can be counted exactly. Perturbations as in Patel, Bhattamishra & Goyal (2021), Are NLP Models really
able to Solve Simple Math Word Problems?, arXiv 2103.07191.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.settings import setting
from tutelage.posttraining.wordmath.templates import (
    FACTS,
    NAMES,
    NUM_TEMPLATES,
    QUESTIONS,
    SUM_QUESTIONS,
    THINGS,
    TOGETHER,
)

Split = Literal["train", "test"]
Perturbation = Literal["distractor", "order", "question"]
PERTURBATIONS = ("distractor", "order", "question")
_DRAWS = 5000


@dataclass(frozen=True)
class Difficulty:
    """How hard the problems are.

    Raises:
        BadInput: a range is empty or leaves no problems.
    """

    min_steps: int = setting(1, "Fewest operations of a problem.", interval="[1, 6]")
    max_steps: int = setting(4, "Most operations of a problem.", interval="[1, 6]")
    max_given: int = setting(20, "Largest number told about a person.", interval="[4, inf)")
    max_value: int = setting(99, "Largest intermediate value.", interval="[4, inf)")
    max_factor: int = setting(5, "Largest number to multiply or divide by.", interval="[2, inf)")
    operations: str = setting("+-*/", "Which operations occur.")
    reuse: float = setting(0.2, "Chance that a joining step takes a quantity that was used before.", interval="[0, 1]")
    templates: int = setting(NUM_TEMPLATES, "Phrasings of each fact; later ones are harder.", interval="[1, 3]")
    distractors: int = setting(0, "Sentences about people who do not matter.", interval="[0, 5]")
    shuffled: bool = setting(False, "Whether the facts stand in any order instead of a solvable one.")
    test_share: float = setting(0.2, "Share of the computations that belong to the test split.", interval="(0, 1)")

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value, interval = getattr(self, spec.name), spec.metadata["interval"]
            if interval is not None and value not in interval:
                raise BadInput(f"{spec.name}: {value} is outside {interval.text}")
        if self.min_steps > self.max_steps:
            raise BadInput(f"min_steps: {self.min_steps} is above max_steps = {self.max_steps}")
        if self.max_given > self.max_value:
            raise BadInput(f"max_given: {self.max_given} is above max_value = {self.max_value}")
        if not self.operations or set(self.operations) - set("+-*/"):
            raise BadInput(f"operations: {self.operations!r}; must be some of '+-*/'")


@dataclass(frozen=True, slots=True)
class Quantity:
    """What somebody has: told (no `op`, `literal` is the number), or `op` of one operand and a literal, or of two."""

    name: str
    value: int
    op: str = ""
    operands: tuple[int, ...] = ()
    literal: int | None = None
    template: int = 0

    @property
    def kind(self) -> str:
        """The key of its templates."""
        return "given" if not self.op else self.op + "k" * (self.literal is not None)


@dataclass(frozen=True, slots=True)
class Problem:
    """A word problem.

    Attributes:
        quantities: operands stand before what is computed from them.
        target: index of the one that is asked for.
        told: the indices in the order of their sentences; the target of a sum question has none.
        thing: what is counted. `question_template`: how it is asked.
    """

    quantities: tuple[Quantity, ...]
    target: int
    told: tuple[int, ...]
    thing: str
    question_template: int = 0

    @property
    def question(self) -> str:
        """The text."""
        sentences = [self._say(FACTS[self.quantities[i].kind], i, self.quantities[i].template) for i in self.told]
        asked = SUM_QUESTIONS if self.quantities[self.target].name == TOGETHER else QUESTIONS
        return " ".join([*sentences, self._say(asked, self.target, self.question_template)])

    @property
    def answer(self) -> int:
        """The value that is asked for."""
        return self.quantities[self.target].value

    @property
    def steps(self) -> tuple[int, ...]:
        """The computed quantities that the target depends on, the target last."""
        needed = {self.target}
        for index in range(self.target, -1, -1):
            if index in needed:
                needed.update(self.quantities[index].operands)
        return tuple(index for index in sorted(needed) if self.quantities[index].op)

    @property
    def intermediate(self) -> tuple[int, ...]:
        """The results of `steps`, the answer last."""
        return tuple(self.quantities[index].value for index in self.steps)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers that stand in the question."""
        return tuple(q.literal for q in (self.quantities[i] for i in self.told) if q.literal is not None)

    @property
    def computation(self) -> str:
        """The answer's expression over the told numbers, the same for every wording: `((3+5)*2)`."""
        return self._expression(self.target)

    def orders(self) -> Iterator[tuple[int, ...]]:
        """Every valid order of `steps`: each after those that it needs."""
        needed = frozenset(self.steps)

        def extend(done: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
            if len(done) == len(needed):
                yield done
            for index in sorted(needed.difference(done)):
                if needed.intersection(self.quantities[index].operands) <= set(done):
                    yield from extend((*done, index))

        return extend(())

    def equations(self, index: int, values: Mapping[int, int] | None = None) -> list[str]:
        """The ways to write a step, `12 + 3 = 15` and where it commutes `3 + 12 = 15`; `values` replaces operands'."""
        quantity = self.quantities[index]
        known = {} if values is None else values
        sides = [known.get(i, self.quantities[i].value) for i in quantity.operands]
        sides += [] if quantity.literal is None else [quantity.literal]
        pairs = [sides, sides[::-1]] if quantity.op in "+*" and sides[0] != sides[1] else [sides]
        result = known.get(index, quantity.value)
        return [f"{a} {quantity.op} {b} = {result}" for a, b in pairs]

    def equation_keys(self) -> set[tuple[str, ...]]:
        """The keys (`solution_key` at level `equation`) of all right solutions: every order, every way to write it."""
        ways = {index: [equation.replace(" ", "") for equation in self.equations(index)] for index in self.steps}
        return {way for order in self.orders() for way in itertools.product(*(ways[index] for index in order))}

    def _say(self, templates: tuple[str, ...], index: int, choice: int) -> str:
        quantity = self.quantities[index]
        a, b = (*(self.quantities[i].name for i in quantity.operands), "", "")[:2]
        return templates[choice].format(c=quantity.name, a=a, b=b, k=quantity.literal, things=self.thing)

    def _expression(self, index: int) -> str:
        quantity = self.quantities[index]
        if not quantity.op:
            return str(quantity.literal)
        sides = [self._expression(i) for i in quantity.operands]
        sides += [] if quantity.literal is None else [str(quantity.literal)]
        return f"({quantity.op.join(sorted(sides) if quantity.op in '+*' else sides)})"


def problem(difficulty: Difficulty, rng: random.Random) -> Problem:
    """A random problem, of either split.

    Raises:
        BadInput: the numbers allow (almost) no problem with so many steps.
    """
    for _ in range(_DRAWS):
        drawn = _draw(difficulty, rng)
        if drawn is not None:
            return drawn
    raise BadInput(
        f"operations: {difficulty.operations!r} allow hardly any problem with these numbers of steps and values"
    )


def problems(
    difficulty: Difficulty,
    count: int,
    *,
    split: Split = "train",
    seed: int = 0,
    perturbations: tuple[Perturbation, ...] = (),
) -> list[Problem]:
    """Different problems of one split: the same for the same arguments on every platform.

    The split is a property of the computation (a hash of its expression), not of the draw: no computation of the test
    split is ever in the training split, whatever the seeds, difficulties, wordings and perturbations.

    Raises:
        BadInput: unknown names, or the difficulty does not have so many problems.
    """
    if split not in ("train", "test"):
        raise BadInput(f"split: {split!r}; must be train or test{nearest(split, ('train', 'test'))}")
    for name in perturbations:
        _known(name)
    found: dict[str, Problem] = {}
    share = difficulty.test_share if split == "test" else 1 - difficulty.test_share
    for index in range(int(20 * count / share) + 1000):
        if len(found) == count:
            break
        rng = random.Random(f"wordmath {seed} {index}")
        drawn = problem(difficulty, rng)
        for name in perturbations:
            drawn = perturb(drawn, name, rng, difficulty)
        if split_of(drawn, difficulty.test_share) == split:
            found.setdefault(drawn.question, drawn)
    if len(found) < count:
        raise BadInput(
            f"count: {count} problems of this difficulty; found {len(found)} different ones: widen its ranges"
        )
    return list(found.values())


def split_of(problem: Problem, test_share: float) -> Split:
    """The split to which the problem's computation belongs."""
    digest = hashlib.sha256(problem.computation.encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_share * 2**64 else "train"


def perturb(problem: Problem, name: Perturbation, rng: random.Random, difficulty: Difficulty) -> Problem:
    """The problem with one of SVAMP's perturbations.

    `distractor`: one more sentence, about somebody who does not matter; `order`: the facts in another order (where
    there are several); `question`: another quantity is asked for, or what two people have together. Where its numbers
    allow no other question the problem is returned as it is.
    """
    _known(name)
    if name == "distractor":
        return _with_distractor(problem, rng, difficulty)
    if name == "order":
        told = list(problem.told)
        while len(told) > 1 and tuple(told) == problem.told:
            rng.shuffle(told)
        return dataclasses.replace(problem, told=tuple(told))
    quantities = problem.quantities
    others = [i for i in problem.told if quantities[i].op and i != problem.target]
    if others:
        return dataclasses.replace(problem, target=rng.choice(others))
    sums = {(a, b): quantities[a].value + quantities[b].value for a, b in itertools.combinations(problem.told, 2)}
    pairs = [pair for pair in sums if sums[pair] <= difficulty.max_value]
    if not pairs:
        return problem
    pair = rng.choice(pairs)
    total = Quantity(TOGETHER, sums[pair], "+", pair)
    return dataclasses.replace(problem, quantities=(*quantities, total), target=len(quantities))


def _known(name: str) -> None:
    if name not in PERTURBATIONS:
        raise BadInput(
            f"perturbation: {name!r}; must be one of {', '.join(PERTURBATIONS)}{nearest(name, PERTURBATIONS)}"
        )


def _draw(difficulty: Difficulty, rng: random.Random) -> Problem | None:
    """None where the numbers drawn so far leave no step."""
    num_steps = rng.randrange(difficulty.min_steps, difficulty.max_steps + 1)
    can_join = bool(set("+-") & set(difficulty.operations))
    joins = sum(rng.random() < 0.4 for _ in range(num_steps)) if can_join else 0
    names = iter(rng.sample(NAMES, joins + 1 + num_steps))
    quantities = [_given(difficulty, rng, next(names)) for _ in range(joins + 1)]
    # Each step uses up one quantity, or two where it joins, and makes one: in the end one is left, and it needs all.
    unused = list(range(joins + 1))
    joining = [True] * joins + [False] * (num_steps - joins)
    rng.shuffle(joining)
    for joins_two in joining:
        first = unused.pop(rng.randrange(len(unused)))
        second = None
        if joins_two:
            second = unused.pop(rng.randrange(len(unused)))
        elif can_join and rng.random() < difficulty.reuse:
            spent = [i for i in range(len(quantities)) if i not in unused and i != first]
            second = rng.choice(spent) if spent else None
        made = _computed(difficulty, rng, quantities, first, second, next(names))
        if made is None:
            return None
        unused.append(len(quantities))
        quantities.append(made)
    told = list(range(len(quantities)))
    if difficulty.shuffled:
        rng.shuffle(told)
    asked = rng.randrange(difficulty.templates)
    drawn = Problem(tuple(quantities), unused[0], tuple(told), rng.choice(THINGS), asked)
    for _ in range(difficulty.distractors):
        drawn = _with_distractor(drawn, rng, difficulty)
    return drawn


def _given(difficulty: Difficulty, rng: random.Random, name: str) -> Quantity:
    value = rng.randrange(2, difficulty.max_given + 1)
    return Quantity(name, value, literal=value, template=rng.randrange(difficulty.templates))


def _computed(
    difficulty: Difficulty, rng: random.Random, quantities: list[Quantity], first: int, second: int | None, name: str
) -> Quantity | None:
    """An operation that is possible on the first quantity and a number, or on two quantities; None if none is."""
    a = quantities[first].value
    choices: dict[str, list[Quantity]]
    template = rng.randrange(difficulty.templates)
    if second is not None:
        b = quantities[second].value
        larger, smaller = (first, second) if a > b else (second, first)
        choices = {
            "+": [Quantity(name, a + b, "+", (first, second), None, template)] * (a + b <= difficulty.max_value),
            "-": [Quantity(name, abs(a - b), "-", (larger, smaller), None, template)] * (a != b),
        }
    else:
        terms, factors = range(1, difficulty.max_given + 1), range(2, difficulty.max_factor + 1)
        results = {
            "+": [(a + k, k) for k in terms if a + k <= difficulty.max_value],
            "-": [(a - k, k) for k in terms if k < a],
            "*": [(a * k, k) for k in factors if a * k <= difficulty.max_value],
            "/": [(a // k, k) for k in factors if a % k == 0],
        }
        choices = {op: [] for op in results}
        for op in difficulty.operations:
            if results[op]:
                value, k = rng.choice(results[op])
                choices[op] = [Quantity(name, value, op, (first,), k, template)]
    possible = [made for op in difficulty.operations for made in choices.get(op, [])]
    return rng.choice(possible) if possible else None


def _with_distractor(problem: Problem, rng: random.Random, difficulty: Difficulty) -> Problem:
    """One more person, told or related to one of those told, at any place among the facts."""
    free = [name for name in NAMES if name not in {q.name for q in problem.quantities}]
    if not free:
        raise BadInput(f"distractor: all {len(NAMES)} names are taken")
    name = rng.choice(free)
    extra = None
    if rng.random() < 0.5:
        extra = _computed(difficulty, rng, list(problem.quantities), rng.choice(problem.told), None, name)
    extra = _given(difficulty, rng, name) if extra is None else extra
    told = list(problem.told)
    told.insert(rng.randrange(len(told) + 1), len(problem.quantities))
    return dataclasses.replace(problem, quantities=(*problem.quantities, extra), told=tuple(told))
