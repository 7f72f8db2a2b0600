"""Settings of the worlds, free of any framework so that command lines can read and check them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lab.settings import setting

PAIRWISE = ("branin", "currin", "shubert", "beale", "sphere")
"""Objectives of a hypergrid that are functions of two coordinates."""
SYMBOLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
"""How the states of an Ehrlich function are written."""


@dataclass(frozen=True)
class HyperGridConfig:
    """Cells of a D-dimensional grid, reached from the origin by steps along the axes."""

    dimensions: int = setting(2, "D, the axes.", interval="[1, inf)", source="recursion: 2")
    side: int = setting(8, "H, the cells along an axis.", interval="[2, 1024]", source="recursion: 32")
    objectives: tuple[str, ...] = setting(
        ("branin", "currin"),
        "What is measured of a cell. All but 'corners' are functions of two coordinates: with more axes, the mean over "
        "neighbouring pairs of them.",
        choices=(*PAIRWISE, "corners"),
        source="recursion, OP-GFN; corners: Bengio et al. 2021",
    )
    corner_base: float = setting(
        1e-3,
        "R0 of 'corners', the reward everywhere, before the division by R0 + 0.5 + 2.",
        interval="(0, inf)",
        source="gfnx: 1e-3; torchgfn: 0.1",
    )
    terminate_at_edge: bool = setting(
        False,
        "A coordinate that reaches H − 1 ends the trajectory, so that cells with two such coordinates do not exist.",
        source="recursion: true",
    )


@dataclass(frozen=True)
class NGramConfig:
    """Sequences whose objectives count the occurrences of motifs."""

    alphabet: str = setting("ARNDCQEGHILKMFPSTWYV", "The letters.", source="mo_gfn")
    motifs: tuple[str, ...] = setting(
        ("AV", "VC"),
        "One objective each: how often it occurs, overlaps included.",
        source="mo_gfn: AV, VC; and CA for three (its fourth, AB, has a letter that is not in the alphabet)",
    )
    min_len: int = setting(
        33, "Letters of the shortest sequence.", interval="[1, inf)", source="mo_gfn, where 32 means 33"
    )
    max_len: int = setting(36, "Letters of the longest sequence.", interval="[1, inf)", source="mo_gfn")
    scale: float = setting(18.0, "Occurrences that are worth a reward of 1.", interval="(0, inf)", source="mo_gfn")


@dataclass(frozen=True)
class EhrlichConfig:
    """Ehrlich functions of sequences of one length: spaced motifs to be placed, transitions that are banned."""

    num_states: int = setting(32, "v, the size of the alphabet.", interval="[2, 62]", source="Stanton et al. 2024")
    length: int = setting(32, "L, the letters of a sequence.", interval="[1, inf)", source="Stanton et al. 2024")
    num_motifs: int = setting(4, "c, the motifs of an objective.", interval="[1, inf)", source="Stanton et al. 2024")
    motif_length: int = setting(4, "k, the elements of a motif.", interval="[1, inf)", source="Stanton et al. 2024")
    quantization: int = setting(
        4, "q, the steps in which a motif's presence counts; at most k.", interval="[1, inf)", source="holo-bench: k"
    )
    num_objectives: int = setting(
        2, "M Ehrlich functions with motifs of their own and the same banned transitions.", interval="[1, inf)"
    )
    banned_share: float = setting(
        0.4, "Share of the states that may not follow a state.", interval="[0, 1)", source="holo-bench"
    )
    max_span: int = setting(
        0,
        "Positions from a motif's first element to its last, at most; 0: L // c. Small ones make the exact front "
        "computable.",
        interval="[0, inf)",
    )
    seed: int = setting(0, "Which function of the family.", interval="[0, inf)")


def check_hypergrid(config: HyperGridConfig) -> None:
    """Refuse what is no hypergrid.

    Raises:
        BadInput: a setting outside its range, no objective or one twice, or a function of two coordinates on one axis.
    """
    validate(config)
    check_names("objectives", config.objectives)
    if config.dimensions < 2 and (pairwise := [name for name in config.objectives if name in PAIRWISE]):
        raise BadInput(f"dimensions = {config.dimensions}: must be at least 2 for the objective {pairwise[0]!r}")


def check_ngrams(config: NGramConfig) -> None:
    """Refuse what is no n-gram task.

    Raises:
        BadInput: a setting outside its range, min_len > max_len, a letter twice, no motif or one twice, a motif that is
            empty, longer than every sequence or has letters outside of the alphabet.
    """
    validate(config)
    check_lengths(config.min_len, config.max_len)
    check_alphabet(config.alphabet)
    check_names("motifs", config.motifs)
    for motif in config.motifs:
        if foreign := [letter for letter in motif if letter not in config.alphabet]:
            raise BadInput(f"motifs: {motif!r} has the letter {foreign[0]!r}, which is not in {config.alphabet!r}")
        if not 1 <= len(motif) <= config.max_len:
            raise BadInput(f"motifs: {motif!r} has {len(motif)} letters; must be 1 to max_len = {config.max_len}")


def check_ehrlich(config: EhrlichConfig) -> None:
    """Refuse what is no Ehrlich function.

    Raises:
        BadInput: a setting outside its range, more elements of motifs than letters in a sequence, q > k, or a span
            that is too short for a motif or too long for its share of a sequence.
    """
    validate(config)
    elements = config.num_motifs * config.motif_length
    if elements > config.length:
        raise BadInput(
            f"num_motifs × motif_length = {elements}: must be at most length = {config.length}, "
            "or no sequence holds all motifs"
        )
    if config.quantization > config.motif_length:
        raise BadInput(f"quantization = {config.quantization}: must be at most motif_length = {config.motif_length}")
    widest = config.length // config.num_motifs
    if config.max_span and not config.motif_length <= config.max_span <= widest:
        raise BadInput(f"max_span = {config.max_span}: must be 0 or in [{config.motif_length}, {widest}]")


def check_lengths(min_len: int, max_len: int) -> None:
    """Raises `BadInput` unless 1 ≤ min_len ≤ max_len."""
    if not 1 <= min_len <= max_len:
        raise BadInput(f"min_len = {min_len} and max_len = {max_len}: must be 1 ≤ min_len ≤ max_len")


def check_alphabet(alphabet: str) -> None:
    """Raises `BadInput` unless there are at least two letters, all different."""
    if len(alphabet) < 2:
        raise BadInput(f"alphabet = {alphabet!r}: must have at least 2 letters")
    check_names("alphabet", alphabet)


def check_names(what: str, names: Sequence[str]) -> None:
    """Raises `BadInput` unless there is at least one name, and none twice."""
    if not names:
        raise BadInput(f"{what} = {names!r}: there is none; at least one is needed")
    if twice := [name for position, name in enumerate(names) if name in names[:position]]:
        raise BadInput(f"{what} = {names!r}: {twice[0]!r} is there twice; they must differ")
