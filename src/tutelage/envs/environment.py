"""The `Environment` protocol: a world as a record of pure functions of one episode; `jax.vmap` gives the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, Key, PyTree

Task = Any
"""The free parameters of a world (a level), a pytree of arrays. Static parameters are baked into the functions."""
EnvState = Any


class TimeStep(NamedTuple):
    """What one step gives. `discount`, not `done`, says whether the future counts.

    At a termination `discount` is 0; at a truncation it is 1 and `last` is true, so learners bootstrap from `obs`,
    which is always the true successor, never the first observation of the next episode.
    """

    obs: PyTree
    reward: Float[Array, ""]
    discount: Float[Array, ""]
    last: Bool[Array, ""]


@dataclass(frozen=True)
class Discrete:
    """Actions 0 … n−1."""

    n: int


@dataclass(frozen=True)
class Box:
    """Continuous actions of `size` numbers, each in [low, high]; a step clips what lies outside."""

    size: int
    low: float
    high: float


@dataclass(frozen=True)
class Environment:
    """An underspecified environment: the task decides what it is.

    Required: `reset(key, task) -> (state, obs)`, `step(key, state, action) -> (state, TimeStep)` (no automatic reset:
    whoever rolls out decides where the next episode starts) and `sample_task(key) -> task`.

    Optional, None where a world has no such thing: `mutate(key, task, num_edits) -> task` (`num_edits` static),
    `equal(task, task) -> bool`, `solve(task) -> best possible undiscounted return` (−inf is never returned: an
    unsolvable task has the return of the best policy, e.g. 0), `measure(task) -> {name: number}` (level metrics).

    Attributes:
        horizon: the largest number of steps of an episode.
        truncates: whether an episode can end with discount 1. If false, learners skip the extra value estimate.
    """

    name: str
    actions: Discrete | Box
    horizon: int
    reset: Callable[[Key[Array, ""], Task], tuple[EnvState, PyTree]]
    step: Callable[[Key[Array, ""], EnvState, Array], tuple[EnvState, TimeStep]]
    sample_task: Callable[[Key[Array, ""]], Task]
    truncates: bool = False
    mutate: Callable[[Key[Array, ""], Task, int], Task] | None = None
    equal: Callable[[Task, Task], Bool[Array, ""]] | None = None
    solve: Callable[[Task], Float[Array, ""]] | None = None
    measure: Callable[[Task], dict[str, Float[Array, ""] | Int[Array, ""] | Bool[Array, ""]]] | None = None
