"""The exact solution of a level: ground truth for scores, claims and level metrics.

A wavefront grows backwards from the goal over all states (x, y, direction) at once, one sweep per action of the longest
shortest path; nothing is enumerated and nothing approximated. Under `vmap` a batch takes as many sweeps as its longest
level.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tutelage.envs.maze.level import Level

UNREACHABLE = np.iinfo(np.int32).max
"""The distance of a state from which no sequence of actions reaches the goal."""


def action_distance(level: Level) -> Int[Array, "4 H W"]:
    """The least number of actions from (direction, y, x) until the goal is paid; `UNREACHABLE` where there is none.

    It is 0 on the goal's own cell, where an agent never stands, and `UNREACHABLE` on walls.
    """
    return _wavefront(_turn_or_advance, jnp.broadcast_to(~level.wall, (4, *level.wall.shape)), _goal_states(level))


def optimal_action(level: Level) -> Int[Array, "4 H W"]:
    """An action (0 left, 1 right, 2 forward) of an optimal policy in each state (direction, y, x).

    Where several are equally good it is the first of them. It is 0 in states from which the goal cannot be reached.
    """
    distance = action_distance(level)
    ahead = _ahead(distance, UNREACHABLE)
    left, right = jnp.roll(distance, 1, axis=0), jnp.roll(distance, -1, axis=0)
    return jnp.argmin(jnp.stack([left, right, ahead]), axis=0).astype(jnp.int32)


def value(level: Level) -> Float[Array, "4 H W"]:
    """The largest undiscounted return of an episode that begins in state (direction, y, x).

    It is 1 − 0.9·n/max_steps with n the distance in actions, and 0 where n exceeds max_steps.
    """
    return _return_after(action_distance(level), level.max_steps)


def shortest_path(level: Level) -> Int[Array, ""]:
    """The least number of actions from the level's start to the goal, or `UNREACHABLE`."""
    start = (level.direction, level.agent[1], level.agent[0])
    free = jnp.broadcast_to(~level.wall, (4, *level.wall.shape))
    return _wavefront(_turn_or_advance, free, _goal_states(level), until=start)[start]


def cell_path(level: Level) -> Int[Array, ""]:
    """The least number of moves from cell to cell (turns are free) from the agent to the goal, or `UNREACHABLE`."""
    start = (level.agent[1], level.agent[0])
    goal = jnp.zeros_like(level.wall).at[level.goal[1], level.goal[0]].set(True)
    return _wavefront(_neighbours, ~level.wall, goal, until=start)[start]


def best_return(level: Level) -> Float[Array, ""]:
    """The largest undiscounted return that any policy can have: 0 where the goal is out of reach or of time."""
    return _return_after(shortest_path(level), level.max_steps)


def true_regret(level: Level, mean_return: Float[Array, ""]) -> Float[Array, ""]:
    """What a policy with this expected return loses against the optimal one; never negative for a true expectation."""
    return best_return(level) - mean_return


def measure(level: Level) -> dict[str, Float[Array, ""] | Int[Array, ""] | Bool[Array, ""]]:
    """Metrics of a level.

    `solvable`: the goal can be reached at all; `shortest_path`: in actions, and `distance`: in cells, both 0 where the
    level is unsolvable, so average them over solvable levels only; `num_walls`: in cells; `best_return`: as above.
    """
    actions = shortest_path(level)
    solvable = actions < UNREACHABLE
    return {
        "solvable": solvable,
        "shortest_path": jnp.where(solvable, actions, 0),
        "distance": jnp.where(solvable, cell_path(level), 0),
        "num_walls": jnp.sum(level.wall, dtype=jnp.int32),
        "best_return": _return_after(actions, level.max_steps),
    }


def _return_after(actions: Int[Array, "*S"], max_steps: Int[Array, ""]) -> Float[Array, "*S"]:
    """The return of reaching the goal with the given number of actions."""
    return jnp.where(actions <= max_steps, 1.0 - 0.9 * (actions / max_steps), 0.0)


def _goal_states(level: Level) -> Bool[Array, "4 H W"]:
    """Where every search begins. Standing on the goal is not possible, but one action before it is."""
    return jnp.zeros((4, *level.wall.shape), dtype=bool).at[:, level.goal[1], level.goal[0]].set(True)


def _wavefront(
    grow: Callable[[Bool[Array, "*S"]], Bool[Array, "*S"]],
    free: Bool[Array, "*S"],
    seeds: Bool[Array, "*S"],
    until: tuple[Int[Array, ""], ...] | None = None,
) -> Int[Array, "*S"]:
    """Sweeps of `grow` from the seeds to each free state. Stops early once the state `until` is reached.

    Each sweep adds one to the distance of all states that are not reached yet, which needs no minimum and no queue.
    """
    Carry = tuple[Bool[Array, "*S"], Int[Array, "*S"], Bool[Array, ""]]

    def goes_on(carry: Carry) -> Bool[Array, ""]:
        reached, _, grew = carry
        return grew if until is None else grew & ~reached[until]

    def sweep(carry: Carry) -> Carry:
        reached, distance, _ = carry
        larger = reached | (grow(reached) & free)
        return larger, distance + ~reached, jnp.any(larger != reached)

    start = (seeds, jnp.zeros(seeds.shape, jnp.int32), jnp.bool_(True))
    reached, distance, _ = jax.lax.while_loop(goes_on, sweep, start)
    return jnp.where(reached, distance, UNREACHABLE)


def _turn_or_advance(reached: Bool[Array, "4 H W"]) -> Bool[Array, "4 H W"]:
    """States one action before a reached one: a turn to either side, or the cell ahead."""
    return jnp.roll(reached, 1, axis=0) | jnp.roll(reached, -1, axis=0) | _ahead(reached, False)


def _neighbours(reached: Bool[Array, "H W"]) -> Bool[Array, "H W"]:
    """Cells beside a reached one."""
    return jnp.any(_ahead(jnp.broadcast_to(reached, (4, *reached.shape)), False), axis=0)


def _ahead(table: Array, beyond: bool | int) -> Array:
    """The entry of the state one step ahead of each state (direction, y, x); `beyond` outside of the map."""
    outside = jnp.asarray(beyond, dtype=table.dtype)

    def shifted(layer: Array, rows: int, columns: int) -> Array:
        return jax.lax.pad(layer, outside, [(-rows, rows, 0), (-columns, columns, 0)])

    return jnp.stack(
        [shifted(table[0], 0, 1), shifted(table[1], 1, 0), shifted(table[2], 0, -1), shifted(table[3], -1, 0)]
    )
