"""The adversary: what it is paid, when, and that it learns to build what pays."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array
from numpy.testing import assert_allclose, assert_array_equal

from tutelage.curricula.config import AdversaryConfig, AdversaryNetworkConfig, AdversaryPPOConfig
from tutelage.curricula.paired import OBJECTIVES, credit, paired
from tutelage.curricula.scores import outcomes
from tutelage.curricula.teacher import Outcomes
from tutelage.envs.environment import Discrete, Environment, TimeStep
from tutelage.lab.errors import BadInput
from tutelage.nn.actor_critic import actor_critic
from tutelage.nn.encoders import vector_encoder
from tutelage.rl.returns import gae
from tutelage.rl.rollout import rollout

NUM_TASKS = 8
NET = AdversaryNetworkConfig(body="gru", hidden=8, head_hidden=8)
PPO = AdversaryPPOConfig(learning_rate=0.02, discount=0.995, gae_lambda=0.98, num_epochs=4, entropy_coefficient=0.0)
PHASE = jnp.zeros((), jnp.int32)


class Design(NamedTuple):
    """A level of three arms, pulled one after another. `noise` is the brief."""

    arms: Array
    time: Array
    noise: Array


def design() -> Environment:
    """Three steps, each choosing one of two arms; it ends like any other, and a rollout would then clear it."""

    def observe(state: Design):
        return jnp.stack((state.time.astype(jnp.float32), state.noise))

    def reset(key, noise):
        del key
        state = Design(jnp.full(3, -1, jnp.int32), jnp.zeros((), jnp.int32), noise)
        return state, observe(state)

    def step(key, state, action):
        del key
        state = state._replace(arms=state.arms.at[state.time].set(action.astype(jnp.int32)), time=state.time + 1)
        done = state.time >= 3
        return state, TimeStep(observe(state), jnp.zeros(()), 1 - done.astype(jnp.float32), done)

    return Environment("arms", Discrete(2), 3, reset, step, jax.random.uniform)


def make_net(key):
    k_encoder, k_net = jax.random.split(key)
    encoder = vector_encoder(k_encoder, NET, jax.ShapeDtypeStruct((2,), jnp.float32), widths=(8,))
    return actor_critic(k_net, NET, encoder, Discrete(2))


@functools.cache
def teacher(config=PPO, num_students: int = 2, objective: str = "relative_regret", num_tasks=NUM_TASKS):
    return paired(
        AdversaryConfig(ppo=config),
        design(),
        lambda state: state.arms,
        make_net,
        num_tasks,
        num_students=num_students,
        num_updates=100,
        objective=objective,
    )


def outcome_of(mean, largest=None, completed=None) -> Outcomes:
    """Outcomes [A, N] from mean (and largest) returns."""
    mean = jnp.asarray(mean, jnp.float32)
    largest = mean if largest is None else jnp.asarray(largest, jnp.float32)
    completed = jnp.ones(mean.shape, jnp.int32) if completed is None else jnp.asarray(completed, jnp.int32)
    return Outcomes(completed, mean, largest, (mean > 0).astype(jnp.float32), mean)


def proposed(found=None, seed: int = 0):
    found = found or teacher()
    state = found.init(jax.random.key(seed))
    return state, *jax.jit(found.propose)(state, jax.random.key(seed + 1), PHASE)


def moved(before, after) -> float:
    """The largest change of any parameter."""
    pairs = zip(jax.tree.leaves(before.learner.net), jax.tree.leaves(after.learner.net), strict=True)
    return max(float(jnp.abs(a - b).max()) for a, b in pairs)


def test_proposed_tasks_are_the_finished_designs():
    _, arms, tickets = proposed()
    assert arms.shape == (NUM_TASKS, 3) and arms.dtype == jnp.int32
    assert_array_equal(arms, tickets.action.T)
    assert len(np.unique(arms, axis=0)) > 1
    assert_array_equal(tickets.first, np.arange(3)[:, None] == np.zeros(NUM_TASKS))
    assert teacher().shared and teacher().always_learns and teacher().num_learn == NUM_TASKS


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        # Means .2 and .1 of the protagonist; means .5 and 0, maxima .9 and .05 of the antagonist.
        ("relative_regret", [0.9 - 0.2, 0.0]),
        ("mean_relative_regret", [0.5 - 0.2, 0.0]),
        ("population_regret", [0.9 - 0.35, 0.3 - 0.05]),
    ],
)
def test_objectives_by_hand(objective, expected):
    found = outcome_of([[0.2, 0.1], [0.5, 0.0]], [[0.4, 0.3], [0.9, 0.05]])
    assert_allclose(OBJECTIVES[objective](found), expected, rtol=1e-6)


def test_minimax_adversary_is_paid_the_students_loss():
    found = outcome_of([[0.2, -1.5, 0.0]], [[0.4, 0.3, -jnp.inf]], [[2, 1, 0]])
    assert_allclose(OBJECTIVES["neg_return"](found), [-0.2, 1.5, -np.inf], rtol=1e-6)


def test_equal_students_leave_no_regret():
    """Protagonist and antagonist of the same parameters and keys, one episode each: regret 0 on every level."""
    env = dataclasses.replace(design(), step=lambda k, s, a: _paid_step(k, s, a))
    net = make_net(jax.random.key(3))
    tasks = jax.random.uniform(jax.random.key(4), (NUM_TASKS,))
    played = rollout(jax.random.key(5), net, env, tasks, 3).trajectory
    one = outcomes(played, jnp.zeros_like(played.reward), "return", jnp.full(NUM_TASKS, -jnp.inf))
    both = jax.tree.map(lambda leaf: jnp.stack((leaf, leaf)), one)
    assert len(np.unique(one.mean_return)) > 1
    for objective in ("relative_regret", "mean_relative_regret", "population_regret"):
        assert_array_equal(OBJECTIVES[objective](both), 0)


def _paid_step(key, state, action):
    after, out = design().step(key, state, action)
    return after, out._replace(reward=action.astype(jnp.float32))


def test_reward_comes_at_the_last_step_alone_and_sums_to_the_regret():
    _, _, tickets = proposed()
    regret = jnp.linspace(0.1, 0.8, NUM_TASKS)
    paid = credit(tickets, regret)
    assert_array_equal(paid.reward[:-1], 0)
    assert_array_equal(paid.reward.sum(0), regret)
    assert_array_equal(paid.discount, [[1.0] * NUM_TASKS, [1.0] * NUM_TASKS, [0.0] * NUM_TASKS])
    assert_array_equal(paid.last, paid.discount == 0)


def test_advantages_by_hand_without_bootstrap_at_the_end():
    _, _, tickets = proposed()
    value = jnp.broadcast_to(jnp.asarray([0.5, 0.4, 0.3])[:, None], (3, NUM_TASKS))
    tickets = tickets._replace(values=value[..., None], next_value=jnp.concatenate((value[1:], value[:1] + 100)))
    paid = credit(tickets, jnp.ones(NUM_TASKS))
    advantage, target = gae(paid.reward, paid.discount, paid.last, paid.value, paid.next_value, gamma=0.995, lam=0.98)
    at_2 = 1 - 0.3  # no bootstrap from the 100.5 after the end
    at_1 = 0.995 * 0.3 - 0.4 + 0.995 * 0.98 * at_2
    at_0 = 0.995 * 0.4 - 0.5 + 0.995 * 0.98 * at_1
    assert_allclose(advantage[:, 0], [at_0, at_1, at_2], rtol=1e-5)
    assert_allclose(target[-1], 1, rtol=1e-6)


def test_update_ignores_the_value_after_the_last_step():
    state, arms, tickets = proposed()
    found = outcome_of(jnp.stack((jnp.zeros(NUM_TASKS), jnp.linspace(0, 1, NUM_TASKS))))
    observe = jax.jit(teacher().observe)
    once, _ = observe(state, jax.random.key(2), PHASE, arms, tickets, found)
    strange = tickets._replace(next_value=tickets.next_value.at[-1].set(1e3))
    again, _ = observe(state, jax.random.key(2), PHASE, arms, strange, found)
    assert moved(state, once) > 0
    assert moved(once, again) == 0


@pytest.mark.parametrize("learning_rate", [1e-3, pytest.param(1e-2, marks=pytest.mark.slow)])
def test_adversary_has_a_step_size_of_its_own(learning_rate):
    """The first step of Adam moves a parameter by the step size (less ε), whatever the gradient."""
    config = dataclasses.replace(PPO, learning_rate=learning_rate, num_epochs=1, adam_eps=1e-10)
    state, arms, tickets = proposed(teacher(config))
    found = outcome_of(jnp.stack((jnp.zeros(NUM_TASKS), jnp.linspace(0, 1, NUM_TASKS))))
    after, _ = jax.jit(teacher(config).observe)(state, jax.random.key(2), PHASE, arms, tickets, found)
    assert_allclose(moved(state, after), learning_rate, rtol=1e-3)


def test_levels_of_unknown_regret_teach_nothing():
    config = dataclasses.replace(PPO, num_epochs=1, adam_eps=1e-12, max_grad_norm=1e9)
    found, half = teacher(config), teacher(config, num_tasks=NUM_TASKS // 2)
    state, arms, tickets = proposed(found)
    antagonist = jnp.linspace(0, 1, NUM_TASKS)
    completed = jnp.ones((2, NUM_TASKS), jnp.int32).at[0, NUM_TASKS // 2 :].set(0)
    unfinished = outcome_of(jnp.stack((jnp.zeros(NUM_TASKS), antagonist)), completed=completed)
    observe = jax.jit(found.observe)
    after, metrics = observe(state, jax.random.key(2), PHASE, arms, tickets, unfinished)
    assert metrics["known"] == 0.5
    assert_allclose(metrics["relative_regret"], antagonist[: NUM_TASKS // 2].mean(), rtol=1e-6)

    # Up to the scale of the gradient, which Adam's first step forgets, as if only the other half had been built.
    rows = jax.tree.map(lambda leaf: leaf[:, : NUM_TASKS // 2], (tickets, unfinished))
    alone, _ = jax.jit(half.observe)(state, jax.random.key(2), PHASE, arms[: NUM_TASKS // 2], *rows)
    assert moved(state, after) > 0
    policy = [jax.tree.leaves(s.learner.net.policy) for s in (state, after, alone)]
    for before, masked, expected in zip(*policy, strict=True):
        assert_allclose(masked - before, expected - before, atol=2e-4)

    nothing = unfinished._replace(completed=jnp.zeros((2, NUM_TASKS), jnp.int32))
    after, metrics = observe(state, jax.random.key(2), PHASE, arms, tickets, nothing)
    assert metrics["known"] == 0 and metrics["relative_regret"] == 0
    assert moved(state, after) == 0


@pytest.mark.parametrize(
    ("objective", "num_students"),
    [
        ("relative_regret", 2),
        *(pytest.param(*of, marks=pytest.mark.slow) for of in [("population_regret", 3), ("neg_return", 1)]),
    ],
)
def test_adversary_learns_to_build_what_pays(objective, num_students):
    """Only the first of three arms matters; arm 1 pays 1. Credit must travel back over two steps."""
    found = teacher(PPO, num_students, objective)

    def cycle(state, key):
        k_propose, k_observe = jax.random.split(key)
        arms, tickets = found.propose(state, k_propose, PHASE)
        pays = (arms[:, 0] == 1).astype(jnp.float32)
        # The last student earns where the arm pays and the others nothing; the minimax adversary's student loses.
        returns = jnp.zeros((num_students, NUM_TASKS)).at[-1].set(-pays if objective == "neg_return" else pays)
        state, metrics = found.observe(state, k_observe, PHASE, arms, tickets, outcome_of(returns))
        return state, (jnp.exp(tickets.log_prob[0]), pays.mean(), metrics)

    keys = jax.random.split(jax.random.key(1), 60)
    state = found.init(jax.random.key(0))
    assert all(not leaf.aval.weak_type for leaf in jax.tree.leaves(state))
    _, (chance, pays, metrics) = jax.jit(lambda state: jax.lax.scan(cycle, state, keys))(state)
    assert_allclose(chance[0], 0.5, rtol=1e-6)  # untrained, it tosses a coin
    assert pays[-10:].mean() > 0.95
    scale = 2 / 3 if objective == "population_regret" else 1
    assert_allclose(metrics[objective], scale * pays, atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "num_students", "message"),
    [
        ("relative_regret", 3, "num_students = 3: relative_regret is defined for exactly 2"),
        ("mean_relative_regret", 1, "num_students = 1: mean_relative_regret is defined for exactly 2"),
        ("population_regret", 1, "num_students = 1: population_regret needs at least 2"),
        ("neg_return", 2, "num_students = 2: neg_return is defined for exactly 1"),
        ("relative_regrets", 2, "objective = 'relative_regrets': allowed are .*; did you mean 'relative_regret'"),
    ],
)
def test_impossible_objectives_are_refused(objective, num_students, message):
    with pytest.raises(BadInput, match=message):
        teacher(PPO, num_students, objective)


def test_outcomes_of_another_population_are_refused():
    state, arms, tickets = proposed()
    with pytest.raises(BadInput, match=r"outcomes are of shape \(3, 8\): 2 students on 8 tasks needed"):
        teacher().observe(state, jax.random.key(2), PHASE, arms, tickets, outcome_of(jnp.zeros((3, NUM_TASKS))))
