"""Settings of the aptamers, free of any framework."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.gflownets.worlds.config import check_lengths, check_names
from tutelage.lab.configuration import validate
from tutelage.lab.settings import setting

MEASURES = ("energy", "pins", "pairs", "inverse_length")


@dataclass(frozen=True)
class AptamerConfig:
    """DNA sequences whose most stable structure is measured."""

    min_len: int = setting(30, "Bases of the shortest sequence.", interval="[1, inf)", source="mo_gfn")
    max_len: int = setting(30, "Bases of the longest sequence.", interval="[1, inf)", source="mo_gfn: 30 and 60")
    objectives: tuple[str, ...] = setting(
        ("energy", "pins", "pairs"), "What is measured.", choices=MEASURES, source="mo_gfn"
    )
    energy_scale: float = setting(
        60.0, "Stability that is worth a reward of 1.", interval="(0, inf)", unit="kcal/mol", source="mo_gfn"
    )
    pins_scale: float = setting(8.0, "Hairpins that are worth a reward of 1.", interval="(0, inf)", source="mo_gfn")
    pairs_scale: float = setting(
        16.0, "Base pairs that are worth a reward of 1.", interval="(0, inf)", source="mo_gfn; 30 beside a length"
    )
    celsius: float = setting(37.0, "Temperature of the fold.", interval="[0, 100]", unit="°C", source="mo_gfn")


def check_aptamers(config: AptamerConfig) -> None:
    """Raises `BadInput` for a setting outside its range, an objective twice, or min_len > max_len."""
    validate(config)
    check_names("objectives", config.objectives)
    check_lengths(config.min_len, config.max_len)
