import jax
import jax.numpy as jnp
import networkx
import numpy as np
import pytest
from envs.maze.minigrid_numpy import MOVE, fewest_actions

from tutelage.envs.config import MazeConfig
from tutelage.envs.maze import bitboard, make_maze, pad, parse_level, random_level, solver

CONFIG = MazeConfig()
ENV = make_maze(CONFIG)


def random_levels(num, config=CONFIG, seed=0):
    return jax.jit(jax.vmap(lambda key: random_level(key, config)))(jax.random.split(jax.random.key(seed), num))


def level_at(levels, index):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], levels)


def grid_graph(level):
    """The free cells and their neighbours."""
    wall = np.asarray(level.wall)
    graph = networkx.grid_2d_graph(wall.shape[1], wall.shape[0])
    graph.remove_nodes_from([(int(x), int(y)) for y, x in np.argwhere(wall)])
    return graph


def state_graph(level):
    """All states (direction, y, x), and the goal as one more, with an edge from each to what an action makes of it."""
    wall, goal = np.asarray(level.wall), tuple(np.asarray(level.goal).tolist())
    height, width = wall.shape
    graph = networkx.DiGraph()
    for y, x in np.argwhere(~wall).tolist():
        for d in range(4):
            if (x, y) == goal:
                continue
            graph.add_edge((d, y, x), ((d + 1) % 4, y, x))
            graph.add_edge((d, y, x), ((d - 1) % 4, y, x))
            ahead_x, ahead_y = x + MOVE[d][0], y + MOVE[d][1]
            if (ahead_x, ahead_y) == goal:
                graph.add_edge((d, y, x), "goal")
            elif 0 <= ahead_x < width and 0 <= ahead_y < height and not wall[ahead_y, ahead_x]:
                graph.add_edge((d, y, x), (d, ahead_y, ahead_x))
    return graph


def test_shortest_paths_equal_breadth_first_search():
    levels = random_levels(200)
    actions = np.asarray(jax.jit(jax.vmap(solver.shortest_path))(levels))
    cells = np.asarray(jax.jit(jax.vmap(solver.cell_path))(levels))
    measured = jax.tree.map(np.asarray, jax.jit(jax.vmap(ENV.measure))(levels))
    unsolvable = 0
    for index in range(200):
        level = level_at(levels, index)
        expected = fewest_actions(level.wall, level.agent, level.direction, level.goal)
        graph, ends = grid_graph(level), (tuple(level.agent.tolist()), tuple(level.goal.tolist()))
        if expected is None:
            unsolvable += 1
            assert actions[index] == cells[index] == solver.UNREACHABLE
            assert not measured["solvable"][index]
            assert (
                measured["shortest_path"][index] == measured["distance"][index] == measured["best_return"][index] == 0
            )
        else:
            assert actions[index] == measured["shortest_path"][index] == expected
            in_cells = networkx.shortest_path_length(graph, *ends)
            assert cells[index] == measured["distance"][index] == in_cells
            assert measured["best_return"][index] == pytest.approx(1 - 0.9 * expected / 250, rel=1e-6)
        assert measured["num_walls"][index] == level.wall.sum()
    assert 10 < unsolvable < 60


@pytest.mark.parametrize(("height", "width", "walls"), [(6, 7, 14), (3, 33, 30)])
def test_distances_of_all_states_equal_the_graph(height, width, walls):
    """Also where a row of the map is longer than a word of the bitboard."""
    levels = random_levels(12, MazeConfig(height=height, width=width, num_walls=walls))
    distances = np.asarray(jax.jit(jax.vmap(solver.action_distance))(levels))
    for index in range(12):
        level = level_at(levels, index)
        expected = np.full((4, height, width), solver.UNREACHABLE)
        graph = state_graph(level)
        if "goal" in graph:
            for state, count in dict(networkx.single_target_shortest_path_length(graph, "goal")).items():
                if state != "goal":
                    expected[state] = count
        expected[:, level.goal[1], level.goal[0]] = 0
        np.testing.assert_array_equal(distances[index], expected)


