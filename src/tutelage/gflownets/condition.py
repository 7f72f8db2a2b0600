"""What a sampler is asked for: a preference over objectives and an exponent, how they are drawn and how encoded."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import ArrayLike

from tutelage.gflownets.config import BetaConfig, PreferenceConfig, beta_range
from tutelage.lab.errors import BadInput

TOLERANCE = 1e-4
"""How far a preference's sum may be from 1."""


class Condition(NamedTuple):
    """One request per row: sample x with probability proportional to R(x | preference)^beta.

    Attributes:
        preference: w in the simplex, f32 [B, M].
        beta: exponent > 0, f32 [B].
    """

    preference: Float[Array, "B M"]
    beta: Float[Array, "B"]


def thermometer(value: Float[Array, "*batch"], bins: int, low: float, high: float) -> Float[Array, "*batch bins"]:
    """enc_k = clip(v − e_k, 0, g) / g with e_k = low + k·g and g = (high − low)/(bins − 1).

    In [0, 1]; the last entry is 0 for every v in [low, high]: all ones would be a value above the range.
    """
    step = (high - low) / (bins - 1)
    edges = low + step * jnp.arange(bins, dtype=jnp.float32)
    return jnp.clip(value[..., None] - edges, 0.0, step) / step


def encoded_size(num_objectives: int, preference: PreferenceConfig, beta: BetaConfig) -> int:
    """C, the width of `encode`."""
    of_preference = num_objectives * (preference.bins if preference.encoding == "thermometer" else 1)
    return of_preference + (beta.bins if beta.kind != "constant" else 0)


def encode(condition: Condition, preference: PreferenceConfig, beta: BetaConfig) -> Float[Array, "B C"]:
    """The condition as a network reads it, the same in training and evaluation.

    The exponent is part of it (on its whole range, as a thermometer) unless it is constant.
    """
    weights = condition.preference
    if preference.encoding == "thermometer":
        weights = thermometer(weights, preference.bins, 0.0, 1.0).reshape(*weights.shape[:-1], -1)
    if beta.kind == "constant":
        return weights
    low, high = beta_range(beta)
    return jnp.concatenate([weights, thermometer(condition.beta, beta.bins, low, high)], axis=-1)


def draw_conditions(
    key: Key[Array, ""], number: int, num_objectives: int, preference: PreferenceConfig, beta: BetaConfig
) -> Condition:
    """`number` conditions: w ~ Dirichlet(α·1), β from its law.

    `preference.prefs_per_batch` of them are different, each repeated in a row (0: all of them).
    """
    k_preference, k_beta = jax.random.split(key)
    distinct = preference.prefs_per_batch or number
    weights = _dirichlet(k_preference, preference.alpha, (distinct, num_objectives))
    betas = draw_betas(k_beta, distinct, beta)
    repeats = -(-number // distinct)
    return Condition(jnp.repeat(weights, repeats, axis=0)[:number], jnp.repeat(betas, repeats)[:number])


def _dirichlet(key: Key[Array, ""], alpha: float, shape: tuple[int, int]) -> Float[Array, "n M"]:
    if alpha != 1.0:
        return jax.random.dirichlet(key, jnp.full(shape[1], alpha, jnp.float32), shape[:1])
    # Shares of exponential variables: the same law without the rejection loop of a general α.
    parts = jax.random.exponential(key, shape)
    return parts / parts.sum(axis=1, keepdims=True)


def draw_betas(key: Key[Array, ""], number: int, beta: BetaConfig) -> Float[Array, "number"]:
    """Exponents from their law, all > 0."""
    match beta.kind:
        case "constant":
            return jnp.full(number, beta.value, jnp.float32)
        case "uniform":
            return jax.random.uniform(key, (number,), minval=beta.low, maxval=beta.high)
        case "loguniform":
            low, high = np.log(beta.low), np.log(beta.high)
            return jnp.exp(jax.random.uniform(key, (number,), minval=low, maxval=high))
        case "gamma":
            return jnp.maximum(jax.random.gamma(key, beta.shape, (number,)) * beta.scale, 1e-6)
        case _:
            return jnp.maximum(jax.random.beta(key, beta.shape, beta.shape_b, (number,)) * beta.scale, 1e-6)


def condition(preference: ArrayLike, beta: ArrayLike | float, num_objectives: int) -> Condition:
    """A condition of a user's numbers: preference [M] or [B, M], beta a number or [B].

    Raises:
        BadInput: naming the row, if a preference is not on the simplex (negative, or a sum other than 1 ± 1e-4); the
            two numbers, if there are not M weights; the value, if β is not > 0.
    """
    weights = np.atleast_2d(np.asarray(preference, np.float64))
    if weights.ndim != 2 or weights.shape[1] != num_objectives:
        raise BadInput(f"preference: {weights.shape[-1]} weights for {num_objectives} objectives")
    for row, weight in enumerate(weights):
        if not np.isfinite(weight).all() or (weight < 0).any() or abs(weight.sum() - 1) > TOLERANCE:
            shown = ", ".join(f"{value:g}" for value in weight)
            raise BadInput(
                f"preference row {row} = ({shown}) is not on the simplex: "
                f"weights must be ≥ 0 and sum to 1 ± {TOLERANCE:g}"
            )
    betas = np.broadcast_to(np.asarray(beta, np.float64), (len(weights),))
    if not (np.isfinite(betas) & (betas > 0)).all():
        raise BadInput(f"beta = {betas[~(betas > 0) | ~np.isfinite(betas)][0]:g}: must be > 0 and finite")
    return Condition(jnp.asarray(weights, jnp.float32), jnp.asarray(betas, jnp.float32))


def simplex_grid(num_objectives: int, bins: int) -> Float[np.ndarray, "P M"]:
    """All preferences whose weights are multiples of 1/(bins − 1): `bins` of them for M = 2, bins(bins + 1)/2 for 3.

    The regular grid of the official evaluation (Das & Dennis 1998), in lexicographic order.
    """
    rows = [[]]
    for _ in range(num_objectives - 1):
        rows = [[*row, count] for row in rows for count in range(bins - sum(row))]
    counts = np.array([[*row, bins - 1 - sum(row)] for row in rows], np.float64)
    return counts / max(bins - 1, 1)
