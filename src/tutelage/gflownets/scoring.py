"""What a policy says of given trajectories, computed again from their actions: for losses, and for exact probabilities.

The states come from replaying the environment, without a network. Then one pass scores all steps. A policy without
memory reads the states that exist, in pieces of `CHUNK` rows, and nothing is computed for the padding; one with memory
reads trajectories whole, cut to the shortest of a few lengths that holds them all (`by_length`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.condition import Condition
from tutelage.gflownets.environment import Environment, Objects, State
from tutelage.gflownets.policy import Policy
from tutelage.gflownets.rollout import backward_rollout, equal_rows, where_rows
from tutelage.gflownets.trajectories import Steps, Trajectories
from tutelage.lab.errors import BadInput

CHUNK = 256
"""Rows of a piece: large enough for a dense product, small enough that what it keeps stays in a core's cache."""

Result = TypeVar("Result")


def replay(environment: Environment, trajectories: Trajectories) -> State:
    """All states of the trajectories, [T + 1, B, …]; what follows a trajectory's end is of no meaning.

    Stops with the longest of them.
    """
    action, valid = trajectories.action.T, trajectories.valid.T
    longest = valid.sum(axis=0).max()
    states = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (action.shape[0] + 1, *leaf.shape)), trajectories.start)

    def body(loop: tuple) -> tuple:
        t, state, states = loop
        state = where_rows(valid[t], jax.vmap(environment.step)(state, action[t]), state)
        put = jax.tree.map(lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, t + 1, 0), states, state)
        return t + 1, state, put

    loop = (jnp.zeros((), longest.dtype), trajectories.start, states)
    return jax.lax.while_loop(lambda loop: loop[0] < longest, body, loop)[2]


def score(
    policy: Policy,
    environment: Environment,
    trajectories: Trajectories,
    encoded: Float[Array, "B C"],
    log_reward: Float[Array, "B"],
    *,
    inflows: bool = False,
    chunk: int = CHUNK,
) -> Steps:
    """The steps of trajectories; differentiable in the policy.

    Args:
        encoded: their conditions as the policy reads them.
        log_reward: ℓ(x) of their objects.
        inflows: also all that flows into each state (for flow matching).
        chunk: rows of a piece, where the policy has no memory.

    Raises:
        BadInput: inflows of an environment that neither is a tree nor names the parents of a state.
    """
    if inflows and not environment.is_tree and (environment.parents is None or not policy.memoryless):
        raise BadInput(
            "loss.kind = 'fm' needs all parents of a state: an environment that is a tree, or one that names "
            "them (Environment.parents) with a network that reads one state at a time"
        )
    states = replay(environment, trajectories)
    valid = trajectories.valid
    log_z = policy.log_z(jax.vmap(environment.observe)(trajectories.start), encoded)
    if policy.memoryless:
        parts = _in_pieces(policy, environment, trajectories, states, encoded, log_z, inflows, chunk)
    else:
        parts = _whole(policy, environment, trajectories, states, encoded)
    log_pf, log_pb, log_flow, log_inflow = (jnp.where(valid, part, 0.0) for part in parts)
    log_flow = log_flow.at[:, 0].set(log_z)
    if inflows and environment.is_tree:
        log_inflow = jnp.where(valid, log_flow + log_pf, 0.0)
    return Steps(log_pf, log_pb, log_flow, valid, log_z, log_reward, log_inflow if inflows else None)


def chosen_log_prob(
    logits: Float[Array, "*batch A"], mask: Bool[Array, "*batch A"], action: Int[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """log softmax of the legal logits, of one action each. Rows without a legal action give something finite."""
    mask = mask | ~mask.any(axis=-1, keepdims=True)
    legal = jnp.where(mask, logits, -jnp.inf)
    chosen = action[..., None] == jnp.arange(logits.shape[-1], dtype=action.dtype)
    return jnp.sum(jnp.where(chosen, legal, 0.0), axis=-1) - jax.nn.logsumexp(legal, axis=-1)


def _whole(policy: Policy, environment: Environment, trajectories: Trajectories, states: State, encoded: Array):
    """All steps in one pass over trajectories."""

    def mapped(function: Callable, *arguments: Any) -> Any:
        return jax.vmap(jax.vmap(function))(*arguments)

    states = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), states)
    before = jax.tree.map(lambda leaf: leaf[:, :-1], states)
    after = jax.tree.map(lambda leaf: leaf[:, 1:], states)
    outputs = policy.trajectory(mapped(environment.observe, before), encoded)
    log_pf = chosen_log_prob(outputs.logits, mapped(environment.mask, before), trajectories.action)
    log_pb = (
        jnp.zeros_like(log_pf)
        if environment.is_tree
        else mapped(environment.log_pb, before, trajectories.action, after)
    )
    return log_pf, log_pb, outputs.log_flow, jnp.zeros_like(log_pf)