def test_optimal_actions_attain_exactly_the_value_from_every_state():
    """The solver and the dynamics agree on all 4·H·W starts of 20 levels, also where time runs out first."""
    config = MazeConfig(height=6, width=7, num_walls=14)
    num, horizon = 20, 15
    levels = random_levels(num, config)._replace(max_steps=jnp.full(num, horizon, jnp.int32))
    env = make_maze(config)
    direction, y, x = (jnp.asarray(part.reshape(-1), jnp.int32) for part in np.mgrid[:4, :6, :7])

    @jax.jit
    def returns_and_values(level):
        policy = solver.optimal_action(level)
        starts = jax.vmap(lambda d, y, x: level._replace(direction=d, agent=jnp.stack([x, y])))(direction, y, x)
        state, _ = jax.vmap(env.reset, in_axes=(None, 0))(jax.random.key(0), starts)

        def step(carry, _):
            state, total, alive = carry
            action = policy[state.direction, state.y, state.x]
            state, moment = jax.vmap(env.step, in_axes=(None, 0, 0))(jax.random.key(0), state, action)
            return (state, total + alive * moment.reward, alive & ~moment.last), None

        start = (state, jnp.zeros(len(x)), jnp.ones(len(x), bool))
        (_, total, _), _ = jax.lax.scan(step, start, length=horizon)
        return total, solver.value(level).reshape(-1)

    late = 0
    for index in range(num):
        level = level_at(levels, index)
        total, value = returns_and_values(jax.tree.map(jnp.asarray, level))
        stands = ~level.wall[y, x] & ~((y == level.goal[1]) & (x == level.goal[0]))
        np.testing.assert_allclose(np.asarray(total)[stands], np.asarray(value)[stands], atol=1e-6)
        late += np.sum((np.asarray(value) == 0) & np.asarray(stands))
    assert late > 0


@pytest.mark.parametrize(
    ("horizon", "expected"), [(3, 0.1), (2, 0.0)], ids=["the last step counts", "one step too short"]
)
def test_a_goal_beyond_the_horizon_is_worth_nothing(horizon, expected):
    level = parse_level(f"max_steps: {horizon}\n>..G")
    assert int(solver.shortest_path(level)) == 3
    assert float(solver.best_return(level)) == pytest.approx(expected, abs=1e-6)
    assert float(solver.true_regret(level, jnp.float32(0.04))) == pytest.approx(expected - 0.04, abs=1e-6)


def test_optimal_play_by_hand():
    level = parse_level(".#G\n>..")
    looking_right = solver.action_distance(level)[0]
    np.testing.assert_array_equal(looking_right, [[7, solver.UNREACHABLE, 0], [4, 3, 2]])
    np.testing.assert_array_equal(solver.optimal_action(level)[0], [[1, 0, 0], [2, 2, 0]])


def test_padding_changes_no_solution():
    config = MazeConfig(height=5, width=6, num_walls=9)
    levels = random_levels(50, config)
    measure = jax.jit(jax.vmap(ENV.measure))
    plain, padded = measure(levels), measure(pad(levels, 8, 40))
    for name in ("solvable", "shortest_path", "distance", "best_return"):
        np.testing.assert_array_equal(plain[name], padded[name])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 7), (2, 31), (3, 40)])
def test_bitboards_shift_like_maps(height, width):
    rng = np.random.default_rng(0)
    cells = rng.random((height, width)) < 0.5
    words = bitboard.pack(jnp.asarray(cells))
    np.testing.assert_array_equal(bitboard.unpack(words, height, width), cells)
    inside = bitboard.pack(jnp.ones((height, width), bool))
    below = bitboard.stride(width)
    for shifted, rows, columns in (
        (bitboard.shift_down(words, 1), 0, 1),
        (bitboard.shift_up(words, 1), 0, -1),
        (bitboard.shift_down(words, below), 1, 0),
        (bitboard.shift_up(words, below), -1, 0),
    ):
        framed = np.pad(cells, 1)
        expected = framed[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]
        np.testing.assert_array_equal(bitboard.unpack(shifted & inside, height, width), expected)
