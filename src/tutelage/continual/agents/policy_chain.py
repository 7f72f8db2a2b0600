"""The chain that a policy makes of a model, with its inverse kept up to date row by row."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tutelage.continual.agents.agent import at_once
from tutelage.continual.agents_config import InverseConfig
from tutelage.continual.deviations import ChainInverse, inverted, updated


class PolicyChain(NamedTuple):
    """A chain and its inverse.

    Attributes:
        P: [S, S].
        r: reward of each state, [S].
        inverse: M = (I − P + 1uᵀ)^{-1} with u uniform.
        age: steps since M was computed from P, int32.
    """

    P: Float[Array, "S S"]
    r: Float[Array, "S"]
    inverse: ChainInverse
    age: Int[Array, ""]


def policy_chain(P: Float[Array, "S S"], r: Float[Array, "S"]) -> PolicyChain:
    """The chain with a fresh inverse."""
    num_states = r.shape[0]
    u = jnp.full(num_states, 1 / num_states, P.dtype)
    return PolicyChain(P, r, inverted(P, u), jnp.zeros((), jnp.int32))


def with_row(chain: PolicyChain, s: Int[Array, ""], row: Float[Array, "S"], reward: Float[Array, ""]) -> PolicyChain:
    """The chain whose row s is another: O(S²)."""
    return chain._replace(
        P=chain.P.at[s].set(row),
        r=chain.r.at[s].set(reward),
        inverse=updated(chain.inverse, row - chain.P[s], s),
    )


def refreshed(chain: PolicyChain, s: Int[Array, ""], config: InverseConfig) -> PolicyChain:
    """One step older; the inverse anew where that is due, by age or by the residual of its row s."""
    M, u = chain.inverse
    residual = M[s] - chain.P[s] @ M + u @ M
    size = jnp.abs(M[s]).max()
    drifted = ~(jnp.abs(residual.at[s].add(-1)).max() <= config.tolerance * jnp.maximum(size, 1))
    due = drifted | (chain.age + 1 >= config.period)
    fresh = at_once(due, lambda: inverted(chain.P, u), chain.inverse)
    return chain._replace(inverse=fresh, age=jnp.where(due, 0, chain.age + 1))
