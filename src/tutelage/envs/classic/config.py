"""Settings of the classic-control worlds, free of any framework.

A task's parameter is drawn uniformly from its range; a range of one point fixes it. The defaults free what jaxued frees
(length and mass, from 0.01 to 10.01) and keep the rest where Gymnasium has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting

_FREE = (0.01, 10.01)


@dataclass(frozen=True)
class CartPoleConfig:
    """A pole on a cart (Barto, Sutton & Anderson 1983)."""

    gravity: tuple[float, float] = setting((9.8, 9.8), "Gravity.", unit="m/s²", source="Gymnasium")
    mass_cart: tuple[float, float] = setting((1.0, 1.0), "Mass of the cart.", unit="kg", source="Gymnasium")
    mass_pole: tuple[float, float] = setting(_FREE, "Mass of the pole.", unit="kg", source="jaxued")
    length: tuple[float, float] = setting(_FREE, "Half the pole's length.", unit="m", source="jaxued")
    force: tuple[float, float] = setting((10.0, 10.0), "Push of one action.", unit="N", source="Gymnasium")
    horizon: int = setting(500, "Steps after which an episode is cut off.", interval="[1, inf)", source="Gymnasium")
    mutation_scale: float = setting(
        0.1, "Standard deviation of one edit, as a share of the parameter's range.", interval="(0, inf)"
    )


@dataclass(frozen=True)
class PendulumConfig:
    """A pendulum to be swung up with too weak a motor."""

    gravity: tuple[float, float] = setting((10.0, 10.0), "Gravity.", unit="m/s²", source="Gymnasium")
    mass: tuple[float, float] = setting(_FREE, "Mass of the rod.", unit="kg", source="jaxued")
    length: tuple[float, float] = setting(_FREE, "Length of the rod.", unit="m", source="jaxued")
    horizon: int = setting(200, "Steps after which an episode is cut off.", interval="[1, inf)", source="Gymnasium")
    mutation_scale: float = setting(
        0.1, "Standard deviation of one edit, as a share of the parameter's range.", interval="(0, inf)"
    )


@dataclass(frozen=True)
class AcrobotConfig:
    """Two links, driven at the joint between them (Sutton 1996)."""

    length: tuple[float, float] = setting(_FREE, "Length of the first link.", unit="m", source="jaxued")
    mass: tuple[float, float] = setting(_FREE, "Mass of either link.", unit="kg", source="jaxued")
    torque: tuple[float, float] = setting((1.0, 1.0), "Torque of one action.", unit="N·m", source="Gymnasium")
    horizon: int = setting(500, "Steps after which an episode is cut off.", interval="[1, inf)", source="Gymnasium")
    mutation_scale: float = setting(
        0.1, "Standard deviation of one edit, as a share of the parameter's range.", interval="(0, inf)"
    )
