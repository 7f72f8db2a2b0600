"""Settings of the worlds of molecules, free of any framework."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.gflownets.worlds.config import check_names
from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lab.settings import setting

MEASURES = ("qed", "sa", "mw", "mw_target", "seh")
"""What can be measured of a molecule; 'seh' needs a predictor that the user brings."""
TARGET_WEIGHT, WEIGHT_WIDTH = 105.0, 12.25
"""Daltons: in the middle of what nine heavy atoms weigh."""


@dataclass(frozen=True)
class FragmentConfig:
    """Molecules of building blocks joined into trees."""

    max_fragments: int = setting(9, "Most building blocks in a molecule.", interval="[1, 32]", source="recursion")
    min_fragments: int = setting(
        2, "Fewest building blocks, unless no attachment point is left before.", interval="[1, 32]", source="recursion"
    )
    objectives: tuple[str, ...] = setting(
        ("qed", "sa", "mw"),
        "What is measured.",
        choices=tuple(name for name in MEASURES if name != "mw_target"),
        source="recursion, which has seh too",
    )
    blocks: str = setting("", "A text file of building blocks, one SMILES a line; '' for the library's own 72.")
    join_heteroatoms: bool = setting(
        False, "Whether bonds between two heteroatoms (N, O, S, halogens) may be made.", source="recursion: true"
    )


@dataclass(frozen=True)
class AtomConfig:
    """Small molecules built atom by atom."""

    max_atoms: int = setting(9, "Most heavy atoms.", interval="[1, 16]", source="QM9")
    min_atoms: int = setting(2, "Fewest heavy atoms, where valences leave room for them.", interval="[1, 16]")
    max_rings: int = setting(4, "Most independent rings.", interval="[0, 8]")
    objectives: tuple[str, ...] = setting(
        ("qed", "sa", "mw_target"),
        "What is measured. 'mw' is 1 for every molecule of this size.",
        choices=MEASURES,
        source="recursion: qed, sa, mw and a gap of orbitals",
    )
    target_weight: float = setting(TARGET_WEIGHT, "Weight that mw_target asks for.", interval="(0, inf)", unit="Da")
    weight_width: float = setting(
        WEIGHT_WIDTH, "Distance from it at which mw_target is 1/e.", interval="(0, inf)", unit="Da"
    )


def check_fragments(config: FragmentConfig) -> None:
    """Raises `BadInput` for a setting outside its range, an objective twice, or min_fragments > max_fragments."""
    validate(config)
    check_names("objectives", config.objectives)
    if config.min_fragments > config.max_fragments:
        raise BadInput(
            f"min_fragments = {config.min_fragments}: must be at most max_fragments = {config.max_fragments}"
        )


def check_atoms(config: AtomConfig) -> None:
    """Raises `BadInput` for a setting outside its range, an objective twice, or min_atoms > max_atoms."""
    validate(config)
    check_names("objectives", config.objectives)
    if config.min_atoms > config.max_atoms:
        raise BadInput(f"min_atoms = {config.min_atoms}: must be at most max_atoms = {config.max_atoms}")
