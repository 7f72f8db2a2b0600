"""What a policy says of given trajectories, computed again from their actions: for losses, and for exact probabilities.

The states come from replaying the environment, without a network. Then one pass scores all steps. A policy without
memory reads the states that exist, in pieces of so many rows, and nothing is computed for the padding; one with memory
reads trajectories whole, cut to the shortest of a few lengths that holds them all (`by_length`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.condition import Condition
from tutelage.gflownets.environment import Environment, Objects, State
from tutelage.gflownets.policy import Policy
from tutelage.gflownets.rollout import backward_rollout, chosen_log_prob, equal_rows, where_rows
from tutelage.gflownets.trajectories import Steps, Trajectories
from tutelage.lab.errors import BadInput

CHUNK = {"cpu": 128}
"""Rows of a piece, by backend: on a CPU enough for a dense product, and no more than its cache holds."""
CHUNK_ELSEWHERE = 16_384
"""On an accelerator pieces cost more than padding."""

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
    chunk: int | None = None,
) -> Steps:
    """The steps of trajectories; differentiable in the policy.

    Args:
        encoded: their conditions as the policy reads them.
        log_reward: ℓ(x) of their objects.
        inflows: also all that flows into each state (for flow matching).
        chunk: rows of a piece, where the policy has no memory; what suits the machine unless given.

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
        chunk = chunk or CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE)
        parts = _in_pieces(policy, environment, trajectories, states, encoded, log_z, inflows, chunk)
    else:
        parts = _whole(policy, environment, trajectories, states, encoded)
    log_pf, log_flow, log_inflow = (jnp.where(valid, part, 0.0) for part in parts)
    log_flow = log_flow.at[:, 0].set(log_z)
    log_pb = jnp.zeros_like(log_pf)
    if not environment.is_tree:
        before, after = _ends(states)
        log_pb = jax.vmap(jax.vmap(environment.log_pb))(before, trajectories.action.T, after).T
        log_pb = jnp.where(valid, log_pb, 0.0).astype(log_pf.dtype)
    if inflows and environment.is_tree:
        log_inflow = jnp.where(valid, log_flow + log_pf, 0.0)
    return Steps(log_pf, log_pb, log_flow, valid, log_z, log_reward, log_inflow if inflows else None)


def _ends(states: State) -> tuple[State, State]:
    """The states before and after each step, [T, B, …]."""
    return jax.tree.map(lambda leaf: leaf[:-1], states), jax.tree.map(lambda leaf: leaf[1:], states)


def _whole(
    policy: Policy, environment: Environment, trajectories: Trajectories, states: State, encoded: Array
) -> tuple[Array, Array, Array]:
    """log P_F, log F and no inflows [B, T] in one pass over trajectories."""
    before = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), _ends(states)[0])
    outputs = policy.trajectory(jax.vmap(jax.vmap(environment.observe))(before), encoded)
    log_pf = chosen_log_prob(outputs.logits, jax.vmap(jax.vmap(environment.mask))(before), trajectories.action)
    return log_pf, outputs.log_flow, jnp.zeros_like(log_pf)


