"""The graph of an environment against networkx, counting, and the environment's own functions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
from tiny_graphs import Place, stairs

from tutelage.gflownets.exact.enumeration import enumerate_states
from tutelage.gflownets.worlds.hypergrid import all_cells, grid_environment
from tutelage.gflownets.worlds.sequences import all_sequences, sequence_environment
from tutelage.lab.errors import BadInput


def network(graph):
    parents, actions = np.nonzero(graph.children >= 0)
    result = nx.MultiDiGraph()
    result.add_nodes_from(range(graph.num_states))
    result.add_edges_from((int(s), int(graph.children[s, a])) for s, a in zip(parents, actions))
    return result


@pytest.mark.parametrize("terminate_at_edge", [False, True])
def test_the_graph_of_a_grid_has_every_cell_once_or_twice(terminate_at_edge):
    graph = enumerate_states(grid_environment(2, 5, terminate_at_edge=terminate_at_edge))
    cells = all_cells(2, 5, terminate_at_edge=terminate_at_edge)
    assert np.array_equal(graph.objects, cells)
    assert graph.num_objects == len(cells) and graph.objects.dtype == np.int32
    # On the way and as objects; a cell that ends a trajectory is there once.
    assert graph.num_states == 2 * 25 if not terminate_at_edge else 16 + 24
    assert np.array_equal(graph.states.position[graph.terminal], cells)
    assert np.array_equal(np.flatnonzero(graph.done), np.sort(graph.terminal))


@pytest.mark.parametrize("environment", [grid_environment(2, 4), grid_environment(3, 3), stairs()])
def test_states_edges_and_layers_are_those_of_the_environment(environment):
    graph = enumerate_states(environment)
    truth = network(graph)
    assert nx.is_directed_acyclic_graph(truth)
    layers = [set(range(a, b)) for a, b in zip(graph.layers[:-1], graph.layers[1:])]
    assert layers == [set(layer) for layer in nx.topological_generations(truth)]
    assert nx.descendants(truth, 0) | {0} == set(range(graph.num_states))
    for index in range(graph.num_states):
        state = jax.tree.map(lambda leaf, i=index: jnp.asarray(leaf[i]), graph.states)
        assert bool(environment.done(state)) == graph.done[index]
        legal = np.asarray(environment.mask(state)) & ~graph.done[index]
        assert np.array_equal(graph.children[index] >= 0, legal)
        for action in map(jnp.asarray, np.flatnonzero(legal)):
            after = environment.step(state, action)
            child = jax.tree.map(lambda leaf, i=graph.children[index, action]: leaf[i], graph.states)
            assert all(np.array_equal(a, b) for a, b in zip(after, child))
            assert graph.log_pb[index, action] == pytest.approx(
                float(environment.log_pb(state, action, after)), abs=1e-6
            )


def test_backward_probabilities_sum_to_one_in_float64():
    graph = enumerate_states(grid_environment(3, 3))
    edges = graph.children >= 0
    total = np.bincount(graph.children[edges], weights=np.exp(graph.log_pb[edges]))
    np.testing.assert_allclose(total[1:], 1, atol=1e-15)
    assert (graph.log_pb[~edges] == -np.inf).all()


def test_sequences_are_a_tree():
    graph = enumerate_states(sequence_environment(3, 2, 4))
    in_degree = np.bincount(graph.children[graph.children >= 0], minlength=graph.num_states)
    assert in_degree[0] == 0 and (in_degree[1:] == 1).all()
    assert {tuple(row) for row in graph.objects} == {tuple(row) for row in all_sequences(3, 2, 4)}
    assert graph.num_objects == 9 + 27 + 81


def test_enumeration_from_a_state_of_the_way():
    environment = sequence_environment(3, 2, 4)
    start = environment.step(environment.source(), jnp.asarray(2, jnp.int32))
    objects = enumerate_states(environment, start=start).objects
    every = all_sequences(3, 2, 4)
    assert {tuple(row) for row in objects} == {tuple(row) for row in every[every[:, 0] == 1]}


def test_the_two_zeros_are_one_state():
    environment = stairs(top=2, jump=3)

    def step(state, action):
        after = environment.step(state, action)
        return Place(after.height, jnp.where(after.over, 1.0, jnp.where(after.height == 1, -0.0, 0.0)))

    signed = environment._replace(
        source=lambda: Place(jnp.zeros((), jnp.int32), jnp.asarray(-0.0)),
        step=step,
        done=lambda state: state.over > 0,
        log_pb=lambda state, action, after: jnp.zeros(()),
    )
    graph = enumerate_states(signed)
    assert graph.num_states == 6
    assert not np.signbit(graph.states.over).any()


def test_too_many_states_are_refused():
    with pytest.raises(BadInput, match="more than limit = 49 states"):
        enumerate_states(grid_environment(2, 5), limit=49)
    assert enumerate_states(grid_environment(2, 5), limit=50).num_states == 50


def test_what_is_no_pointed_dag_is_refused():
    environment = stairs()
    with pytest.raises(BadInput, match="is not done and has no legal action"):
        enumerate_states(environment._replace(mask=lambda state: jnp.array([state.height < 6, False, False])))
    round_and_round = environment._replace(
        mask=lambda state: jnp.ones(3, bool),
        step=lambda state, action: Place((state.height + 1) % 7, jnp.asarray(action == 2)),
    )
    with pytest.raises(BadInput, match="must form a DAG"):
        enumerate_states(round_and_round)
    with pytest.raises(BadInput, match=r"P_B sums to 1\.7 over the edges into state"):
        enumerate_states(environment._replace(log_pb=lambda s, a, t: jnp.where(a == 1, jnp.log(0.7), 0.0)))
    with pytest.raises(BadInput, match="two of its terminal states stand for the same object"):
        enumerate_states(environment._replace(object_of=lambda state: state.height[None] // 2))
