"""Posterior sampling: act best for a process drawn from the posterior (Osband, Russo & Van Roy 2013), in the episodes
of TSDE (Ouyang, Gagrani, Nayyar & Jain 2017, arXiv 1709.04570), which need no reset.

The posterior is Dirichlet for successors and, for rewards in [0, 1], Beta(1 + Σr, 1 + n − Σr). An episode ends when
it is longer than the last one, or when the visits of some state and action are more than twice those before it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.continual.agents.agent import Agent, Hyper, at_once
from tutelage.continual.agents_config import PSRLConfig

LAZINESS = 0.05
"""Share of a sweep that stays where it is, so that value iteration converges for periodic processes as well."""


class PSRLState(NamedTuple):
    """Counts of successors [S, A, S] and sums of rewards [S, A]; the visits [S, A] when the episode began; how long it
    is and the last one was; the policy."""

    counts: Float[Array, "S A S"]
    visits: Float[Array, "S A"]
    paid: Float[Array, "S A"]
    before: Float[Array, "S A"]
    length: Int[Array, ""]
    last_length: Int[Array, ""]
    policy: Int[Array, "S"]
    hyper: Hyper


def psrl(num_states: int, num_actions: int, config: PSRLConfig) -> Agent:
    """The agent, which never explores at random; `hyper` has prior."""

    def init(key: Key[Array, ""], hyper: Hyper) -> PSRLState:
        zeros, none = jnp.zeros((num_states, num_actions)), jnp.zeros((), jnp.int32)
        counts = jnp.zeros((num_states, num_actions, num_states))
        policy = jax.random.randint(key, (num_states,), 0, num_actions, jnp.int32)
        return PSRLState(counts, zeros, zeros, zeros, none, none, policy, hyper)

    def act(key: Key[Array, ""], state: PSRLState, s: Int[Array, ""]) -> Int[Array, ""]:
        return state.policy[s]

    def update(key: Key[Array, ""], state: PSRLState, s: Any, a: Any, reward: Any, successor: Any) -> PSRLState:
        state = state._replace(
            counts=state.counts.at[s, a, successor].add(1),
            visits=state.visits.at[s, a].add(1),
            paid=state.paid.at[s, a].add(reward.astype(state.paid.dtype)),
            length=state.length + 1,
        )

        def plan(data: Array, state: PSRLState) -> Int[Array, "S"]:
            # As data: the checker of keys counts a loop of one turn as many.
            return _plan(jax.random.wrap_key_data(data), state, config)

        doubled = state.visits[s, a] > 2 * state.before[s, a]
        ends = doubled | (state.length > state.last_length)
        return state._replace(
            policy=at_once(ends, plan, state.policy, jax.random.key_data(key), state),
            before=jnp.where(ends, state.visits, state.before),
            length=jnp.where(ends, 0, state.length),
            last_length=jnp.where(ends, state.length, state.last_length),
        )

    return Agent("psrl", init, act, update, {"prior": config.prior})


def _plan(key: Key[Array, ""], state: PSRLState, config: PSRLConfig) -> Int[Array, "S"]:
    S = state.visits.shape[0]
    p, r = sampled(key, state)

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        _, span, sweeps = carry
        return (span >= config.span) & (sweeps < config.max_sweeps)

    def sweep(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        u, _, sweeps = carry
        change = (r + p @ u).max(axis=1) - u
        after = u + (1 - LAZINESS) * change
        return after - after.min(), change.max() - change.min(), sweeps + 1

    start = jnp.zeros(S, p.dtype), jnp.full((), jnp.inf, p.dtype), jnp.zeros((), jnp.int32)
    u, _, _ = jax.lax.while_loop(unfinished, sweep, start)
    return jnp.argmax(r + p @ u, axis=1).astype(jnp.int32)


def sampled(key: Key[Array, ""], state: PSRLState) -> tuple[Float[Array, "S A S"], Float[Array, "S A"]]:
    """A process of the posterior: p and r."""
    successor_key, reward_key = jax.random.split(key)
    p = jax.random.dirichlet(successor_key, state.counts + state.hyper["prior"] / state.counts.shape[-1])
    good = jnp.clip(state.paid, 0, state.visits)
    return p, jax.random.beta(reward_key, 1 + good, 1 + state.visits - good)
