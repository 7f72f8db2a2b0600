"""The gradient of MOReinforce is that of the expected reward, by enumeration of all pairs of trajectories."""

from __future__ import annotations

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tiny_grid import tiny_grid

from tutelage.gflownets.baselines.moreinforce import reinforce, trajectory_return
from tutelage.gflownets.condition import Condition
from tutelage.gflownets.config import RewardConfig
from tutelage.gflownets.learning.learner import read
from tutelage.gflownets.networks import TabularPolicy
from tutelage.gflownets.rollout import sources
from tutelage.gflownets.trajectories import Trajectories

PROBLEM = tiny_grid(side=2)
PATHS = ([2], [0, 2], [1, 2], [0, 1, 2], [1, 0, 2])
"""All trajectories of the 2 × 2 grid: steps along the two axes, then the stop."""
CELLS = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [1, 1]], np.int32)


def all_trajectories() -> Trajectories:
    action = np.array([path + [0] * (3 - len(path)) for path in PATHS], np.int32)
    valid = np.array([[step < len(path) for step in range(3)] for path in PATHS])
    condition = Condition(jnp.tile(jnp.array([0.3, 0.7]), (5, 1)), jnp.full(5, 2.0))
    start = sources(PROBLEM.environment, 5)
    return Trajectories(start, jnp.asarray(action), jnp.asarray(valid), condition, jnp.asarray(CELLS))


def row_of(observation: jax.Array) -> jax.Array:
    place = observation.reshape(2, 2).argmax(axis=1)
    return 2 * place[0] + place[1]


def test_the_gradient_is_that_of_the_expected_reward_less_the_share_of_ones_own_baseline() -> None:
    logits = jax.random.normal(jax.random.key(0), (4, 3))
    policy = TabularPolicy(logits, jnp.zeros(4), jnp.zeros(()), row_of)
    given = all_trajectories()
    rewards = PROBLEM.objectives.rewards(given.objects)
    returns = trajectory_return(rewards, given.condition, RewardConfig(), "linear")
    assert np.allclose(returns, np.asarray(rewards) @ [0.3, 0.7])
    encoded = jnp.zeros((5, 1))

    def log_probs(logits: jax.Array) -> jax.Array:
        table = eqx.tree_at(lambda policy: policy.logits, policy, logits)
        readings = read(table, PROBLEM.environment, given, encoded)
        return jnp.where(given.valid, readings.chosen - readings.log_total, 0.0).sum(axis=1)

    # Enumeration in NumPy: d log π of every trajectory, by finite sums over its softmaxes.
    probability = np.exp(np.asarray(jax.jit(log_probs)(logits), np.float64))
    assert np.isclose(probability.sum(), 1.0, atol=1e-6)
    score = np.zeros((5, 4, 3))
    for number, path in enumerate(PATHS):
        place = [0, 0]
        for action in path:
            row = 2 * place[0] + place[1]
            legal = np.array([place[0] < 1, place[1] < 1, True])
            weight = np.where(legal, np.exp(np.asarray(logits[row], np.float64)), 0.0)
            score[number, row] += np.eye(3)[action] - weight / weight.sum()
            if action < 2:
                place[action] += 1
    expected = -np.einsum("n,n,nij->ij", probability, np.asarray(returns, np.float64), score)

    @jax.jit
    def gradient(pair: jax.Array) -> jax.Array:
        return jax.grad(lambda logits: reinforce(log_probs(logits)[pair], returns[pair]))(logits)

    pairs = np.array(list(itertools.product(range(5), repeat=2)))
    grads = np.asarray(jax.vmap(gradient)(jnp.asarray(pairs)), np.float64)
    mean = np.einsum("n,nij->ij", probability[pairs[:, 0]] * probability[pairs[:, 1]], grads)
    assert np.abs(mean - (1 - 1 / 2) * expected).max() < 1e-6
    assert np.abs(expected).max() > 0.01


def test_the_power_of_the_reward_has_the_floor_of_the_gflownet() -> None:
    condition = Condition(jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.full(2, 3.0))
    returns = trajectory_return(jnp.array([[0.5, 1.0], [0.0, 1.0]]), condition, RewardConfig(floor=-10.0), "power")
    assert np.allclose(returns, [0.125, np.exp(-10.0)])
