"""Small random edits of a level, from which ACCEL's curriculum evolves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

from tutelage.envs.maze.generator import cell_at
from tutelage.envs.maze.level import Level

NO_OP, FLIP_WALL, MOVE_GOAL = 0, 1, 2
NUM_EDITS = 3


def mutate(key: Key[Array, ""], level: Level, num_edits: int) -> Level:
    """Apply `num_edits` edits one after another, each of a uniformly drawn kind.

    The kinds are: nothing; flip the wall of a uniformly drawn cell, never the agent's or the goal's; move the goal to
    a uniformly drawn other free cell (it stays where there is none). The agent is never touched.

    References: Parker-Holder et al. (2022), Evolving Curricula with Regret-Based Environment Design, arXiv 2203.01302.
    """
    words = jax.random.bits(key, (num_edits, 2))
    mutated, _ = jax.lax.scan(lambda level, word: (edit(level, word[0] % NUM_EDITS, word[1]), None), level, words)
    return mutated


def edit(level: Level, kind: Int[Array, ""] | UInt32[Array, ""], word: UInt32[Array, ""]) -> Level:
    """One edit of a given kind; the random `word` says which cell."""
    height, width = level.wall.shape
    cell = jnp.arange(height * width, dtype=jnp.int32)
    wall = level.wall.reshape(-1)
    agent = level.agent[1] * width + level.agent[0]
    goal = level.goal[1] * width + level.goal[0]

    # The cells that may be flipped are all but two; skipping these two turns a draw of H·W − 2 into a cell.
    lower, upper = jnp.minimum(agent, goal), jnp.maximum(agent, goal)
    flipped = (word % (height * width - 2)).astype(jnp.int32)
    flipped += flipped >= lower
    flipped += flipped >= upper
    new_wall = wall ^ ((cell == flipped) & (kind == FLIP_WALL))

    free = ~wall & (cell != agent) & (cell != goal)
    rank = jnp.cumsum(free, dtype=jnp.int32)
    num_free = rank[-1]
    k = (word % jnp.maximum(num_free, 1).astype(jnp.uint32)).astype(jnp.int32)
    new_goal = jnp.sum(rank <= k, dtype=jnp.int32)
    moves = (kind == MOVE_GOAL) & (num_free > 0)
    return level._replace(
        wall=new_wall.reshape(height, width),
        goal=jnp.where(moves, cell_at(new_goal, width), level.goal).astype(level.goal.dtype),
    )
