"""Families of structured mazes: corridors, four rooms, crossings and perfect mazes, each a function `key -> Level`.

Every level of every family can be solved, by construction.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key, UInt32

from tutelage.envs.maze.generator import cell_at, two_free_cells
from tutelage.envs.maze.level import DIRECTIONS, Level


def corridor(key: Key[Array, ""], size: int, max_steps: int) -> Level:
    """Two combs of dead ends back to back; the goal is at the bottom of one of them, the agent starts between.

    Walls, agent and direction are fixed. `size` is odd; the published sizes are 13 (small) and 19 (large).
    """
    y, x = np.mgrid[:size, :size]
    middle = size // 2
    inner = (y > 0) & (y < size - 1) & (x > 0) & (x < size - 1)
    wall = inner & ((x % 2 == 1) | (y == middle))
    ends = np.array([(column, middle + side) for side in (-1, 1) for column in range(2, size - 1, 2)], dtype=np.int32)
    return Level(
        wall=jnp.asarray(wall),
        agent=jnp.array([0, middle], dtype=jnp.int32),
        direction=jnp.int32(0),
        goal=jnp.asarray(ends)[jax.random.randint(key, (), 0, len(ends))],
        max_steps=jnp.int32(max_steps),
    )


def four_rooms(key: Key[Array, ""], size: int, max_steps: int) -> Level:
    """Four rooms with one door in each of the four walls between them; agent and goal stand anywhere but in a door.

    `size` is odd; the published one is 17.
    """
    half = size // 2
    bits = jax.random.bits(key, (7,))
    y, x = np.mgrid[:size, :size]
    solid = (y == half) | (x == half)
    agent, goal = two_free_cells(jnp.asarray(solid.reshape(-1)), bits[0], bits[1])
    door = (bits[3:] % half).astype(jnp.int32) + jnp.array([0, half + 1, 0, half + 1])
    wall = jnp.asarray(solid).at[half, door[:2]].set(False).at[door[2:], half].set(False)
    return Level(
        wall=wall,
        agent=cell_at(agent, size),
        direction=(bits[2] & 3).astype(jnp.int32),
        goal=cell_at(goal, size),
        max_steps=jnp.int32(max_steps),
    )


def crossing(key: Key[Array, ""], size: int, num_rivers: int, max_steps: int) -> Level:
    """Rivers of wall from edge to edge, and a chain of fords from the agent (top left) to the goal (bottom right).

    Rivers are `num_rivers` of all odd rows and columns. The walk from the first room to the last one crosses each
    river once, in random order of rows and columns, at a random place inside the room where it then is: so the level
    can be solved whatever is drawn. `size` is odd; the published ones are 9 with 5 rivers.
    """
    lines = np.arange(1, size - 1, 2)
    k_rivers, k_fords = jax.random.split(key)
    # The first rivers of one permutation say which are there, and their order says what is crossed when.
    chosen = jax.random.permutation(k_rivers, 2 * len(lines))[:num_rivers]
    is_column = chosen < len(lines)
    position = jnp.asarray(lines, dtype=jnp.int32)[chosen % len(lines)]
    river = jnp.zeros((2, size), dtype=bool)
    river = river.at[jnp.where(is_column, 0, 1), position].set(True)  # [0] columns by x, [1] rows by y
    wall = river[0][None, :] | river[1][:, None]

    def next_river(axis: int, low: Int[Array, ""]) -> Int[Array, ""]:
        """The first river at or beyond `low`, or the border."""
        index = jnp.arange(size)
        return jnp.min(jnp.where(river[axis] & (index >= low), index, size)).astype(jnp.int32)

    def cross(
        carry: tuple[Bool[Array, "H W"], Int[Array, ""], Int[Array, ""]],
        step: tuple[Bool[Array, ""], UInt32[Array, ""]],
    ):
        wall, left, top = carry  # and the room's upper left cell
        column_next, word = step
        right, bottom = next_river(0, left), next_river(1, top)
        along_y = top + (word % (bottom - top).astype(jnp.uint32)).astype(jnp.int32)
        along_x = left + (word % (right - left).astype(jnp.uint32)).astype(jnp.int32)
        ford_x, ford_y = jnp.where(column_next, right, along_x), jnp.where(column_next, along_y, bottom)
        left = jnp.where(column_next, right + 1, left)
        top = jnp.where(column_next, top, bottom + 1)
        return (wall.at[ford_y, ford_x].set(False), left, top), None

    start = (wall, jnp.int32(0), jnp.int32(0))
    (wall, _, _), _ = jax.lax.scan(cross, start, (is_column, jax.random.bits(k_fords, (num_rivers,))))
    return Level(
        wall=wall,
        agent=jnp.zeros(2, dtype=jnp.int32),
        direction=jnp.int32(0),
        goal=jnp.full(2, size - 1, dtype=jnp.int32),
        max_steps=jnp.int32(max_steps),
    )


def perfect_maze(key: Key[Array, ""], size: int, max_steps: int) -> Level:
    """A maze with exactly one way between any two cells, by randomised depth-first search; agent and goal anywhere.

    Rooms are the cells with even coordinates; `size` is odd. The published sizes are 13, 19 (medium) and 101 (XL).
    """
    side = size // 2 + 1
    num_rooms = side * side
    num_steps = 2 * num_rooms - 1  # every room is entered once and left once
    bits = jax.random.bits(key, (num_steps + 4,))
    steps_x, steps_y = jnp.array(DIRECTIONS, dtype=jnp.int32).T

    def carve(carry: tuple[Array, Array, Array, Array], word: UInt32[Array, ""]):
        wall, visited, stack, depth = carry
        room = stack[depth]
        x, y = room % side, room // side
        to_x, to_y = x + steps_x, y + steps_y
        inside = (to_x >= 0) & (to_x < side) & (to_y >= 0) & (to_y < side)
        unvisited = inside & ~visited[jnp.clip(to_y * side + to_x, 0, num_rooms - 1)]
        rank = jnp.cumsum(unvisited, dtype=jnp.int32)
        advances = rank[-1] > 0
        k = (word % jnp.maximum(rank[-1], 1).astype(jnp.uint32)).astype(jnp.int32)
        way = jnp.minimum(jnp.sum(rank <= k), len(DIRECTIONS) - 1)
        new_x = jnp.where(advances, to_x[way], x)
        new_y = jnp.where(advances, to_y[way], y)
        wall = wall.at[jnp.stack([y + new_y, 2 * new_y]), jnp.stack([x + new_x, 2 * new_x])].set(False)
        new_room = new_y * side + new_x
        depth = jnp.where(advances, depth + 1, jnp.maximum(depth - 1, 0))
        stack = stack.at[depth].set(jnp.where(advances, new_room, stack[depth]))
        return (wall, visited.at[new_room].set(True), stack, depth), None

    first = (bits[3] % num_rooms).astype(jnp.int32)
    start = (
        jnp.ones((size, size), dtype=bool).at[2 * (first // side), 2 * (first % side)].set(False),
        jnp.zeros(num_rooms, dtype=bool).at[first].set(True),
        jnp.zeros(num_rooms, dtype=jnp.int32).at[0].set(first),
        jnp.int32(0),
    )
    (wall, _, _, _), _ = jax.lax.scan(carve, start, bits[4:])
    agent, goal = two_free_cells(wall.reshape(-1), bits[0], bits[1])
    return Level(
        wall=wall,
        agent=cell_at(agent, size),
        direction=(bits[2] & 3).astype(jnp.int32),
        goal=cell_at(goal, size),
        max_steps=jnp.int32(max_steps),
    )
