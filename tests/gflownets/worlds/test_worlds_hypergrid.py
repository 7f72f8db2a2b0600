from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tutelage.gflownets.objectives import Objectives, check_rewards
from tutelage.gflownets.worlds.config import PAIRWISE, HyperGridConfig
from tutelage.gflownets.worlds.enumeration import enumerate_objects, front_of
from tutelage.gflownets.worlds.hypergrid import all_cells, corner_membership, grid_environment, grid_problem, hypergrid
from tutelage.gflownets.worlds.landscapes import beale, branin, currin, positions, shubert, sphere, surface
from tutelage.lab.errors import BadInput

LOG_Z = {1: (3.49889, 3.623056, 3.733494, 3.832939, 3.923384), 16: (0.80414, 0.439893, 0.714793, 1.52972, 2.737694)}


def reachable(environment) -> set[tuple[int, ...]]:
    """The objects that some legal trajectory ends in, by trying every action."""
    step, mask = jax.jit(environment.step), jax.jit(environment.mask)
    waiting, seen, objects = [environment.source()], set(), set()
    while waiting:
        state = waiting.pop()
        if environment.done(state):
            objects.add(tuple(environment.object_of(state).tolist()))
            continue
        for action in np.flatnonzero(mask(state)):
            after = step(state, jnp.int32(action))
            name = (*after.position.tolist(), bool(after.over))
            if name not in seen:
                seen.add(name)
                waiting.append(after)
    return objects


def test_partition_function_of_the_published_grid():
    problem = hypergrid(HyperGridConfig(side=8))
    rewards = np.asarray(problem.objectives.rewards(jnp.asarray(enumerate_objects(problem))), np.float64)
    for beta, table in LOG_Z.items():
        scalar = [w * rewards[:, 0] + (1 - w) * rewards[:, 1] for w in (0, 0.25, 0.5, 0.75, 1)]
        assert_allclose([np.log((values**beta).sum()) for values in scalar], table, atol=1e-5)


def test_landscapes_at_their_known_optima():
    def at(landscape, x1: float, x2: float) -> float:
        return landscape(np.array([x1]), np.array([x2])).item()

    assert at(branin, 2 * (np.pi + 5) / 15 - 1, 2 * 2.275 / 15 - 1) == pytest.approx(1 - 0.39788736 / 308.13, abs=1e-9)
    assert at(shubert, -7.083506 / -1.5, 4.858057 / -1.5) == pytest.approx((-186.7309088 + 186.8) / 397, abs=1e-7)
    assert at(beale, 3.0, 0.5) == pytest.approx(0, abs=1e-12)
    assert at(sphere, -1.0, 0.5) == 0.625
    # u = (0, ½): (1 − e^{−1})·60/20; and the limit at u₂ = 0.
    assert at(currin, -1.0, 0.0) == pytest.approx((1 - np.exp(-1)) * 3 / 13.77)
    assert at(currin, -1.0, -1.0) == pytest.approx(3 / 13.77)


def test_all_cells_are_objects_unless_the_edge_terminates():
    assert len(all_cells(2, 32)) == 1024
    official = hypergrid(HyperGridConfig(side=32, terminate_at_edge=True))
    assert official.num_objects == len(enumerate_objects(official)) == 1023
    assert [31, 31] not in enumerate_objects(official).tolist()


@pytest.mark.parametrize("edge", [False, True])
def test_what_can_be_reached_is_what_is_listed(edge):
    cells = set(map(tuple, all_cells(3, 3, terminate_at_edge=edge).tolist()))
    assert reachable(grid_environment(3, 3, terminate_at_edge=edge)) == cells
    problem = grid_problem(3, 3, Objectives(("zero",), lambda x: jnp.zeros((len(x), 1))), terminate_at_edge=edge)
    assert problem.num_objects == len(cells)


def test_no_step_leaves_the_grid():
    environment = grid_environment(2, 4)
    state = environment.terminal(jnp.array([3, 1], jnp.int32))
    assert environment.mask(state).tolist() == [False, True, True]


def test_corner_membership_is_that_of_exact_fractions():
    for side in range(2, 80):
        outer, band = corner_membership(side)
        away = [abs(Fraction(i, side - 1) - Fraction(1, 2)) for i in range(side)]
        assert_array_equal(outer, [a > Fraction(1, 4) for a in away])
        assert_array_equal(band, [Fraction(3, 10) < a < Fraction(4, 10) for a in away])
    assert np.flatnonzero(corner_membership(16)[1]).tolist() == [2, 13]


