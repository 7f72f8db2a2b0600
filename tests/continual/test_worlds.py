"""Worlds: their steppers follow their tables, and their tables are those of the literature."""

from __future__ import annotations

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.continual.hitting import diameter
from tutelage.continual.mixing_time import mixing_time
from tutelage.continual.planning import solve_gain
from tutelage.continual.sparse import sparse_garnet
from tutelage.continual.stationary import gain
from tutelage.continual.tabular import Chain, World, induced
from tutelage.continual.worlds import chains, rooms
from tutelage.continual.worlds.config import KINDS, WorldConfig
from tutelage.continual.worlds.garnet import garnet
from tutelage.continual.worlds.gymnasium_table import from_gymnasium
from tutelage.continual.worlds.making import make_world
from tutelage.continual.worlds.outcomes import closed_class, of_sparse, outcome_step
from tutelage.lab.errors import BadInput

WORLDS = {
    "scale_class": lambda: rooms.scale_class(3),
    "cycles": lambda: rooms.n_bottleneck(3, 2),
    "random": lambda: rooms.n_bottleneck(3, 3, "random"),
    "curricular": lambda: rooms.n_bottleneck(2, 3, "curricular"),
    "n_cycle": lambda: rooms.n_cycle(3, 2, 0.5),
    "two_loops": lambda: chains.two_loops(4),
    "river_swim": lambda: chains.river_swim(),
    "two_cliques": lambda: chains.two_cliques(3),
    "hypercube": lambda: chains.hypercube(3),
    "lazy_cycle": lambda: chains.lazy_cycle(5),
    "noisy_cycle": lambda: chains.noisy_cycle(5),
    "two_state": lambda: chains.two_state(),
    "alternating": lambda: chains.alternating(2),
    "garnet": lambda: garnet(12, 3, 4),
    "frozen_lake": lambda: from_gymnasium("FrozenLake-v1", map_name="4x4", is_slippery=True),
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_stepper_follows_its_table(name):
    world, draws = WORLDS[name](), 1500
    P, R = np.asarray(world.mdp.P), np.asarray(world.mdp.R)
    S, A = R.shape
    keys = jax.random.split(jax.random.key(0), (S, A, draws))
    s, a = jnp.indices((S, A), dtype=jnp.int32)
    each = jax.vmap(jax.vmap(jax.vmap(world.step, (0, None, None))))
    successor, reward = jax.jit(each)(keys, s, a)
    assert successor.dtype == jnp.int32 and reward.dtype == jnp.float32
    frequency = np.stack([(np.asarray(successor) == t).mean(-1) for t in range(S)], axis=-1)
    # 5.5 standard errors of a proportion; what cannot happen never does.
    assert (np.abs(frequency - P) <= 5.5 * np.sqrt(P * (1 - P) / draws) + 1e-7).all()
    spread = np.asarray(reward, np.float64).std(-1)
    assert (np.abs(np.asarray(reward, np.float64).mean(-1) - R) <= 5.5 * spread / np.sqrt(draws) + 2e-3).all()
    starts = np.asarray(jax.jit(jax.vmap(world.start))(jax.random.split(jax.random.key(1), draws)))
    p0 = np.asarray(world.mdp.p0)
    assert (np.abs(np.bincount(starts, minlength=S) / draws - p0) <= 5.5 * np.sqrt(p0 * (1 - p0) / draws) + 1e-7).all()


def test_every_table_is_one_closed_class():
    for name, make in WORLDS.items():
        mdp = make().mdp
        assert len(closed_class(mdp.P, np.ones(len(mdp.P)))) == len(mdp.P), name


@pytest.mark.parametrize(
    ("length", "num_rooms", "gain_star", "time", "uniform_time", "far"),
    [
        (5, 2, 0.11994038, 183, 49, 15.6221),
        (5, 4, 0.15858403, 335, 125, 29.287),
        (5, 8, 0.15858403, 1307, 418, None),
        (3, 2, 0.23994952, 61, None, 7.2619),
        (7, 2, 0.07994078, 400, None, None),
        (9, 2, 0.05994082, 699, None, None),
    ],
)
def test_n_bottleneck_has_the_gains_mixing_times_and_diameters_of_the_table(
    length, num_rooms, gain_star, time, uniform_time, far
):
    mdp = rooms.n_bottleneck(length, num_rooms).mdp
    assert len(mdp.P) == num_rooms * (length**2 - 1)
    solution = solve_gain(mdp)
    assert solution.rho == pytest.approx(gain_star, abs=5e-9)
    assert _steps(induced(mdp, solution.policy)) == time
    if uniform_time is not None:
        assert _steps(induced(mdp, np.full((len(mdp.P), 4), 0.25))) == uniform_time
    if far is not None:
        assert diameter(mdp) == pytest.approx(far, abs=5e-5)


@pytest.mark.parametrize(
    ("length", "gain_star", "time", "far"),
    [(4, 0.23760054, 7, 6.2498), (8, 0.11872421, 14, 14.5925), (12, 0.07914524, 24, 22.9395)],
)
def test_scale_class_has_the_gains_mixing_times_and_diameters_of_the_table(length, gain_star, time, far):
    mdp = rooms.scale_class(length).mdp
    assert len(mdp.P) == length**2 - 1
    solution = solve_gain(mdp)
    assert solution.rho == pytest.approx(gain_star, abs=6e-9)
    assert _steps(induced(mdp, solution.policy)) == time
    assert diameter(mdp) == pytest.approx(far, abs=5e-5)


def test_mixing_times_grow_as_k_to_the_1_9_and_l_to_the_2_2():
    numbers, lengths = [4, 6, 8, 12], [5, 6, 8, 10, 12]
    in_k = _slope(numbers, [_steps(_optimal(rooms.n_bottleneck(5, k).mdp)) for k in numbers])
    in_l = _slope(lengths, [_steps(_optimal(rooms.n_bottleneck(n, 2).mdp)) for n in lengths])
    assert 1.7 <= in_k <= 2.1 and 2.0 <= in_l <= 2.4


def test_the_mixing_time_of_random_evolution_does_not_grow_once_goals_repeat():
    times = [_steps(_optimal(rooms.n_bottleneck(5, k, "random").mdp)) for k in (4, 8, 12)]
    assert max(times) - min(times) <= 1


def test_small_chains_have_the_mixing_times_of_their_closed_forms():
    worlds = [chains.two_state(), *map(chains.lazy_cycle, (8, 16, 32, 64)), *map(chains.noisy_cycle, (10, 20, 40, 80))]
    found = [_steps(induced(world.mdp, np.zeros(len(world.mdp.P), int))) for world in worlds]
    assert found == [3, 6, 25, 98, 389, 128, 499, 1982, 7910]


def test_the_learning_preset_has_its_optimum_and_epsilon_greedy_gain():
    mdp = rooms.n_bottleneck(5, 4, goals=[(3, 4), (0, 2), (4, 4), (4, 3)]).mdp
    solution = solve_gain(mdp)
    assert solution.rho == pytest.approx(0.27299556, abs=5e-9)
    often = induced(mdp, 0.9 * np.eye(4)[solution.policy] + 0.1 / 4)
    assert gain(often) == pytest.approx(0.24902, abs=5e-6)


def test_curricular_rooms_follow_1_1_2_1_2_3_and_repeat():
    world = rooms.n_bottleneck(3, 3, "curricular", goals=[(0, 0), (2, 2), (0, 2)])
    order = []
    for start in range(len(world.mdp.P)):
        # The room of a state and of the state that its goal switches to, by the names.
        here = world.mdp.states[start].split()[1]
        for a in range(4):
            paid = world.mdp.R[start, a]
            for successor in np.flatnonzero(world.mdp.P[start, a]):
                there = world.mdp.states[successor].split()[1]
                if paid > 0.9 and world.mdp.P[start, a, successor] > 0.9:
                    order.append((here, there))
    assert set(order) == {("1", "1"), ("1", "2"), ("2", "1"), ("2", "3"), ("3", "1")}
    assert len(world.mdp.P) == 6 * 9 - 5  # only the second room 1 is entered at its own goal


def test_the_clock_of_n_cycle_is_in_the_state_and_makes_every_chain_periodic():
    world = rooms.n_cycle(3, 2, 1.0)
    P = np.asarray(world.mdp.P).mean(axis=1)
    around = 2 * 2 * 3
    moduli = np.sort(np.abs(np.linalg.eigvals(P)))[::-1]
    assert np.allclose(moduli[:around], 1) and moduli[around] < 0.999


def test_loops_rivers_and_walks_have_their_gains():
    assert solve_gain(chains.two_loops(7).mdp).rho == pytest.approx(0.2)
    # Always swimming right: detailed balance along the bank, in closed form.
    law = np.cumprod([1, 0.6 / 0.05, *([0.35 / 0.05] * 3), 0.35 / 0.4])
    assert solve_gain(chains.river_swim().mdp).rho == pytest.approx(law[-1] / law.sum())
    for world in (chains.two_cliques(4), chains.hypercube(4)):
        assert gain(induced(world.mdp, np.zeros(len(world.mdp.P), int))) == pytest.approx(0.5)


def test_a_garnet_has_its_branching_and_a_large_one_steps_without_a_table():
    assert ((np.asarray(garnet(20, 3, 5).mdp.P) > 0).sum(-1) == 5).all()
    outcomes = of_sparse(sparse_garnet(20_000, 4, 5, seed=1))
    step = jax.jit(jax.vmap(outcome_step(outcomes), (0, None, None)))
    successor, _ = step(jax.random.split(jax.random.key(0), 100), jnp.int32(19_999), jnp.int32(3))
    assert set(np.asarray(successor)) <= set(outcomes.successors[19_999, 3])


def test_a_gymnasium_table_restarts_where_an_episode_ends():
    world = from_gymnasium("FrozenLake-v1", map_name="4x4", is_slippery=False)
    mdp = world.mdp
    assert len(mdp.P) == 11  # 16 cells without 4 holes and the goal
    before_goal = mdp.states.index("14")
    assert mdp.P[before_goal, 2, mdp.states.index("0")] == 1 and mdp.R[before_goal, 2] == 1
    assert solve_gain(mdp).rho == pytest.approx(1 / 6)


def test_what_is_no_gymnasium_table_is_refused(monkeypatch):
    with pytest.raises(BadInput, match="has no table"):
        from_gymnasium("CartPole-v1")
    with pytest.raises(BadInput, match="env = 'NoSuchLake-v1'"):
        from_gymnasium("NoSuchLake-v1")
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(BadInput, match="pip install gymnasium"):
        from_gymnasium("FrozenLake-v1")


def test_every_kind_is_made_from_its_configuration():
    for kind in KINDS:
        world = make_world(dataclasses.replace(WorldConfig(), kind=kind, length=3, rooms=2, states=6))
        assert isinstance(world, World)
        if world.picture is not None:
            assert world.picture(np.asarray(world.mdp.p0)).startswith("<svg")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "n_botleneck"}, "kind = 'n_botleneck'.*did you mean 'n_bottleneck'"),
        ({"evolution": "cycle"}, "evolution = 'cycle'.*did you mean 'cycles'"),
        ({"length": 1}, "length = 1"),
        ({"slip": 1.5}, "slip = 1.5"),
        ({"goals": (1,)}, "goals = .1,.*pairs"),
        ({"goals": (1, 1)}, "goals: 1 are given; must be 4"),
        ({"goals": (0, 5) * 4}, r"goals: \(0, 5\) lies outside"),
        ({"length": 200, "rooms": 8}, "P: 320000 states .* GB"),
        ({"kind": "garnet", "states": 4}, "branching = 5"),
    ],
)
def test_a_world_that_cannot_be_is_refused_in_one_line(change, message):
    with pytest.raises(BadInput, match=message) as caught:
        make_world(dataclasses.replace(WorldConfig(), **change))
    assert "\n" not in str(caught.value)


def test_two_closed_classes_are_refused():
    with pytest.raises(BadInput, match="2 closed classes are reached, at states 0, 2"):
        closed_class(np.eye(3)[:, None][[0, 0, 2]] * 0.5 + np.eye(3)[:, None][[0, 2, 2]] * 0.5, np.ones(3) / 3)


def _optimal(mdp) -> Chain:
    return induced(mdp, solve_gain(mdp).policy)


def _steps(chain: Chain) -> float:
    return mixing_time(chain, relaxation=False).steps


def _slope(x, y) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
