"""Tasks made of named physical parameters, each in a range of its own: draw them, change them, compare them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from tutelage.lab.errors import BadInput

Physics = Any
"""A NamedTuple of float32 scalars: the parameters of one world."""


@dataclass(frozen=True)
class ParameterSpace:
    """The box of all tasks of one world.

    Attributes:
        kind: the NamedTuple type of a task; its fields name the parameters.
        low, high: the range of each parameter, in the order of the fields; equal where the parameter is fixed.
        mutation_scale: standard deviation of one edit, as a share of the parameter's range.
    """

    kind: type
    low: tuple[float, ...]
    high: tuple[float, ...]
    mutation_scale: float

    @classmethod
    def of(cls, kind: type, ranges: Mapping[str, tuple[float, float]], mutation_scale: float) -> ParameterSpace:
        """Raises `BadInput` unless every range is finite, positive and not reversed."""
        for name, (low, high) in ranges.items():
            if not (0 < low <= high < math.inf):
                raise BadInput(f"{name} = ({low}, {high}): allowed are 0 < low <= high < inf")
        if not mutation_scale > 0:
            raise BadInput(f"mutation_scale = {mutation_scale}: allowed is (0, inf)")
        names = kind._fields  # type: ignore[attr-defined]
        return cls(kind, tuple(ranges[n][0] for n in names), tuple(ranges[n][1] for n in names), mutation_scale)

    def sample(self, key: Key[Array, ""]) -> Physics:
        """Every parameter uniform in its range."""
        low, high = jnp.asarray(self.low, jnp.float32), jnp.asarray(self.high, jnp.float32)
        return self.kind(*jax.random.uniform(key, low.shape, minval=low, maxval=high))

    def mutate(self, key: Key[Array, ""], task: Physics, num_edits: int) -> Physics:
        """`num_edits` times: a Gaussian step of one free parameter chosen uniformly, clipped to its range."""
        free = [i for i, (low, high) in enumerate(zip(self.low, self.high)) if low < high]
        if not free or num_edits == 0:
            return task
        low, high = jnp.asarray(self.low, jnp.float32), jnp.asarray(self.high, jnp.float32)
        k_which, k_step = jax.random.split(key)
        which = jnp.asarray(free)[jax.random.randint(k_which, (num_edits,), 0, len(free))]
        step = self.mutation_scale * (high - low)[which] * jax.random.normal(k_step, (num_edits,))
        values = jnp.stack(task)
        for i in range(num_edits):
            values = jnp.clip(values.at[which[i]].add(step[i]), low, high)
        return self.kind(*values)

    def equal(self, one: Physics, other: Physics) -> Bool[Array, ""]:
        """Whether all parameters agree exactly."""
        return (jnp.stack(one) == jnp.stack(other)).all()

    def measure(self, task: Physics) -> dict[str, Float[Array, "*B"]]:
        """The parameters by name."""
        return dict(task._asdict())


def task_grid(task: Physics, first: str, second: str, *, num: int = 10) -> Physics:
    """Held-out tasks in the manner of jaxued: `num`² tasks on a logarithmic grid, and `task` itself as the last.

    `first` and `second` run from 0.05 to 10; leaves are [num² + 1], the first parameter running fastest.
    """
    values = np.geomspace(0.05, 10, num, dtype=np.float32)
    columns = {name: np.full(num * num, value, np.float32) for name, value in task._asdict().items()}
    columns[first], columns[second] = np.tile(values, num), np.repeat(values, num)
    return type(task)(*(jnp.append(columns[name], value) for name, value in task._asdict().items()))
