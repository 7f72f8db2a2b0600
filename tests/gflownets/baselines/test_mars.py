"""Chains in detailed balance with the tempered reward, by the exact transition matrix and by what they visit."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from tiny_grid import all_cells, tiny_grid

from tutelage.gflownets.baselines.config import MARSConfig
from tutelage.gflownets.baselines.mars import acceptance, mars
from tutelage.gflownets.condition import condition
from tutelage.gflownets.config import BetaConfig, GFlowNetConfig
from tutelage.gflownets.method import compiled_update

SIDE = 4
BETA = 3.0
SHARED = GFlowNetConfig(batch_size=128, beta=BetaConfig(value=BETA))


def target(preference: list[float]) -> np.ndarray:
    """R(x | w)^β of all cells in float64, normalised."""
    rewards = np.asarray(tiny_grid(SIDE).objectives.rewards(jnp.asarray(all_cells(SIDE))), np.float64)
    law = (rewards @ preference) ** BETA
    return law / law.sum()


def proposals() -> np.ndarray:
    """q(x → y) of `tiny_grid`'s mutate, written out: one of 4 moves, those out of the grid stay."""
    cells = [tuple(cell) for cell in all_cells(SIDE).tolist()]
    q = np.zeros((len(cells), len(cells)))
    for row, (a, b) in enumerate(cells):
        for move in ((a + 1, b), (a - 1, b), (a, b + 1), (a, b - 1)):
            q[row, cells.index(move) if move in cells else row] += 0.25
    return q


def test_the_transition_matrix_is_in_detailed_balance_with_the_tempered_reward() -> None:
    law, q = target([0.3, 0.7]), proposals()
    kernel = (q + q @ q) / 2  # one or two moves
    log_r = jnp.asarray(np.log(law) / BETA, jnp.float32)
    here, there = jnp.broadcast_arrays(log_r[:, None], log_r[None, :])
    accept = np.exp(np.asarray(acceptance(here, there, jnp.full(here.shape, BETA), -75.0), np.float64))
    transition = kernel * accept
    transition += np.diag(1 - transition.sum(axis=1))
    flow = law[:, None] * transition
    assert np.abs(flow - flow.T).max() < 1e-8
    assert np.abs(law @ transition - law).max() < 1e-7


def test_rewards_below_the_floor_are_one_reward() -> None:
    log_ratio = acceptance(jnp.float32(-1e30), jnp.float32(-60.0), jnp.float32(2.0), -75.0)
    assert log_ratio == 0.0
    assert acceptance(jnp.float32(-1.0), jnp.float32(-1e30), jnp.float32(2.0), -75.0) == -73.0


def test_chains_visit_cells_with_the_law_of_their_preference_and_samples_come_from_the_nearest() -> None:
    config = MARSConfig(grid_bins=2, anneal_updates=1, history=16, thin=25)
    problem = tiny_grid(SIDE)
    method = mars(problem, SHARED, config)
    update = compiled_update(method, problem.objectives)

    @jax.jit
    def run(key: jax.Array):
        return jax.lax.scan(lambda state, _: update(state), method.init(key), None, length=600)

    state, metrics = run(jax.random.key(0))
    assert float(metrics["accepted"][1:].mean()) < 0.9
    cells = all_cells(SIDE)
    for weights, asked in (([1.0, 0.0], [0.9, 0.1]), ([0.0, 1.0], [0.2, 0.8])):
        law = target(weights)
        chains = np.flatnonzero((np.asarray(state.condition.preference) == weights).all(axis=1))
        visited = np.asarray(state.history)[:, chains].reshape(-1, 2)
        share = (visited[:, None] == cells).all(axis=-1).mean(axis=0)
        # Nearly independent visits (25 updates apart): five standard errors of each share.
        error = 5 * np.sqrt(law * (1 - law) / len(visited)) + 1e-3
        assert (np.abs(share - law) < error).all()
        requests = condition(np.tile(asked, (500, 1)), BETA, 2)
        answers = np.asarray(jax.jit(method.sample)(state, jax.random.key(1), requests))
        held = (answers[:, None] == cells).all(axis=-1).mean(axis=0)
        assert (np.abs(held - law) < 5 * np.sqrt(law * (1 - law) / 500) + 1e-3).all()


def test_chains_heat_down_from_their_hot_share() -> None:
    config = MARSConfig(grid_bins=2, anneal_updates=10, hot_share=0.0)
    problem = tiny_grid(SIDE)
    shared = dataclasses.replace(SHARED, beta=BetaConfig(value=30.0))
    method = mars(problem, shared, config)
    update = compiled_update(method, problem.objectives)
    run = jax.jit(lambda key: jax.lax.scan(lambda state, _: update(state), method.init(key), None, length=200))
    state, metrics = run(jax.random.key(0))
    assert float(metrics["accepted"][0]) == 1.0
    # At β = 30 a chain climbs to where its reward is 1.
    climbed = np.asarray(state.log_reward)
    assert (climbed > np.log(0.99)).mean() > 0.95
