"""Exact laws against every path walked, sampling, closed forms and the published partition functions."""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_graphs import every_path, stairs

from tutelage.gflownets.condition import Condition
from tutelage.gflownets.config import NetworkConfig
from tutelage.gflownets.exact.enumeration import enumerate_states
from tutelage.gflownets.exact.law import (
    kl,
    l1,
    log_partition,
    log_rewards,
    optimal_flows,
    policy_law,
    policy_log_pf,
    sequence_law,
    target_law,
    terminal_law,
)
from tutelage.gflownets.networks import make_policy
from tutelage.gflownets.policy import Outputs
from tutelage.gflownets.rollout import rollout
from tutelage.gflownets.scoring import log_prob
from tutelage.gflownets.worlds.config import HyperGridConfig
from tutelage.gflownets.worlds.hypergrid import grid_environment, hypergrid
from tutelage.gflownets.worlds.sequences import sequence_environment
from tutelage.lab.errors import BadInput

WEIGHTS = np.array([(w, 1 - w) for w in (0, 0.25, 0.5, 0.75, 1)])
LOG_Z = {
    1.0: (3.49889, 3.623056, 3.733494, 3.832939, 3.923384),
    16.0: (0.80414, 0.439893, 0.714793, 1.52972, 2.737694),
}
"""Of the 8 × 8 grid with (branin, currin), by WEIGHTS."""


@functools.cache
def graph_of(name):
    environments = {
        "grid": lambda: grid_environment(2, 3),
        "cube": lambda: grid_environment(3, 3),
        "edge": lambda: grid_environment(2, 4, terminate_at_edge=True),
        "stairs": stairs,
        "letters": lambda: sequence_environment(2, 1, 3),
    }
    return enumerate_states(environments[name]())


