"""Records of how objects were built."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int

from tutelage.gflownets.condition import Condition
from tutelage.gflownets.environment import Objects, State


class Trajectories(NamedTuple):
    """B trajectories under B conditions: the actions alone, from which everything else is computed again.

    Attributes:
        start: the states they start at, [B, …].
        action: int32 [B, T]; T = `Environment.max_steps`; zeros after the end.
        valid: bool [B, T]: the step was taken.
        condition: what each was asked for.
        objects: what they ended in, [B, …].
        log_pf, log_flow: log P_F(a_t | s_t) and log F(s_t) by the policy that is about to learn from them, f32 [B, T],
            if it drew them itself; the loss then need not work them out again.
    """

    start: State
    action: Int[Array, "B T"]
    valid: Bool[Array, "B T"]
    condition: Condition
    objects: Objects
    log_pf: Float[Array, "B T"] | None = None
    log_flow: Float[Array, "B T"] | None = None


class Steps(NamedTuple):
    """What a loss needs of each step of B trajectories; zeros where `valid` is False.

    Attributes:
        log_pf: log P_F(a_t | s_t, condition) of the taken action, f32 [B, T].
        log_pb: log P_B(s_t, a_t | s_{t+1}), f32 [B, T].
        log_flow: log F(s_t | condition), f32 [B, T]; at t = 0 it is log Z.
        valid: bool [B, T].
        log_z: log Z(condition, start), f32 [B].
        log_reward: ℓ(x), tempered and floored, f32 [B].
        log_inflow: log Σ F(p → s_{t+1} | condition) over all parents p, f32 [B, T]; only where flow matching asked.
    """

    log_pf: Float[Array, "B T"]
    log_pb: Float[Array, "B T"]
    log_flow: Float[Array, "B T"]
    valid: Bool[Array, "B T"]
    log_z: Float[Array, "B"]
    log_reward: Float[Array, "B"]
    log_inflow: Float[Array, "B T"] | None = None
