"""A problem: how its objects are built, what is measured of them, and what is known of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from tutelage.gflownets.environment import Environment
from tutelage.gflownets.objectives import Objectives


class Problem(NamedTuple):
    """What a method is given, and what its evaluation needs.

    Attributes:
        environment: how objects are built.
        objectives: their rewards, to be maximised.
        distances: `objects [n, …], objects [m, …] -> [n, m]` on the host: how far two objects are apart (for the
            diversity of samples): edit distance of sequences, 1 − Tanimoto of molecules, L1 of cells.
        num_objects: |X| where it is known, else 0.
        front: the exact Pareto front in the space of rewards, f64 [K, M] without duplicates, where it can be
            computed; called when it is first needed.
        variation: `(key, objects [n, …], partners [n, …]) -> objects [n, …]`: a random child of each object and its
            partner (crossover and mutation), always a valid object. A pure JAX function, for evolutionary baselines and
            Markov chains.
        mutate: `(key, objects [n, …]) -> objects [n, …]`: one random local change of each, valid and symmetric
            (q(x → y) = q(y → x)) as Markov chains want it, or close to it, as its docstring then says.
        objects: every object, int32 [num_objects, …] in a fixed order, where they can be listed (call it through
            `worlds.enumeration.enumerate_objects`, which refuses what is too large).
    """

    environment: Environment
    objectives: Objectives
    distances: Callable[[np.ndarray, np.ndarray], np.ndarray]
    num_objects: int = 0
    front: Callable[[], Float[np.ndarray, "K M"]] | None = None
    variation: Callable[..., Any] | None = None
    mutate: Callable[..., Any] | None = None
    objects: Callable[[], np.ndarray] | None = None
