"""DNA aptamers: sequences whose secondary structure of least free energy is measured, by ViennaRNA (extra `mo`).

    energy           −(free energy) / 60 kcal/mol
    pins             hairpins / 8: how often the depth of brackets returns to 0
    pairs            base pairs / 16: the number of "("
    inverse_length   1 / length

The DNA task of the published sequence code (mo_gfn), which folds with NUPACK (behind a registration) at 37 °C; here the
parameters are those of Mathews (2004) for DNA that ViennaRNA carries, so that energies differ somewhat.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.aptamers_config import AptamerConfig, check_aptamers
from tutelage.gflownets.worlds.sequences import sequence_problem, text_of
from tutelage.lab.errors import BadInput

BASES = "ACGT"
_STRONGEST_PAIR = 4.0
"""kcal/mol per base pair that no structure exceeds: the strongest stack of two pairs is below 3, with loop bonuses."""

_PROBE, _PROBE_ENERGY = "GGCGCAAAAGCGCC", -6.0
"""A hairpin, and its energy at 37 °C by these parameters."""


class Fold(NamedTuple):
    """The structure of least free energy.

    Attributes:
        structure: dots and brackets.
        energy: kcal/mol at the folder's temperature; ≤ 0.
    """

    structure: str
    energy: float


def aptamers(config: AptamerConfig) -> Problem:
    """The problem of a configuration. Its objectives are on the host: ask them through an `oracle.Oracle`.

    Raises:
        BadInput: what is wrong with the configuration, or ViennaRNA is not installed.
    """
    check_aptamers(config)
    fold = folder(config.celsius)

    def measured(text: str) -> list[float]:
        structure, energy = fold(text)
        every = {
            "energy": -energy / config.energy_scale,
            "pins": pins(structure) / config.pins_scale,
            "pairs": structure.count("(") / config.pairs_scale,
            "inverse_length": 1.0 / len(text),
        }
        return [every[name] for name in config.objectives]

    def rewards(objects: np.ndarray) -> Float[np.ndarray, "n M"]:
        return np.array([measured(render(row)) for row in objects], np.float64)

    def render(row: np.ndarray) -> str:
        return text_of(row, BASES)

    # A hairpin has at least three bases between its pair.
    most_pairs, most_pins = max(config.max_len - 3, 0) // 2, config.max_len // 5
    most = {
        "energy": most_pairs * _STRONGEST_PAIR / config.energy_scale,
        "pins": most_pins / config.pins_scale,
        "pairs": most_pairs / config.pairs_scale,
        "inverse_length": 1.0,
    }
    objectives = Objectives(
        config.objectives,
        rewards,
        on_host=True,
        upper=tuple(max(1.0, most[name]) for name in config.objectives),
        render=render,
    )
    return sequence_problem(BASES, config.min_len, config.max_len, objectives)


def pins(structure: str) -> int:
    """How often the depth of brackets returns to 0: branches that leave the open chain."""
    depth = number = 0
    for sign in structure:
        depth += (sign == "(") - (sign == ")")
        number += sign == ")" and depth == 0
    return number


def folder(celsius: float = 37.0) -> Callable[[str], Fold]:
    """`text of A, C, G, T -> Fold`, with Mathews' (2004) parameters for DNA.

    The parameters of ViennaRNA that other code in this process finds are its default, those of Turner (2004) for RNA.

    Raises:
        BadInput: ViennaRNA is not installed, or cannot load these parameters any more.
    """
    vienna, parameters = _parameters(celsius)

    def fold(text: str) -> Fold:
        compound = vienna.fold_compound(text)
        compound.params_subst(parameters)
        structure, energy = compound.mfe()
        return Fold(structure, float(energy))

    return fold


def folds(texts: Sequence[str], celsius: float = 37.0) -> list[Fold]:
    """The folds of many sequences."""
    return list(map(folder(celsius), texts))


@functools.cache
def _parameters(celsius: float) -> tuple[Any, Any]:
    try:
        import RNA
    except ImportError as error:
        raise BadInput("aptamers need ViennaRNA, which is in the extra 'mo': pip install 'tutelage[mo]'") from error
    RNA.params_load_DNA_Mathews2004()
    model = RNA.md()
    model.temperature = celsius
    made, standard = RNA.param(model), RNA.param(RNA.md())
    RNA.params_load_RNA_Turner2004()
    # After a set from a file, ViennaRNA 2.7 was seen to ignore a later one silently.
    compound = RNA.fold_compound(_PROBE)
    compound.params_subst(standard)
    if abs(compound.mfe()[1] - _PROBE_ENERGY) > 0.01:
        raise BadInput("ViennaRNA did not load its DNA parameters, as happens after others were loaded from a file")
    return RNA, made
