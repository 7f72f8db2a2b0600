"""The `Teacher` protocol: who chooses the next tasks, and learns from how the students did on them.

One cycle of unsupervised environment design is: `prepare`, `decide`, `propose` N tasks, roll the students out on them,
`observe` the outcomes, and, where `learns` says so, one update of the students.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.envs.environment import Task

TeacherState = Any
Tickets = Any
"""Whatever `observe` needs to credit an outcome to the right place (buffer slots, particles, a teacher's rollout)."""
Phase = Int[Array, ""]


class Outcomes(NamedTuple):
    """How one student did on N tasks, over the episodes it completed there (and over copies of the task).

    With several students that share their tasks every leaf has a leading axis A.

    Attributes:
        completed: episodes that ended inside the rollout.
        mean_return, max_return: undiscounted returns over completed episodes; max is −inf where none completed.
        success_rate: share of completed episodes with a positive return; 0 where none completed.
        score: the score asked for (`tutelage.curricula.scores`); −inf means "no completed episode: ignore".
    """

    completed: Int[Array, "*A N"]
    mean_return: Float[Array, "*A N"]
    max_return: Float[Array, "*A N"]
    success_rate: Float[Array, "*A N"]
    score: Float[Array, "*A N"]


Probe = Callable[[Key[Array, ""], Task], Outcomes]
"""Roll the current student out, without learning, on any number of tasks (leading axis M)."""


@dataclass(frozen=True)
class Teacher:
    """A record of pure functions over one teacher's state.

    Attributes:
        init: `key -> state`.
        decide: `(state, key) -> phase`. Apart from `propose` because a population and several devices must agree on
            the phase: the caller decides once (from the first member's state and `ready` of all) and hands it to all.
        ready: `state -> bool`: whether the buffer is full enough for a phase that needs it; all must be ready.
        propose: `(state, key, phase) -> (tasks, tickets)` with N tasks. Reads the state, does not change it.
        observe: `(state, key, phase, tasks, tickets, outcomes) -> (state, metrics)`: credits the outcomes.
        learns: `phase -> bool`: whether the students take a gradient step on this batch.
        num_tasks: N; the first `num_learn` rows of a batch are those that students learn from.
        shared: the teacher serves all students at once (PAIRED): it sees outcomes [A, N]. Otherwise every student has
            a teacher of its own.
        always_learns: every phase is learnt from (no loop over cycles is compiled).
        known_max_return: `(state, tickets) -> [N]`, the largest return ever seen on each proposed task (−inf if new).
        prepare: `(state, key, probe) -> state`, before `decide`, may roll the student out (SFL); None to skip.
    """

    init: Callable[[Key[Array, ""]], TeacherState]
    decide: Callable[[TeacherState, Key[Array, ""], Bool[Array, ""]], Phase]
    ready: Callable[[TeacherState], Bool[Array, ""]]
    propose: Callable[[TeacherState, Key[Array, ""], Phase], tuple[Task, Tickets]]
    observe: Callable[
        [TeacherState, Key[Array, ""], Phase, Task, Tickets, Outcomes], tuple[TeacherState, dict[str, Array]]
    ]
    learns: Callable[[Phase], Bool[Array, ""]]
    num_tasks: int
    num_learn: int
    known_max_return: Callable[[TeacherState, Tickets], Float[Array, "N"]]
    shared: bool = False
    always_learns: bool = False
    prepare: Callable[[TeacherState, Key[Array, ""], Probe], TeacherState] | None = None
