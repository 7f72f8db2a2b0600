"""How long a run is and what falls between its updates."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting


@dataclass(frozen=True)
class Schedule:
    """When the driver logs, evaluates and saves. One chunk (`log_every` updates) is one compiled call."""

    num_updates: int = setting(1000, "Updates in all.", interval="[1, inf)", unit="updates")
    log_every: int = setting(
        10, "Updates in one compiled chunk, and between two records of metrics.", interval="[1, inf)", unit="updates"
    )
    evaluate_every: int = setting(
        100,
        "Updates between evaluations (rounded up to whole chunks); 0: only at the end.",
        interval="[0, inf)",
        unit="updates",
    )
    evaluate_first: bool = setting(False, "Evaluate before the first update too.")
    checkpoint_every: int = setting(
        0,
        "Updates between checkpoints (rounded up to whole chunks); 0: by time alone.",
        interval="[0, inf)",
        unit="updates",
    )
    checkpoint_seconds: float = setting(
        60.0, "Wall time between checkpoints, checked after each chunk.", interval="(0, inf)", unit="s"
    )
    keep_checkpoints: int = setting(2, "How many of the newest checkpoints stay on disk.", interval="[1, inf)")
    best_figure: str = setting(
        "", "Keep the checkpoint with the largest value of this evaluation figure too; empty: keep none."
    )
