"""The fixed point of soft Q-learning is that of exact dynamic programming, and its law the one that is promised."""

from __future__ import annotations

from math import comb

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_grid import all_cells, tiny_grid

from tutelage.gflownets.baselines.config import SoftQConfig
from tutelage.gflownets.baselines.soft_q import soft_backup, soft_q_loss
from tutelage.gflownets.condition import Condition
from tutelage.gflownets.networks import TabularPolicy
from tutelage.gflownets.rollout import backward_rollout

SIDE = 3
PROBLEM = tiny_grid(SIDE)
CELLS = all_cells(SIDE)
LOG_REWARD = 2.0 * np.log(np.asarray(PROBLEM.objectives.rewards(jnp.asarray(CELLS)), np.float64) @ [0.3, 0.7])


def row_of(observation: jax.Array) -> jax.Array:
    place = observation.reshape(2, SIDE).argmax(axis=1)
    return SIDE * place[0] + place[1]


def exact(alpha: float, *, backward: bool) -> np.ndarray:
    """Q / α of all cells and actions by dynamic programming from the far corner; −∞ where illegal."""
    scaled, value = np.full((SIDE, SIDE, 3), -np.inf), np.zeros((SIDE, SIDE))
    for a in reversed(range(SIDE)):
        for b in reversed(range(SIDE)):
            scaled[a, b, 2] = LOG_REWARD[SIDE * a + b] / alpha
            for axis, (x, y) in enumerate(((a + 1, b), (a, b + 1))):
                if x < SIDE and y < SIDE:
                    parents = (x > 0) + (y > 0)
                    scaled[a, b, axis] = value[x, y] + (-np.log(parents) if backward else 0.0)
            value[a, b] = np.logaddexp.reduce(scaled[a, b])
    return scaled.reshape(SIDE**2, 3)


def law(scaled: np.ndarray) -> np.ndarray:
    """The terminal law of softmax(Q / α), by forward recursion."""
    table = scaled.reshape(SIDE, SIDE, 3)
    reach, ends = np.zeros((SIDE + 1, SIDE + 1)), np.zeros((SIDE, SIDE))
    reach[0, 0] = 1.0
    for a in range(SIDE):
        for b in range(SIDE):
            share = np.exp(table[a, b] - np.logaddexp.reduce(table[a, b])) * reach[a, b]
            reach[a + 1, b] += share[0]
            reach[a, b + 1] += share[1]
            ends[a, b] = share[2]
    return ends.reshape(-1)


def table(scaled: np.ndarray) -> TabularPolicy:
    logits = jnp.asarray(np.where(np.isfinite(scaled), scaled, 0.0), jnp.float32)
    return TabularPolicy(logits, jnp.zeros(SIDE**2), jnp.zeros(()), row_of)


def given_trajectories():
    cells = jnp.asarray(np.tile(CELLS, (12, 1)))
    condition = Condition(jnp.tile(jnp.array([0.3, 0.7]), (len(cells), 1)), jnp.full(len(cells), 2.0))
    trajectories = jax.jit(lambda key: backward_rollout(PROBLEM.environment, key, cells, condition))(jax.random.key(0))
    return trajectories, jnp.asarray(np.tile(LOG_REWARD, 12), jnp.float32)


@pytest.mark.parametrize(("alpha", "backward"), [(1.0, False), (0.5, True)])
def test_the_exact_solution_is_the_fixed_point_and_learning_reaches_it(alpha: float, backward: bool) -> None:
    config = SoftQConfig(alpha=alpha, backward_reward=backward)
    trajectories, log_reward = given_trajectories()
    encoded, solution = jnp.zeros((len(log_reward), 1)), exact(alpha, backward=backward)

    def loss(policy: TabularPolicy, target: TabularPolicy) -> jax.Array:
        return soft_q_loss(policy, target, PROBLEM.environment, trajectories, encoded, log_reward, config)

    assert float(jax.jit(loss)(table(solution), table(solution))) < 1e-9

    @jax.jit
    def learnt(logits: jax.Array) -> jax.Array:
        def step(logits: jax.Array, _: None) -> tuple[jax.Array, None]:
            def of(moved: jax.Array) -> jax.Array:
                put = eqx.tree_at(lambda policy: policy.logits, table(solution), moved)
                return loss(put, eqx.tree_at(lambda policy: policy.logits, put, jax.lax.stop_gradient(logits)))

            return logits - 2.0 * jax.grad(of)(logits), None

        return jax.lax.scan(step, logits, None, length=1500)[0]

    reached = np.asarray(learnt(jnp.zeros((SIDE**2, 3))))
    legal = np.isfinite(solution)
    assert np.abs(reached - solution)[legal].max() < 1e-3


def test_with_the_backward_reward_the_law_is_the_gflownets_and_without_it_counts_the_ways() -> None:
    reward = np.exp(LOG_REWARD)
    assert np.abs(law(exact(1.0, backward=True)) - reward / reward.sum()).max() < 1e-12
    ways = np.array([comb(a + b, a) for a, b in CELLS]) * reward
    assert np.abs(law(exact(1.0, backward=False)) - ways / ways.sum()).max() < 1e-12


def test_what_follows_an_end_has_no_part_in_the_backup() -> None:
    value = jnp.array([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]])
    valid = jnp.array([[True, True, False], [True, True, True]])
    backup = np.asarray(soft_backup(value, valid, jnp.array([-1.0, -2.0])))
    assert backup[0, :2].tolist() == [2.0, -1.0] and backup[1].tolist() == [5.0, 6.0, -2.0]
