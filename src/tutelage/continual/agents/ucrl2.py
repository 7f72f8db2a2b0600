"""UCRL2 (Jaksch, Ortner & Auer 2010, JMLR 11): plan for the best process that the data do not exclude.

With t steps taken and n = max(1, N(s,a)) visits, the process may have

    |r̃ − r̂| ≤ √(7 log(2SAt/δ) / 2n)          ‖p̃ − p̂‖₁ ≤ √(14 S log(2At/δ) / n)

and extended value iteration finds the best of them to 1/√t (figures 1 and 2 of the paper). An episode ends where the
policy would take an action whose visits in this episode have reached those before it. Rewards must be in [0, 1].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.continual.agents.agent import Agent, Hyper, at_once
from tutelage.continual.agents.config import UCRL2Config


class UCRL2State(NamedTuple):
    """Counts of successors [S, A, S] and sums of rewards [S, A]; the visits [S, A] when the episode began; the policy.

    `time` is the number of the next step, from 1.
    """

    counts: Float[Array, "S A S"]
    visits: Float[Array, "S A"]
    paid: Float[Array, "S A"]
    before: Float[Array, "S A"]
    policy: Int[Array, "S"]
    time: Float[Array, ""]
    hyper: Hyper


def ucrl2(num_states: int, num_actions: int, config: UCRL2Config) -> Agent:
    """The agent, which never explores at random; `hyper` has confidence and scale."""

    def init(key: Key[Array, ""], hyper: Hyper) -> UCRL2State:
        zeros = jnp.zeros((num_states, num_actions))
        counts = jnp.zeros((num_states, num_actions, num_states))
        policy = jnp.zeros(num_states, jnp.int32)
        return UCRL2State(counts, zeros, zeros, zeros, policy, jnp.ones((), zeros.dtype), hyper)

    def act(key: Key[Array, ""], state: UCRL2State, s: Int[Array, ""]) -> Int[Array, ""]:
        return state.policy[s]

    def update(key: Any, state: UCRL2State, s: Any, a: Any, reward: Any, successor: Any) -> UCRL2State:
        state = state._replace(
            counts=state.counts.at[s, a, successor].add(1),
            visits=state.visits.at[s, a].add(1),
            paid=state.paid.at[s, a].add(reward.astype(state.paid.dtype)),
            time=state.time + 1,
        )
        coming = state.policy[successor]
        in_episode = state.visits[successor, coming] - state.before[successor, coming]
        ends = in_episode >= jnp.maximum(1, state.before[successor, coming])
        policy = at_once(ends, lambda state: _plan(state, config), state.policy, state)
        return state._replace(policy=policy, before=jnp.where(ends, state.visits, state.before))

    return Agent("ucrl2", init, act, update, {"confidence": config.confidence, "scale": config.scale})


def _plan(state: UCRL2State, config: UCRL2Config) -> Int[Array, "S"]:
    S = state.visits.shape[0]
    n, t, delta, scale = jnp.maximum(state.visits, 1), state.time, state.hyper["confidence"], state.hyper["scale"]
    # Nothing is known of what was never done: p̂ may be any law there, and its width allows every other.
    p = jnp.where(state.visits[..., None] > 0, state.counts / n[..., None], 1 / S)
    reward_width, width = (scale * w for w in widths(state.visits, t, delta))
    r = jnp.minimum(state.paid / n + reward_width, 1)

    def values(u: Float[Array, "S"]) -> Float[Array, "S A"]:
        return r + optimistic(p, width, u) @ u

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        _, span, sweeps = carry
        return (span >= 1 / jnp.sqrt(t)) & (sweeps < config.max_sweeps)

    def sweep(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        u, _, sweeps = carry
        change = values(u).max(axis=1) - u
        after = u + change
        return after - after.min(), change.max() - change.min(), sweeps + 1

    start = jnp.zeros(S, p.dtype), jnp.full((), jnp.inf, p.dtype), jnp.zeros((), jnp.int32)
    u, _, _ = jax.lax.while_loop(unfinished, sweep, start)
    return jnp.argmax(values(u), axis=1).astype(jnp.int32)


def widths(
    visits: Float[Array, "S A"], time: Float[Array, ""], confidence: Float[Array, ""]
) -> tuple[Float[Array, "S A"], Float[Array, "S A"]]:
    """How far from r̂, and from p̂ in L1, the process may be when this step begins (equations 3 and 4)."""
    S, A = visits.shape
    n = jnp.maximum(visits, 1)
    reward = jnp.sqrt(7 * jnp.log(2 * S * A * time / confidence) / (2 * n))
    return reward, jnp.sqrt(14 * S * jnp.log(2 * A * time / confidence) / n)


def optimistic(p: Float[Array, "S A S"], width: Float[Array, "S A"], u: Float[Array, "S"]) -> Float[Array, "S A S"]:
    """Of the laws within `width` of p in L1, those of the largest expectation of u: the best successor gains up to
    half the width, and the worst lose as much, from the worst on."""
    order = jnp.argsort(u)
    best = order[-1]
    raised = p.at[..., best].set(jnp.minimum(1, p[..., best] + width / 2))
    worst_first = raised[..., order]
    surplus = raised.sum(axis=-1, keepdims=True) - 1
    earlier = jnp.cumsum(worst_first, axis=-1) - worst_first
    kept = worst_first - jnp.clip(surplus - earlier, 0, worst_first)
    return jnp.zeros_like(p).at[..., order].set(kept)