def _in_pieces(
    policy: Policy,
    environment: Environment,
    trajectories: Trajectories,
    states: State,
    encoded: Array,
    log_z: Array,
    inflows: bool,
    chunk: int,
) -> tuple[Array, Array, Array]:
    """log P_F, log F and inflows [B, T] of the steps that exist, and their gradients, in pieces of so many of them.

    Loops over as many pieces as there are, forwards and backwards: the backward one computes a piece again, which is
    cheaper than to keep it. What the policy said when it drew the trajectories spares the forward one.
    """
    batch, length = trajectories.valid.shape
    chunk = min(chunk, batch * length)
    num_pieces = -(-batch * length // chunk)
    lengths = trajectories.valid.sum(axis=1, dtype=jnp.int32)
    ends = jnp.cumsum(lengths)
    row = jnp.arange(num_pieces * chunk, dtype=jnp.int32)
    # Row r belongs to the first trajectory that ends after it.
    who = jnp.minimum(jnp.searchsorted(ends, row, side="right").astype(jnp.int32), batch - 1)
    when = jnp.clip(row - (ends - lengths)[who], 0, length - 1)
    # Where each step's row is.
    place = jnp.minimum((ends - lengths)[:, None] + jnp.arange(length), num_pieces * chunk - 1)
    live = (ends[-1] + chunk - 1) // chunk
    arrays, static = eqx.partition(policy, eqx.is_inexact_array)
    known = None if inflows or trajectories.log_pf is None else (trajectories.log_pf, trajectories.log_flow)

    def piece(learnt: tuple[Any, Any, Array], given: tuple, index: Array) -> tuple[Array, ...]:
        arrays, carry, log_z = learnt
        policy = eqx.combine(arrays, static)
        states, action, start, encoded, who, when, *_ = given
        who, when = (jax.lax.dynamic_slice_in_dim(rows, index * chunk, chunk) for rows in (who, when))
        before = jax.tree.map(lambda leaf: leaf[when, who], states)
        carry, asked = jax.tree.map(lambda leaf: leaf[who], (carry, encoded))
        _, outputs = policy.step(carry, jax.vmap(environment.observe)(before), asked)
        log_pf = chosen_log_prob(outputs.logits, jax.vmap(environment.mask)(before), action[who, when])
        if not inflows:
            return log_pf, outputs.log_flow
        after, start = (
            jax.tree.map(lambda leaf: leaf[when + 1, who], states),
            jax.tree.map(lambda leaf: leaf[who], start),
        )
        return log_pf, outputs.log_flow, _inflow(policy, environment, after, start, carry, asked, log_z[who])

    @jax.custom_vjp
    def terms(learnt: tuple[Any, Any, Array], given: tuple) -> tuple[Array, ...]:
        *_, place, live, known = given
        if known is not None:
            return known

        def body(index: Array, rows: tuple[Array, ...]) -> tuple[Array, ...]:
            scored = piece(learnt, given, index)
            return tuple(
                jax.lax.dynamic_update_slice_in_dim(all_rows, new, index * chunk, 0)
                for all_rows, new in zip(rows, scored, strict=True)
            )

        shapes = jax.eval_shape(piece, learnt, given, jnp.int32(0))
        rows = tuple(jnp.zeros((num_pieces * chunk,), shape.dtype) for shape in shapes)
        rows = jax.lax.fori_loop(0, live, body, rows)
        return tuple(leaf[place] for leaf in rows)

    def forward(learnt: tuple[Any, Any, Array], given: tuple) -> tuple[Any, Any]:
        return terms(learnt, given), (learnt, given)

    def backward(kept: tuple[Any, Any], cotangents: tuple[Array, ...]) -> tuple[Any, None]:
        learnt, given = kept
        *_, who, when, total, _, live, _ = given
        exists = jnp.arange(num_pieces * chunk) < total
        rows = tuple(jnp.where(exists, leaf[who, when], 0.0) for leaf in cotangents)

        def body(index: Array, sums: Any) -> Any:
            pull = jax.vjp(lambda learnt: piece(learnt, given, index), learnt)[1]
            (part,) = pull(tuple(jax.lax.dynamic_slice_in_dim(leaf, index * chunk, chunk) for leaf in rows))
            return jax.tree.map(jnp.add, sums, part)

        return jax.lax.fori_loop(0, live, body, jax.tree.map(jnp.zeros_like, learnt)), None

    terms.defvjp(forward, backward)
    given = (states, trajectories.action, trajectories.start, encoded, who, when, ends[-1], place, live, known)
    log_pf, log_flow, *rest = terms((arrays, policy.start(encoded), log_z), given)
    return log_pf, log_flow, rest[0] if rest else jnp.zeros_like(log_pf)


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


def by_length(trajectories: Trajectories, function: Callable[[Trajectories], Result], least: int = 1) -> Result:
    """`function` of the trajectories cut to a length that holds them all: half, three quarters or the whole of T.

    A gradient is to be taken inside `function`: through the choice, all lengths would be paid for.

    Args:
        least: steps that every trajectory has; `function` is not compiled for shorter ones.
    """
    length = trajectories.action.shape[1]
    lengths = sorted({cut for cut in (-(-length // 2), -(-3 * length // 4)) if cut >= least} | {length})
    if len(lengths) == 1:
        return function(trajectories)
    longest = trajectories.valid.sum(axis=1).max()
    branches = [lambda given, cut=cut: function(_cut(given, cut)) for cut in lengths]
    return jax.lax.switch(jnp.searchsorted(jnp.array(lengths), longest), branches, trajectories)


def _cut(trajectories: Trajectories, length: int) -> Trajectories:
    by_step = {name: getattr(trajectories, name) for name in ("action", "valid", "log_pf", "log_flow")}
    return trajectories._replace(**{name: rows[:, :length] for name, rows in by_step.items() if rows is not None})


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

    Exact for trees. Otherwise log of the mean over `num_draws` backward trajectories of P_F(τ) / P_B(τ | x): the mean
    is unbiased, its logarithm on average too low.
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
