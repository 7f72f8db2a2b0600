"""One's own objectives: ordinary Python functions of finished objects, with a direction and bounds for each.

from tutelage.gflownets.oracles.own import own_problem

problem = own_problem(
    environment,
    {"brightness": brightness, "size": size},      # each: list of n rendered objects -> n numbers
    maximise={"brightness": (0, 1)},
    minimise={"size": (0, 500)},                   # 0 becomes the reward 1, 500 the reward 0
    render=to_smiles,                              # one int32 array -> whatever the functions want
)
score = Oracle(problem.objectives, cache="scores.jsonl")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from tutelage.gflownets.environment import Environment
from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.oracles.endpoint import Endpoint
from tutelage.gflownets.problem import Problem
from tutelage.lab.errors import BadInput, nearest

Measure = Callable[[Sequence[Any]], ArrayLike]
"""n rendered objects -> n numbers, or [n, M] of them."""
Bounds = tuple[float | int, float | int]
"""Low and high."""
ROUNDING = 1e-6
"""How far beyond a bound a value may lie, in widths of its range: single precision, no mistake of the user's."""


@dataclass(frozen=True)
class Goal:
    """Which way one objective is wanted, and the range that is mapped to [0, 1]."""

    name: str
    low: float
    high: float
    maximised: bool

    def __post_init__(self) -> None:
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise BadInput(
                f"objective {self.name!r}: bounds ({self.low:g}, {self.high:g}) must be finite numbers, low < high"
            )


@dataclass(frozen=True)
class Measured:
    """`Objectives.rewards` in two stages: what is measured, in its own units, and what that is worth, in [0, 1].

    An oracle keeps what was measured, so that other bounds need no new measurements.
    """

    measure: Measure
    goals: tuple[Goal, ...]
    render: Callable[[np.ndarray], Any] | None = None

    def __call__(self, objects: np.ndarray) -> Float[np.ndarray, "n M"]:
        objects = np.asarray(objects)
        return self.rewards(self.values(objects), objects, _listed)

    def values(self, objects: np.ndarray) -> np.ndarray:
        """What the function says of these objects, as f64, of whatever shape it has."""
        rows = list(np.asarray(objects))
        return np.asarray(self.measure([self.render(row) for row in rows] if self.render else rows), np.float64)

    def rewards(
        self, values: np.ndarray, objects: np.ndarray, text: Callable[[np.ndarray], str]
    ) -> Float[np.ndarray, "n M"]:
        """Values [n, M] as rewards: (v − low)/(high − low) where more is better, (high − v)/(high − low) where less is.

        `text` says what an object is called in an error.

        Raises:
            BadInput: on NaN or a value outside its bounds: which objective, how many, and the first such object.
                Nothing is ever clipped.
        """
        if values.shape != (len(objects), len(self.goals)):
            raise BadInput(
                f"objectives gave an array of shape {values.shape} for {len(objects)} objects; "
                f"must be {(len(objects), len(self.goals))}"
            )
        columns = []
        for goal, column in zip(self.goals, values.T, strict=True):
            share = (column - goal.low) / (goal.high - goal.low)
            wrong = ~((share >= -ROUNDING) & (share <= 1 + ROUNDING))
            if wrong.any():
                first = int(np.argmax(wrong))
                raise BadInput(
                    f"objective {goal.name!r}: {int(wrong.sum())} of {len(column)} values are outside "
                    f"[{goal.low:g}, {goal.high:g}], the first {column[first]:g} of {text(objects[first]):.80}"
                )
            share = np.clip(share, 0.0, 1.0)  # no more than `ROUNDING` is cut off
            columns.append(share if goal.maximised else 1.0 - share)
        return np.stack(columns, axis=1)

    def in_units(self, rewards: Float[np.ndarray, "n M"]) -> Float[np.ndarray, "n M"]:
        """Rewards back in the units they were measured in, for tables."""
        low, high = (np.array([getattr(goal, end) for goal in self.goals]) for end in ("low", "high"))
        share = np.where([goal.maximised for goal in self.goals], rewards, 1.0 - np.asarray(rewards))
        return low + share * (high - low)


