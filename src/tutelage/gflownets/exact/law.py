"""The exact evaluator: what a policy's objects are distributed like, and what they should be, over all there are.

    graph = enumerate_states(environment)
    law = policy_law(graph, policy, encode(condition, …))                     # P_θ(x | w, β) of every object, [n, X]
    target = target_law(rewards, condition.preference, condition.beta)        # π(x | w, β) ∝ R(x | w)^β, [n, X]
    l1(law, target)

Everything is computed on the host's terms: float64 in and out (networks excepted, which compute as they are), and many
conditions in blocks that fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike

from tutelage.gflownets.condition import condition
from tutelage.gflownets.environment import Objects
from tutelage.gflownets.exact.enumeration import StateGraph
from tutelage.gflownets.objectives import log_scalar, tempered
from tutelage.gflownets.policy import Policy
from tutelage.lab.errors import BadInput

_NUMBERS_AT_ONCE = 1 << 24
"""Of the largest array that is held for a block of conditions."""

_ROWS_AT_ONCE = 1 << 14
"""States (times conditions) that a network reads together."""


def terminal_law(graph: StateGraph, log_pf: ArrayLike) -> Float[np.ndarray, "*conditions X"]:
    """The probability of each object under the forward policy log P_F [..., S, A]: float64, in [0, 1], sum 1.

    Forward recursion: what flows through a state is what its parents send it, and a parent's is complete when its turn
    comes. Where an action is not legal its log P_F is not read.
    """
    array = np.asarray(log_pf)
    if array.shape[-2:] != graph.children.shape:
        raise BadInput(f"log_pf of shape {array.shape}: must end in the graph's {graph.children.shape}")
    flat = array.reshape(-1, *graph.children.shape)
    law = np.empty((len(flat), graph.num_objects))
    rows, children = _turns(graph), np.where(graph.children >= 0, graph.children, graph.num_states)
    with jax.enable_x64(True):
        for block in _blocks(len(flat), graph.children.size):
            through = _send(rows, children, jnp.asarray(flat[block], jnp.float64))
            law[block] = np.asarray(through)[:, graph.terminal]
    return law.reshape(*array.shape[:-2], graph.num_objects)


@jax.jit
def _send(
    rows: Int[Array, "turns W"], children: Int[Array, "S A"], log_pf: Float[Array, "n S A"]
) -> Float[Array, "n S"]:
    """The probability of passing through each state. A turn is a part of one layer, padded with S."""
    number, outside = log_pf.shape[0], children.shape[0]
    children = jnp.concatenate([children, jnp.full_like(children[:1], outside)])
    probability = jnp.where(children[:-1] < outside, jnp.exp(log_pf), 0.0)
    probability = jnp.concatenate([probability, jnp.zeros_like(probability[:, :1])], axis=1)

    def turn(through, states):
        sent = through[:, states, None] * probability[:, states]
        return through.at[:, children[states]].add(sent), None

    through, _ = jax.lax.scan(turn, jnp.zeros((number, outside + 1), log_pf.dtype).at[:, 0].set(1.0), rows)
    return through[:, :-1]


def optimal_flows(
    graph: StateGraph, log_reward: ArrayLike
) -> tuple[Float[np.ndarray, "*conditions S"], Float[np.ndarray, "*conditions S A"]]:
    """The one solution of all balance conditions for the graph's P_B: log F(s) and log P_F(a | s), both float64.

    F(x) = exp ℓ(x) at a terminal state, F(s) = Σ_children F(s') P_B(s | s') elsewhere; P_F is each child's share of the
    sum. log F of state 0 is log Z. Args: log_reward, ℓ of every object, [..., X]. log P_F is −∞ where there is no edge.
    """
    array = np.asarray(log_reward, np.float64)
    if array.shape[-1:] != (graph.num_objects,):
        raise BadInput(f"log_reward of shape {array.shape}: must end in the number of objects, {graph.num_objects}")
    flat = array.reshape(-1, graph.num_objects)
    log_flow, log_pf = np.empty((len(flat), graph.num_states)), np.empty((len(flat), *graph.children.shape))
    rows, children = _turns(graph), np.where(graph.children >= 0, graph.children, graph.num_states)
    with jax.enable_x64(True):
        for block in _blocks(len(flat), graph.children.size):
            ends = np.full((block.stop - block.start, graph.num_states), -np.inf)
            ends[:, graph.terminal] = flat[block]
            gathered = _gather(rows, children, jnp.asarray(graph.log_pb), jnp.asarray(ends))
            log_flow[block], log_pf[block] = map(np.asarray, gathered)
    batch = array.shape[:-1]
    return log_flow.reshape(*batch, -1), log_pf.reshape(*batch, *graph.children.shape)


@jax.jit
def _gather(
    rows: Int[Array, "turns W"],
    children: Int[Array, "S A"],
    log_pb: Float[Array, "S A"],
    ends: Float[Array, "n S"],
) -> tuple[Float[Array, "n S"], Float[Array, "n S A"]]:
    outside = children.shape[0]
    padded_children = jnp.concatenate([children, jnp.full_like(children[:1], outside)])
    padded_log_pb = jnp.concatenate([log_pb, jnp.full_like(log_pb[:1], -jnp.inf)])
    log_flow = jnp.concatenate([ends, jnp.full_like(ends[:, :1], -jnp.inf)], axis=1)

    def turn(log_flow, states):
        shares = log_flow[:, padded_children[states]] + padded_log_pb[states]
        return log_flow.at[:, states].set(jax.nn.logsumexp(shares, axis=-1)), None

    log_flow, _ = jax.lax.scan(turn, log_flow, rows, reverse=True)
    to_children = log_flow[:, children] + log_pb
    log_flow = log_flow[:, :-1]
    return log_flow, jnp.where(children < outside, to_children - log_flow[..., None], -jnp.inf)


def policy_log_pf(graph: StateGraph, policy: Policy, encoded: ArrayLike) -> Float[np.ndarray, "n S A"]:
    """log P_F of a policy without memory in every state under each of n encoded conditions [n, C]; −∞ where illegal.

    Raises:
        BadInput: on a policy which carries something along a trajectory (see `sequence_law`).
    """
    if not policy.memoryless:
        raise BadInput("policy: it reads whole trajectories, not states; its law is that of its objects' log_prob")
    rows = np.asarray(encoded, np.float32)
    if rows.ndim != 2:
        raise BadInput(f"encoded conditions of shape {rows.shape}: must be [n, C]")
    return np.stack([np.asarray(_log_pf(policy, graph.environment, graph.states, graph.children, row)) for row in rows])


def policy_law(graph: StateGraph, policy: Policy, encoded: ArrayLike) -> Float[np.ndarray, "n X"]:
    """P_θ(x | condition) of every object under each of n encoded conditions [n, C], for a policy without memory.

    The network computes in its own precision, the recursion in float64.
    """
    rows = np.asarray(encoded, np.float32)
    blocks = _blocks(len(rows), graph.children.size)
    return np.concatenate([terminal_law(graph, policy_log_pf(graph, policy, rows[block])) for block in blocks])


def forward_policy(graph: StateGraph, policy: Policy, encoded: Float[Array, "n C"]) -> Float[Array, "n S A"]:
    """`policy_log_pf` as a pure function, for inside of a compiled program."""
    return jax.lax.map(lambda row: _log_pf(policy, graph.environment, graph.states, graph.children, row), encoded)


@eqx.filter_jit
def _log_pf(policy, environment, states, children, encoded):
    """[S, A] under one condition [C], a block of states after another."""

    carry = policy.start(encoded[None])

    def read(part):
        state, legal = part
        observation = environment.observe(state)
        _, outputs = policy.step(carry, jax.tree.map(lambda leaf: leaf[None], observation), encoded[None])
        return jax.nn.log_softmax(jnp.where(legal, outputs.logits[0], -jnp.inf), where=legal)

    # Of a state that is done nothing is legal, and nothing is read.
    return jax.lax.map(read, (states, children >= 0), batch_size=min(_ROWS_AT_ONCE, children.shape[0]))


def sequence_law(
    objects: Objects, log_prob: Callable[[Objects, Any], Array], conditions: Any
) -> Float[np.ndarray, "n X"]:
    """P_θ(x | condition) of X objects under n conditions, where each object has one trajectory (`is_tree`).

    Args:
        objects: [X, …].
        log_prob: `(objects [B, …], conditions of B rows) -> f[B]`.
        conditions: any pytree of arrays with n rows.
    """
    law = np.empty((len(jax.tree.leaves(conditions)[0]), len(objects)))
    for start in range(0, len(objects), _ROWS_AT_ONCE):
        part = objects[start : start + _ROWS_AT_ONCE]
        for index, row in enumerate(law):
            repeated = _repeated(conditions, index, len(part))
            row[start : start + len(part)] = np.exp(np.asarray(log_prob(part, repeated), np.float64))
    return law


def _repeated(conditions: Any, index: int, number: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[index : index + 1], number, axis=0), conditions)


def log_rewards(
    rewards: ArrayLike,
    preference: ArrayLike,
    beta: ArrayLike | float,
    scalarisation: str = "weighted_sum",
    floor: float = -75.0,
) -> Float[np.ndarray, "n X"]:
    """ℓ(x) = max(β log R(x | w), ℓ_min) of X objects under n conditions, in float64: what training aims at.

    Args:
        rewards: [X, M].
        preference: [n, M], or [M] for one condition.
        beta: [n] or a number.

    Raises:
        BadInput: naming the row, on a preference that is not on the simplex; on β not > 0.
    """
    array, weights = np.asarray(rewards, np.float64), np.atleast_2d(np.asarray(preference, np.float64))
    condition(weights, beta, array.shape[-1])
    betas = np.broadcast_to(np.asarray(beta, np.float64), (len(weights),))
    result = np.empty((len(weights), len(array)))
    with jax.enable_x64(True):
        given = jnp.asarray(array)
        for block in _blocks(len(weights), array.size):
            result[block] = np.asarray(_log_rewards(given, weights[block], betas[block], scalarisation, floor))
    return result


@eqx.filter_jit
def _log_rewards(rewards, preference, beta, scalarisation, floor):
    def one(weights, exponent):
        log_reward = log_scalar(rewards, jnp.broadcast_to(weights, rewards.shape), scalarisation)
        return tempered(log_reward, jnp.broadcast_to(exponent, log_reward.shape), floor)

    return jax.vmap(one)(preference, beta)


def target_law(
    rewards: ArrayLike,
    preference: ArrayLike,
    beta: ArrayLike | float,
    scalarisation: str = "weighted_sum",
    floor: float = -75.0,
) -> Float[np.ndarray, "n X"]:
    """π(x | w, β) = exp ℓ(x) / Z of every object under n conditions, with training's own floor; see `log_rewards`."""
    tilted = log_rewards(rewards, preference, beta, scalarisation, floor)
    return np.exp(tilted - _logsumexp(tilted)[:, None])


