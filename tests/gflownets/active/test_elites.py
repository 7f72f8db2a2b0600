"""The best edits of each start: kept once each, the best of all that came, and built backwards from their own start."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.gflownets.active.edits import edit_environment, edited_to, starting_at
from tutelage.gflownets.active.elites import EMPTY, draw, insert, no_elites
from tutelage.gflownets.condition import condition
from tutelage.gflownets.rollout import backward_rollout

LENGTH, LETTERS = 4, 3


def test_of_all_that_came_the_best_different_ones_of_each_start_are_kept():
    rng = np.random.default_rng(0)
    elites, come = no_elites(3, 5, LENGTH), {start: {} for start in range(3)}
    kept = jax.jit(lambda *given: insert(*given, 0.0))
    for _ in range(4):
        start = rng.integers(0, 2, 20)  # the third never has any
        objects = rng.integers(0, LETTERS, (20, LENGTH)).astype(np.int32)
        value = np.sum(objects * [1.0, 0.1, 0.01, 0.001], axis=1).astype(np.float32) - 1  # of the object alone
        elites = kept(elites, jnp.asarray(start), jnp.asarray(objects), jnp.asarray(value))
        for s, o, v in zip(start, objects, value):
            if v > 0:
                come[int(s)][tuple(o.tolist())] = float(v)
    for start, of_start in come.items():
        best = sorted(of_start.items(), key=lambda pair: -pair[1])[:5]
        filled = np.asarray(elites.value[start]) > EMPTY
        assert filled.sum() == len(best)
        found = [tuple(row) for row in np.asarray(elites.objects[start])[filled].tolist()]
        assert found == [pair[0] for pair in best]
        np.testing.assert_array_equal(elites.value[start][filled], np.float32([pair[1] for pair in best]))


def test_every_start_draws_from_its_own_and_says_if_it_has_none():
    elites = insert(
        no_elites(3, 4, LENGTH),
        jnp.array([1, 1, 2]),
        jnp.arange(12, dtype=jnp.int32).reshape(3, LENGTH),
        jnp.array([-1.0, -3.0, -2.0]),
        -10.0,
    )
    start = jnp.tile(jnp.arange(3), 40)
    objects, some = draw(elites, jax.random.key(1), start)
    np.testing.assert_array_equal(some, start > 0)
    first = np.asarray(objects[:, 0])
    assert set(first[start == 1].tolist()) == {0, 4} and set(first[start == 2].tolist()) == {8}


def test_trajectories_to_edits_begin_at_the_start_that_they_are_given():
    environment = edit_environment(np.zeros(LENGTH, np.int32), LETTERS, max_edits=3)
    begin = jnp.array([[0, 1, 2, 0], [2, 2, 2, 2]], jnp.int32)
    objects = jnp.array([[0, 2, 1, 0], [1, 0, 1, 2]], jnp.int32)  # two edits and a STOP; three, and no more
    asked = condition(np.full((2, 2), 0.5), 1.0, 2)
    found = backward_rollout(
        environment, jax.random.key(0), objects, asked, start=starting_at(begin), terminal=edited_to(begin, objects)
    )
    assert found.valid.sum(axis=1).tolist() == [3, 3]
    state = found.start
    for step in range(3):
        legal = jax.vmap(environment.mask)(state)
        assert jnp.take_along_axis(legal, found.action[:, step, None], axis=1).all()
        state = jax.vmap(environment.step)(state, found.action[:, step])
    assert jax.vmap(environment.done)(state).all()
    np.testing.assert_array_equal(state.tokens, objects)


@pytest.mark.parametrize("number", [7, 300])
def test_more_than_can_be_compared_are_cut_to_the_best(number):
    objects = jnp.asarray(np.random.default_rng(1).permutation(LETTERS**LENGTH)[:number] if number < 81 else
                          np.arange(number) % LETTERS**LENGTH)  # fmt: skip
    letters = (objects[:, None] // LETTERS ** jnp.arange(LENGTH) % LETTERS).astype(jnp.int32)
    elites = insert(no_elites(1, 2, LENGTH), jnp.zeros(number, jnp.int32), letters, objects.astype(jnp.float32), -1.0)
    assert elites.value[0, 0] == objects.max() and jnp.all(elites.value[0, 1] < elites.value[0, 0])
