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
from tutelage.continual.agents.config import PSRLConfig

LAZINESS = 0.05
"""Share of a sweep that stays where it is, so that value iteration converges for periodic processes as well."""

GROUP = 16
"""Elements of which one is drawn anew at a time: about as many as hold one that is refused."""


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
            return best_policy(*sampled(jax.random.wrap_key_data(data), state), config)

        doubled = state.visits[s, a] > 2 * state.before[s, a]
        ends = doubled | (state.length > state.last_length)
        return state._replace(
            policy=at_once(ends, plan, state.policy, jax.random.key_data(key), state),
            before=jnp.where(ends, state.visits, state.before),
            length=jnp.where(ends, 0, state.length),
            last_length=jnp.where(ends, state.length, state.last_length),
        )

    return Agent("psrl", init, act, update, {"prior": config.prior})


def best_policy(p: Float[Array, "S A S"], r: Float[Array, "S A"], config: PSRLConfig) -> Int[Array, "S"]:
    """A policy whose gain in this process is within `config.span` of the largest, if `config.max_sweeps` of value
    iteration are enough to tell."""

    def unfinished(carry: tuple[Array, Array, Array]) -> Array:
        _, span, sweeps = carry
        return (span >= config.span) & (sweeps < config.max_sweeps)

    def sweep(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        u, _, sweeps = carry
        change = (r + p @ u).max(axis=1) - u
        after = u + (1 - LAZINESS) * change
        return after - after.min(), change.max() - change.min(), sweeps + 1

    start = jnp.zeros(len(p), p.dtype), jnp.full((), jnp.inf, p.dtype), jnp.zeros((), jnp.int32)
    u, _, _ = jax.lax.while_loop(unfinished, sweep, start)
    return jnp.argmax(r + p @ u, axis=1).astype(jnp.int32)


def sampled(key: Key[Array, ""], state: PSRLState) -> tuple[Float[Array, "S A S"], Float[Array, "S A"]]:
    """A process of the posterior: p and r."""
    good = jnp.clip(state.paid, 0, state.visits)
    shapes = state.counts + state.hyper["prior"] / state.counts.shape[-1], 1 + good, 1 + state.visits - good
    drawn = log_gammas(key, jnp.concatenate([shape.ravel() for shape in shapes]))
    ends = shapes[0].size, shapes[0].size + good.size
    successors, wins, losses = (part.reshape(shape.shape) for part, shape in zip(jnp.split(drawn, ends), shapes))
    return jax.nn.softmax(successors, axis=-1), jax.nn.sigmoid(wins - losses)


def log_gammas(key: Key[Array, ""], shapes: Float[Array, "n"]) -> Float[Array, "n"]:
    """Logarithms of independent Gamma(a, 1), a > 0, by rejection (Marsaglia & Tsang 2000, ACM TOMS 26).

    The draws of `jax.random` give each element a key and a loop of its own, which here is nearly all of an episode's
    time. Here all elements are tried at once, and then, again and again, one refused element of each group.
    """
    padded = jnp.concatenate([shapes, jnp.ones(-shapes.size % GROUP, shapes.dtype)]).reshape(GROUP, -1)
    # A shape below 1 is drawn one higher and multiplied by U^(1/a).
    small = padded < 1
    d = padded + small - 1 / 3
    first_key, loop_key, small_key = jax.random.split(key, 3)

    def tried(key: Key[Array, ""], d: Array) -> tuple[Array, Array]:
        normal_key, exponential_key = jax.random.split(key)
        x = jax.random.normal(normal_key, d.shape, d.dtype)
        root = 1 + x / (3 * jnp.sqrt(d))
        log_v = 3 * jnp.log(jnp.abs(root))
        log_uniform = -jax.random.exponential(exponential_key, d.shape, d.dtype)
        refused = (root <= 0) | (log_uniform >= x**2 / 2 + d * (1 - root**3 + log_v))
        return jnp.log(d) + log_v, refused

    def again(carry: tuple[Key[Array, ""], Array, Array]) -> tuple[Key[Array, ""], Array, Array]:
        key, drawn, refused = carry
        key, turn_key = jax.random.split(key)
        at = jnp.argmax(refused, axis=0), jnp.arange(d.shape[1])
        new, still = tried(turn_key, d[at])
        # A group without a refused element shows its first, which stays.
        return key, drawn.at[at].set(jnp.where(refused[at], new, drawn[at])), refused.at[at].set(refused[at] & still)

    _, drawn, _ = jax.lax.while_loop(lambda carry: carry[2].any(), again, (loop_key, *tried(first_key, d)))
    lowered = drawn - jax.random.exponential(small_key, d.shape, d.dtype) / padded
    return jnp.where(small, lowered, drawn).ravel()[: shapes.size]
