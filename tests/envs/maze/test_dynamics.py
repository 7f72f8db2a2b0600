import dataclasses
from functools import partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from envs.maze.minigrid_numpy import NumpyMaze

from tutelage.envs.config import MazeConfig
from tutelage.envs.maze import CHANNELS, Level, channels, make_maze, pad, parse_level, view_channels

STEP_KEY = jax.random.key(0)  # the maze has no randomness of its own


def numpy_maze(level, index, config):
    fields = {name: np.asarray(leaf)[index] for name, leaf in level._asdict().items()}
    return NumpyMaze(**fields, view=config.view, see_agent=config.see_agent)


def assert_same_observation(obs, index, world):
    np.testing.assert_array_equal(CHANNELS[np.asarray(obs.view)[index]], world.observe())
    assert obs.direction[index] == world.direction


def random_tasks(env, num, horizons):
    levels = jax.jit(jax.vmap(env.sample_task))(jax.random.split(jax.random.key(1), num))
    return levels._replace(max_steps=jnp.asarray(horizons, jnp.int32))


def restart(state, first_state, done):
    """The first state again wherever an episode is done."""

    def choose(first, now):
        return np.where(done.reshape(-1, *[1] * (now.ndim - 1)), first, now)

    return jax.tree.map(choose, first_state, state)


@pytest.mark.parametrize(
    "config",
    [
        MazeConfig(),
        MazeConfig(height=6, width=9, num_walls=12, see_agent=True),
        MazeConfig(height=8, width=3, num_walls=5, view=7, num_actions=3),
    ],
    ids=["13x13", "6x9 seeing itself", "8x3 view 7"],
)
def test_ten_thousand_transitions_equal_an_independent_simulator(config):
    """State, reward, discount, end and observation, through episodes of different horizons that start again."""
    num_envs, num_steps = 100, 100
    env = make_maze(config)
    rng = np.random.default_rng(0)
    levels = random_tasks(env, num_envs, rng.integers(1, 70, num_envs))
    actions = rng.choice(config.num_actions, size=(num_steps, num_envs))
    actions = np.where(rng.random(actions.shape) < 0.5, 2, actions)

    reset = jax.jit(lambda: jax.vmap(partial(env.reset, STEP_KEY))(levels))
    step = jax.jit(lambda state, action: jax.vmap(partial(env.step, STEP_KEY))(state, action))
    first_state, first_obs = reset()
    worlds = [numpy_maze(levels, index, config) for index in range(num_envs)]
    for index, world in enumerate(worlds):
        assert_same_observation(first_obs, index, world)

    state, goals, timeouts = first_state, 0, 0
    for action in actions:
        state, moment = step(state, jnp.asarray(action))
        rewards = np.array([world.step(a) for world, a in zip(worlds, action, strict=True)])
        for name in ("x", "y", "direction", "time"):
            np.testing.assert_array_equal(getattr(state, name), [getattr(world, name) for world in worlds])
        done = np.array([world.done for world in worlds])
        np.testing.assert_allclose(moment.reward, rewards, rtol=1e-6)
        np.testing.assert_array_equal(moment.last, done)
        np.testing.assert_array_equal(moment.discount, 1.0 - done)
        host = jax.tree.map(np.asarray, moment.obs)
        for index, world in enumerate(worlds):
            assert_same_observation(host, index, world)
        goals += np.sum(rewards > 0)
        timeouts += np.sum(done & (rewards == 0))
        state = restart(state, first_state, done)
        worlds = [numpy_maze(levels, i, config) if end else world for i, (world, end) in enumerate(zip(worlds, done))]
    assert goals > 20 and timeouts > 20  # both ways to end were met


HEIGHT, WIDTH, LENGTH = 4, 5, 24
SMALL = MazeConfig(height=HEIGHT, width=WIDTH, num_walls=3)
SMALL_ENV = make_maze(SMALL)


@jax.jit
def small_episode(level, actions):
    state, obs = SMALL_ENV.reset(STEP_KEY, level)
    _, (states, moments) = jax.lax.scan(
        lambda state, action: ((out := SMALL_ENV.step(STEP_KEY, state, action))[0], out), state, actions
    )
    return obs, states, moments


