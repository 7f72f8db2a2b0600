"""Advantages of trajectories of different lengths, and the gradient that they make."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.gflownets.baselines.a2c import advantages


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.9, 0.8), (1.0, 0.0)])
def test_advantages_equal_a_literal_sum_over_steps(gamma: float, lam: float) -> None:
    rng = np.random.default_rng(0)
    lengths, num_steps = [1, 3, 5], 5
    value = rng.normal(size=(3, num_steps)).astype(np.float32)
    returns = rng.random(3).astype(np.float32)
    valid = np.arange(num_steps) < np.array(lengths)[:, None]
    expected = np.zeros((3, num_steps))
    for row, length in enumerate(lengths):
        for t in range(length):
            for k in range(t, length):
                after = value[row, k + 1] if k + 1 < length else 0.0
                reward = returns[row] if k == length - 1 else 0.0
                expected[row, t] += (gamma * lam) ** (k - t) * (reward + gamma * after - value[row, k])
    advantage, goal = advantages(jnp.asarray(value), jnp.asarray(valid), jnp.asarray(returns), gamma=gamma, lam=lam)
    assert np.allclose(advantage, expected, atol=1e-5)
    assert np.allclose(goal, np.where(valid, expected + value, 0.0), atol=1e-5)


def test_without_discount_the_advantage_is_the_return_less_the_value() -> None:
    value = jnp.array([[0.2, 0.4, 9.0]])
    advantage, goal = advantages(value, jnp.array([[True, True, False]]), jnp.array([1.0]), gamma=1.0, lam=1.0)
    assert np.allclose(advantage, [[0.8, 0.6, 0.0]]) and np.allclose(goal, [[1.0, 1.0, 0.0]])
