"""Returns and advantages of recorded steps. A discount, not a `done` flag, says whether the future counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def gae(
    reward: Float[Array, "T N"],
    discount: Float[Array, "T N"],
    last: Bool[Array, "T N"],
    value: Float[Array, "T N"],
    next_value: Float[Array, "T N"],
    *,
    gamma: float | Float[Array, ""],
    lam: float | Float[Array, ""],
) -> tuple[Float[Array, "T N"], Float[Array, "T N"]]:
    """Generalised advantage estimates and the value targets Âₜ + V(sₜ).

    δₜ = rₜ + γ dₜ V(s'ₜ) − V(sₜ);  Âₜ = δₜ + γ λ dₜ (1 − lastₜ) Âₜ₊₁

    A termination has d = 0 and nothing follows it. A truncation has d = 1 and `last`: it bootstraps from `next_value`,
    the value of the true successor s'ₜ, and the sum stops there. The final step bootstraps in the same way.

    References: Schulman et al. (2015), High-Dimensional Continuous Control Using Generalized Advantage Estimation,
    arXiv 1506.02438, equations 11–16.
    """
    delta = reward + gamma * discount * next_value - value
    decay = gamma * lam * jnp.where(last, 0.0, discount)

    def step(following: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = inputs
        advantage = delta + decay * following
        return advantage, advantage

    _, advantage = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, decay), reverse=True, unroll=8)
    return advantage, advantage + value
