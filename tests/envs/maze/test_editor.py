"""The teacher's world, each rule by hand, on 3×4 cells with three walls (cell index = 4·y + x)."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from tutelage.envs.config import EditorConfig, MazeConfig
from tutelage.envs.environment import Discrete
from tutelage.envs.maze import format_level, is_valid, level_of, make_editor

MAZE, EDITOR = MazeConfig(height=3, width=4, num_walls=3, max_steps=77), EditorConfig(num_walls=3, noise=5)
ENV = make_editor(MAZE, EDITOR)


@jax.jit
def design(key, actions):
    """The state and observation after each action, the first of them the reset's."""
    k_task, k_reset, k_steps = jax.random.split(key, 3)
    state, obs = ENV.reset(k_reset, ENV.sample_task(k_task))

    def step(state, keyed):
        after, moment = ENV.step(keyed[0], state, keyed[1])
        return after, (after, moment)

    _, (states, moments) = jax.lax.scan(step, state, (jax.random.split(k_steps, len(actions)), actions))
    return state, obs, states, moments


def run(*actions, seed=0):
    return design(jax.random.key(seed), jnp.array(actions))


def last_level(*actions, seed=0):
    _, _, states, _ = run(*actions, seed=seed)
    return level_of(jax.tree.map(lambda leaf: leaf[-1], states))


def walls_of(level):
    return set(np.flatnonzero(level.wall).tolist())


def test_walls_then_goal_then_agent():
    level = last_level(0, 5, 11, 2, 8)
    assert format_level(level._replace(direction=jnp.int32(1))) == "#.G.\n.#..\nv..#"
    assert int(level.max_steps) == 77 and bool(is_valid(level))


def test_walls_may_overlap():
    assert walls_of(last_level(5, 5, 5, 0, 1)) == {5}


def test_goal_and_agent_clear_the_wall_below_them():
    level = last_level(1, 2, 3, 2, 1)
    assert walls_of(level) == {3}
    np.testing.assert_array_equal(level.goal, [2, 0])
    np.testing.assert_array_equal(level.agent, [1, 0])


def test_an_agent_on_the_goal_moves_to_a_free_cell_uniformly():
    _, _, states, _ = run(0, 5, 11, 2, 8)
    before = jax.tree.map(lambda leaf: leaf[3], states)  # walls and goal stand
    keys = jax.random.split(jax.random.key(1), 900)
    after, _ = jax.jit(jax.vmap(lambda key: ENV.step(key, before, jnp.int32(2))))(keys)
    cells = np.asarray(after.level.agent[:, 1] * 4 + after.level.agent[:, 0])
    counts = np.bincount(cells, minlength=12)
    free = [1, 3, 4, 6, 7, 8, 9, 10]
    assert counts[free].sum() == 900
    assert scipy.stats.chisquare(counts[free]).pvalue > 1e-3
    assert np.all(np.asarray(after.level.goal) == [2, 0])
    assert np.all(np.asarray(after.level.wall) == np.asarray(before.level.wall))


def test_the_agents_direction_is_uniform():
    keys = jax.random.split(jax.random.key(3), 1000)
    states, _ = jax.jit(jax.vmap(lambda key: ENV.reset(key, jnp.zeros(5))))(keys)
    assert scipy.stats.chisquare(np.bincount(np.asarray(states.level.direction), minlength=4)).pvalue > 1e-3


def test_rewards_discounts_and_the_end():
    _, _, states, moments = run(0, 5, 11, 2, 8, 7, 7)
    np.testing.assert_array_equal(moments.reward, np.zeros(7))
    np.testing.assert_array_equal(moments.last, [False] * 4 + [True] * 3)
    np.testing.assert_array_equal(moments.discount, [1, 1, 1, 1, 0, 0, 0])
    assert ENV.horizon == 5 and ENV.actions == Discrete(12)
    # What comes after the budget changes nothing.
    for leaf in jax.tree.leaves(states):
        np.testing.assert_array_equal(leaf[4], leaf[6])


def test_observations_show_what_is_placed():
    first, obs, states, moments = run(0, 5, 11, 2, 8)
    direction = int(first.level.direction)
    empty = np.pad(np.zeros((3, 4), int), 1, constant_values=1)
    np.testing.assert_array_equal(obs.map, empty)
    expected = empty.copy()
    for time, (y, x, code) in enumerate([(1, 1, 1), (2, 2, 1), (3, 4, 1), (1, 3, 2), (3, 1, 3 + direction)]):
        expected[y, x] = code
        np.testing.assert_array_equal(moments.obs.map[time], expected)
        np.testing.assert_array_equal(moments.obs.noise[time], obs.noise)
    np.testing.assert_array_equal(moments.obs.time, [1, 2, 3, 4, 5])
    assert int(obs.time) == 0 and obs.noise.shape == (5,)
    assert np.all(np.asarray(states.level.direction) == direction)


def test_noise_is_uniform_between_0_and_1():
    noise = np.asarray(jax.vmap(ENV.sample_task)(jax.random.split(jax.random.key(2), 1000)))
    assert scipy.stats.kstest(noise.reshape(-1), "uniform").pvalue > 1e-3


def test_any_design_is_a_valid_level():
    maze, editor = MazeConfig(height=3, width=3, num_walls=6), EditorConfig(num_walls=6, noise=1)
    env = make_editor(maze, editor)

    @jax.jit
    def random_designs(key):
        k_reset, k_actions, k_steps = jax.random.split(key, 3)
        state, _ = jax.vmap(env.reset)(jax.random.split(k_reset, 500), jnp.zeros((500, 1)))
        actions = jax.random.randint(k_actions, (env.horizon, 500), 0, 9)
        keys = jax.random.split(k_steps, (env.horizon, 500))
        state, _ = jax.lax.scan(lambda s, x: (jax.vmap(env.step)(x[0], s, x[1])[0], None), state, (keys, actions))
        return jax.vmap(is_valid)(level_of(state))

    assert bool(jnp.all(random_designs(jax.random.key(0))))
