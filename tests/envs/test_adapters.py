"""Other people's environments behind our protocol, against those environments themselves."""

from __future__ import annotations

import sys

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from xminigrid.benchmarks import Benchmark
from xminigrid.core.constants import TILES_REGISTRY, Colors, Tiles
from xminigrid.core.goals import AgentNearGoal
from xminigrid.core.rules import EmptyRule
from xminigrid.types import RuleSet

from tutelage.envs.adapters.gymnax import gymnax_environment
from tutelage.envs.adapters.xminigrid import xminigrid_environment
from tutelage.envs.classic.cartpole import advance, make_cartpole
from tutelage.envs.conformance import check_environment
from tutelage.envs.environment import Box, Discrete
from tutelage.lab.errors import BadInput

BALL, KEY = TILES_REGISTRY[Tiles.BALL, Colors.RED], TILES_REGISTRY[Tiles.KEY, Colors.BLUE]
RULESETS = RuleSet(
    goal=jnp.stack([AgentNearGoal(tile=tile).encode() for tile in (BALL, KEY)]),
    rules=jnp.stack([EmptyRule().encode()[None]] * 2),
    init_tiles=jnp.stack([tile[None] for tile in (BALL, KEY)]),
)


def play(env, task, actions, seed: int = 0):
    """The first observation and the time steps [T] of one episode that is not restarted."""
    k_reset, k_steps = jax.random.split(jax.random.key(seed))
    state, obs = env.reset(k_reset, task)

    def step(state, x):
        return env.step(x[0], state, x[1])

    return obs, jax.jit(lambda s: jax.lax.scan(step, s, (jax.random.split(k_steps, len(actions)), actions))[1])(state)


@pytest.mark.parametrize(
    "env",
    [
        gymnax_environment("CartPole-v1", horizon=20, ranges={"masspole": (0.05, 1.0), "length": (0.1, 2.0)}),
        gymnax_environment("Pendulum-v1", horizon=5),
        gymnax_environment("Catch-bsuite"),
        xminigrid_environment("MiniGrid-Empty-5x5", max_steps=8),
    ],
    ids=lambda env: env.name,
)
def test_adapters_conform(env):
    assert check_environment(env, jax.random.key(0), num_tasks=4) == []


def test_gymnax_termination_and_time_limit_are_told_apart():
    env = gymnax_environment("CartPole-v1", horizon=30)
    assert (env.actions, env.horizon, env.truncates) == (Discrete(2), 30, True)
    world, params = gymnax.make("CartPole-v1")

    # Always to the right: falls after some ten steps. The last observation is the fallen pole, not a new episode's.
    obs, out = play(env, jnp.int32(5), jnp.ones(30, jnp.int32))
    end = int(np.argmax(out.last))
    assert 5 < end < 29 and out.discount[end] == 0 and not out.last[:end].any()
    assert_array_equal(obs, world.reset_env(jax.random.key(5), params)[0])
    assert abs(out.obs[end][2]) > np.deg2rad(12)
    assert_array_equal(out.discount[:end], 1)

    # Leaning against the fall: still up when time runs out.
    state, obs = env.reset(jax.random.key(0), jnp.int32(5))
    for t in range(30):
        state, after = jax.jit(env.step)(jax.random.key(t), state, (obs[2] + obs[3] > 0).astype(jnp.int32))
        obs = after.obs
        assert (after.discount, after.last) == (1, t == 29)


def test_gymnax_parameters_make_tasks_and_derived_ones_follow():
    env = gymnax_environment(
        "CartPole-v1", ranges={"masspole": (0.5, 0.5), "masscart": (2.0, 2.0), "length": (1.0, 1.0)}
    )
    task = env.sample_task(jax.random.key(0))
    assert {name: float(value) for name, value in task.items()} == {"masspole": 0.5, "masscart": 2.0, "length": 1.0}
    assert env.measure(task) == task
    state, obs = env.reset(jax.random.key(1), task)
    _, out = env.step(jax.random.key(2), state, jnp.int32(1))
    ours = (
        make_cartpole()
        .sample_task(jax.random.key(3))
        ._replace(mass_cart=jnp.float32(2), mass_pole=jnp.float32(0.5), length=jnp.float32(1))
    )
    assert_allclose(out.obs, advance(obs, jnp.int32(1), ours), atol=1e-6)


def test_gymnax_seeds_are_levels():
    env = gymnax_environment("CartPole-v1")
    one, two, other = (env.reset(jax.random.key(k), jnp.int32(seed))[1] for k, seed in ((0, 7), (1, 7), (0, 8)))
    assert_array_equal(one, two)
    assert (one != other).any()
    assert env.equal(jnp.int32(7), jnp.int32(7)) and not env.equal(jnp.int32(7), jnp.int32(8))