def _in_pieces(
    policy: Policy,
    environment: Environment,
    trajectories: Trajectories,
    states: State,
    encoded: Array,
    log_z: Array,
    inflows: bool,
    chunk: int,
):
    """The valid (trajectory, step) pairs side by side, in pieces; those pieces that hold none are passed over."""
    batch, length = trajectories.valid.shape
    lengths = trajectories.valid.sum(axis=1)
    ends = jnp.cumsum(lengths)
    total = ends[-1]
    num_pieces = -(-batch * length // chunk)
    row = jnp.arange(num_pieces * chunk)
    # Row r belongs to the first trajectory that ends after it.
    who = jnp.minimum(jnp.searchsorted(ends, row, side="right"), batch - 1)
    when = jnp.clip(row - (ends - lengths)[who], 0, length - 1)
    carry = policy.start(encoded)

    def piece(who: Int[Array, "N"], when: Int[Array, "N"]) -> tuple[Array, Array, Array, Array]:
        def rows(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: leaf[who], tree)

        before = jax.tree.map(lambda leaf: leaf[when, who], states)
        action = trajectories.action[who, when]
        carry_rows, encoded_rows = rows(carry), encoded[who]
        _, outputs = policy.step(carry_rows, jax.vmap(environment.observe)(before), encoded_rows)
        log_pf = chosen_log_prob(outputs.logits, jax.vmap(environment.mask)(before), action)
        if environment.is_tree:
            return log_pf, jnp.zeros_like(log_pf), outputs.log_flow, jnp.zeros_like(log_pf)
        after = jax.tree.map(lambda leaf: leaf[when + 1, who], states)
        log_pb = jax.vmap(environment.log_pb)(before, action, after).astype(log_pf.dtype)
        if not inflows:
            return log_pf, log_pb, outputs.log_flow, jnp.zeros_like(log_pf)
        start, z = rows(trajectories.start), log_z[who]
        return log_pf, log_pb, outputs.log_flow, _inflow(policy, environment, after, start, carry_rows, encoded_rows, z)

    shapes = jax.eval_shape(piece, who[:chunk], when[:chunk])

    def passed(who: Array, when: Array) -> Any:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def body(first: Array, part: tuple[Array, Array]) -> tuple[Array, Any]:
        return first + chunk, jax.lax.cond(first < total, piece, passed, *part)

    by_piece = (who.reshape(num_pieces, chunk), when.reshape(num_pieces, chunk))
    _, scored = jax.lax.scan(body, jnp.zeros((), total.dtype), by_piece)
    # Back to [B, T]: where each step's row is.
    place = jnp.minimum((ends - lengths)[:, None] + jnp.arange(length), num_pieces * chunk - 1)
    return tuple(leaf.reshape(-1)[place] for leaf in scored)


def _inflow(
    policy: Policy, environment: Environment, after: State, start: State, carry: Any, encoded: Array, log_z: Array
) -> Float[Array, "N"]:
    """log Σ_p F(p) P_F(p → after | p) over the parents p of N states; F of a start is Z."""
    assert environment.parents is not None
    parents, actions, exist = jax.vmap(environment.parents)(after)

    def of_one(parent: State, action: Int[Array, "N"], exists: Bool[Array, "N"]) -> Float[Array, "N"]:
        parent = where_rows(exists, parent, start)
        _, outputs = policy.step(carry, jax.vmap(environment.observe)(parent), encoded)
        log_pf = chosen_log_prob(outputs.logits, jax.vmap(environment.mask)(parent), action)
        flow = jnp.where(equal_rows(parent, start), log_z, outputs.log_flow)
        return jnp.where(exists, flow + log_pf, -jnp.inf)

    edges = jax.vmap(of_one, in_axes=1, out_axes=1)(parents, actions, exist)
    # A state without parents (padding) flows in as 0, not −∞, which gradients would not survive.
    some = exist.any(axis=1)
    return jnp.where(some, jax.nn.logsumexp(jnp.where(some[:, None], edges, 0.0), axis=1), 0.0)


def by_length(trajectories: Trajectories, function: Callable[[Trajectories], Result]) -> Result:
    """`function` of the trajectories cut to a length that holds them all: half, three quarters or the whole of T.

    A gradient is to be taken inside `function`: through the choice, all lengths would be paid for.
    """
    length = trajectories.action.shape[1]
    lengths = sorted({-(-length // 2), -(-3 * length // 4), length})
    longest = trajectories.valid.sum(axis=1).max()
    branches = [lambda given, cut=cut: function(_cut(given, cut)) for cut in lengths]
    return jax.lax.switch(jnp.searchsorted(jnp.array(lengths), longest), branches, trajectories)


def _cut(trajectories: Trajectories, length: int) -> Trajectories:
    return trajectories._replace(action=trajectories.action[:, :length], valid=trajectories.valid[:, :length])


def log_prob(
    policy: Policy,
    environment: Environment,
    key: Key[Array, ""],
    objects: Objects,
    condition: Condition,
    encoded: Float[Array, "B C"],
    *,
    num_draws: int = 32,
    start: State | None = None,
) -> Float[Array, "B"]:
    """log P(x | condition) of objects [B, …].

    Exact for trees. Otherwise log of the mean over `num_draws` backward trajectories of P_F(τ) / P_B(τ | x): the mean is
    unbiased, its logarithm on average too low.
    """
    number = encoded.shape[0]

    def once(k: Key[Array, ""]) -> Float[Array, "B"]:
        trajectories = backward_rollout(environment, k, objects, condition, start=start)
        steps = score(policy, environment, trajectories, encoded, jnp.zeros(number, encoded.dtype))
        return (steps.log_pf - steps.log_pb).sum(axis=1)

    if environment.is_tree:
        return once(key)
    draws = jax.lax.map(once, jax.random.split(key, num_draws))
    return jax.nn.logsumexp(draws, axis=0) - jnp.log(jnp.asarray(num_draws, draws.dtype))
