"""The world that a configuration describes."""

from __future__ import annotations

from tutelage.continual.tabular import World
from tutelage.continual.worlds import chains, rooms
from tutelage.continual.worlds.config import WorldConfig
from tutelage.continual.worlds.garnet import garnet
from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput


def make_world(config: WorldConfig) -> World:
    """The member of a family that these settings name.

    Raises:
        BadInput: if a setting is outside what is allowed, alone or together with others.
    """
    validate(config)
    if len(config.goals) % 2:
        raise BadInput(f"goals = {config.goals}: must be pairs x, y")
    goals = list(zip(config.goals[::2], config.goals[1::2])) or None
    match config.kind:
        case "scale_class":
            if goals is not None and len(goals) != 1:
                raise BadInput(f"goals = {config.goals}: must be one pair x, y")
            return rooms.scale_class(config.length, goals[0] if goals else None, config.slip)
        case "n_bottleneck":
            return rooms.n_bottleneck(config.length, config.rooms, config.evolution, goals, config.slip)
        case "n_cycle":
            return rooms.n_cycle(config.length, config.rooms, config.exponent, goals, config.slip)
        case "two_loops":
            return chains.two_loops(config.states)
        case "river_swim":
            return chains.river_swim(config.states)
        case "two_cliques":
            return chains.two_cliques(config.states)
        case "hypercube":
            return chains.hypercube(config.dimension)
        case "lazy_cycle":
            return chains.lazy_cycle(config.states)
        case "noisy_cycle":
            return chains.noisy_cycle(config.states, config.advance)
        case "two_state":
            return chains.two_state(config.p, config.q)
        case "alternating":
            return chains.alternating(config.tau)
        case _:
            return garnet(config.states, config.actions, config.branching, config.world_seed)
