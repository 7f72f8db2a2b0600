"""The task-switching wrapper and the estimator together: closed forms, and streams laid one after the other."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_worlds import counting

from tutelage.continual.deep.sweep import reward_stream, switched, task_order
from tutelage.continual.deep.switching_config import SwitchingConfig
from tutelage.continual.deep.task_switching import task_switching
from tutelage.envs.environment import Discrete, Environment, TimeStep
from tutelage.measures.mixing import return_mixing_estimate, scaling_exponent


def paying(rate: float) -> Environment:
    """Every step pays the rate; an episode has three."""

    def reset(key, task):
        return jnp.int32(0), jnp.zeros(1)

    def step(key, state, action):
        return state + 1, TimeStep(jnp.zeros(1), jnp.float32(rate), jnp.float32(1), state + 1 >= 3)

    return Environment(f"pays {rate:g}", Discrete(2), 3, reset, step, lambda key: jnp.int32(0), truncates=True)


def anything(obs, key):
    return jax.random.randint(key, (), 0, 2)


def joint(environments, tau: int, num_steps: int) -> np.ndarray:
    """Rewards of one stream of the wrapper, [1, T]."""
    env = task_switching(environments, SwitchingConfig(tau=tau))
    play = jax.jit(lambda key: reward_stream(key, env, anything, 1, num_steps))
    return np.asarray(play(jax.random.key(0)), np.float64)


@pytest.mark.parametrize(("tau", "eps", "steps"), [(10, 0.05, 91), (7, 0.1, 24)])
def test_two_rates_in_turn_mix_as_the_closed_form_says(tau, eps, steps):
    m = max(m for m in range(100) if 2 * m + 1 < 1 / (2 * eps) - 1e-9)
    assert steps == math.ceil((m + 1) * tau / (0.5 + eps) - 1e-9)
    rewards = joint([paying(1), paying(0)], tau, 200 * tau)
    estimate = return_mixing_estimate(rewards, eps, absolute=True)
    assert estimate.steps == steps
    assert estimate.gain == 0.5


def test_times_grow_linearly_with_switching_time_and_number_of_tasks():
    taus, sizes = (5, 40), (2, 6)
    times = [return_mixing_estimate(joint([paying(1), paying(0)], tau, 60 * tau), 0.1).steps for tau in taus]
    assert scaling_exponent(taus, times).exponent == pytest.approx(1, abs=0.02)
    blocks = [[paying(float(z < size / 2)) for z in range(size)] for size in sizes]
    times = [return_mixing_estimate(joint(block, 10, 600 * len(block)), 0.1).steps for block in blocks]
    assert scaling_exponent(sizes, times).exponent == pytest.approx(1, abs=0.02)


def test_the_wrappers_rewards_are_the_tasks_own_laid_one_after_the_other():
    """Episodes of 3 and of 5 steps under turns of 4: every task goes on where it was left."""
    worlds = []
    for length in (3, 5):
        env = counting()
        fixed = jnp.int32(length)
        worlds.append(
            Environment(env.name, env.actions, env.horizon, env.reset, env.step, lambda key, fixed=fixed: fixed)
        )
    streams = [np.asarray(reward_stream(jax.random.key(1), world, anything, 1, 60)) for world in worlds]
    np.testing.assert_array_equal(joint(worlds, 4, 100), switched(streams, task_order(2, 4, 1, 100)))
