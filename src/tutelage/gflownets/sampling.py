"""A trained sampler in the hands of its user.

draw = sampler(method, state, problem.objectives)
objects = draw([0.3, 0.7], 100, jax.random.key(0))
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from numpy.typing import ArrayLike

from tutelage.gflownets.condition import condition, simplex_grid
from tutelage.gflownets.method import Method, MethodState
from tutelage.gflownets.objectives import Objectives
from tutelage.lab.errors import BadInput

Draw = Callable[[ArrayLike | None, int, Key[Array, ""]], np.ndarray]

ROUNDING = 1e-6
"""How far β may be outside its range, in parts of it."""


def sampler(method: Method, state: MethodState, objectives: Objectives, *, beta: float | None = None) -> Draw:
    """`(preference [M], number, key) -> objects [number, …]`; or preferences [number, M], one for each object.

    Args:
        beta: the exponent, one that training had; by default the largest of these.

    Raises:
        BadInput: β that is not > 0, that training did not have, or for a method that has none. When it draws: naming
            the row of a preference that is not on the simplex, both numbers where it has not M weights, a preference
            (other than None) for a method that answers none or none for one that does, or a `number` below 1.
    """
    exponent = _exponent(method, beta)
    drawn = method.sample if method.on_host else jax.jit(method.sample)

    def draw(preference: ArrayLike | None, number: int, key: Key[Array, ""]) -> np.ndarray:
        if number < 1:
            raise BadInput(f"number = {number}: must be at least 1")
        if method.answers_preferences:
            if preference is None:
                raise BadInput(f"preference = None: must have {objectives.num_objectives} weights, one per objective")
            asked = condition(preference, exponent, objectives.num_objectives)
        else:
            if preference is not None:
                raise BadInput("preference: this method samples the same whatever is preferred; must be None")
            asked = condition(simplex_grid(objectives.num_objectives, 2)[:1], exponent, objectives.num_objectives)
        rows = asked.beta.shape[0]
        if rows not in (1, number):
            raise BadInput(f"preference: {rows} rows for {number} objects; must be 1 or {number}")
        asked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape[1:])), asked)
        return np.asarray(drawn(state, key, asked))

    return draw


def _exponent(method: Method, beta: float | None) -> float:
    """The β to ask for; 1 where there is none."""
    if beta is None:
        return 1.0 if method.exponents is None else method.exponents[1]
    if not 0 < beta < np.inf:
        raise BadInput(f"beta = {beta:g}: must be > 0 and finite")
    if method.exponents is None:
        raise BadInput(f"beta = {beta:g}: this method has no exponent; must be left out")
    low, high = method.exponents
    if not low * (1 - ROUNDING) <= beta <= high * (1 + ROUNDING):
        known = f"{low:g}, the one that training had" if low == high else f"in [{low:g}, {high:g}], as in training"
        raise BadInput(f"beta = {beta:g}: must be {known}")
    return beta