def test_gymnax_continuous_actions_equal_gymnasium():
    env = gymnax_environment("Pendulum-v1")
    assert env.actions == Box(1, -2.0, 2.0) and env.horizon == 200
    actions = np.random.default_rng(0).uniform(-3, 3, (20, 1)).astype(np.float32)
    obs, out = play(env, jnp.int32(1), jnp.asarray(actions))
    oracle = gymnasium.make("Pendulum-v1").unwrapped
    oracle.reset(seed=0)
    oracle.state = np.array([np.arctan2(obs[1], obs[0]), obs[2]], np.float64)
    for t, action in enumerate(actions):
        expected, reward, *_ = oracle.step(action.astype(np.float64))
        assert_allclose(out.obs[t], expected, atol=1e-3)
        assert_allclose(out.reward[t], reward, atol=1e-3)


def test_xminigrid_goal_terminates_and_time_limit_does_not():
    env = xminigrid_environment("MiniGrid-Empty-5x5", max_steps=8)
    assert (env.actions, env.horizon, env.truncates) == (Discrete(6), 8, True)
    forward, right = 0, 1
    # From the top left corner, facing right, two steps right, turn, two steps down to the goal.
    _, out = play(env, jnp.int32(0), jnp.asarray([forward, forward, right, forward, forward]))
    assert_array_equal(out.last, [False, False, False, False, True])
    assert_array_equal(out.discount, [1, 1, 1, 1, 0])
    assert_allclose(out.reward, [0, 0, 0, 0, 1 - 0.9 * 5 / 8], rtol=1e-6)
    _, out = play(env, jnp.int32(0), jnp.full(8, right))
    assert_array_equal(out.last, np.arange(8) == 7)
    assert_array_equal(out.discount, 1)


@pytest.mark.parametrize("source", ["benchmark", "rulesets"])
def test_xminigrid_rulesets_are_tasks(source):
    benchmark = Benchmark(RULESETS.goal, RULESETS.rules, RULESETS.init_tiles, jnp.zeros(2, jnp.int32))
    env = xminigrid_environment("XLand-MiniGrid-R1-9x9", rulesets=benchmark if source == "benchmark" else RULESETS)
    tasks = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(0), 16))
    rows = [RULESETS.goal.tolist().index(goal) for goal in tasks.goal.tolist()]
    assert set(rows) == {0, 1}
    assert_array_equal(tasks.init_tiles, RULESETS.init_tiles[np.asarray(rows)])
    same = jax.vmap(jax.vmap(env.equal, (None, 0)), (0, None))(tasks, tasks)
    assert_array_equal(same, np.equal.outer(rows, rows))
    # The layout changes from episode to episode, the object does not.
    first, other = (env.reset(jax.random.key(k), RULESETS_ROW)[0].state.grid for k in (0, 1))
    assert (first != other).any()
    assert [(grid == KEY).all(-1).sum() for grid in (first, other)] == [1, 1]


RULESETS_ROW = jax.tree.map(lambda leaf: leaf[1], RULESETS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: gymnax_environment("CartPole-v2"),
            "gymnax has no environment 'CartPole-v2'; did you mean 'CartPole-v1'",
        ),
        (lambda: gymnax_environment("CartPole-v1", ranges={"lenght": (1.0, 2.0)}), "'lenght'; did you mean 'length'"),
        (lambda: gymnax_environment("CartPole-v1", ranges={"length": (2.0, 1.0)}), r"length = \(2.0, 1.0\)"),
        (lambda: gymnax_environment("CartPole-v1", ranges={}), "ranges of CartPole-v1 are empty"),
        (lambda: xminigrid_environment("MiniGrid-Emty-5x5"), "did you mean 'MiniGrid-Empty-5x5'"),
        (
            lambda: xminigrid_environment("MiniGrid-Empty-5x5", max_step=3),
            "no option 'max_step'; did you mean 'max_steps'",
        ),
        (lambda: xminigrid_environment("XLand-MiniGrid-R1-9x9"), "give `rulesets`"),
        (lambda: xminigrid_environment("MiniGrid-Empty-5x5", rulesets=RULESETS), "leave `rulesets` out"),
        (lambda: xminigrid_environment("XLand-MiniGrid-R1-9x9", rulesets=RULESETS_ROW), "leading axis"),
    ],
)
def test_bad_input_is_refused_by_name(make, message):
    with pytest.raises(BadInput, match=message):
        make()


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("gymnax", lambda: gymnax_environment("CartPole-v1")),
        ("xminigrid", lambda: xminigrid_environment("MiniGrid-Empty-5x5")),
    ],
)
def test_missing_package_names_the_extra(monkeypatch, package, make):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=rf"{package} environments need the extra 'sim': pip install 'tutelage\[sim\]'"):
        make()