@functools.cache
def grid_rewards():
    """Float64 of every object of the 8 × 8 grid, in the graph's order: the landscapes written out once more."""
    u = np.stack(np.meshgrid(np.arange(8) / 7, np.arange(8) / 7, indexing="ij"), -1).reshape(-1, 2)
    a, b = 15 * u[:, 0] - 5, 15 * u[:, 1]
    branin = (b - 5.1 * a**2 / (4 * np.pi**2) + 5 * a / np.pi - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10
    with np.errstate(divide="ignore"):
        front = 1 - np.exp(-1 / (2 * u[:, 1]))
    x = u[:, 0]
    currin = front * (2300 * x**3 + 1900 * x**2 + 2092 * x + 60) / (100 * x**3 + 500 * x**2 + 4 * x + 20)
    return np.stack([1 - branin / 308.13, currin / 13.77], axis=-1)


def random_log_pf(graph, seed, *batch):
    legal = graph.children >= 0
    logits = np.where(legal, np.random.default_rng(seed).normal(size=(*batch, *legal.shape)) * 2, -np.inf)
    with np.errstate(invalid="ignore"):
        return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def law_of_every_path(graph, log_pf):
    law = np.zeros(graph.num_states)
    for path in every_path(graph.children):
        law[path[-1][2]] += np.exp(sum(log_pf[state, action] for state, action, _ in path))
    return law[graph.terminal]


@pytest.mark.parametrize("name", ["grid", "cube", "edge", "stairs", "letters"])
def test_terminal_law_is_the_sum_over_every_path(name):
    graph = graph_of(name)
    log_pf = random_log_pf(graph, 0, 2, 2)
    law = terminal_law(graph, log_pf)
    assert law.shape == (2, 2, graph.num_objects) and law.dtype == np.float64
    np.testing.assert_allclose(law[0, 1], law_of_every_path(graph, log_pf[0, 1]), atol=1e-14)
    np.testing.assert_allclose(law[1, 0], law_of_every_path(graph, log_pf[1, 0]), atol=1e-14)
    np.testing.assert_allclose(law.sum(axis=-1), 1, atol=1e-13)


def test_terminal_law_is_what_walking_gives():
    graph, draws = graph_of("stairs"), 20_000
    log_pf, rng = random_log_pf(graph, 1), np.random.default_rng(2)
    at = np.zeros(draws, int)
    while not graph.done[at].all():
        with np.errstate(invalid="ignore"):
            action = (log_pf[at] + rng.gumbel(size=(draws, 3))).argmax(axis=1)
        at = np.where(graph.done[at], at, graph.children[at, action])
    law = terminal_law(graph, log_pf)
    seen = (at[:, None] == graph.terminal).mean(axis=0)
    assert (np.abs(seen - law) < 5 * np.sqrt(law * (1 - law) / draws) + 1e-12).all()


@pytest.mark.parametrize("name", ["grid", "cube", "edge", "stairs", "letters"])
def test_optimal_flows_balance_and_sample_the_target(name):
    graph = graph_of(name)
    log_reward = np.random.default_rng(3).normal(size=(2, graph.num_objects)) * 3
    log_flow, log_pf = optimal_flows(graph, log_reward)
    log_z = np.logaddexp.reduce(log_reward, axis=-1)
    np.testing.assert_allclose(log_flow[:, 0], log_z, atol=1e-12)
    np.testing.assert_allclose(terminal_law(graph, log_pf), np.exp(log_reward - log_z[:, None]), atol=1e-12)
    edges = graph.children >= 0
    assert (log_pf[:, ~edges] == -np.inf).all()
    state, child = np.nonzero(edges)[0], graph.children[edges]
    np.testing.assert_allclose(
        log_flow[:, state] + log_pf[:, edges], log_flow[:, child] + graph.log_pb[edges], atol=1e-12
    )
    reward_of = dict(zip(graph.terminal.tolist(), log_reward[0]))
    for path in every_path(graph.children):
        forward = sum(log_pf[0, s, a] for s, a, _ in path)
        backward = sum(graph.log_pb[s, a] for s, a, _ in path)
        assert log_z[0] + forward - backward - reward_of[path[-1][2]] == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("beta", [1.0, 16.0])
def test_published_partition_functions(beta):
    np.testing.assert_allclose(log_partition(grid_rewards(), WEIGHTS, beta), LOG_Z[beta], atol=1e-5)


def test_published_partition_functions_from_the_enumerated_world():
    problem = hypergrid(HyperGridConfig(dimensions=2, side=8))
    graph = enumerate_states(problem.environment)
    rewards = np.asarray(problem.objectives.rewards(jnp.asarray(graph.objects)))
    np.testing.assert_allclose(rewards, grid_rewards(), atol=1e-5)
    for beta, values in LOG_Z.items():
        np.testing.assert_allclose(log_partition(rewards, WEIGHTS, beta), values, atol=1e-5)
        log_flow, log_pf = optimal_flows(graph, log_rewards(rewards, WEIGHTS, beta))
        np.testing.assert_allclose(log_flow[:, 0], values, atol=1e-5)
        assert l1(terminal_law(graph, log_pf), target_law(rewards, WEIGHTS, beta)).max() < 1e-10


def test_published_distance_of_the_uniform_law():
    """0.25 at β = 1 and 1.26 at β = 16 are those of the middle one of the 11 preferences, and their median."""
    first, uniform = np.linspace(0, 1, 11), np.full(64, 1 / 64)
    preference = np.stack([first, 1 - first], axis=1)
    for beta, published, mean in ((1.0, 0.25, 0.2648), (16.0, 1.26, 1.2716)):
        distance = l1(uniform, target_law(grid_rewards(), preference, beta))
        assert distance[5] == np.median(distance) == pytest.approx(published, abs=0.005)
        assert distance.mean() == pytest.approx(mean, abs=1e-4)
        reward = (grid_rewards() @ preference.T).T ** beta
        literal = np.abs(1 / 64 - reward / reward.sum(axis=1, keepdims=True)).sum(axis=1)
        np.testing.assert_allclose(distance, literal, atol=1e-12)


@pytest.mark.parametrize("scalarisation", ["weighted_sum", "weighted_log_sum", "tchebycheff"])
def test_log_rewards_are_their_definition_in_float64(scalarisation):
    rng = np.random.default_rng(4)
    rewards, preference, beta = rng.uniform(0.01, 1, (9, 3)), rng.dirichlet(np.ones(3), 4), rng.uniform(1, 30, 4)
    weighted = {
        "weighted_sum": lambda r, w: np.log(w @ r),
        "weighted_log_sum": lambda r, w: w @ np.log(r),
        "tchebycheff": lambda r, w: np.log(1 - np.max(w * (1 - r))),
    }[scalarisation]
    expected = [[max(b * weighted(r, w), -20.0) for r in rewards] for w, b in zip(preference, beta)]
    np.testing.assert_allclose(log_rewards(rewards, preference, beta, scalarisation, -20.0), expected, atol=1e-12)


def test_the_floor_is_applied_after_tempering_in_the_target_too():
    rewards = np.array([(0.0, 0.0), (1e-30, 0.0), (1.0, 0.0)])
    assert log_rewards(rewards, [1.0, 0.0], 96.0).tolist() == [[-75, -75, 0]]
    z = 1 + 2 * np.exp(-75)
    np.testing.assert_allclose(target_law(rewards, [1.0, 0.0], 96.0)[0], [np.exp(-75) / z, np.exp(-75) / z, 1 / z])


class Reader(eqx.Module):
    """One linear map of what is seen and of the condition."""

    of_state: jax.Array
    of_condition: jax.Array
    memoryless: bool = eqx.field(static=True, default=True)

    def start(self, condition):
        return ()

    def step(self, carry, observation, condition):
        logits = observation @ self.of_state * (1 + condition @ self.of_condition)
        return carry, Outputs(logits, jnp.zeros(logits.shape[:-1]))

    def trajectory(self, observations, condition):
        return self.step((), observations, condition[:, None])[1]

    def log_z(self, observation, condition):
        return jnp.zeros(condition.shape[:1])


def test_policy_law_reads_every_state_under_every_condition(monkeypatch):
    graph = graph_of("grid")
    keys = jax.random.split(jax.random.key(0), 3)
    policy = Reader(jax.random.normal(keys[0], (6, 3)), jax.random.normal(keys[1], (2, 3)))
    encoded = np.asarray(jax.random.uniform(keys[2], (3, 2)))
    monkeypatch.setattr("tutelage.gflownets.exact.law._ROWS_AT_ONCE", 8)  # Not a divisor of the 18 states.
    log_pf = policy_log_pf(graph, policy, encoded)
    for row, table in zip(encoded, log_pf):
        for index, legal in enumerate(graph.children >= 0):
            seen = np.eye(3)[graph.states.position[index]].reshape(-1)
            logits = np.where(legal, seen @ policy.of_state * (1 + row @ policy.of_condition), -np.inf)
            expected = logits - np.logaddexp.reduce(logits) if legal.any() else logits
            np.testing.assert_allclose(table[index], expected, atol=1e-5)
    np.testing.assert_allclose(policy_law(graph, policy, encoded), terminal_law(graph, log_pf), atol=1e-12)
    assert l1(*policy_law(graph, policy, encoded[:2])) > 0.01


def test_many_conditions_are_computed_in_blocks_with_the_same_result(monkeypatch):
    graph = graph_of("cube")
    log_pf = random_log_pf(graph, 5, 7)
    rewards = np.random.default_rng(6).uniform(size=(graph.num_objects, 3))
    preference = np.random.default_rng(7).dirichlet(np.ones(3), 7)
    together = (
        terminal_law(graph, log_pf),
        log_rewards(rewards, preference, 2.0),
        optimal_flows(graph, log_pf[:, 0, :1] + np.zeros(27)),
    )
    monkeypatch.setattr("tutelage.gflownets.exact.law._NUMBERS_AT_ONCE", 3 * graph.children.size)
    np.testing.assert_allclose(terminal_law(graph, log_pf), together[0], atol=1e-15)
    np.testing.assert_allclose(log_rewards(rewards, preference, 2.0), together[1], atol=1e-15)
    np.testing.assert_allclose(optimal_flows(graph, log_pf[:, 0, :1] + np.zeros(27))[0], together[2][0], atol=1e-14)


def test_sequence_law_is_the_terminal_law_of_the_tree():
    graph = graph_of("letters")
    log_pf = random_log_pf(graph, 8, 2)
    of_object = {
        tuple(graph.objects[list(graph.terminal).index(path[-1][2])]): [
            sum(table[s, a] for s, a, _ in path) for table in log_pf
        ]
        for path in every_path(graph.children)
    }

    def of_path(objects, condition):
        return np.array([of_object[tuple(x)][int(c)] for x, c in zip(objects.tolist(), condition)])

    law = sequence_law(graph.objects, of_path, jnp.array([0, 1]))
    np.testing.assert_allclose(law, terminal_law(graph, log_pf), atol=1e-14)


def test_policy_law_is_how_often_rollouts_end_in_each_object():
    graph, number = graph_of("grid"), 4096
    config = NetworkConfig(width=8, layers=1, z_width=4, z_layers=1)
    policy = make_policy(jax.random.key(1), graph.environment, 2, config)
    preference = jnp.array([(1.0, 0.0), (0.2, 0.8)])
    draw = eqx.filter_jit(lambda key, asked: rollout(policy, graph.environment, key, asked, asked.preference).objects)
    for row, law in zip(preference, policy_law(graph, policy, preference)):
        asked = Condition(jnp.tile(row, (number, 1)), jnp.ones(number))
        objects = np.asarray(draw(jax.random.fold_in(jax.random.key(2), int(10 * row[0])), asked))
        seen = (objects[:, None] == graph.objects).all(axis=-1).mean(axis=0)
        assert (np.abs(seen - law) < 5 * np.sqrt(law * (1 - law) / number)).all()


def test_sequence_law_of_a_transformer_sums_to_one():
    environment = sequence_environment(2, 1, 3)
    config = NetworkConfig(kind="transformer", width=8, layers=1, heads=2, z_width=4, z_layers=1)
    policy = make_policy(jax.random.key(1), environment, 2, config)

    @eqx.filter_jit
    def of_objects(objects, asked):
        key = jax.random.key(0)
        return log_prob(policy, environment, key, jnp.asarray(objects), asked, asked.preference)

    asked = Condition(jnp.array([(1.0, 0.0), (0.2, 0.8)]), jnp.ones(2))
    law = sequence_law(graph_of("letters").objects, of_objects, asked)
    np.testing.assert_allclose(law.sum(axis=-1), 1, atol=1e-6)
    assert l1(*law) > 1e-3


def test_distances_of_laws():
    assert l1([0.5, 0.5, 0], [0.25, 0.25, 0.5]) == pytest.approx(1.0)
    assert kl([0.5, 0.5, 0], [0.25, 0.25, 0.5]) == pytest.approx(np.log(2))
    assert kl([0.5, 0.5], [1.0, 0.0]) == np.inf
    assert kl([[1.0, 0.0], [0.5, 0.5]], [0.5, 0.5]).tolist() == pytest.approx([np.log(2), 0])


def test_bad_requests_are_named():
    rewards = grid_rewards()
    with pytest.raises(BadInput, match=r"preference row 1 = \(0\.5, 0\.6\) is not on the simplex"):
        target_law(rewards, [(0.5, 0.5), (0.5, 0.6)], 1.0)
    with pytest.raises(BadInput, match="3 weights for 2 objectives"):
        target_law(rewards, [0.2, 0.3, 0.5], 1.0)
    with pytest.raises(BadInput, match="beta = 0: must be > 0"):
        log_partition(rewards, [0.5, 0.5], 0.0)
    with pytest.raises(BadInput, match="scalarisation = 'product'"):
        log_partition(rewards, [0.5, 0.5], 1.0, "product")
    graph = graph_of("grid")
    with pytest.raises(BadInput, match=r"log_pf of shape \(3, 3\): must end in the graph's \(18, 3\)"):
        terminal_law(graph, np.zeros((3, 3)))
    with pytest.raises(BadInput, match="must end in the number of objects, 9"):
        optimal_flows(graph, np.zeros(8))
    with pytest.raises(BadInput, match=r"encoded conditions of shape \(2,\)"):
        policy_log_pf(graph, Reader(jnp.zeros((6, 3)), jnp.zeros((2, 3))), np.zeros(2))
    with pytest.raises(BadInput, match="reads whole trajectories"):
        policy_law(graph, Reader(jnp.zeros((6, 3)), jnp.zeros((2, 3)), memoryless=False), np.zeros((1, 2)))
