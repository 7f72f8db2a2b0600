"""A world whose levels are numbers, so that tests of teachers see at a glance which level is where."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tutelage.curricula.teacher import Outcomes, Teacher
from tutelage.envs.environment import Discrete, Environment

NUM_LEVELS = 1 << 20


class Number(NamedTuple):
    """`number` is what the level is; `mark`, like a maze's first direction, does not make it another one."""

    number: jax.Array
    mark: jax.Array


def number_world(*, num_levels: int = NUM_LEVELS, **changes) -> Environment:
    """Random levels are 0 … num_levels − 1; a child is its parent + num_levels, which shows its ancestry."""

    def sample_task(key):
        k_number, k_mark = jax.random.split(key)
        return Number(jax.random.randint(k_number, (), 0, num_levels), jax.random.randint(k_mark, (), 0, 4))

    def nothing_to_play(*_):
        raise AssertionError("teachers never step the world")

    parts = {
        "mutate": lambda key, task, num_edits: Number(task.number + num_levels, jax.random.randint(key, (), 0, 4)),
        "equal": lambda one, other: one.number == other.number,
        "solve": lambda task: jnp.float32(1.0),
    }
    return Environment(
        name="numbers",
        actions=Discrete(2),
        horizon=1,
        reset=nothing_to_play,
        step=nothing_to_play,
        sample_task=sample_task,
        **(parts | changes),
    )


def outcomes_of(score, *, mean_return=None, max_return=None, completed=None, success_rate=None) -> Outcomes:
    """Outcomes with the given scores; whatever is not said follows from them."""
    score = jnp.asarray(score, jnp.float32)
    zeros = jnp.zeros_like(score)
    return Outcomes(
        completed=(score > -jnp.inf).astype(jnp.int32) if completed is None else jnp.asarray(completed, jnp.int32),
        mean_return=zeros if mean_return is None else jnp.asarray(mean_return, jnp.float32),
        max_return=zeros if max_return is None else jnp.asarray(max_return, jnp.float32),
        success_rate=zeros if success_rate is None else jnp.asarray(success_rate, jnp.float32),
        score=score,
    )


def by_number(tasks: Number) -> Outcomes:
    """A student whose every figure is a fixed, scattered function of the level."""
    score = jnp.sin(tasks.number.astype(jnp.float32))
    return outcomes_of(score, mean_return=score / 2, max_return=score, success_rate=(score + 1) / 2)


def teach(teacher: Teacher, key, num_cycles: int, student=by_number):
    """Run the cycle of unsupervised environment design without learners.

    Returns the last state and, per cycle, `(phase, learns, tasks, tickets, metrics, known)`.
    """
    return _compiled(teacher, num_cycles, student)(key)


@functools.cache
def _compiled(teacher: Teacher, num_cycles: int, student):
    def cycle(state, key):
        k_decide, k_propose, k_observe = jax.random.split(key, 3)
        phase = teacher.decide(state, k_decide, teacher.ready(state))
        tasks, tickets = teacher.propose(state, k_propose, phase)
        known = teacher.known_max_return(state, tickets)
        state, metrics = teacher.observe(state, k_observe, phase, tasks, tickets, student(tasks))
        return state, (phase, teacher.learns(phase), tasks, tickets, metrics, known)

    @jax.jit
    def run(key):
        k_init, k_run = jax.random.split(key)
        return jax.lax.scan(cycle, teacher.init(k_init), jax.random.split(k_run, num_cycles))

    return run
