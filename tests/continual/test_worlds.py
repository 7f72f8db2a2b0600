"""Worlds: their steppers follow their tables, and their tables are those of the literature."""

from __future__ import annotations

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.continual.tabular import World, induced
from tutelage.continual.worlds import chains, rooms
from tutelage.continual.worlds.config import KINDS, WorldConfig
from tutelage.continual.worlds.garnet import garnet, sparse_garnet
from tutelage.continual.worlds.gymnasium_table import from_gymnasium
from tutelage.continual.worlds.making import make_world
from tutelage.continual.worlds.outcomes import closed_class
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
    ("length", "num_rooms", "gain", "time", "uniform_time"),
    [
        (5, 2, 0.11994038, 183, 49),
        (5, 4, 0.15858403, 335, 125),
        (5, 8, 0.15858403, 1307, 418),
        (3, 2, 0.23994952, 61, None),
        (7, 2, 0.07994078, 400, None),
        (9, 2, 0.05994082, 699, None),
    ],
)
def test_n_bottleneck_has_the_published_gains_and_mixing_times(length, num_rooms, gain, time, uniform_time):
    mdp = rooms.n_bottleneck(length, num_rooms).mdp
    assert len(mdp.P) == num_rooms * (length**2 - 1)
    policy, rho = _solved(mdp)
    assert rho == pytest.approx(gain, abs=5e-9)
    assert _mixing_time(induced(mdp, policy).P) == time
    if uniform_time is not None:
        assert _mixing_time(np.asarray(mdp.P).mean(axis=1)) == uniform_time


@pytest.mark.parametrize(("length", "gain", "time"), [(4, 0.23760054, 7), (8, 0.11872421, 14), (12, 0.07914524, 24)])
def test_scale_class_has_the_published_gains_and_mixing_times(length, gain, time):
    mdp = rooms.scale_class(length).mdp
    assert len(mdp.P) == length**2 - 1
    policy, rho = _solved(mdp)
    assert rho == pytest.approx(gain, abs=5e-9)
    assert _mixing_time(induced(mdp, policy).P) == time


def test_the_learning_preset_has_the_published_optimum_and_epsilon_greedy_gain():
    mdp = rooms.n_bottleneck(5, 4, goals=[(3, 4), (0, 2), (4, 4), (4, 3)]).mdp
    policy, rho = _solved(mdp)
    assert rho == pytest.approx(0.27299556, abs=5e-9)
    greedy = np.eye(4)[policy]
    chain = induced(mdp, 0.9 * greedy + 0.1 / 4)
    assert _stationary(chain.P) @ chain.r == pytest.approx(0.24902, abs=5e-6)


def test_random_evolution_stops_growing_once_goals_repeat():
    times = [
        _mixing_time(induced(m, _solved(m)[0]).P) for m in (rooms.n_bottleneck(4, k, "random").mdp for k in (4, 8))
    ]
    assert abs(times[1] - times[0]) <= 1


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


def test_loops_and_rivers_have_their_gains():
    assert _solved(chains.two_loops(7).mdp)[1] == pytest.approx(0.2)
    assert _solved(chains.river_swim().mdp)[1] == pytest.approx(0.42857, abs=2e-3)
    chain = induced(chains.two_cliques(4).mdp, np.zeros(8, int))
    assert _stationary(chain.P) @ chain.r == pytest.approx(0.5)


def test_a_garnet_has_its_branching_and_a_large_one_needs_no_table():
    mdp = garnet(20, 3, 5).mdp
    assert ((np.asarray(mdp.P) > 0).sum(-1) == 5).all()
    outcomes = sparse_garnet(20_000, 4, 5, seed=1)
    assert outcomes.successors.shape == (20_000, 4, 5)
    ordered = np.sort(outcomes.successors, axis=-1)
    assert (np.diff(ordered, axis=-1) > 0).all() and ordered.min() == 0 and ordered.max() == 19_999
    with pytest.raises(BadInput, match=r"states = 20000: P would take 11\.9 GiB"):
        garnet(20_000, 4, 5)


def test_a_gymnasium_table_restarts_where_an_episode_ends():
    world = from_gymnasium("FrozenLake-v1", map_name="4x4", is_slippery=False)
    mdp = world.mdp
    assert len(mdp.P) == 11  # 16 cells without 4 holes and the goal
    before_goal = mdp.states.index("14")
    assert mdp.P[before_goal, 2, mdp.states.index("0")] == 1 and mdp.R[before_goal, 2] == 1
    assert _solved(mdp)[1] == pytest.approx(1 / 6)


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
        ({"length": 60, "rooms": 8}, "GiB"),
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


def _stationary(P: np.ndarray) -> np.ndarray:
    S = len(P)
    return np.linalg.lstsq(np.vstack([P.T - np.eye(S), np.ones(S)]), np.eye(S + 1)[S], rcond=None)[0]


def _solved(mdp) -> tuple[np.ndarray, float]:
    """The canonical optimal policy (lowest index among the actions within 1e-9 of the best) by policy iteration."""
    P, R = np.asarray(mdp.P), np.asarray(mdp.R)
    S = len(P)
    policy = np.zeros(S, int)
    for _ in range(200):
        of_policy = P[np.arange(S), policy]
        mu = _stationary(of_policy)
        rho = mu @ R[np.arange(S), policy]
        bias = np.linalg.solve(np.eye(S) - of_policy + np.outer(np.ones(S), mu), R[np.arange(S), policy] - rho)
        Q = R + P @ bias
        good = Q.max(axis=1, keepdims=True) - Q <= 1e-9
        if good[np.arange(S), policy].all():
            return good.argmax(axis=1), float(rho)
        policy = np.where(good[np.arange(S), policy], policy, good.argmax(axis=1))
    raise AssertionError("policy iteration did not end")


def _mixing_time(P: np.ndarray) -> int:
    mu, power, t = _stationary(P), np.eye(len(P)), 0
    while np.abs(power - mu).sum(axis=1).max() / 2 > 0.25:
        power, t = power @ P, t + 1
    return t
