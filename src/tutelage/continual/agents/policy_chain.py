"""The chain that a policy makes of a model, with its inverse kept up to date row by row."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tutelage.continual.agents.agent import at_once
from tutelage.continual.agents.config import InverseConfig
from tutelage.continual.deviations import ChainInverse, inverted, updated


class PolicyChain(NamedTuple):
    """A chain and its inverse.

    Attributes:
        P: [S, S].
        r: reward of each state, [S].
        inverse: M = (I − P + 1uᵀ)^{-1} with u uniform.
        age: steps since the inverse was last corrected as a whole, modulo the period; int32.
    """

    P: Float[Array, "S S"]
    r: Float[Array, "S"]
    inverse: ChainInverse
    age: Int[Array, ""]


def unknown_chain(num_states: int) -> PolicyChain:
    """The chain of a model that has seen nothing: every successor as likely, a reward of ½; M is the identity."""
    M = jnp.eye(num_states)
    u = jnp.full(num_states, 1 / num_states, M.dtype)
    P = jnp.full((num_states, num_states), 1 / num_states, M.dtype)
    return PolicyChain(P, jnp.full(num_states, 0.5, M.dtype), ChainInverse(M, u), jnp.zeros((), jnp.int32))


def with_row(chain: PolicyChain, s: Int[Array, ""], row: Float[Array, "S"], reward: Float[Array, ""]) -> PolicyChain:
    """The chain whose row s is another: O(S²)."""
    return chain._replace(
        P=chain.P.at[s].set(row),
        r=chain.r.at[s].set(reward),
        inverse=updated(chain.inverse, row - chain.P[s], s),
    )


def refreshed(chain: PolicyChain, s: Int[Array, ""], config: InverseConfig) -> PolicyChain:
    """One step older; the inverse corrected where that is due, by the period or by the residual of its row s."""
    M, u = chain.inverse
    residual = M[s] - chain.P[s] @ M + u @ M
    # Entry by entry: a largest one need not be NaN where some are, as compilers may order them as they like.
    drifted = ~(jnp.abs(residual.at[s].add(-1)) <= config.tolerance).all()
    age = (chain.age + 1) % config.period
    inverse = at_once(drifted | (age == 0), _corrected, chain.inverse, chain.inverse, chain.P)
    return chain._replace(inverse=inverse, age=age)


def _corrected(inverse: ChainInverse, P: Float[Array, "S S"]) -> ChainInverse:
    """Two steps of Newton's iteration M ← M + M(I − BM), which square the error; anew where that is too large.

    Products alone are batched well by every device; a batch of inversions is not.
    """
    M, u = inverse
    num_states = u.shape[0]

    def error(M: Float[Array, "S S"]) -> Float[Array, "S S"]:
        # B = I − P + 1uᵀ
        return jnp.eye(num_states, dtype=M.dtype) - M + P @ M - u @ M

    first = jnp.asarray(M + M @ error(jnp.asarray(M)))
    left = error(first)
    converges = (jnp.abs(left).sum(axis=1) < 0.1).all()
    return ChainInverse(at_once(~converges, _anew, first + first @ left, P, u), u)


@jax.custom_batching.sequential_vmap
def _anew(P: Any, u: Any) -> Any:
    return inverted(P, u).M