def own_objectives(
    measure: Mapping[str, Measure] | Measure | Endpoint,
    *,
    maximise: Mapping[str, Bounds] | None = None,
    minimise: Mapping[str, Bounds] | None = None,
    names: Sequence[str] = (),
    render: Callable[[np.ndarray], Any] | None = None,
) -> Objectives:
    """M objectives that live on the host.

    Args:
        measure: one function for each name (list of n rendered objects -> n numbers); or one for all of them
            (-> [n, M], columns in the order of `names`); or an `Endpoint`.
        maximise, minimise: `{name: (low, high)}`: every objective is in exactly one of the two. `low` and `high` bound
            what the function can say and are mapped to the rewards 0 and 1 (minimised: 1 and 0).
        names: the order of the columns, where one function gives all of them.
        render: one object (an int32 array) -> what the functions are given; by default the array itself.

    Raises:
        BadInput: for an objective with no direction or with both, for names that do not fit, and for bad bounds.
    """
    maximise, minimise = dict(maximise or {}), dict(minimise or {})
    if isinstance(measure, Mapping):
        order = tuple(measure)
        function: Measure = _side_by_side(dict(measure))
    else:
        order = tuple(measure.names if isinstance(measure, Endpoint) else names or (*maximise, *minimise))
        function = measure
        if not (names or isinstance(measure, Endpoint)) and len(order) > 1:
            raise BadInput(f"one function measures {', '.join(order)}: names must say the order of its columns")
    if names and tuple(names) != order:
        raise BadInput(f"names = {', '.join(names)}, but the functions are of {', '.join(order)}: must be the same")
    for field, goals in (("maximise", maximise), ("minimise", minimise)):
        for name in goals:
            if name not in order:
                raise BadInput(f"{field}: there is no objective {name!r}{nearest(name, order)}")
    return Objectives(
        names=order,
        rewards=Measured(function, tuple(_goal(name, maximise, minimise) for name in order), render),
        on_host=True,
        render=(lambda row: str(render(row))) if render else _listed,
    )


def own_problem(
    environment: Environment,
    measure: Mapping[str, Measure] | Measure | Endpoint,
    *,
    maximise: Mapping[str, Bounds] | None = None,
    minimise: Mapping[str, Bounds] | None = None,
    names: Sequence[str] = (),
    render: Callable[[np.ndarray], Any] | None = None,
    distances: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Problem:
    """A problem of one's own objectives over any environment; see `own_objectives`.

    Args:
        distances: `objects [n, …], objects [m, …] -> [n, m]`, for the diversity of samples; by default the number of
            entries in which two arrays differ.
    """
    objectives = own_objectives(measure, maximise=maximise, minimise=minimise, names=names, render=render)
    return Problem(environment, objectives, distances or entries_that_differ)


def one_by_one(function: Callable[[Any], float]) -> Measure:
    """A function of one object as a function of many."""
    return lambda objects: [function(each) for each in objects]


def entries_that_differ(objects: np.ndarray, others: np.ndarray) -> Float[np.ndarray, "n m"]:
    """The Hamming distance of integer arrays: in how many entries each of n differs from each of m."""
    axes = tuple(range(1, others.ndim))
    rows = [(others != row).sum(axis=axes) for row in objects]
    return np.array(rows, np.float64).reshape(len(objects), len(others))


def _side_by_side(functions: dict[str, Measure]) -> Measure:
    """One function whose columns are those functions."""

    def measure(objects: Sequence[Any]) -> np.ndarray:
        columns = []
        for name, function in functions.items():
            column = np.asarray(function(objects), np.float64)
            if column.shape not in ((len(objects),), (len(objects), 1)):
                raise ValueError(
                    f"objective {name!r} gave an array of shape {column.shape} for {len(objects)} objects; "
                    f"must be {(len(objects),)}"
                )
            columns.append(column.reshape(-1))
        return np.stack(columns, axis=1)

    return measure


def _goal(name: str, maximise: Mapping[str, Bounds], minimise: Mapping[str, Bounds]) -> Goal:
    if (name in maximise) == (name in minimise):
        both = name in maximise
        raise BadInput(
            f"objective {name!r} is in {'both' if both else 'neither'} of maximise= and minimise=: a Pareto front "
            f"needs one direction, with bounds: maximise={{{name!r}: (low, high)}}"
        )
    low, high = (maximise if name in maximise else minimise)[name]
    return Goal(name, float(low), float(high), name in maximise)


def _listed(row: np.ndarray) -> str:
    return " ".join(map(str, np.asarray(row).reshape(-1).tolist()))
