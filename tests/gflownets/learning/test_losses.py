"""Every loss is zero at the exact flows; on anything else it is its formula written out step by step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gflownets.small_grid import cells, grid, uniform_flows

from tutelage.gflownets.condition import Condition
from tutelage.gflownets.config import LossConfig
from tutelage.gflownets.learning.losses import loss
from tutelage.gflownets.networks import TabularPolicy
from tutelage.gflownets.rollout import rollout
from tutelage.gflownets.scoring import score
from tutelage.gflownets.trajectories import Steps

KINDS = ("tb", "subtb", "db", "fm", "vargrad")
D, H, B = 2, 4, 32


def _index(observation):
    place = observation.reshape(D, H).argmax(axis=1)
    return place[0] * H + place[1]


@pytest.fixture(scope="module")
def exact():
    """Steps of exploring trajectories in float64 under the flows whose backward policy is uniform; log Z."""
    reward = np.random.default_rng(0).uniform(0.05, 1.0, H**D)
    flows, logits = uniform_flows(reward, D, H)
    with jax.enable_x64(True):
        environment = grid(D, H)
        policy = TabularPolicy(jnp.asarray(logits), jnp.asarray(flows), jnp.asarray(flows[0]), _index)
        condition = Condition(jnp.full((B, 2), 0.5), jnp.ones(B))
        trajectories = rollout(policy, environment, jax.random.key(0), condition, condition.preference, epsilon=0.5)
        log_reward = jnp.log(jnp.asarray(reward))[trajectories.objects[:, 0] * H + trajectories.objects[:, 1]]
        steps = score(policy, environment, trajectories, condition.preference, log_reward, inflows=True, chunk=64)
        yield steps, np.log(reward.sum())


def test_the_flow_at_the_source_is_the_sum_of_all_rewards(exact):
    steps, log_z = exact
    np.testing.assert_allclose(np.asarray(steps.log_flow[:, 0]), log_z, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_every_loss_vanishes_at_the_exact_flows(exact, kind):
    steps, _ = exact
    with jax.enable_x64(True):
        assert steps.log_pf.dtype == jnp.float64
        assert int(steps.valid.sum(axis=1).max()) == 2 * (H - 1) + 1, "the longest trajectory should be among them"
        assert abs(float(loss(steps, LossConfig(kind=kind, num_copies=4)))) < 1e-12
        residual = steps.log_z + (steps.log_pf - steps.log_pb).sum(axis=1) - steps.log_reward
        assert float(jnp.abs(residual).max()) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_no_loss_vanishes_at_wrong_flows(exact, kind):
    steps, _ = exact
    with jax.enable_x64(True):
        wrong = steps._replace(log_reward=steps.log_reward + jnp.arange(B) % 2)
        assert float(loss(wrong, LossConfig(kind=kind, num_copies=4))) > 1e-3


@pytest.fixture(scope="module")
def random_steps() -> Steps:
    rng = np.random.default_rng(1)
    length = np.array([1, 5, 3, 4])
    valid = np.arange(5) < length[:, None]
    draw = lambda: np.where(valid, rng.normal(size=(4, 5)), 0.0).astype(np.float32)  # noqa: E731
    log_pf, log_pb, flow, inflow = draw(), draw(), draw(), draw()
    log_z = flow[:, 0].copy()
    parts = (log_pf, log_pb, flow, valid, log_z, rng.normal(size=4).astype(np.float32), inflow)
    return Steps(*(jnp.asarray(part) for part in parts))


def _literally(steps: Steps, kind: str, decay: float, copies: int) -> float:
    pf, pb, flow, valid, log_z, reward, inflow = (np.asarray(part, np.float64) for part in steps)
    lengths = valid.sum(axis=1).astype(int)
    terms, of_rows, residuals = [], [], []
    for b, n in enumerate(lengths):
        f = [*flow[b, :n], reward[b]]
        ratio = [pf[b, t] - pb[b, t] for t in range(n)]
        residuals.append(sum(ratio) - reward[b])
        if kind == "tb":
            terms.append((log_z[b] + residuals[-1]) ** 2)
        if kind == "db":
            terms += [(f[t] + ratio[t] - f[t + 1]) ** 2 for t in range(n)]
        if kind == "fm":
            terms += [(inflow[b, t] - f[t + 1]) ** 2 for t in range(n)]
        if kind == "subtb":
            pairs = [(i, j) for i in range(n) for j in range(i + 1, n + 1)]
            weights = [decay ** (j - i) for i, j in pairs]
            squares = [(f[i] + sum(ratio[i:j]) - f[j]) ** 2 for i, j in pairs]
            of_rows.append(np.dot(weights, squares) / np.sum(weights))
    if kind == "vargrad":
        groups = np.array(residuals).reshape(-1, copies)
        terms = (groups - groups.mean(axis=1, keepdims=True)).ravel() ** 2
    return float(np.mean(of_rows if kind == "subtb" else terms))


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_their_formulas_on_trajectories_of_several_lengths(random_steps, kind):
    config = LossConfig(kind=kind, subtb_lambda=0.7, num_copies=2)
    np.testing.assert_allclose(float(loss(random_steps, config)), _literally(random_steps, kind, 0.7, 2), rtol=1e-5)


def test_cells_are_all_corners_included():
    assert len(cells(2, 4)) == 16 and (cells(2, 4)[-1] == 3).all()
