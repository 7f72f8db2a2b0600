"""Classic control against Gymnasium, whose dynamics are in double precision and whose parameters we set by hand."""

from __future__ import annotations

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tutelage.envs.classic.acrobot import AcrobotState, AcrobotTask, make_acrobot
from tutelage.envs.classic.acrobot import default_task as default_acrobot
from tutelage.envs.classic.cartpole import CartPoleState, CartPoleTask, make_cartpole
from tutelage.envs.classic.cartpole import default_task as default_cartpole
from tutelage.envs.classic.config import AcrobotConfig, CartPoleConfig, PendulumConfig
from tutelage.envs.classic.parameters import task_grid
from tutelage.envs.classic.pendulum import PendulumState, PendulumTask, make_pendulum
from tutelage.envs.classic.pendulum import default_task as default_pendulum
from tutelage.lab.errors import BadInput

NUM = 200


def at_time_zero(count: int):
    return jnp.zeros(count, jnp.int32)


def step_all(env, states, actions):
    return jax.jit(jax.vmap(env.step))(jax.random.split(jax.random.key(0), NUM), states, actions)


def stacked(task, count: int = NUM):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count,)), task)


def random_tasks(env):
    return jax.vmap(env.sample_task)(jax.random.split(jax.random.key(7), NUM))


def row(task, i: int):
    return {name: float(values[i]) for name, values in task._asdict().items()}


@pytest.mark.parametrize("physics", ["default", "sampled"])
def test_cartpole_transitions_equal_gymnasium(physics):
    env, rng = make_cartpole(), np.random.default_rng(0)
    tasks = stacked(default_cartpole()) if physics == "default" else random_tasks(env)
    # Wide enough that both the cart and the pole sometimes leave their bounds.
    motion = rng.uniform([-2.6, -2, -0.22, -2], [2.6, 2, 0.22, 2], (NUM, 4)).astype(np.float32)
    actions = rng.integers(0, 2, NUM)
    states, out = step_all(env, CartPoleState(jnp.asarray(motion), at_time_zero(NUM), tasks), jnp.asarray(actions))
    oracle = gymnasium.make("CartPole-v1").unwrapped
    ended = 0
    for i in range(NUM):
        p = row(tasks, i)
        oracle.reset(seed=0)
        oracle.gravity, oracle.force_mag, oracle.length = p["gravity"], p["force"], p["length"]
        oracle.masspole, oracle.masscart = p["mass_pole"], p["mass_cart"]
        oracle.total_mass, oracle.polemass_length = p["mass_pole"] + p["mass_cart"], p["mass_pole"] * p["length"]
        oracle.state = motion[i].astype(np.float64)
        obs, reward, terminated, _, _ = oracle.step(int(actions[i]))
        assert_allclose(out.obs[i], obs, rtol=1e-5, atol=1e-5)
        assert (out.reward[i], out.discount[i], out.last[i]) == (reward, 1 - terminated, terminated)
        ended += terminated
    assert 20 < ended < NUM - 20
    assert_array_equal(states.time, 1)


@pytest.mark.parametrize("physics", ["default", "sampled"])
def test_pendulum_transitions_equal_gymnasium(physics):
    env, rng = make_pendulum(), np.random.default_rng(1)
    tasks = stacked(default_pendulum()) if physics == "default" else random_tasks(env)
    theta, speed = rng.uniform([-4, -8], [4, 8], (NUM, 2)).astype(np.float32).T
    actions = rng.uniform(-3, 3, (NUM, 1)).astype(np.float32)
    states = PendulumState(jnp.asarray(theta), jnp.asarray(speed), at_time_zero(NUM), tasks)
    _, out = step_all(env, states, jnp.asarray(actions))
    oracle = gymnasium.make("Pendulum-v1").unwrapped
    for i in range(NUM):
        oracle.reset(seed=0)
        p = row(tasks, i)
        oracle.g, oracle.m, oracle.l = p["gravity"], p["mass"], p["length"]
        oracle.state = np.array([theta[i], speed[i]], np.float64)
        obs, reward, terminated, _, _ = oracle.step(actions[i].astype(np.float64))
        assert_allclose(out.obs[i], obs, rtol=1e-5, atol=1e-5)
        assert_allclose(out.reward[i], reward, rtol=1e-5, atol=1e-5)
        assert (out.discount[i], out.last[i], terminated) == (1, False, False)


@pytest.mark.parametrize("physics", ["default", "sampled"])
def test_acrobot_transitions_equal_gymnasium(physics):
    env, rng = make_acrobot(), np.random.default_rng(2)
    tasks = stacked(default_acrobot()) if physics == "default" else random_tasks(env)
    motion = rng.uniform([-3.1, -3.1, -5, -8], [3.1, 3.1, 5, 8], (NUM, 4)).astype(np.float32)
    actions = rng.integers(0, 3, NUM)
    _, out = step_all(env, AcrobotState(jnp.asarray(motion), at_time_zero(NUM), tasks), jnp.asarray(actions))
    oracle = gymnasium.make("Acrobot-v1").unwrapped
    ended = 0
    for i in range(NUM):
        p = row(tasks, i)
        oracle.reset(seed=0)
        oracle.LINK_LENGTH_1, oracle.LINK_MASS_1, oracle.LINK_MASS_2 = p["length"], p["mass"], p["mass"]
        oracle.AVAIL_TORQUE = [-p["torque"], 0.0, p["torque"]]
        oracle.state = motion[i].astype(np.float64)
        obs, reward, terminated, _, _ = oracle.step(int(actions[i]))
        # Single precision through four evaluations of a stiff right-hand side: 1e-5 of the speed's range (28 rad/s).
        assert_allclose(out.obs[i], obs, rtol=1e-5, atol=3e-4 if physics == "sampled" else 3e-5)
        assert (out.reward[i], out.discount[i], out.last[i]) == (reward, 1 - terminated, terminated)
        ended += terminated
    assert 20 < ended < NUM - 20