def test_classic_reward_by_hand():
    problem = hypergrid(HyperGridConfig(side=16, objectives=("corners",), corner_base=0.1))
    cells = jnp.array([[7, 8], [0, 15], [2, 13], [2, 0]], jnp.int32)
    assert_allclose(problem.objectives.rewards(cells)[:, 0] * 2.6, [0.1, 0.6, 2.6, 0.6], rtol=1e-6)


@pytest.mark.parametrize("side", [2, 8, 32])
def test_no_reward_is_above_what_its_objective_declares(side):
    problem = hypergrid(HyperGridConfig(side=side, objectives=(*PAIRWISE, "corners")))
    cells = enumerate_objects(problem)
    check_rewards(problem.objectives.rewards(jnp.asarray(cells)), problem.objectives, cells)
    if side == 32:
        assert problem.objectives.upper[1] == pytest.approx(1.00152538)


def test_more_axes_average_over_neighbouring_pairs():
    problem = hypergrid(HyperGridConfig(dimensions=4, side=5, objectives=("shubert", "currin")))
    cells = np.random.default_rng(0).integers(0, 5, (50, 4)).astype(np.int32)
    x = positions(5)[cells].T
    expected = [(f(x[0], x[1]) + f(x[1], x[2]) + f(x[2], x[3])) / 3 for f in (shubert, currin)]
    assert_allclose(problem.objectives.rewards(jnp.asarray(cells)).T, expected, rtol=1e-5)


def test_front_is_that_of_comparing_every_pair_of_cells():
    problem = hypergrid(HyperGridConfig(side=9, objectives=("branin", "currin", "beale")))
    rewards = np.stack([surface(name, 9).ravel() for name in ("branin", "currin", "beale")], axis=1)
    dominated = [any((other >= row).all() and (other > row).any() for other in rewards) for row in rewards]
    assert problem.front is not None
    assert_array_equal(problem.front(), np.unique(rewards[~np.array(dominated)], axis=0))


def test_front_has_no_duplicates_and_one_objective_has_its_maximum():
    assert_array_equal(front_of(np.array([[1.0, 0], [0, 1], [1, 0], [0, 0.5]])), [[0, 1], [1, 0]])
    assert_array_equal(front_of(np.array([[1.0], [3], [3]])), [[3]])


def test_distance_is_the_number_of_steps_along_the_axes():
    problem = hypergrid(HyperGridConfig())
    assert_array_equal(problem.distances(np.array([[0, 7]]), np.array([[0, 7], [3, 1]])), [[0, 9]])


@pytest.mark.parametrize("edge", [False, True])
def test_variation_stays_in_the_grid_and_mutation_is_symmetric(edge):
    problem = hypergrid(HyperGridConfig(side=3, terminate_at_edge=edge))
    assert problem.mutate is not None and problem.variation is not None
    cells = enumerate_objects(problem)
    draws, number = 4000, len(cells)
    many = jnp.asarray(np.tile(cells, (draws, 1)))
    k_one, k_two = jax.random.split(jax.random.key(0))
    moved = np.asarray(jax.jit(problem.mutate)(k_one, many))
    child = np.asarray(jax.jit(problem.variation)(k_two, many, many[::-1]))
    index = {tuple(cell): i for i, cell in enumerate(cells.tolist())}
    assert all(tuple(cell) in index for cell in child.tolist())
    counts = np.zeros((number, number))
    np.add.at(counts, (np.tile(np.arange(number), draws), [index[tuple(cell)] for cell in moved.tolist()]), 1)
    assert (np.abs(counts - counts.T) <= 5 * np.sqrt(counts + counts.T)).all()
    # Any cell can be reached from any other.
    assert (np.linalg.matrix_power(counts > 0, number) > 0).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (HyperGridConfig(side=1), r"side = 1: must be in \[2, 1024\]"),
        (HyperGridConfig(dimensions=0), r"dimensions = 0: must be in \[1, inf\)"),
        (HyperGridConfig(objectives=("branin", "curin")), "curin.*did you mean 'currin'"),
        (HyperGridConfig(objectives=("branin", "branin")), "'branin' is there twice"),
        (HyperGridConfig(objectives=()), "there is none"),
        (HyperGridConfig(dimensions=1), "dimensions = 1: must be at least 2"),
    ],
)
def test_bad_grids_are_refused_in_one_line(config, message):
    with pytest.raises(BadInput, match=message):
        hypergrid(config)


def test_a_grid_too_large_to_be_listed_says_how_large():
    problem = hypergrid(HyperGridConfig(dimensions=8, side=20))
    assert problem.front is None
    with pytest.raises(BadInput, match="25,600,000,000 objects; at most 4,194,304"):
        enumerate_objects(problem)
    with pytest.raises(BadInput, match="cannot be listed"):
        enumerate_objects(problem._replace(objects=None))
