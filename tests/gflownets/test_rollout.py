"""Trajectories are legal, end where they say, follow the law of the policy, and stop with the last of the batch."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gflownets.small_grid import cells, grid, uniform_flows

from tutelage.gflownets import rollout as module
from tutelage.gflownets.condition import Condition
from tutelage.gflownets.networks import TabularPolicy
from tutelage.gflownets.policy import Outputs
from tutelage.gflownets.rollout import backward_rollout, draw_action, rollout
from tutelage.gflownets.scoring import replay

D, H = 2, 4
ENVIRONMENT = grid(D, H)
REWARD = np.random.default_rng(0).uniform(0.05, 1.0, H**D)


def _index(observation):
    place = observation.reshape(D, H).argmax(axis=1)
    return place[0] * H + place[1]


def _policy() -> TabularPolicy:
    flows, logits = uniform_flows(REWARD, D, H)
    # What is illegal gets the largest logit: only the mask keeps it out.
    logits = np.where(np.isfinite(logits), logits, 50.0)
    f32 = [jnp.asarray(part, jnp.float32) for part in (logits, flows, flows[0])]
    return TabularPolicy(*f32, _index)


def _conditions(number: int) -> Condition:
    return Condition(jnp.full((number, 2), 0.5), jnp.ones(number))


def _rollout(number, key, **options):
    condition = _conditions(number)
    run = jax.jit(lambda key: rollout(_policy(), ENVIRONMENT, key, condition, condition.preference, **options))
    return run(key)


@pytest.fixture(scope="module")
def exploring():
    return jax.device_get(_rollout(64, jax.random.key(0), epsilon=0.3, keep_outputs=True))


def test_every_action_is_legal_and_leads_to_the_object(exploring):
    for action, valid, thing in zip(exploring.action, exploring.valid, exploring.objects, strict=True):
        taken, place = action[valid], np.zeros(D, int)
        for move in taken[:-1]:
            assert move < D and place[move] < H - 1
            place[move] += 1
        assert taken[-1] == D
        np.testing.assert_array_equal(place, thing)


def test_steps_come_first_and_zeros_after(exploring):
    length = exploring.valid.sum(axis=1)
    np.testing.assert_array_equal(exploring.valid, np.arange(D * (H - 1) + 1) < length[:, None])
    assert (exploring.action[~exploring.valid] == 0).all()


def test_the_probabilities_kept_are_those_of_the_policy_without_exploration(exploring):
    logits, place = np.asarray(_policy().logits, np.float64), np.zeros((64, D), int)
    for t in range(exploring.action.shape[1]):
        for b in np.flatnonzero(exploring.valid[:, t]):
            legal = np.append(place[b] < H - 1, True)
            row = np.where(legal, logits[place[b] @ [H, 1]], -np.inf)
            expected = row[exploring.action[b, t]] - np.logaddexp.reduce(row)
            np.testing.assert_allclose(exploring.log_pf[b, t], expected, atol=1e-5)
            place[b] += np.arange(D) == exploring.action[b, t]


@pytest.mark.parametrize("ahead", [True, False])
def test_objects_follow_the_law_of_the_policy(ahead, monkeypatch):
    number = 20_000
    monkeypatch.setattr(module, "NOISE_AHEAD", 10**9 if ahead else 0)
    objects = np.asarray(_rollout(number, jax.random.key(1)).objects)
    counts = np.bincount(objects @ [H, 1], minlength=H**D)
    expected = REWARD / REWARD.sum() * number
    assert ((counts - expected) ** 2 / expected).sum() < 44.3, "χ² with 15 degrees of freedom, p = 1e-4"


def test_exploration_mixes_the_policy_with_uniform_legal_actions():
    number, epsilon = 200_000, 0.3
    logits, mask = jnp.array([1.0, 9.0, 0.0, -1.0]), jnp.array([True, False, True, True])
    many = (jnp.tile(logits, (number, 1)), jnp.tile(mask, (number, 1)))
    action = np.asarray(jax.jit(lambda key: draw_action(key, *many, epsilon))(jax.random.key(2)))
    legal = np.exp([1.0, -np.inf, 0.0, -1.0])
    law = (1 - epsilon) * legal / legal.sum() + epsilon * np.array([1, 0, 1, 1]) / 3
    found = np.bincount(action, minlength=4) / number
    assert found[1] == 0
    np.testing.assert_allclose(found, law, atol=5 * np.sqrt(0.25 / number))


class Counting(eqx.Module):
    """Goes along the first axis to a given coordinate and stops there; counts how often it is asked."""

    calls: list = eqx.field(static=True)
    last: int = eqx.field(static=True)
    memoryless = True

    def start(self, condition):
        return ()

    def step(self, carry, observation, condition):
        jax.debug.callback(lambda: self.calls.append(1))
        place = observation.reshape(-1, D, 40)[:, 0].argmax(axis=1)
        stops = (place >= self.last)[:, None]
        return carry, Outputs(jnp.where(stops, jnp.array([-90.0, -90, 90]), jnp.array([90.0, -90, -90])), place * 0.0)

    def trajectory(self, observations, condition):
        raise NotImplementedError

    def log_z(self, observation, condition):
        return condition[:, 0]


def test_a_rollout_stops_when_its_batch_is_done():
    environment, condition = grid(D, 40), _conditions(4)
    policy = Counting([], 3)
    run = jax.jit(lambda key: rollout(policy, environment, key, condition, condition.preference))
    done = jax.block_until_ready(run(jax.random.key(3)))
    jax.effects_barrier()
    assert environment.max_steps == 79
    assert int(done.valid.sum(axis=1).max()) == len(policy.calls) == 4


@pytest.fixture(scope="module")
def backward():
    objects = jnp.tile(jnp.array([[2, 1]]), (6_000, 1)).at[0].set(0).at[1].set(H - 1)
    run = jax.jit(lambda key: backward_rollout(ENVIRONMENT, key, objects, _conditions(6_000)))
    return run(jax.random.key(4))


def test_a_backward_trajectory_replays_to_its_object(backward):
    states = jax.jit(lambda given: replay(ENVIRONMENT, given))(backward)
    np.testing.assert_array_equal(np.asarray(states.place)[-1], np.asarray(backward.objects))
    length = np.asarray(backward.valid).sum(axis=1)
    np.testing.assert_array_equal(length, np.asarray(backward.objects).sum(axis=1) + 1)
    for t, finished in enumerate(np.asarray(states.finished)):
        np.testing.assert_array_equal(finished, t >= length)


def test_backward_trajectories_follow_the_backward_policy(backward):
    # To (2, 1): undoing (uniform over axes that are not 0) from the end; the last undone first.
    paths = {(0, 0, 1): 0.5, (1, 0, 0): 0.25, (0, 1, 0): 0.25}
    taken = np.asarray(backward.action)[2:, :3]
    for path, share in paths.items():
        found = (taken == path).all(axis=1).mean()
        assert abs(found - share) < 5 * np.sqrt(share * (1 - share) / len(taken))


def test_all_cells_are_reached():
    objects = np.asarray(_rollout(20_000, jax.random.key(1), epsilon=0.5).objects)
    assert len(np.unique(objects, axis=0)) == len(cells(D, H))
