"""Every number of SCAN."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting

SOURCE = "Lake & Baroni 2018, arXiv 1711.00350"
SPLITS = ("length", "simple", "jump", "turn_left")


@dataclass(frozen=True)
class ScanConfig:
    """Commands to actions, and which commands are not trained on."""

    split: str = setting(
        "length",
        "What is never trained on: long action sequences; nothing; 'jump' or 'turn left' in any but the bare command.",
        choices=SPLITS,
        source=SOURCE,
    )
    cutoff: int = setting(22, "Longest actions of training in the length split.", interval="[1, 47]", source=SOURCE)
    held_out: float = setting(
        0.1, "Share of the training distribution that is kept for the iid figure.", interval="(0, 1)"
    )
    primitive_share: float = setting(
        0.1, "Share of the bare command in training, in the splits of one primitive.", interval="(0, 1)", source=SOURCE
    )
    pool: int = setting(
        16, "Batches drawn together and sorted by length, so that little is padded; 1: none.", interval="[1, inf)"
    )
    num_test: int = setting(
        0, "Commands of each figure, drawn once; 0: all there are.", interval="[0, inf)", unit="commands"
    )
