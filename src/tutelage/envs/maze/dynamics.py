"""AMaze: MiniGrid's movement and reward on free mazes, as an `Environment`."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt8

from tutelage.envs import config as settings
from tutelage.envs.config import MazeConfig
from tutelage.envs.environment import Discrete, Environment, TimeStep
from tutelage.envs.maze.generator import random_level
from tutelage.envs.maze.level import Level, equal
from tutelage.envs.maze.mutation import mutate
from tutelage.envs.maze.observation import AGENT, EMPTY, GOAL, MazeObs, cells_of, stride, view_of
from tutelage.envs.maze.solver import best_return, measure

TURN_LEFT, TURN_RIGHT, FORWARD = 0, 1, 2
"""Actions that do something; MiniGrid's 3 to 6 (pick up, drop, toggle, done) do nothing here."""


class MazeState(NamedTuple):
    """One episode. Walls and goal do not change, so the framed map is made once, at the reset.

    Attributes:
        cells: the map of codes in its frame (`observation.cells_of`), without the agent.
        x, y: the agent's cell in the level's coordinates.
        direction: 0 right, 1 down, 2 left, 3 up.
        time: steps made so far.
        max_steps: the level's horizon.
    """

    cells: UInt8[Array, "*B Hp Wp"]
    x: Int[Array, "*B"]
    y: Int[Array, "*B"]
    direction: Int[Array, "*B"]
    time: Int[Array, "*B"]
    max_steps: Int[Array, "*B"]


def make_maze(config: MazeConfig) -> Environment:
    """The maze for levels of any size: their shape and horizon come with the task, `config` sizes only random ones.

    Task: `Level`. Observation: `MazeObs`. Actions: 0 turn left, 1 turn right, 2 go forward; with seven actions the
    others do nothing. Going into a wall or out of the map leaves the agent where it is. Going into the goal pays
    1 − 0.9·(t + 1)/max_steps with t the steps made before, and ends the episode without moving the agent. All other
    rewards are 0. Running out of time counts as a termination, as in the published implementations, so the discount
    of the last step is always 0. What a step does after the last one is unspecified.

    `horizon` is the config's; whoever evaluates levels with a longer one must allow for it.

    Raises:
        BadInput: see `tutelage.envs.config.check`.

    References: Chevalier-Boisvert et al. (2023), Minigrid & Miniworld, arXiv 2306.13831; Dennis et al. (2020),
    arXiv 2012.02096; Jiang et al. (2023), arXiv 2311.12716.
    """
    settings.check(config)
    margin = config.view - 1

    def observe(state: MazeState) -> MazeObs:
        view = view_of(state.cells, _index(state, margin), state.direction, config.view)
        if config.see_agent:
            own = (AGENT + state.direction).astype(jnp.uint8)
            view = view.at[-1, config.view // 2].set(own)
        return MazeObs(view, state.direction)

    def reset(key: Key[Array, ""], level: Level) -> tuple[MazeState, MazeObs]:
        state = MazeState(
            cells=cells_of(level, margin),
            x=level.agent[0],
            y=level.agent[1],
            direction=level.direction,
            time=jnp.zeros((), jnp.int32),
            max_steps=level.max_steps,
        )
        return state, observe(state)

    def step(key: Key[Array, ""], state: MazeState, action: Int[Array, ""]) -> tuple[MazeState, TimeStep]:
        forward = action == FORWARD
        width = state.cells.shape[-1]
        ahead = _index(state, margin) + stride(state.direction, width)
        code = state.cells.reshape(-1).at[ahead].get(mode="promise_in_bounds")
        reached = forward & (code == GOAL)
        moves = (forward & (code == EMPTY)).astype(jnp.int32)
        along = 1 - (state.direction & 2)  # +1 to the right and down, −1 to the left and up
        vertical = state.direction & 1
        turn = (action == TURN_RIGHT).astype(jnp.int32) - (action == TURN_LEFT).astype(jnp.int32)
        after = state._replace(
            x=state.x + moves * (1 - vertical) * along,
            y=state.y + moves * vertical * along,
            direction=(state.direction + turn) & 3,
            time=state.time + 1,
        )
        reward = jnp.where(reached, 1.0 - 0.9 * (after.time / state.max_steps), 0.0)
        last = reached | (after.time >= state.max_steps)
        return after, TimeStep(observe(after), reward, 1.0 - last.astype(jnp.float32), last)

    return Environment(
        name="maze",
        actions=Discrete(config.num_actions),
        horizon=config.max_steps,
        reset=reset,
        step=step,
        sample_task=partial(random_level, config=config),
        truncates=False,
        mutate=mutate,
        equal=equal,
        solve=best_return,
        measure=measure,
    )


def _index(state: MazeState, margin: int) -> Int[Array, ""]:
    """Where the agent is in the flattened, framed map."""
    return (state.y + margin) * state.cells.shape[-1] + state.x + margin
