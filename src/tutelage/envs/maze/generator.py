"""Random levels: where domain randomisation and replay take new tasks from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

from tutelage.envs.config import MazeConfig
from tutelage.envs.maze.level import Level


def random_level(key: Key[Array, ""], config: MazeConfig) -> Level:
    """Walls on `num_walls` cells drawn with replacement, then the agent and the goal on two free cells, all uniform.

    With 60 draws of 169 cells 50.63 walls are distinct on average. With `sample_num_walls` only the first n draws
    count, n uniform in [0, num_walls).

    References: Dennis et al. (2020), arXiv 2012.02096; Jiang et al. (2023), arXiv 2311.12716.
    """
    height, width, num_walls = config.height, config.width, config.num_walls
    # One draw for all numbers. Taking a remainder is off by less than n/2³² per outcome, a thousandth of the noise of
    # any figure one could measure, and costs half of what `randint` does.
    bits = jax.random.bits(key, (num_walls + 4,))
    cell = (bits[4:] % (height * width)).astype(jnp.int32)
    if config.sample_num_walls:
        count = bits[3] % max(num_walls, 1)
        cell = jnp.where(jnp.arange(num_walls) < count, cell, height * width)
    wall = jnp.zeros(height * width, dtype=bool).at[cell].set(True, mode="drop")
    agent, goal = two_free_cells(wall, bits[0], bits[1])
    return Level(
        wall=wall.reshape(height, width),
        agent=cell_at(agent, width),
        direction=(bits[2] & 3).astype(jnp.int32),
        goal=cell_at(goal, width),
        max_steps=jnp.int32(config.max_steps),
    )


def two_free_cells(
    wall: Array, first: UInt32[Array, ""], second: UInt32[Array, ""]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Indices of two different free cells of a flattened map, uniform, from two random words.

    The map must have two free cells; `config.check` sees to that.
    """
    rank = jnp.cumsum(~wall, dtype=jnp.int32)  # of a free cell among the free ones, from 1
    free = rank[-1].astype(jnp.uint32)
    k_first = (first % free).astype(jnp.int32)
    k_second = (second % (free - 1)).astype(jnp.int32)
    k_second += k_second >= k_first
    # The k-th free cell is preceded by exactly the cells whose rank is at most k.
    return jnp.sum(rank <= k_first, dtype=jnp.int32), jnp.sum(rank <= k_second, dtype=jnp.int32)


def cell_at(index: Int[Array, ""], width: int) -> Int[Array, "2"]:
    """(x, y) of an index into a flattened map."""
    return jnp.stack([index % width, index // width])
