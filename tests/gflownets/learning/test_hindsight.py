"""The replay buffer against a plain list, and preferences in hindsight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.gflownets.learning.replay_buffer import draw, empty_buffer, hindsight_preference, insert
from tutelage.gflownets.objectives import log_scalar


@pytest.mark.parametrize("sizes", [(2, 3, 4, 1), (5,), (9, 2), (4, 5, 5)])
def test_the_newest_objects_stay_with_their_rewards(sizes):
    buffer, kept, start = empty_buffer(5, jax.ShapeDtypeStruct((2,), jnp.int32), 1), [], 0
    for size in sizes:
        numbers = np.arange(start, start + size)
        objects = jnp.asarray(np.column_stack([numbers, -numbers]), jnp.int32)
        buffer = insert(buffer, objects, jnp.asarray(numbers[:, None] / 100, jnp.float32))
        kept, start = (kept + numbers.tolist())[-5:], start + size
        filled = int(buffer.size)
        rows = np.asarray(buffer.objects)[:filled]
        assert sorted(rows[:, 0].tolist()) == kept
        np.testing.assert_allclose(np.asarray(buffer.rewards)[:filled, 0], rows[:, 0] / 100, rtol=1e-6)


def test_objects_are_drawn_evenly_and_only_those_that_are_there():
    buffer = empty_buffer(8, jax.ShapeDtypeStruct((1,), jnp.int32), 2)
    buffer = insert(buffer, jnp.arange(1, 4)[:, None], jnp.ones((3, 2)) * jnp.arange(1, 4)[:, None])
    objects, rewards = draw(buffer, jax.random.key(0), 3000)
    count = np.bincount(np.asarray(objects)[:, 0], minlength=4)
    assert count[0] == 0 and (abs(count[1:] - 1000) < 150).all()
    np.testing.assert_array_equal(np.asarray(rewards)[:, 0], np.asarray(objects)[:, 0])


def test_in_hindsight_an_object_is_what_was_asked_for():
    """R / ‖R‖₁, under which it is worth more than under an even preference."""
    rewards = jnp.asarray([[0.2, 0.6], [0.0, 0.0], [0.3, 0.0]])
    found = np.asarray(hindsight_preference(rewards))
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], atol=1e-6)
    under_own = log_scalar(rewards[:1], jnp.asarray(found[:1]), "weighted_sum")
    under_even = log_scalar(rewards[:1], jnp.full((1, 2), 0.5), "weighted_sum")
    assert float(under_own[0]) > float(under_even[0])
