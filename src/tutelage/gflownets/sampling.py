"""A trained sampler in the hands of its user.

draw = sampler(method, state, problem.objectives, beta=16.0)
objects = draw([0.3, 0.7], 100, jax.random.key(0))
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from numpy.typing import ArrayLike

from tutelage.gflownets.condition import condition
from tutelage.gflownets.method import Method, MethodState
from tutelage.gflownets.objectives import Objectives
from tutelage.lab.errors import BadInput

Draw = Callable[[ArrayLike, int, Key[Array, ""]], np.ndarray]


def sampler(method: Method, state: MethodState, objectives: Objectives, *, beta: float) -> Draw:
    """`(preference [M], number, key) -> objects [number, …]`; or preferences [number, M], one for each object.

    Args:
        beta: the exponent: that of training, or any within its law.

    Raises (when it draws):
        BadInput: naming the row of a preference that is not on the simplex, both numbers where it has not M weights,
            β that is not > 0, or a `number` below 1.
    """
    drawn = method.sample if method.on_host else jax.jit(method.sample)

    def draw(preference: ArrayLike, number: int, key: Key[Array, ""]) -> np.ndarray:
        if number < 1:
            raise BadInput(f"number = {number}: must be at least 1")
        asked = condition(preference, beta, objectives.num_objectives)
        rows = asked.beta.shape[0]
        if rows not in (1, number):
            raise BadInput(f"preference: {rows} rows for {number} objects; must be 1 or {number}")
        asked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape[1:])), asked)
        return np.asarray(drawn(state, key, asked))

    return draw