@pytest.mark.parametrize(
    ("make", "config", "task", "name"),
    [
        (make_pendulum, PendulumConfig, default_pendulum, "Pendulum-v1"),
        (make_acrobot, AcrobotConfig, default_acrobot, "Acrobot-v1"),
    ],
)
def test_time_limit_cuts_off_where_gymnasium_does(make, config, task, name):
    env = make()
    with gymnasium.make(name) as oracle:
        oracle.reset(seed=0)
        action = np.zeros(1, np.float32) if name == "Pendulum-v1" else 1  # no torque: Acrobot never gets there
        flags = [oracle.step(action)[2:4] for _ in range(config().horizon)]
    assert flags == [(False, False)] * (config().horizon - 1) + [(False, True)]

    def step(state, _):
        state, out = env.step(jax.random.key(0), state, jnp.asarray(action))
        return state, (out.discount, out.last)

    state, _ = env.reset(jax.random.key(0), task())
    _, (discount, last) = jax.jit(lambda state: jax.lax.scan(step, state, None, env.horizon))(state)
    assert env.truncates and env.horizon == config().horizon
    assert_array_equal(discount, 1)
    assert_array_equal(last, np.arange(env.horizon) == env.horizon - 1)


def test_cartpole_cut_off_bootstraps_and_fall_does_not():
    env = make_cartpole(CartPoleConfig(horizon=3))
    key, upright = jax.random.key(0), jnp.zeros(4)
    state = CartPoleState(upright, jnp.asarray(2, jnp.int32), default_cartpole())
    _, cut = env.step(key, state, jnp.asarray(0))
    _, both = env.step(key, state._replace(motion=upright.at[0].set(2.5)), jnp.asarray(0))
    assert (cut.discount, cut.last) == (1, True)
    assert (both.discount, both.last) == (0, True)


@pytest.mark.parametrize(
    ("make", "kind", "default", "free"),
    [
        (make_cartpole, CartPoleTask, default_cartpole, {"mass_pole", "length"}),
        (make_pendulum, PendulumTask, default_pendulum, {"mass", "length"}),
        (make_acrobot, AcrobotTask, default_acrobot, {"mass", "length"}),
    ],
)
def test_tasks_are_sampled_and_mutated_in_their_ranges(make, kind, default, free):
    env = make()
    tasks = random_tasks(env)
    assert isinstance(tasks, kind)
    for name, values in tasks._asdict().items():
        if name in free:
            assert 0.01 <= values.min() < 0.5 and 9.5 < values.max() <= 10.01
            assert abs(values.mean() - 5.01) < 4 * (10 / np.sqrt(12)) / np.sqrt(NUM)
        else:
            assert_array_equal(values, getattr(default(), name))
    k_once, k_often = jax.random.split(jax.random.key(3), (2, NUM))
    once = jax.vmap(lambda k, t: env.mutate(k, t, 1))(k_once, tasks)
    changed = np.stack([np.asarray(a != b) for a, b in zip(tasks, once)])
    assert changed.sum(0).max() == 1  # one edit changes one parameter
    assert {name for name, row in zip(kind._fields, changed) if row.any()} == free
    often = jax.vmap(lambda k, t: env.mutate(k, t, 50))(k_often, tasks)
    for name in free:
        values = getattr(often, name)
        assert values.min() >= np.float32(0.01) and values.max() <= np.float32(10.01)
    assert_array_equal(jax.vmap(env.equal)(tasks, tasks), True)
    assert_array_equal(jax.vmap(env.equal)(tasks, once), ~changed.any(0))
    assert env.measure(tasks) == tasks._asdict()


def test_size_of_a_mutation_is_the_configured_share_of_the_range():
    env = make_pendulum(PendulumConfig(mass=(1.0, 3.0), length=(1.0, 1.0), mutation_scale=0.05))
    middle = PendulumTask(*jnp.asarray((10.0, 2.0, 1.0)))
    keys = jax.random.split(jax.random.key(0), 4000)
    moved = jax.vmap(lambda k: env.mutate(k, middle, 1))(keys).mass
    assert abs(moved.std() - 0.05 * 2.0) < 0.005


def test_grid_of_held_out_tasks():
    tasks = task_grid(default_cartpole(), "length", "mass_pole", num=3)
    middle = np.sqrt(0.05 * 10)
    assert_allclose(tasks.length, [0.05, middle, 10] * 3 + [0.5], rtol=1e-6)
    assert_allclose(tasks.mass_pole, [*np.repeat([0.05, middle, 10], 3), 0.1], rtol=1e-6)
    assert_array_equal(tasks.gravity, np.float32(9.8))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PendulumConfig(mass=(2.0, 1.0)), r"mass = \(2.0, 1.0\): allowed are 0 < low <= high < inf"),
        (PendulumConfig(length=(0.0, 1.0)), r"length = \(0.0, 1.0\)"),
        (PendulumConfig(mutation_scale=0.0), r"mutation_scale = 0.0: allowed is \(0, inf\)"),
    ],
)
def test_bad_ranges_are_refused_by_name(config, message):
    with pytest.raises(BadInput, match=message):
        make_pendulum(config)
