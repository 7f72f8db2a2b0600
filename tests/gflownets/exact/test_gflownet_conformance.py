import re

import jax
import jax.numpy as jnp
import pytest

from tutelage.gflownets.exact.conformance import check_environment
from tutelage.gflownets.worlds.hypergrid import Cell, grid_environment
from tutelage.gflownets.worlds.sequences import sequence_environment

GRID, WORDS = grid_environment(2, 3), sequence_environment(2, 1, 3)


@pytest.mark.parametrize(
    "environment",
    [
        grid_environment(3, 4),
        grid_environment(2, 5, terminate_at_edge=True),
        grid_environment(1, 4),
        sequence_environment(3, 2, 4),
        sequence_environment(20, 33, 36),
    ],
    ids=["grid", "edge", "line", "words", "proteins"],
)
def test_the_worlds_of_the_family_pass(environment):
    assert check_environment(environment, jax.random.key(0)) == []


def forgets_the_stop(key, after):
    state, action = GRID.retrace(key, after)
    return state, jnp.where(action == 2, 0, action)


def misses_the_stop(state):
    states, actions, exist = GRID.parents(state)
    return states, actions, exist.at[-1].set(False)


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        (GRID._replace(log_pb=lambda state, action, after: jnp.zeros(())), "P_B sums to 2 over the parents"),
        (GRID._replace(is_tree=True), "is_tree: a state has more than one parent"),
        (GRID._replace(parents=misses_the_stop), "parents: are not those from which a step leads to the state"),
        (GRID._replace(max_steps=3), "the longest trajectory has 5 steps"),
        (WORDS._replace(min_steps=3), "min_steps: a trajectory is done after fewer than 3 steps"),
        (GRID._replace(retrace=forgets_the_stop), "a step of its action does not lead back"),
        (GRID._replace(mask=lambda state: jnp.append(state.position < 2, False)), "mask: no action is legal"),
        (GRID._replace(terminal=lambda cell: Cell(cell, jnp.zeros((), bool))), "not the inverse of object_of"),
        (GRID._replace(object_of=lambda state: state.position * 0), "two done states stand for the same object"),
        (GRID._replace(object_of=lambda state: state.position * 1.0), "must be integers"),
        (GRID._replace(observe=lambda state: state.position / 0), "an observation is not finite"),
        (GRID._replace(mask=lambda state: jnp.ones(4, bool)), r"must be bool(_)?\[3\]"),
        (GRID._replace(source=lambda: 1 / 0), "raised ZeroDivisionError"),
        (GRID._replace(step=lambda state, action: state), "leaves the state as it was"),
        (WORDS._replace(is_sequence=True, observe=lambda state: state.tokens), "must be a Token"),
        (WORDS._replace(log_pb=lambda state, action, after: -jnp.ones(())), "is_tree: log P_B is not 0"),
        (WORDS._replace(num_actions=0), "must be at least 1"),
    ],
)
def test_a_fault_is_named(environment, fault):
    problems = check_environment(environment, jax.random.key(1), num_trajectories=32)
    assert problems
    assert any(re.search(fault, problem) for problem in problems), problems