def log_partition(
    rewards: ArrayLike,
    preference: ArrayLike,
    beta: ArrayLike | float,
    scalarisation: str = "weighted_sum",
    floor: float = -75.0,
) -> Float[np.ndarray, "n"]:
    """log Z(w, β) = log Σ_x exp ℓ(x) under n conditions; see `log_rewards`."""
    return _logsumexp(log_rewards(rewards, preference, beta, scalarisation, floor))


def l1(law: ArrayLike, target: ArrayLike) -> Float[np.ndarray, "*conditions"]:
    """Σ_x |P(x) − π(x)| over the last axis, in [0, 2]; twice the total variation."""
    return np.asarray(np.abs(np.asarray(law, np.float64) - np.asarray(target, np.float64)).sum(axis=-1))


def kl(law: ArrayLike, target: ArrayLike) -> Float[np.ndarray, "*conditions"]:
    """Σ_x P(x) log(P(x)/π(x)) over the last axis, in nats; infinite where P has an object that π has not."""
    p, q = np.broadcast_arrays(np.asarray(law, np.float64), np.asarray(target, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(axis=-1))


def _logsumexp(values: np.ndarray) -> np.ndarray:
    highest = values.max(axis=-1, keepdims=True)
    return np.log(np.exp(values - highest).sum(axis=-1)) + highest[..., 0]


def _blocks(number: int, width: int) -> Iterator[slice]:
    size = max(1, _NUMBERS_AT_ONCE // max(width, 1))
    return (slice(start, min(start + size, number)) for start in range(0, number, size))


def _turns(graph: StateGraph) -> Int[np.ndarray, "turns W"]:
    """The states that are not done, layer by layer in rows of one width, padded with S."""
    layers = [np.flatnonzero(~graph.done[a:b]) + a for a, b in zip(graph.layers[:-1], graph.layers[1:])]
    layers = [layer for layer in layers if len(layer)]
    # Not wider than the mean layer: then at most as much is padded as there are states.
    width = max(1, -(-sum(map(len, layers)) // max(1, len(layers))))
    rows = [layer[start : start + width] for layer in layers for start in range(0, len(layer), width)]
    return np.array([np.pad(row, (0, width - len(row)), constant_values=graph.num_states) for row in rows], np.int32)
