"""Stationary law, gain and bias as JAX functions with exact gradients: implicit, through one linear solve.

They map and compile like any JAX function and take a chain of one closed class. Several classes are listed and refused
where P is known; while JAX traces P (in `jit`, `grad` and `vmap`) nothing can be checked, the system of several classes
is singular, and the results mean nothing. Where P leaves the set of stochastic
matrices the gradient is that of the formula below; only its projection on directions that keep the rows' sums (a
softmax policy's, say) is the chain's own.

    μ = u (I − P + 1uᵀ)^{-1},  u uniform;   (I − P + 1μ) h = r − ρ
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from tutelage.continual.structure import unichain
from tutelage.lab.errors import BadInput


def differentiable_stationary(P: Float[Array, "S S"]) -> Float[Array, "S"]:
    """μ of transition probabilities [S, S].

    Raises:
        BadInput: outside `precise()`, for single precision would be lost in the solve; several closed classes, which
            are listed, unless P is traced.
    """
    _check(P)
    num_states = P.shape[0]
    system = jnp.eye(num_states, dtype=P.dtype) - P + 1 / num_states
    return jnp.linalg.solve(system.T, jnp.full(num_states, 1 / num_states, P.dtype))


def differentiable_gain(P: Float[Array, "S S"], r: Float[Array, "S"]) -> Float[Array, ""]:
    """ρ = μ · r."""
    return differentiable_stationary(P) @ r


def differentiable_bias(P: Float[Array, "S S"], r: Float[Array, "S"]) -> Float[Array, "S"]:
    """The bias h, with μ · h = 0."""
    mu = differentiable_stationary(P)
    return jnp.linalg.solve(jnp.eye(len(mu), dtype=P.dtype) - P + mu[None, :], r - mu @ r)


def softmax_gain(logits: Float[Array, "S A"], P: Float[Array, "S A S"], R: Float[Array, "S A"]) -> Float[Array, ""]:
    """ρ of the softmax policy of these logits in a decision process: the objective of an exact policy gradient."""
    if not isinstance(P, Tracer):
        unichain(np.asarray(P).max(axis=1))  # A softmax takes every action, whatever the traced logits are.
    policy = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    policy = policy / policy.sum(axis=-1, keepdims=True)
    return differentiable_gain(jnp.einsum("sa,sat->st", policy, P), (policy * R).sum(axis=-1))


def _check(P: Float[Array, "S S"]) -> None:
    if P.dtype != jnp.float64:
        raise BadInput(f"P: {P.dtype}; must be float64: call within `tutelage.continual.tabular.precise()`")
    if not isinstance(P, Tracer):
        unichain(np.asarray(P))
