import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest
from envs.maze.minigrid_numpy import fewest_actions

from tutelage.envs.maze import format_level, is_valid, solver
from tutelage.envs.maze.suites import FAMILIES, FIXED, NAMES, suite
from tutelage.lab.errors import BadInput

SUITE = suite()


def batch(name, num, seed=0):
    return jax.jit(jax.vmap(SUITE[name].sample))(jax.random.split(jax.random.key(seed), num))


def free_graph(wall):
    graph = networkx.grid_2d_graph(*wall.shape)
    graph.remove_nodes_from([tuple(cell) for cell in np.argwhere(wall).tolist()])
    return graph


@pytest.mark.parametrize(
    ("name", "actions", "best"),
    [("SixteenRooms", 26, 0.9064), ("Labyrinth", 113, 0.5932), ("StandardMaze", 54, 0.8056)],
)
def test_known_solutions(name, actions, best):
    level = SUITE[name].sample(jax.random.key(0))
    assert int(solver.shortest_path(level)) == actions
    assert float(solver.best_return(level)) == pytest.approx(best, abs=1e-6)


def test_fixed_maps_are_valid_solvable_and_thirteen_wide():
    assert len(FIXED) == 8
    for name in FIXED:
        source = SUITE[name]
        level = source.sample(jax.random.key(0))
        assert source.fixed and (source.height, source.width) == level.wall.shape == (13, 13)
        assert source.max_steps == int(level.max_steps) == 250
        assert bool(is_valid(level))
        expected = fewest_actions(level.wall, level.agent, level.direction, level.goal)
        assert expected is not None and int(solver.shortest_path(level)) == expected


def test_the_flipped_labyrinth_is_the_mirror_image():
    plain, flipped = (SUITE[name].sample(jax.random.key(0)) for name in ("Labyrinth", "LabyrinthFlipped"))
    np.testing.assert_array_equal(plain.wall[:, ::-1], flipped.wall)
    np.testing.assert_array_equal(flipped.agent, [12 - int(plain.agent[0]), plain.agent[1]])
    assert (int(plain.direction), int(flipped.direction)) == (0, 2)


@pytest.mark.parametrize(
    ("name", "size", "max_steps", "num"),
    [
        ("SmallCorridor", 13, 450, 300),
        ("LargeCorridor", 19, 882, 300),
        ("FourRooms", 17, 250, 1000),
        ("Crossing", 9, 484, 5000),
        ("PerfectMaze", 13, 450, 500),
        ("PerfectMazeMedium", 19, 882, 200),
        ("PerfectMazeXL", 101, 21218, 2),
    ],
)
def test_every_generated_level_is_valid_and_solvable(name, size, max_steps, num):
    source = SUITE[name]
    assert not source.fixed and (source.height, source.width, source.max_steps) == (size, size, max_steps)

    def inspect(key):
        level = source.sample(key)
        return level, is_valid(level), solver.best_return(level)

    levels, valid, best = jax.jit(jax.vmap(inspect))(jax.random.split(jax.random.key(1), num))
    assert levels.wall.shape == (num, size, size)
    assert np.all(np.asarray(levels.max_steps) == max_steps)
    assert bool(jnp.all(valid)) and bool(jnp.all(best > 0))


def test_corridors_are_two_combs_with_the_goal_in_any_dead_end():
    levels = batch("SmallCorridor", 300)
    level = jax.tree.map(lambda leaf: leaf[0], levels)._replace(goal=jnp.array([2, 5]))
    teeth = ["." + "#.".join([""] * 7)] * 5
    rows = ["." * 13, *teeth, ">" + "#" * 11 + ".", *teeth, "." * 13]
    rows[5] = rows[5][:2] + "G" + rows[5][3:]
    assert format_level(level) == "\n".join(rows)
    goals = {tuple(goal) for goal in np.asarray(levels.goal).tolist()}
    assert goals == {(x, y) for x in (2, 4, 6, 8, 10) for y in (5, 7)}
    large = batch("LargeCorridor", 300)
    assert {tuple(goal) for goal in np.asarray(large.goal).tolist()} == {
        (x, y) for x in range(2, 18, 2) for y in (8, 10)
    }
    for goal in np.asarray(large.goal)[:16]:
        assert free_graph(np.asarray(large.wall)[0]).degree[(int(goal[1]), int(goal[0]))] == 1


def test_four_rooms_have_four_doors_and_nobody_stands_in_one():
    levels = jax.tree.map(np.asarray, batch("FourRooms", 1000))
    middle = 8
    for half in (slice(0, 8), slice(9, 17)):
        assert np.all((~levels.wall[:, middle, half]).sum(1) == 1)
        assert np.all((~levels.wall[:, half, middle]).sum(1) == 1)
    assert np.all(levels.wall[:, middle, middle])
    assert np.all(levels.wall.sum((1, 2)) == 33 - 4)
    for cell in (levels.agent, levels.goal):
        assert np.all(cell != middle)
    assert set(np.argmin(levels.wall[:, middle, :8], axis=1)) == set(range(8))


def test_crossings_have_five_rivers_with_one_ford_each():
    levels = jax.tree.map(np.asarray, batch("Crossing", 2000))
    lines = np.array([1, 3, 5, 7])
    # Columns are odd, so the even cells of an odd row are wall only as part of a river, which has one ford.
    rows = levels.wall[:, lines, :][:, :, ::2].sum(2) >= 4
    columns = levels.wall[:, :, lines][:, ::2, :].sum(1) >= 4
    num_rivers = rows.sum(1) + columns.sum(1)
    assert np.all(num_rivers == 5)
    assert np.all(~levels.wall[:, ::2, ::2].any((1, 2)))
    # All cells of all rivers, without the five fords.
    cells = 9 * num_rivers - rows.sum(1) * columns.sum(1)
    assert np.all(levels.wall.sum((1, 2)) == cells - 5)
    assert set(rows.sum(1)) == {1, 2, 3, 4}


@pytest.mark.parametrize(("name", "num"), [("PerfectMaze", 40), ("PerfectMazeXL", 1)])
def test_perfect_mazes_have_one_way_between_any_two_cells(name, num):
    levels = batch(name, num)
    for wall in np.asarray(levels.wall):
        assert networkx.is_tree(free_graph(wall))
        assert not wall[::2, ::2].any()
    if num > 1:
        assert len({wall.tobytes() for wall in np.asarray(levels.wall)}) == num


def test_names():
    assert NAMES == FIXED + FAMILIES and list(SUITE) == list(NAMES)
    assert list(suite(["Crossing", "Labyrinth"])) == ["Crossing", "Labyrinth"]
    with pytest.raises(BadInput, match=r"unknown maze 'Labirinth'.* did you mean 'Labyrinth'"):
        suite(["Labirinth"])
