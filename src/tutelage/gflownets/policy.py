"""What a forward policy network is, whatever reads the state: a table, an MLP, a causal transformer."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from tutelage.gflownets.environment import Observation

Carry = Any


class Outputs(NamedTuple):
    """What a network says of states under conditions.

    Attributes:
        logits: of all actions, legal or not, f32 [..., A].
        log_flow: log F(state | condition), f32 [...]; zeros where the loss has no use for it.
    """

    logits: Float[Array, "*batch A"]
    log_flow: Float[Array, "*batch"]


@runtime_checkable
class Policy(Protocol):
    """An Equinox module. Conditions come encoded, f32 [B, C] (`condition.encode`).

    `step` called T times and `trajectory` called once give the same outputs (to rounding): a rollout uses the first,
    without gradients; the loss uses the second.

    """

    @property
    def memoryless(self) -> bool:
        """`step` leaves the carry as `start` made it, row by row.

        The loss then reads the states of all trajectories in any order, and none that do not exist.
        """
        ...

    def start(self, condition: Float[Array, "B C"]) -> Carry:
        """What is carried along a rollout: a cache of keys and values, or nothing."""
        ...

    def step(self, carry: Carry, observation: Observation, condition: Float[Array, "B C"]) -> tuple[Carry, Outputs]:
        """The outputs of B states, one of each trajectory."""
        ...

    def trajectory(self, observations: Observation, condition: Float[Array, "B C"]) -> Outputs:
        """The outputs of all states of B trajectories: observations [B, T, …] -> [B, T, …].

        Of B = n·k conditions with n trajectories, each k in a row read one of them: observations [n, T, …].
        """
        ...

    def log_z(self, observation: Observation, condition: Float[Array, "B C"]) -> Float[Array, "B"]:
        """log Z_θ of the condition (and of the state where the trajectory starts, where starts differ)."""
        ...
