"""One battery that every environment of this family must pass, ours and yours.

    from tutelage.gflownets.exact.conformance import check_environment

    problems = check_environment(my_environment, jax.random.key(0))
    assert not problems, "\n".join(problems)

It looks at types first, without running anything; only an environment with a sound interface is then played with
random actions, forwards and backwards, and, if it is small, listed state by state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from tutelage.gflownets.environment import Environment, State, Token

TOLERANCE = 1e-4
CHUNK = 256
"""States that are expanded at a time."""


class Play(NamedTuple):
    """N random trajectories of T steps; what follows their end is not `alive`.

    Attributes:
        alive: the state was not done, so that a step was taken.
        stuck: it was not done, and had no legal action.
        unchanged: the step led to the same state.
        finite: the observation was.
        position: of a `Token`, else the number of the step.
        log_pb: of the step.
        over: the state after T steps is done.
        restored: `terminal` of its object is that state.
    """

    alive: Bool[Array, "T N"]
    stuck: Bool[Array, "T N"]
    unchanged: Bool[Array, "T N"]
    finite: Bool[Array, "T N"]
    position: Int[Array, "T N"]
    log_pb: Float[Array, "T N"]
    over: Bool[Array, "N"]
    restored: Bool[Array, "N"]


class Back(NamedTuple):
    """One draw from the backward policy at the end of every step of a `Play`, [T, N]."""

    legal: Bool[Array, "T N"]
    done: Bool[Array, "T N"]
    returns: Bool[Array, "T N"]
    same: Bool[Array, "T N"]
    log_pb: Float[Array, "T N"]


class Graph(NamedTuple):
    """All S states of a small environment, number 0 the source, and its E edges.

    Attributes:
        parent, child, action: int [E].
        log_pb: float [E], of each edge.
        objects: of the done states, as bytes.
        states: every state, as bytes.
        named: what `parents` says of every state, as pairs of bytes and an action; empty where there is none.
    """

    num_states: int
    parent: np.ndarray
    child: np.ndarray
    action: np.ndarray
    log_pb: np.ndarray
    objects: list[bytes]
    states: list[bytes]
    named: list[list[tuple[bytes, int]]]


def check_environment(
    environment: Environment, key: Key[Array, ""], *, num_trajectories: int = 64, max_states: int = 2000
) -> list[str]:
    """Everything in which `environment` breaks its protocol, one line each; an empty list means that it is good.

    - Types: states keep structure, shape and dtype and are strongly typed; masks, log P_B and objects are of the kinds
      promised; a sequence's observation is a `Token`.
    - Play: a legal action wherever the state is not done, the end neither before `min_steps` nor after `max_steps`, no
      step that changes nothing, finite observations, log P_B ≤ 0, positions of a sequence that count the steps.
    - Backwards: `retrace` gives a parent that is not done, and a legal action whose `step` leads back.
    - Objects: `terminal` gives the state that `object_of` was asked about.
    - `is_tree`: log P_B = 0, and the parent is the one that the trajectory came from.
    - If there are at most `max_states` states, exactly: P_B sums to 1 over the parents of each, `parents` names all of
      them and once, done states stand for different objects, no longer trajectory than `max_steps`, no cycle, and no
      second parent in a tree.
    """
    if environment.num_actions < 1 or environment.max_steps < 1:
        return [f"num_actions = {environment.num_actions}, max_steps = {environment.max_steps}: must be at least 1"]
    return _attempt("interface", lambda: _interface(environment)) or _attempt(
        "play", lambda: _behaviour(environment, key, num_trajectories) + _exactly(environment, max_states)
    )


def _attempt(what: str, check: Callable[[], list[str]]) -> list[str]:
    try:
        return check()
    except Exception as error:
        lines = str(error).strip().splitlines()
        return [f"{what}: raised {type(error).__name__}: {lines[0] if lines else ''}"]


def _interface(environment: Environment) -> list[str]:
    """What `jax.eval_shape` shows of the types; nothing is run."""
    action = jax.ShapeDtypeStruct((), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    source = jax.eval_shape(environment.source)
    after = jax.eval_shape(environment.step, source, action)
    before, taken = jax.eval_shape(environment.retrace, key, source)
    objects = jax.eval_shape(environment.object_of, source)
    observation = jax.eval_shape(environment.observe, source)
    problems = [
        f"source: {jax.tree_util.keystr(path)} is weakly typed ({leaf.dtype})"
        for path, leaf in jax.tree_util.tree_leaves_with_path(source)
        if leaf.weak_type
    ]
    for what, state in (
        ("step", after),
        ("retrace", before),
        ("terminal", jax.eval_shape(environment.terminal, objects)),
    ):
        problems += [] if _types(state) == _types(source) else [f"{what}: the state is not of the types of the source"]
    problems += _kind("mask", jax.eval_shape(environment.mask, source), (environment.num_actions,), jnp.bool_)
    problems += _kind("done", jax.eval_shape(environment.done, source), (), jnp.bool_)
    problems += _kind("log_pb", jax.eval_shape(environment.log_pb, source, action, after), (), jnp.floating)
    problems += _kind("retrace: the action", taken, (), jnp.integer)
    problems += [
        f"object_of: {leaf.dtype}, must be integers"
        for leaf in jax.tree.leaves(objects)
        if not jnp.issubdtype(leaf.dtype, jnp.integer)
    ]
    if environment.is_sequence and not isinstance(observation, Token):
        problems.append(f"observe: a sequence's observation must be a Token, not {type(observation).__name__}")
    return problems


def _behaviour(environment: Environment, key: Key[Array, ""], number: int) -> list[str]:
    k_play, k_back = jax.random.split(key)
    play, back = jax.device_get(jax.jit(partial(_play, environment, number))(k_play, k_back))
    alive, over = play.alive, play.over
    steps = np.arange(environment.max_steps)[:, None]
    faults = {
        "mask: no action is legal in a state that is not done": play.stuck,
        f"max_steps: a trajectory is not done after {environment.max_steps} steps": ~over,
        f"min_steps: a trajectory is done after fewer than {environment.min_steps} steps": alive.sum(axis=0)
        < environment.min_steps,
        "step: a legal action leaves the state as it was": alive & play.unchanged,
        "observe: an observation is not finite": alive & ~play.finite,
        "log_pb: is not in (-inf, 0]": alive & ~(np.isfinite(play.log_pb) & (play.log_pb <= TOLERANCE)),
        "retrace: its action is not legal in its state": alive & ~back.legal,
        "retrace: gives a state that is done": alive & back.done,
        "retrace: a step of its action does not lead back": alive & ~back.returns,
        "retrace: draws a parent of probability 0": alive & ~np.isfinite(back.log_pb),
        "terminal: is not the inverse of object_of": over & ~play.restored,
    }
    if environment.is_tree:
        faults["is_tree: log P_B is not 0"] = alive & (np.abs(play.log_pb) > TOLERANCE)
        faults["is_tree: a state has another parent than the one it came from"] = alive & ~back.same
    if environment.is_sequence:
        faults["observe: the position of a Token is not the number of tokens"] = alive & (play.position != steps)
    return [fault for fault, where in faults.items() if where.any()]


def _play(environment: Environment, number: int, k_play: Key[Array, ""], k_back: Key[Array, ""]) -> tuple[Play, Back]:
    def step(states: State, key: Key[Array, ""]):
        mask, done = jax.vmap(environment.mask)(states), jax.vmap(environment.done)(states)
        actions = jax.random.categorical(key, jnp.where(mask, 0.0, -jnp.inf)).astype(jnp.int32)
        after = jax.vmap(environment.step)(states, actions)
        observation = jax.vmap(environment.observe)(states)
        record = (
            ~done,
            ~done & ~mask.any(axis=-1),
            jax.vmap(_equal)(states, after),
            jax.vmap(_finite)(observation),
            observation.position if isinstance(observation, Token) else jnp.zeros(number, jnp.int32),
            jax.vmap(environment.log_pb)(states, actions, after),
        )
        kept = jax.tree.map(lambda old, new: jnp.where(_like(done, new), old, new), states, after)
        return kept, (record, (states, after))

    source = environment.source()
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape)), source)
    final, (record, (before, after)) = jax.lax.scan(step, states, jax.random.split(k_play, environment.max_steps))

    def back(key: Key[Array, ""], before: State, after: State) -> tuple:
        state, action = environment.retrace(key, after)
        legal, done = environment.mask(state)[action], environment.done(state)
        returns = _equal(environment.step(state, action), after)
        return legal, done, returns, _equal(state, before), environment.log_pb(state, action, after)

    keys = jax.random.split(k_back, (environment.max_steps, number))
    restored = jax.vmap(lambda state: _equal(environment.terminal(environment.object_of(state)), state))(final)
    return Play(*record, jax.vmap(environment.done)(final), restored), Back(
        *jax.vmap(jax.vmap(back))(keys, before, after)
    )


def _exactly(environment: Environment, max_states: int) -> list[str]:
    graph = _graph(environment, max_states)
    if graph is None:
        return []
    problems = []
    total = np.zeros(graph.num_states)
    np.add.at(total, graph.child, np.exp(graph.log_pb))
    if (graph.child == 0).any():
        problems.append("step: leads back to the source")
    elif (wrong := np.abs(total[1:] - 1) > TOLERANCE).any():
        problems.append(
            f"log_pb: P_B sums to {total[1:][wrong][0]:.6g} over the parents of a state, "
            f"and not to 1 in {wrong.sum()} of {graph.num_states} states"
        )
    if environment.parents is not None:
        edges: list[list[tuple[bytes, int]]] = [[] for _ in graph.states]
        for parent, child, action in zip(graph.parent, graph.child, graph.action):
            edges[child].append((graph.states[parent], int(action)))
        if any(sorted(named) != sorted(found) for named, found in zip(graph.named, edges)):
            problems.append("parents: are not those from which a step leads to the state")
    if environment.is_tree and len(graph.child) > graph.num_states - 1:
        problems.append("is_tree: a state has more than one parent")
    if len(set(graph.objects)) < len(graph.objects):
        problems.append("object_of: two done states stand for the same object")
    longest = _longest_path(graph)
    if longest is None:
        problems.append("step: there is a cycle")
    elif longest > environment.max_steps:
        problems.append(f"max_steps = {environment.max_steps}: the longest trajectory has {longest} steps")
    return problems


def _graph(environment: Environment, max_states: int) -> Graph | None:
    """All states that can be reached, or None if they are too many."""

    @jax.jit
    def expand(states: State):
        actions = jnp.arange(environment.num_actions)

        def one(state: State):
            after = jax.vmap(environment.step, (None, 0))(state, actions)
            log_pb = jax.vmap(environment.log_pb, (None, 0, 0))(state, actions, after)
            named = None if environment.parents is None else environment.parents(state)
            return environment.done(state), environment.mask(state), after, log_pb, environment.object_of(state), named

        return jax.vmap(one)(states)

    source = jax.device_get(environment.source())
    found, waiting = {_bytes(source): 0}, [source]
    edges, objects, named = [], [], []
    expanded = 0
    while waiting:
        chunk, waiting = waiting[:CHUNK], waiting[CHUNK:]
        padded = chunk + [chunk[0]] * (CHUNK - len(chunk))
        states = jax.tree.map(lambda *leaves: np.stack(leaves), *padded)
        done, mask, after, log_pb, finished, parents = jax.device_get(expand(states))
        for row in range(len(chunk)):
            if parents is not None:
                before, actions, exist = parents
                ways = np.flatnonzero(exist[row])
                named.append([(_bytes(_at(before, row, way)), int(actions[row, way])) for way in ways])
            if done[row]:
                objects.append(_bytes(_at(finished, row)))
                continue
            for action in np.flatnonzero(mask[row]):
                child = _at(after, row, action)
                name = _bytes(child)
                if name not in found:
                    if len(found) == max_states:
                        return None
                    found[name] = len(found)
                    waiting.append(child)
                edges.append((expanded + row, found[name], action, log_pb[row, action]))
        expanded += len(chunk)
    parent, child, action, log_pbs = zip(*edges) if edges else ((), (), (), ())
    parent, child, action = (np.array(numbers, int) for numbers in (parent, child, action))
    return Graph(len(found), parent, child, action, np.array(log_pbs, float), objects, list(found), named)


def _longest_path(graph: Graph) -> int | None:
    """Steps of the longest trajectory, or None if there is a cycle (Kahn 1962)."""
    children: list[list[int]] = [[] for _ in range(graph.num_states)]
    for parent, child in zip(graph.parent, graph.child):
        children[parent].append(child)
    missing = np.bincount(graph.child, minlength=graph.num_states)
    depth = np.zeros(graph.num_states, int)
    ready = [int(state) for state in np.flatnonzero(missing == 0)]
    seen = 0
    while ready:
        state = ready.pop()
        seen += 1
        for child in children[state]:
            depth[child] = max(depth[child], depth[state] + 1)
            missing[child] -= 1
            if missing[child] == 0:
                ready.append(child)
    return int(depth.max()) if seen == graph.num_states else None


def _types(tree: PyTree) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves]


def _kind(what: str, leaf: Any, shape: tuple[int, ...], kind: Any) -> list[str]:
    if leaf.shape == shape and jnp.issubdtype(leaf.dtype, kind):
        return []
    return [f"{what}: is {leaf.dtype}{list(leaf.shape)}, must be {kind.__name__}{list(shape)}"]


def _equal(first: PyTree, second: PyTree) -> Bool[Array, ""]:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return jnp.stack([jnp.ones((), bool), *(jnp.all(one == other) for one, other in pairs)]).all()


def _finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([jnp.ones((), bool), *(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))]).all()


def _like(flag: Bool[Array, "N"], leaf: Array) -> Array:
    return flag.reshape(-1, *[1] * (leaf.ndim - 1))


def _at(tree: PyTree, *where: Any) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[where], tree)


def _bytes(tree: PyTree) -> bytes:
    return b"|".join(np.ascontiguousarray(leaf).tobytes() for leaf in jax.tree.leaves(tree))
