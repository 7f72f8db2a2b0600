"""The world of PAIRED's teacher: an episode of placing walls, goal and agent, at whose end a level stands."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from tutelage.envs import config as settings
from tutelage.envs.config import EditorConfig, MazeConfig
from tutelage.envs.environment import Discrete, Environment, TimeStep
from tutelage.envs.maze.generator import cell_at
from tutelage.envs.maze.level import Level
from tutelage.envs.maze.observation import AGENT, EMPTY, GOAL, WALL

Noise = Float[Array, "Z"]
"""The teacher's task: uniform numbers, without which a deterministic teacher could make one level only."""


class EditorObs(NamedTuple):
    """What the teacher sees.

    Attributes:
        map: [H + 2, W + 2] codes (`observation.CHANNELS`) of the level so far, with its border of wall.
        time: steps made so far.
        noise: [Z], the same during the whole episode.
    """

    map: UInt8[Array, "*B H+2 W+2"]
    time: Int[Array, "*B"]
    noise: Float[Array, "*B Z"]


class EditorState(NamedTuple):
    """The level under construction. What is not placed yet is at (W, H), just outside of the map."""

    level: Level
    time: Int[Array, "*B"]
    noise: Float[Array, "*B Z"]


def make_editor(maze: MazeConfig, editor: EditorConfig) -> Environment:
    """The teacher's world, whose actions are the H·W cells (index y·W + x).

    The first `editor.num_walls` steps each make a cell wall; walls may overlap. The next step places the goal and the
    last one the agent, each clearing the wall below it. An agent placed on the goal is moved to a uniformly drawn
    free cell. The agent's direction is drawn at the reset. Rewards are 0: what the level is worth is known only after
    the students have played it. Steps after the last one change nothing and end the episode again.

    Task: `Noise`. Observation: `EditorObs`. The reference draws new noise at every step [code]; here it is drawn once
    an episode, as the papers describe it.

    Raises:
        BadInput: see `tutelage.envs.config.check`.

    References: Dennis et al. (2020), Emergent Complexity and Zero-shot Transfer via Unsupervised Environment Design,
    arXiv 2012.02096.
    """
    settings.check(maze, editor)
    height, width, num_walls = maze.height, maze.width, editor.num_walls
    num_cells, horizon = height * width, num_walls + 2
    outside = (width, height)

    def sample_task(key: Key[Array, ""]) -> Noise:
        return jax.random.uniform(key, (editor.noise,))

    def observe(state: EditorState) -> EditorObs:
        level = state.level
        cells = jnp.where(level.wall, jnp.uint8(WALL), jnp.uint8(EMPTY))
        cells = cells.at[level.goal[1], level.goal[0]].set(GOAL, mode="drop")
        agent = (AGENT + level.direction).astype(jnp.uint8)
        cells = cells.at[level.agent[1], level.agent[0]].set(agent, mode="drop")
        return EditorObs(jnp.pad(cells, 1, constant_values=WALL), state.time, state.noise)

    def reset(key: Key[Array, ""], task: Noise) -> tuple[EditorState, EditorObs]:
        level = Level(
            wall=jnp.zeros((height, width), dtype=bool),
            agent=jnp.array(outside, dtype=jnp.int32),
            direction=jax.random.randint(key, (), 0, 4, dtype=jnp.int32),
            goal=jnp.array(outside, dtype=jnp.int32),
            max_steps=jnp.int32(maze.max_steps),
        )
        state = EditorState(level, jnp.zeros((), jnp.int32), task)
        return state, observe(state)

    def step(key: Key[Array, ""], state: EditorState, action: Int[Array, ""]) -> tuple[EditorState, TimeStep]:
        level, time = state.level, state.time
        cell = jnp.arange(num_cells)
        wall = level.wall.reshape(-1)
        goal = level.goal[1] * width + level.goal[0]  # num_cells + width, no cell at all, before it is placed

        places_wall, places_goal, places_agent = time < num_walls, time == num_walls, time == num_walls + 1
        at = jnp.where(places_agent & (action == goal), _free_cell(key, wall | (cell == goal)), action)
        here = cell == at
        wall = jnp.where(places_wall, wall | here, wall & ~(here & (places_goal | places_agent)))

        placed = cell_at(at, width).astype(jnp.int32)
        after = EditorState(
            level=level._replace(
                wall=wall.reshape(height, width),
                goal=jnp.where(places_goal, placed, level.goal),
                agent=jnp.where(places_agent, placed, level.agent),
            ),
            time=jnp.minimum(time + 1, horizon),
            noise=state.noise,
        )
        last = after.time >= horizon
        return after, TimeStep(observe(after), jnp.float32(0), 1.0 - last.astype(jnp.float32), last)

    return Environment(
        name="maze_editor",
        actions=Discrete(num_cells),
        horizon=horizon,
        reset=reset,
        step=step,
        sample_task=sample_task,
    )


def level_of(state: EditorState) -> Level:
    """The level that an episode has made; complete only after its last step."""
    return state.level


def _free_cell(key: Key[Array, ""], taken: Bool[Array, "C"]) -> Int[Array, ""]:
    """A uniformly drawn cell that is not taken."""
    rank = jnp.cumsum(~taken, dtype=jnp.int32)
    k = jax.random.randint(key, (), 0, rank[-1], dtype=jnp.int32)
    return jnp.sum(rank <= k, dtype=jnp.int32)
