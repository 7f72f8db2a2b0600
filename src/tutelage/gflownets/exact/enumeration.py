"""Every state of an environment written down: the ground truth for small worlds.

    graph = enumerate_states(problem.environment)
    rewards = problem.objectives.rewards(graph.objects)      # of every object there is

Breadth first from the source; states are told apart by the bytes of their leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from tutelage.gflownets.environment import Environment, Objects, State
from tutelage.lab.errors import BadInput

NOWHERE = -1
"""The child of an action that is not legal."""

_BATCHES = (256, 4096)
"""States that are expanded together; as few shapes as possible, for each is compiled."""


@dataclass(frozen=True, eq=False)
class StateGraph:
    """All S states which can be reached, parents before children; the source is state 0.

    Attributes:
        environment: whose they are.
        states: pytree of NumPy arrays [S, …].
        children: int32 [S, A], the state that an action leads to, `NOWHERE` where it is not legal.
        log_pb: f64 [S, A], log P_B of each edge; −∞ where there is none. It is the environment's in float64: brought
            from float32 to a sum of exactly 1 over the edges into a state.
        done: bool [S].
        layers: int64 [L + 1]: the states layers[l] … layers[l + 1] − 1 are those whose longest path from the source
            has l actions. Every edge goes to a later layer.
        terminal: int32 [X], the states which are done, in lexicographic order of their objects.
        objects: [X, …], the objects which they stand for.
    """

    environment: Environment
    states: State
    children: Int[np.ndarray, "S A"]
    log_pb: Float[np.ndarray, "S A"]
    done: Bool[np.ndarray, "S"]
    layers: Int[np.ndarray, "bounds"]
    terminal: Int[np.ndarray, "X"]
    objects: Objects

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.done)

    @property
    def num_objects(self) -> int:
        """X."""
        return len(self.terminal)


def enumerate_states(environment: Environment, *, start: State | None = None, limit: int = 1_000_000) -> StateGraph:
    """All states that can be reached from the source, or from `start`.

    Raises:
        BadInput: if there are more than `limit` of them; if the environment is not what it promises: a DAG without dead
            ends, its terminal states and objects one to one, P_B summing to 1 over the edges into each state.
    """
    source = jax.tree.map(np.asarray, environment.source() if start is None else start)
    rows = _Rows(source)
    names = [rows.of(jax.tree.map(lambda leaf: leaf[None], source))[0].tobytes()]
    found = {names[0]: 0}
    parts: list[tuple[np.ndarray, ...]] = []
    expanded = 0
    while expanded < len(names):
        batch = names[expanded : expanded + _BATCHES[-1]]
        size = min(size for size in _BATCHES if size >= len(batch))
        padded = rows.states(batch + batch[:1] * (size - len(batch)))
        legal, done, after, log_pb = _first(len(batch), _expand(environment, padded))
        legal = legal & ~done[:, None]
        if (dead := ~done & ~legal.any(axis=1)).any():
            raise BadInput(f"environment: state {expanded + int(dead.argmax())} is not done and has no legal action")
        distinct, which = np.unique(rows.of(_first(legal, after)), return_inverse=True)
        reached = [row.tobytes() for row in distinct]
        names += [name for name in reached if name not in found]
        number = np.array([found.setdefault(name, len(found)) for name in reached], np.int32)
        if len(names) > limit:
            raise BadInput(f"environment: more than limit = {limit} states; it is too large to be enumerated")
        children = np.full(legal.shape, NOWHERE, np.int32)
        children[legal] = number[which]
        parts.append((children, np.where(legal, log_pb.astype(np.float64), -np.inf), done))
        expanded += len(batch)
    children, log_pb, done = (np.concatenate(column) for column in zip(*parts, strict=True))

    order, layers = _topological(children)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    children = np.where(children >= 0, place[children], NOWHERE)[order].astype(np.int32)
    states, done = rows.states([names[i] for i in order]), done[order]
    terminal = np.flatnonzero(done).astype(np.int32)
    objects = np.asarray(_objects(environment, jax.tree.map(lambda leaf: leaf[terminal], states)))
    flat = objects.reshape(len(terminal), -1)
    by_object = np.lexsort(flat.T[::-1]) if flat.shape[1] else np.arange(len(terminal))
    if (flat[by_object][1:] == flat[by_object][:-1]).all(axis=1).any():
        raise BadInput("environment: two of its terminal states stand for the same object")
    return StateGraph(
        environment=environment,
        states=states,
        children=children,
        log_pb=_normalised(children, log_pb[order]),
        done=done,
        layers=layers,
        terminal=terminal[by_object],
        objects=objects[by_object],
    )


@eqx.filter_jit
def _expand(environment: Environment, states: State):
    """legal [n, A], done [n], the states after each action [n, A, …] and log P_B [n, A] of n states."""

    def actions(state):
        def act(action):
            after = environment.step(state, action)
            return after, environment.log_pb(state, action, after)

        return jax.vmap(act)(jnp.arange(environment.num_actions))

    after, log_pb = jax.vmap(actions)(states)
    return jax.vmap(environment.mask)(states), jax.vmap(environment.done)(states), after, log_pb


@eqx.filter_jit
def _objects(environment: Environment, states: State):
    return jax.vmap(environment.object_of)(states)


def _first(which, tree):
    """Leaves [:n], of a number n; or those at the places of a mask."""
    where = slice(which) if isinstance(which, int) else which
    return jax.tree.map(lambda leaf: np.asarray(leaf)[where], tree)


class _Rows:
    """States as rows of bytes, and back."""

    def __init__(self, example: State) -> None:
        leaves, self._tree = jax.tree.flatten(example)
        self._leaves = [(leaf.shape, leaf.dtype) for leaf in leaves]
        self._ends = np.cumsum([math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves])

    def of(self, states: State) -> np.ndarray:
        """One void scalar for each of n states."""
        columns = []
        for leaf, (shape, dtype) in zip(jax.tree.leaves(states), self._leaves, strict=True):
            # Of the two zeros of a floating-point number only one is kept: they are equal.
            array = leaf + np.zeros((), dtype) if np.issubdtype(dtype, np.floating) else leaf
            array = np.ascontiguousarray(array, dtype).reshape(len(leaf), math.prod(shape))
            columns.append(array.view(np.uint8))
        joined = np.ascontiguousarray(np.concatenate(columns, axis=1))
        return joined.view(np.dtype((np.void, joined.shape[1]))).reshape(-1)

    def states(self, names: list[bytes]) -> State:
        joined = np.frombuffer(b"".join(names), np.uint8).reshape(len(names), -1)
        columns = np.split(joined, self._ends[:-1], axis=1)
        leaves = [
            np.ascontiguousarray(column).view(dtype).reshape(len(names), *shape)
            for column, (shape, dtype) in zip(columns, self._leaves, strict=True)
        ]
        return jax.tree.unflatten(self._tree, leaves)


def _topological(children: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The states in order of their longest path from state 0, and where each length begins."""
    waiting_for = np.bincount(children[children >= 0], minlength=len(children))
    layers = [np.flatnonzero(waiting_for == 0)]
    while len(layers[-1]):
        after = children[layers[-1]]
        after = after[after >= 0]
        np.subtract.at(waiting_for, after, 1)
        after = np.unique(after)
        layers.append(after[waiting_for[after] == 0])
    order = np.concatenate(layers)
    if len(order) < len(children):
        raise BadInput("environment: a state can be reached again from itself; the states must form a DAG")
    return order, np.cumsum([0] + [len(layer) for layer in layers[:-1]])


def _normalised(children: np.ndarray, log_pb: np.ndarray) -> np.ndarray:
    edge = children >= 0
    total = np.bincount(children[edge], weights=np.exp(log_pb[edge]), minlength=len(children))
    wrong = np.abs(total[1:] - 1) > 1e-4
    if wrong.any():
        state = 1 + int(wrong.argmax())
        raise BadInput(f"environment: P_B sums to {total[state]:g} over the edges into state {state}; it must be 1")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(edge, log_pb - np.log(total)[children], -np.inf)
