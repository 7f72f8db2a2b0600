"""The envelope operator and its loss equal their definition, written out; preferences reach the vectors whole."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_grid import tiny_grid

from tutelage.gflownets.baselines.envelope_q import VectorQ, envelope, envelope_loss, homotopy
from tutelage.gflownets.condition import condition, encode
from tutelage.gflownets.config import BetaConfig, GFlowNetConfig, NetworkConfig, PreferenceConfig
from tutelage.gflownets.learning.gflownet import encoded
from tutelage.gflownets.learning.learner import policy_without_log_z
from tutelage.gflownets.rollout import rollout

SIDE = 3
PROBLEM = tiny_grid(SIDE)
SHARED = GFlowNetConfig(batch_size=4, network=NetworkConfig(width=8, layers=1), preference=PreferenceConfig(bins=5))


def untrained(key: jax.Array, bins: int = 5, num_objectives: int = 2) -> VectorQ:
    make = eqx.filter_jit(policy_without_log_z)
    return VectorQ(make(key, PROBLEM.environment, 2, SHARED, values=2), num_objectives, bins)


def test_the_envelope_is_the_best_vector_over_actions_and_preferences() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 3, 2, 5, 3)).astype(np.float32)  # [W, B, T, A, M]
    weights = rng.dirichlet(np.ones(3), 4).astype(np.float32)
    mask = rng.random((3, 2, 5)) < 0.6
    mask[..., 0] = True
    found = np.asarray(envelope(jnp.asarray(values), jnp.asarray(mask), jnp.asarray(weights)))
    for w, b, t in np.ndindex(4, 3, 2):
        best, vector = -np.inf, None
        for other in range(4):
            for action in range(5):
                score = weights[w] @ values[other, b, t, action]
                if mask[b, t, action] and score > best:
                    best, vector = score, values[other, b, t, action]
        assert np.allclose(found[w, b, t], vector)


@pytest.mark.parametrize("encoding", ["thermometer", "raw"])
def test_the_preference_is_read_back_from_its_encoding(encoding: str) -> None:
    law = PreferenceConfig(encoding=encoding, bins=7)
    preference = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    asked = encode(condition(preference, 2.0, 3), law, BetaConfig(kind="uniform"))
    net = untrained(jax.random.key(0), 7 if encoding == "thermometer" else 0, 3)
    assert np.allclose(net.weights(asked), preference, atol=1e-6)


def test_the_loss_equals_its_definition_step_by_step() -> None:
    environment = PROBLEM.environment
    k_policy, k_target, k_rollout = jax.random.split(jax.random.key(1), 3)
    policy, target = untrained(k_policy), untrained(k_target)
    asked = condition(np.tile([0.5, 0.5], (4, 1)), 16.0, 2)
    given = jax.jit(lambda key: rollout(policy, environment, key, asked, encoded(asked, SHARED), epsilon=0.9))(
        k_rollout
    )
    preferences = np.array([[1.0, 0.0], [0.25, 0.75], [0.6, 0.4]])
    weights = encoded(condition(preferences, 16.0, 2), SHARED)
    rewards = np.asarray(PROBLEM.objectives.rewards(given.objects), np.float64)
    gamma, mixture = 0.9, 0.3

    @jax.jit
    def values(network: VectorQ, cells: jax.Array) -> jax.Array:
        """[W, cells, A, M], one state at a time."""
        seen = jax.nn.one_hot(cells, SIDE).reshape(len(cells), 1, -1)
        return jnp.stack([network.values(seen, jnp.tile(row, (len(cells), 1)))[:, 0] for row in weights])

    cells = np.array([[a, b] for a in range(SIDE) for b in range(SIDE)])
    online, old = (np.asarray(values(network, jnp.asarray(cells)), np.float64) for network in (policy, target))

    vector_errors, scalar_errors = [], []
    for row in range(4):
        place = [0, 0]
        for t in range(given.action.shape[1]):
            if not given.valid[row, t]:
                break
            action = int(given.action[row, t])
            after = list(place)
            if action < 2:
                after[action] += 1
            for w, weight in enumerate(preferences):
                if action == 2:
                    goal = rewards[row]
                else:
                    legal = [i for i in range(3) if i == 2 or after[i] < SIDE - 1]
                    futures = [old[v, SIDE * after[0] + after[1], i] for v in range(3) for i in legal]
                    goal = gamma * max(futures, key=lambda vector: weight @ vector)
                error = goal - online[w, SIDE * place[0] + place[1], action]
                vector_errors.append((error**2).mean())
                scalar_errors.append((weight @ error) ** 2)
            place = after
    expected = (1 - mixture) * np.mean(vector_errors) + mixture * np.mean(scalar_errors)
    found = jax.jit(
        lambda policy, target: envelope_loss(
            policy, target, environment, given, weights, jnp.asarray(rewards, jnp.float32), gamma, jnp.float32(mixture)
        )
    )(policy, target)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_one_object_for_a_preference_is_the_greedy_one() -> None:
    policy = untrained(jax.random.key(0))
    asked = condition([[0.3, 0.7]], 16.0, 2)
    read = encoded(asked, SHARED)
    seen = jax.nn.one_hot(jnp.array([[[1, 1]]]), SIDE).reshape(1, 1, -1)
    vectors = np.asarray(policy.values(seen, read))[0, 0]
    _, outputs = policy.step(policy.start(read), seen[:, 0], read)
    assert np.allclose(np.asarray(outputs.logits)[0] / 1e6, vectors @ [0.3, 0.7], atol=1e-5)
    assert np.allclose(policy.trajectory(seen, read).logits[0, 0], outputs.logits[0], rtol=1e-4, atol=10.0)


def test_the_error_goes_from_vectors_to_scalars_over_the_run() -> None:
    shares = [float(homotopy(jnp.float32(done))) for done in (0.0, 0.5, 1.0)]
    assert shares[0] == pytest.approx(0.011) and shares[2] == pytest.approx(1.0)
    assert shares[0] < shares[1] < 0.1
