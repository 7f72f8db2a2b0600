"""Settings of the worlds, free of any framework so that command lines can read them at once."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting

EVOLUTIONS = ("cycles", "random", "curricular")
"""In which order the rooms of an NBottleneck follow each other."""

KINDS = (
    "scale_class",
    "n_bottleneck",
    "n_cycle",
    "two_loops",
    "river_swim",
    "two_cliques",
    "hypercube",
    "lazy_cycle",
    "noisy_cycle",
    "two_state",
    "alternating",
    "garnet",
)
"""Names of the families, as `worlds.making.make_world` takes them."""


@dataclass(frozen=True)
class WorldConfig:
    """One member of one family; a family reads the settings that it has and leaves the others."""

    kind: str = setting("n_bottleneck", "The family.", choices=KINDS)
    length: int = setting(
        5, "L: cells along a side of a room (grid worlds).", interval="[2, inf)", unit="cells", source="official code"
    )
    rooms: int = setting(4, "K: rooms that follow each other.", interval="[1, inf)", source="official code")
    evolution: str = setting(
        "cycles",
        "Order of the rooms: k to k+1 modulo K, uniformly random, or 1, 1, 2, 1, 2, 3, …",
        choices=EVOLUTIONS,
        source="official code",
    )
    exponent: float = setting(
        1.0, "x of NCycle: a room lasts 2·L^x steps.", interval="[0, inf)", source="official code"
    )
    goals: tuple[int, ...] = setting(
        (),
        "Goals x1, y1, x2, y2, … of the rooms in order; empty: the corners (0,0), (L-1,L-1), (0,L-1), (L-1,0) in turn.",
        interval="[0, inf)",
    )
    slip: float = setting(
        0.05,
        "Probability that the action is replaced by one of the four moves or staying, each as likely.",
        interval="[0, 1]",
        source="official code",
    )
    states: int = setting(
        10, "Nodes of a cycle, of each clique, of RiverSwim or Garnet; steps of the long loop.", interval="[2, inf)"
    )
    actions: int = setting(4, "Actions of a Garnet.", interval="[1, inf)")
    branching: int = setting(5, "Successors of each state and action of a Garnet.", interval="[1, inf)")
    dimension: int = setting(4, "Coordinates of the hypercube.", interval="[1, 14]")
    p: float = setting(
        0.1, "Two states: probability of leaving the first.", interval="(0, 1]", source="textbook example"
    )
    q: float = setting(
        0.2, "Two states: probability of leaving the second.", interval="(0, 1]", source="textbook example"
    )
    advance: float = setting(0.96, "Noisy cycle: probability of the next node; else it stays.", interval="(0, 1]")
    tau: int = setting(10, "Steps of each of two tasks of reward 1 and 0.", interval="[1, inf)", unit="steps")
    world_seed: int = setting(0, "Seed of a random world.", interval="[0, inf)")
