from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.gflownets.active.edits import Edit, edit_environment, starting_at
from tutelage.lab.errors import BadInput

V, START = 3, np.array([0, 1, 2, -1], np.int32)
ENVIRONMENT = edit_environment(START, V, max_edits=2, min_edits=1)
mask, step, log_pb, parents, retrace = map(
    jax.jit, (ENVIRONMENT.mask, ENVIRONMENT.step, ENVIRONMENT.log_pb, ENVIRONMENT.parents, ENVIRONMENT.retrace)
)


def name(state: Edit) -> tuple:
    return tuple(tuple(np.asarray(leaf).ravel().tolist()) for leaf in state)


@pytest.fixture(scope="module")
def graph():
    """All states from START, and all edges (before, action, after), by walking."""
    first = starting_at(jnp.asarray(START))
    states, edges, waiting = {name(first): first}, [], [first]
    while waiting:
        state = waiting.pop()
        if bool(state.over):
            continue
        for action in np.flatnonzero(np.asarray(mask(state))):
            action = jnp.asarray(action, jnp.int32)
            after = step(state, action)
            edges.append((state, action, after))
            if name(after) not in states:
                states[name(after)] = after
                waiting.append(after)
    return states, edges


def test_objects_are_all_sequences_within_reach_each_with_one_terminal_state(graph):
    states, _ = graph
    objects = [name(state)[1] for state in states.values() if bool(state.over)]
    letters = itertools.product(range(V), repeat=3)
    expected = {(*word, -1) for word in letters if 1 <= sum(a != b for a, b in zip(word, START)) <= 2}
    assert sorted(objects) == sorted(expected)


def test_the_backward_policy_is_exactly_normalised_over_the_true_parents(graph):
    states, edges = graph
    into: dict = {}
    for before, action, after in edges:
        into.setdefault(name(after), []).append((name(before), int(action), float(log_pb(before, action, after))))
    for after, arrivals in into.items():
        assert sum(math.exp(value) for _, _, value in arrivals) == pytest.approx(1.0, abs=1e-6)
        found, actions, exist = parents(states[after])
        named = {
            (name(jax.tree.map(lambda leaf, row=row: leaf[row], found)), int(actions[row]))
            for row in np.flatnonzero(np.asarray(exist))
        }
        assert named == {(before, action) for before, action, _ in arrivals}


def test_retracing_draws_from_the_backward_policy(graph):
    states, _ = graph
    two = next(state for state in states.values() if int(state.edited.sum()) == 2)
    seen = set()
    for seed in range(12):
        before, action = retrace(jax.random.key(seed), two)
        assert name(step(before, action)) == name(two)
        seen.add(int(action))
    assert len(seen) == 2
    stopped = next(state for state in states.values() if bool(state.over) and int(state.edited.sum()) == 1)
    before, action = retrace(jax.random.key(0), stopped)
    assert int(action) == 0 and not bool(before.over) and name(step(before, action)) == name(stopped)


def test_trajectory_balance_samples_objects_in_proportion_to_their_reward(graph):
    """F(s) = Σ R(x) P_B(s | x), by backward recursion: Z of this start is the sum of R over what it can reach."""
    states, edges = graph
    reward = {key: 1.0 + i for i, key in enumerate(key for key in states if states[key].over)}
    flow = dict(reward)
    for before, action, after in sorted(edges, key=lambda edge: -int(edge[2].edited.sum()) - int(edge[2].over)):
        # Arrivals are exhausted before departures: a state with more edits, or stopped, comes first.
        share = flow[name(after)] * math.exp(float(log_pb(before, action, after)))
        flow[name(before)] = flow.get(name(before), 0.0) + share
    assert flow[name(starting_at(jnp.asarray(START)))] == pytest.approx(sum(reward.values()), rel=1e-5)


def test_padding_is_never_written_and_short_sequences_end_when_all_is_edited():
    short = jnp.asarray([2, -1, -1, -1], jnp.int32)
    environment = edit_environment(np.zeros(4, np.int32), V)
    state = starting_at(short)
    legal = np.flatnonzero(np.asarray(environment.mask(state)))
    assert legal.tolist() == [1, 2]
    after = environment.step(state, jnp.asarray(1, jnp.int32))
    assert bool(after.over) and after.tokens.tolist() == [0, -1, -1, -1]
    assert environment.observe(after)[0].tolist() == [1, 0, 0, 0]


def test_stop_is_legal_from_min_edits_on():
    environment = edit_environment(np.zeros(4, np.int32), V, max_edits=3, min_edits=2)
    state, stops = environment.source(), []
    for action in (1 + 1, 1 + V + 1):
        stops.append(bool(environment.mask(state)[0]))
        state = environment.step(state, jnp.asarray(action, jnp.int32))
    assert [*stops, bool(environment.mask(state)[0])] == [False, False, True]


def test_bad_numbers_are_refused():
    with pytest.raises(BadInput, match="min_edits = 3 is more than max_edits = 2"):
        edit_environment(START, V, max_edits=2, min_edits=3)
    with pytest.raises(BadInput, match="num_letters = 1"):
        edit_environment(START, 1)
