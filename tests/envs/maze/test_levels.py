"""Random levels, their edits, equality and validity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from tutelage.envs.config import EditorConfig, MazeConfig, check
from tutelage.envs.maze import equal, is_valid, make_maze, mutate, pad, parse_level, random_level, solver, stack
from tutelage.envs.maze.mutation import FLIP_WALL, MOVE_GOAL, NO_OP, edit
from tutelage.lab.errors import BadInput

NUM = 10_000


def sample(config, num=NUM, seed=0):
    return jax.jit(jax.vmap(lambda key: random_level(key, config)))(jax.random.split(jax.random.key(seed), num))


def is_uniform(values, num_outcomes):
    counts = np.bincount(np.asarray(values).reshape(-1), minlength=num_outcomes)
    assert len(counts) == num_outcomes
    return scipy.stats.chisquare(counts).pvalue > 1e-3


def index_of(cell, width):
    return np.asarray(cell[:, 1] * width + cell[:, 0])


def test_published_levels_have_50_63_walls_and_85_percent_are_solvable():
    """60 draws with replacement of 169 cells: 169·(1 − (168/169)^60) = 50.63 distinct."""
    levels = sample(MazeConfig())
    assert bool(jnp.all(jax.vmap(is_valid)(levels)))
    walls = np.asarray(levels.wall).sum((1, 2))
    assert walls.mean() == pytest.approx(169 * (1 - (168 / 169) ** 60), abs=0.1)
    solvable = np.asarray(jax.jit(jax.vmap(solver.shortest_path))(levels)) < solver.UNREACHABLE
    assert solvable.mean() == pytest.approx(0.852, abs=0.01)
    assert np.all(np.asarray(levels.max_steps) == 250)
    # Each cell is wall equally often; a chi-square over cells is too strict, as walls of one level repel each other.
    share = np.asarray(levels.wall).mean(0)
    assert np.all(np.abs(share - walls.mean() / 169) < 5 * np.sqrt(0.3 * 0.7 / NUM))


def test_agent_goal_and_direction_are_uniform():
    levels = sample(MazeConfig(height=3, width=4, num_walls=0))
    agent, goal = index_of(levels.agent, 4), index_of(levels.goal, 4)
    assert is_uniform(agent, 12) and is_uniform(goal, 12) and is_uniform(levels.direction, 4)
    pairs = agent * 11 + np.where(goal > agent, goal - 1, goal)
    assert is_uniform(pairs, 132)


def test_agent_and_goal_fit_into_the_last_free_cells():
    levels = sample(MazeConfig(height=2, width=4, num_walls=5), 2000)
    assert bool(jnp.all(jax.vmap(is_valid)(levels)))
    assert int(levels.wall.sum((1, 2)).max()) == 5


def test_sampled_number_of_walls_is_uniform_below_the_limit():
    """Of a map so large that draws hardly ever meet, the number of walls tells the number of draws."""
    walls = np.asarray(sample(MazeConfig(height=100, width=100, num_walls=6, sample_num_walls=True), 2000).wall)
    assert is_uniform(walls.sum((1, 2)), 6)


def test_kinds_of_edits_and_their_cells_are_uniform():
    level = parse_level("max_steps: 9\n>..#\n#..G\n...#")
    mutated = jax.jit(jax.vmap(lambda key: mutate(key, level, 1)))(jax.random.split(jax.random.key(3), NUM))
    flips = np.asarray(mutated.wall != level.wall).reshape(NUM, -1)
    moved = np.any(np.asarray(mutated.goal != level.goal), axis=1)
    flipped = flips.any(1)
    assert not np.any(moved & flipped) and np.all(flips.sum(1) <= 1)
    assert is_uniform(np.where(moved, 2, np.where(flipped, 1, 0)), 3)
    cells = np.argmax(flips[flipped], axis=1)
    others = [cell for cell in range(12) if cell not in (0, 7)]  # not the agent's, not the goal's
    assert set(cells) == set(others) and is_uniform(np.searchsorted(others, cells), 10)
    goals = index_of(mutated.goal, 4)[moved]
    free = [1, 2, 5, 6, 8, 9, 10]
    assert set(goals) == set(free) and is_uniform(np.searchsorted(free, goals), 7)


def test_many_edits_leave_the_agent_alone_and_the_level_valid():
    levels = sample(MazeConfig(), 500)
    mutated = jax.jit(jax.vmap(lambda key, level: mutate(key, level, 20)))(
        jax.random.split(jax.random.key(4), 500), levels
    )
    assert bool(jnp.all(jax.vmap(is_valid)(mutated)))
    for name in ("agent", "direction", "max_steps"):
        np.testing.assert_array_equal(getattr(mutated, name), getattr(levels, name))
    changed = np.asarray(mutated.wall != levels.wall).sum((1, 2))
    assert changed.max() <= 20
    # A third of 20 edits flip one of 167 cells; those hit an even number of times look untouched.
    expected = 167 / 2 * (1 - (1 - 2 / (3 * 167)) ** 20)
    assert changed.mean() == pytest.approx(expected, abs=4 * changed.std() / np.sqrt(500))
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.vmap(lambda key, level: mutate(key, level, 0))(jax.random.split(jax.random.key(5), 500), levels),
        levels,
    )


def test_edits_by_hand():
    level = parse_level(">.#\n#.G")

    def texts(kind, word):
        return edit(level, jnp.uint32(kind), jnp.uint32(word))

    assert bool(equal(texts(NO_OP, 1), level))
    for word, cell in enumerate([1, 2, 3, 4]):  # all cells but the agent's 0 and the goal's 5
        flipped = texts(FLIP_WALL, word)
        expected = np.asarray(level.wall).reshape(-1).copy()
        expected[cell] ^= True
        np.testing.assert_array_equal(flipped.wall.reshape(-1), expected)
    np.testing.assert_array_equal(texts(MOVE_GOAL, 0).goal, [1, 0])
    np.testing.assert_array_equal(texts(MOVE_GOAL, 1).goal, [1, 1])
    full = parse_level(">#\n#G")
    np.testing.assert_array_equal(edit(full, jnp.uint32(MOVE_GOAL), jnp.uint32(0)).goal, full.goal)


def test_equality_ignores_direction_and_horizon_alone():
    level = parse_level(">..\n.#G")
    assert bool(equal(level, parse_level("max_steps: 3\n^..\n.#G")))
    for other in ("..>\n.#G", ">.G\n.#.", ">..\n..G"):
        assert not bool(equal(level, parse_level(other)))


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"agent": (1, 1)}, False),
        ({"goal": (1, 1)}, False),
        ({"goal": (0, 0)}, False),
        ({"agent": (3, 0)}, False),
        ({"agent": (0, -1)}, False),
        ({"goal": (2, 2)}, False),
        ({"direction": 4}, False),
        ({"max_steps": 0}, False),
    ],
)
def test_validity(change, valid):
    level = parse_level(">..\n.#G")._replace(**{name: jnp.array(content) for name, content in change.items()})
    assert bool(is_valid(level)) is valid


def test_pad_and_stack():
    small, large = parse_level(">G"), parse_level("#.>\nG..\n...")
    batch = stack([small, large])
    assert batch.wall.shape == (2, 3, 3)
    np.testing.assert_array_equal(batch.wall[0], [[0, 0, 1], [1, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(batch.wall[1], large.wall)
    np.testing.assert_array_equal(batch.goal, [[1, 0], [0, 1]])
    with pytest.raises(BadInput, match="a level of 3×3 cells does not fit into 3×2"):
        pad(large, 3, 2)
    with pytest.raises(BadInput, match="no levels"):
        stack([])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (MazeConfig(height=4, width=5, num_walls=18), "num_walls = 18 leaves no room for agent and goal in 4×5"),
        (MazeConfig(view=4), "view = 4 has no middle column"),
        (MazeConfig(num_actions=5), "num_actions = 5 is not an action set"),
    ],
)
def test_bad_settings_are_refused(config, message):
    with pytest.raises(BadInput, match=message) as error:
        make_maze(config)
    assert "\n" not in str(error.value)


def test_bad_editor_settings_are_refused():
    check(MazeConfig(height=4, width=5, num_walls=17), EditorConfig(num_walls=17))
    with pytest.raises(BadInput, match="editor num_walls = 18 leaves no room"):
        check(MazeConfig(height=4, width=5, num_walls=17), EditorConfig(num_walls=18))
