"""The objectives of a problem: what is measured of a finished object, under which names, inside which bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from tutelage.gflownets.environment import Objects
from tutelage.lab.errors import BadInput

LOWEST = -1e30
"""Stands for log 0, which float32 gradients do not survive."""


@dataclass(frozen=True)
class Objectives:
    """M rewards to be maximised, R_i(x) ≥ 0.

    Attributes:
        names: M different names.
        rewards: `objects [n, …] -> f32 [n, M]`. A JAX function, compiled with everything around it; or, with
            `on_host`, an ordinary function of NumPy arrays which is called between compiled calls.
        on_host: which of the two.
        upper: the largest reward there can be, by objective; 1 unless an oracle says otherwise.
        render: object -> text, for tables and records.
    """

    names: tuple[str, ...]
    rewards: Callable[[Objects], Any]
    on_host: bool = False
    upper: tuple[float, ...] = ()
    render: Callable[[np.ndarray], str] = str

    def __post_init__(self) -> None:
        if twice := [name for name, count in Counter(self.names).items() if count > 1]:
            raise BadInput(f"objectives: the name {twice[0]!r} is there twice; names must differ")
        if len(self.names) < 1:
            raise BadInput("objectives: there is none; at least one is needed")

    @property
    def num_objectives(self) -> int:
        return len(self.names)


SCALARISATIONS = ("weighted_sum", "weighted_log_sum", "tchebycheff")


def log_scalar(
    rewards: Float[Array, "*batch M"], preference: Float[Array, "*batch M"], scalarisation: str
) -> Float[Array, "*batch"]:
    """log R(x | w), at least −1e30: the one logarithm between a flat reward and the tempered one.

    - weighted_sum: log Σ w_i R_i
    - weighted_log_sum: Σ w_i log R_i (an objective of weight 0 counts for nothing, whatever its reward)
    - tchebycheff: log(1 − max_i w_i (1 − R_i)): the distance from the ideal point subtracted from 1. The published
      code rewards that distance itself, which turns the objective upside down.
    """
    match scalarisation:
        case "weighted_sum":
            return _log(jnp.sum(preference * rewards, axis=-1))
        case "weighted_log_sum":
            return jnp.maximum(jnp.sum(jnp.where(preference > 0, preference * _log(rewards), 0.0), axis=-1), LOWEST)
        case "tchebycheff":
            return _log(1.0 - jnp.max(preference * (1.0 - rewards), axis=-1))
        case _:
            raise BadInput(f"scalarisation = {scalarisation!r} is not one of {', '.join(SCALARISATIONS)}")


def tempered(log_reward: Float[Array, "*batch"], beta: Float[Array, "*batch"], floor: float) -> Float[Array, "*batch"]:
    """ℓ(x) = max(β log R, ℓ_min): clamped after tempering, so that the floor means the same at every β."""
    return jnp.maximum(beta * log_reward, floor)


def _log(value: Array) -> Array:
    positive = value > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, value, 1.0)), LOWEST)


def check_rewards(rewards: ArrayLike, objectives: Objectives, objects: Sequence[Any] | np.ndarray) -> np.ndarray:
    """The rewards as f32 [n, M], if they are what objectives promise.

    Raises:
        BadInput: on a wrong shape (both shapes), NaN, or a value below 0 or above `upper`: which objective, how many,
            and the first such object. Nothing is ever clipped.
    """
    array = np.asarray(rewards, np.float64)
    expected = (len(objects), objectives.num_objectives)
    if array.shape != expected:
        raise BadInput(
            f"objectives gave an array of shape {array.shape} for {len(objects)} objects; must be {expected}"
        )
    upper = objectives.upper or (1.0,) * objectives.num_objectives
    for column, (name, limit) in enumerate(zip(objectives.names, upper, strict=True)):
        values = array[:, column]
        # Rewards are computed in float32 in places: a rounding above the bound is none of the user's mistakes.
        wrong = ~np.isfinite(values) | (values < 0) | (values > limit * (1 + 1e-6))
        if wrong.any():
            first = int(np.argmax(wrong))
            raise BadInput(
                f"objective {name!r}: {int(wrong.sum())} of {len(values)} rewards are outside [0, {limit:g}], "
                f"the first {values[first]:g} of {objectives.render(np.asarray(objects[first])):.80}"
            )
    return array.astype(np.float32)


def compiled_rewards(objectives: Objectives, objects: Objects) -> Float[Array, "n M"]:
    """The rewards inside a compiled program. Only for objectives that are not on the host."""
    rewards = objectives.rewards(objects)
    number = jax.tree.leaves(objects)[0].shape[0]
    if rewards.shape != (number, objectives.num_objectives):
        raise BadInput(
            f"objectives gave an array of shape {rewards.shape} for {number} objects; "
            f"must be {(number, objectives.num_objectives)}"
        )
    return rewards.astype(jnp.float32)
