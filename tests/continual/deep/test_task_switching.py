"""The stream of tasks: switches on time, resumes where it left, never ends."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.continual.deep.switching_config import SwitchingConfig
from tutelage.continual.deep.task_switching import task_switching
from tutelage.envs.environment import Discrete, Environment, TimeStep
from tutelage.lab.errors import BadInput


def counter(name: str, base: int, length: int = 4, actions: int = 2, width: int = 1) -> Environment:
    """Counts its steps from a base on, ends after `length`, pays its base."""

    def seen(t):
        return jnp.full((width,), base + t, jnp.int32)

    def step(key, state, action):
        t = state + 1
        over = t >= length
        return t, TimeStep(seen(t), jnp.float32(base), 1 - over.astype(jnp.float32), over)

    return Environment(
        name,
        Discrete(actions),
        length,
        reset=lambda key, task: (jnp.zeros((), jnp.int32), seen(0)),
        step=step,
        sample_task=lambda key: jnp.zeros((), jnp.int32),
    )


def stream(world: Environment, steps: int, seed: int = 0):
    def one(state, key):
        state, seen = world.step(key, state, jnp.int32(0))
        return state, (seen, state.active)

    @jax.jit
    def run(key):
        task_key, reset_key, step_key = jax.random.split(key, 3)
        state, first = world.reset(reset_key, world.sample_task(task_key))
        _, (seen, active) = jax.lax.scan(one, state, jax.random.split(step_key, steps))
        return first, seen, active

    first, seen, active = run(jax.random.key(seed))
    assert np.asarray(seen.discount).all() and not np.asarray(seen.last).any()
    return [int(first[0]), *np.asarray(seen.obs)[:, 0].tolist()], np.asarray(seen.reward).tolist(), np.asarray(active)


def test_tasks_switch_every_tau_steps_and_resume_where_they_were_left():
    world = task_switching([counter("a", 10), counter("b", 20)], SwitchingConfig(tau=3))
    observations, rewards, _ = stream(world, 12)
    # Three steps of a (10, 11, 12; the observation of its third step, 13, waits), then b, then a from 13 on; the
    # fourth step of an episode begins the next one.
    assert observations == [10, 11, 12, 20, 21, 22, 13, 10, 11, 23, 20, 21, 12]
    assert rewards == [10] * 3 + [20] * 3 + [10] * 3 + [20] * 3


def test_random_order_draws_tasks_evenly_and_changes_only_at_switches():
    world = task_switching([counter(str(i), 10 * i) for i in range(3)], SwitchingConfig(tau=2, order="random"))
    _, _, active = stream(world, 1200)
    blocks = active[1:-1].reshape(-1, 2)
    assert (blocks[:, 0] == blocks[:, 1]).all()
    assert (np.abs(np.bincount(active, minlength=3) / len(active) - 1 / 3) < 0.07).all()


def test_tasks_with_other_actions_or_observations_are_refused_by_name():
    one = counter("pong", 0)
    with pytest.raises(BadInput, match=r"pong has actions Discrete\(n=2\), tennis Discrete\(n=3\)"):
        task_switching([one, counter("tennis", 0, actions=3)], SwitchingConfig())
    with pytest.raises(BadInput, match=r"pong has observations int32\[1\], tennis int32\[2\]"):
        task_switching([one, one, counter("tennis", 0, width=2)], SwitchingConfig())
    with pytest.raises(BadInput, match="tau = 0"):
        task_switching([one], dataclasses.replace(SwitchingConfig(), tau=0))
    with pytest.raises(BadInput, match="none is given"):
        task_switching([], SwitchingConfig())