@st.composite
def levels(draw):
    agent, goal = draw(st.lists(st.integers(0, HEIGHT * WIDTH - 1), min_size=2, max_size=2, unique=True))
    wall = np.array(draw(st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH)))
    wall[[agent, goal]] = False
    return Level(
        wall=jnp.asarray(wall.reshape(HEIGHT, WIDTH)),
        agent=jnp.array([agent % WIDTH, agent // WIDTH], jnp.int32),
        direction=jnp.int32(draw(st.integers(0, 3))),
        goal=jnp.array([goal % WIDTH, goal // WIDTH], jnp.int32),
        max_steps=jnp.int32(draw(st.integers(1, LENGTH + 1))),
    )


@hypothesis.settings(max_examples=80, deadline=None, derandomize=True)
@hypothesis.given(levels(), st.lists(st.integers(0, 6), min_size=LENGTH, max_size=LENGTH))
def test_any_level_and_any_actions_equal_the_simulator(level, actions):
    obs, states, moments = jax.tree.map(np.asarray, small_episode(level, jnp.array(actions)))
    world = NumpyMaze(*jax.tree.map(np.asarray, level))
    np.testing.assert_array_equal(CHANNELS[obs.view], world.observe())
    for time, action in enumerate(actions):
        reward = world.step(action)
        assert (states.x[time], states.y[time]) == (world.x, world.y)
        assert moments.reward[time] == pytest.approx(reward, rel=1e-6)
        assert moments.last[time] == world.done
        assert_same_observation(moments.obs, time, world)
        if world.done:
            break


def test_a_corridor_walked_by_hand():
    """Turn right, three cells down, and into the goal, which the agent does not enter; 1 − 0.9·5/10 is paid."""
    env = make_maze(MazeConfig())
    level = parse_level("max_steps: 10\n>.\n.#\n.#\n.#\nG#")
    state, obs = env.reset(STEP_KEY, level)
    # It looks right along the top row: one free cell ahead, then the border; to its right the corridor.
    np.testing.assert_array_equal(obs.view, [[1] * 5, [1] * 5, [1] * 5, [1, 1, 0, 1, 1], [1, 1, 0, 0, 0]])
    rewards = []
    for action in (1, 2, 2, 2, 2):
        state, moment = env.step(STEP_KEY, state, jnp.int32(action))
        rewards.append(float(moment.reward))
    assert (int(state.x), int(state.y), int(state.direction), int(state.time)) == (0, 3, 1, 5)
    np.testing.assert_allclose(rewards, [0, 0, 0, 0, 0.55], rtol=1e-6)
    assert bool(moment.last) and float(moment.discount) == 0.0
    np.testing.assert_array_equal(moment.obs.view[-2], [1, 1, 2, 1, 1])


def test_reaching_the_goal_with_the_last_step_is_paid():
    env = make_maze(MazeConfig())
    state, _ = env.reset(STEP_KEY, parse_level("max_steps: 1\n>G"))
    _, moment = env.step(STEP_KEY, state, jnp.int32(2))
    assert float(moment.reward) == pytest.approx(0.1, rel=1e-6) and bool(moment.last)


@pytest.mark.parametrize("see_agent", [False, True])
def test_padding_with_walls_changes_nothing(see_agent):
    config = MazeConfig(height=5, width=7, num_walls=9, see_agent=see_agent)
    env = make_maze(config)
    num_envs, num_steps = 64, 60
    tasks = random_tasks(env, num_envs, np.full(num_envs, 50))
    actions = jnp.asarray(np.random.default_rng(2).choice([0, 1, 2, 2], size=(num_steps, num_envs)))

    @jax.jit
    def walk(tasks):
        state, obs = jax.vmap(partial(env.reset, STEP_KEY))(tasks)
        step = jax.vmap(partial(env.step, STEP_KEY))
        return obs, jax.lax.scan(step, state, actions)[1]

    for a, b in zip(jax.tree.leaves(walk(tasks)), jax.tree.leaves(walk(pad(tasks, 9, 8))), strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_and_observation_keep_their_types():
    """A weakly typed state compiles every program around it twice."""
    env = make_maze(MazeConfig())
    state, obs = jax.eval_shape(lambda key: env.reset(key, env.sample_task(key)), STEP_KEY)
    after, moment = jax.eval_shape(lambda s: env.step(STEP_KEY, s, jnp.int32(0)), state)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), (state, obs)) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), (after, moment.obs)
    )
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((after, moment)))


def test_channels_are_minigrids_and_normalised_by_ten():
    config = MazeConfig()
    table = channels(config)
    np.testing.assert_allclose(table[:4], [[0.1, 0, 0], [0.2, 0.5, 0], [0.8, 0.1, 0], [1, 0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(channels(dataclasses.replace(config, normalize=False))[6], [10, 0, 3])
    assert view_channels(config).shape == (3, 3)
    assert view_channels(dataclasses.replace(config, see_agent=True)).shape == (7, 3)
