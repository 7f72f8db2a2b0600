"""Settings of a stream of tasks, free of any framework."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting


@dataclass(frozen=True)
class SwitchingConfig:
    """When the task of a stream changes, and to which."""

    tau: int = setting(1000, "τ: steps between two switches.", interval="[1, inf)", unit="steps")
    order: str = setting(
        "cycle",
        "The next task: the next in the list, or a uniform one, the same included.",
        choices=("cycle", "random"),
    )
