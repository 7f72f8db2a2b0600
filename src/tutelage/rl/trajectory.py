"""What a rollout leaves for scores and learners. Time-major: every leaf is [T, N, ...]."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, PyTree, Shaped


class Trajectory(NamedTuple):
    """T steps of N environments, recurrent state zeroed wherever `first` is true.

    Attributes:
        obs: what the policy saw at step t (leaves [T, N, ...]).
        action, log_prob: what it did and log π of it then.
        values: V_t of each of the K value heads; `value` is their mean.
        next_value: V of the true successor observation of step t, also where the episode was cut off there. Where the
            episode went on it equals the value at t + 1; where it terminated `discount` removes it.
        reward, discount: of step t; discount is 0 at a termination, else 1 (the learner multiplies its own γ).
        first: step t is the first of an episode (the recurrent state was zeroed before it).
        last: the episode ended with step t, by termination or truncation.
    """

    obs: PyTree
    action: Shaped[Array, "T N ..."]
    log_prob: Float[Array, "T N"]
    values: Float[Array, "T N K"]
    next_value: Float[Array, "T N"]
    reward: Float[Array, "T N"]
    discount: Float[Array, "T N"]
    first: Bool[Array, "T N"]
    last: Bool[Array, "T N"]

    @property
    def value(self) -> Float[Array, "T N"]:
        """The mean over value heads."""
        return self.values.mean(axis=-1)
