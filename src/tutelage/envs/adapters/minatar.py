"""MinAtar's games in gymnax (extra `tutelage[sim]`), alike in shape so that one agent can play them all.

Every game has the six actions of the full set (nothing, left, up, right, down, fire; those that a game does not know do
nothing) and observations f32 [10, 10, C], C the most channels that any of the games has; the others' are filled with 0.
Unlike the original, gymnax repeats no action at random. Its Seaquest is some fifty times slower than the others.

References: Young & Tian (2019), MinAtar: An Atari-Inspired Testbed for Thorough and Reproducible Reinforcement Learning
Experiments, arXiv 1903.03176.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tutelage.envs.adapters.gymnax import gymnax_environment
from tutelage.envs.environment import Environment, EnvState, Task, TimeStep
from tutelage.lab.errors import BadInput, nearest

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")


def minatar_games(names: Sequence[str]) -> tuple[Environment, ...]:
    """The games of those names; a task is an int32 seed, from which every episode of that task starts.

    Raises:
        BadInput: no such game, none at all, or gymnax is not installed.
    """
    if not names:
        raise BadInput(f"games: none are given; must be some of {', '.join(GAMES)}")
    for name in names:
        if name not in GAMES:
            raise BadInput(f"games: {name!r} is not one of {', '.join(GAMES)}{nearest(name, GAMES)}")
    games = [gymnax_environment(f"{name}-MinAtar", use_minimal_action_set=False) for name in names]
    channels = max(jax.eval_shape(game.reset, jax.random.key(0), jnp.int32(0))[1].shape[-1] for game in games)
    return tuple(_padded(game, channels) for game in games)


def _padded(game: Environment, channels: int) -> Environment:
    def fill(obs: Float[Array, "10 10 c"]) -> Float[Array, "10 10 C"]:
        return jnp.pad(obs, ((0, 0), (0, 0), (0, channels - obs.shape[-1])))

    def reset(key: Key[Array, ""], task: Task) -> tuple[EnvState, Float[Array, "10 10 C"]]:
        state, obs = game.reset(key, task)
        return state, fill(obs)

    def step(key: Key[Array, ""], state: EnvState, action: Array) -> tuple[EnvState, TimeStep]:
        state, after = game.step(key, state, action)
        return state, after._replace(obs=fill(after.obs))

    return dataclasses.replace(game, reset=reset, step=step)
