"""Which members are different, which answer a preference, and random search's archive."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from tiny_grid import tiny_grid

from tutelage.gflownets.baselines.population import best_members, first_of_equals, pareto_rank, places, uniform_objects


def test_a_later_copy_is_no_first_and_only_usable_rows_count() -> None:
    objects = jnp.array([[0, 1], [2, 3], [0, 1], [0, 1], [2, 3]])
    assert first_of_equals(objects).tolist() == [True, True, False, False, False]
    among = jnp.array([False, True, True, True, False])
    assert first_of_equals(objects, among).tolist() == [False, True, True, False, False]


def test_places_count_the_equal_requests_before() -> None:
    preference = jnp.array([[0.5, 0.5], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [1.0, 0.0], [0.0, 1.0]])
    assert places(preference).tolist() == [0, 0, 1, 2, 1, 0]


def test_requests_for_one_preference_get_its_best_members_in_turn_and_round_again() -> None:
    rewards = jnp.array([[0.2, 0.9], [0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
    usable = jnp.array([True, True, False, True])
    preference = jnp.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 2)
    chosen = best_members(rewards, usable, preference, "weighted_sum")
    assert chosen.tolist() == [1, 3, 0, 1, 0, 3]


def test_pareto_ranks_equal_those_of_moocore() -> None:
    import moocore

    rng = np.random.default_rng(0)
    for dims in (2, 3):
        rewards = rng.integers(0, 5, (40, dims)).astype(np.float32)
        usable = np.ones(40, bool)
        usable[35:] = False
        rank = np.asarray(pareto_rank(jnp.asarray(rewards), jnp.asarray(usable)))
        assert (rank[usable] == moocore.pareto_rank(-rewards[usable].astype(float))).all()
        assert (rank[~usable] == 40).all()


def test_uniform_objects_have_the_law_of_uniform_legal_actions() -> None:
    problem = tiny_grid(side=2, dims=1)
    cells = np.asarray(uniform_objects(jax.random.key(0), problem.environment, 4000))
    # Stop at once with probability 1/2; at the edge there is only the stop.
    assert abs(cells.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)
