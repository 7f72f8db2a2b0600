"""The exact solution of a level: ground truth for scores, claims and level metrics.

A wavefront grows backwards from the goal over all states (x, y, direction) at once, one sweep per action of the longest
shortest path; nothing is enumerated and nothing approximated. Sets of states are bits (`bitboard`), so a sweep costs a
few integer operations. Under `vmap` a batch takes as many sweeps as its longest level.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import or_

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tutelage.envs.maze.bitboard import Words, pack, shift_down, shift_up, single, stride, unpack
from tutelage.envs.maze.level import Level

UNREACHABLE = np.iinfo(np.int32).max
"""The distance of a state from which no sequence of actions reaches the goal."""

_Sets = tuple[Words, ...]
_Grow = Callable[[_Sets], _Sets]
"""A set of reached states (one member per direction, or a single one), and what it is one sweep later."""


def action_distance(level: Level) -> Int[Array, "4 H W"]:
    """The least number of actions from (direction, y, x) until the goal is paid; `UNREACHABLE` where there is none.

    It is 0 on the goal's own cell, where an agent never stands, and `UNREACHABLE` on walls.
    """
    height, width = level.wall.shape
    goal = single(level.goal, height, width)
    distance = _distances(_grow_states(level), (goal,) * 4, height, width)
    return jnp.stack(distance)


def optimal_action(level: Level) -> Int[Array, "4 H W"]:
    """An action (0 left, 1 right, 2 forward) of an optimal policy in each state (direction, y, x).

    Where several are equally good it is the first of them. It is 0 where the goal cannot be reached, and on it.
    """
    distance = action_distance(level)
    left, right = jnp.roll(distance, 1, axis=0), jnp.roll(distance, -1, axis=0)
    framed = jnp.pad(distance, ((0, 0), (1, 1), (1, 1)), constant_values=UNREACHABLE)
    ahead = jnp.stack([framed[0, 1:-1, 2:], framed[1, 2:, 1:-1], framed[2, 1:-1, :-2], framed[3, :-2, 1:-1]])
    best = jnp.argmin(jnp.stack([left, right, ahead]), axis=0).astype(jnp.int32)
    return jnp.where((distance > 0) & (distance < UNREACHABLE), best, 0)


def value(level: Level) -> Float[Array, "4 H W"]:
    """The largest undiscounted return of an episode that begins in state (direction, y, x).

    It is 1 − 0.9·n/max_steps with n the distance in actions, and 0 where n exceeds max_steps.
    """
    return _return_after(action_distance(level), level.max_steps)


def shortest_path(level: Level) -> Int[Array, ""]:
    """The least number of actions from the level's start to the goal, or `UNREACHABLE`."""
    height, width = level.wall.shape
    goal, agent = single(level.goal, height, width), single(level.agent, height, width)
    start = tuple(jnp.where(level.direction == direction, agent, jnp.uint32(0)) for direction in range(4))
    return _sweeps_until(_grow_states(level), (goal,) * 4, start)


def cell_path(level: Level) -> Int[Array, ""]:
    """The least number of moves from cell to cell (turns are free) from the agent to the goal, or `UNREACHABLE`."""
    height, width = level.wall.shape
    free, below = pack(~level.wall), stride(width)

    def grow(reached: _Sets) -> _Sets:
        (cells,) = reached
        beside = shift_down(cells, 1) | shift_up(cells, 1) | shift_down(cells, below) | shift_up(cells, below)
        return (cells | (beside & free),)

    return _sweeps_until(grow, (single(level.goal, height, width),), (single(level.agent, height, width),))


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


def _grow_states(level: Level) -> _Grow:
    """The states one action before a reached one: those turned to either side of it, or one cell behind it."""
    free, below = pack(~level.wall), stride(level.wall.shape[1])

    def grow(reached: _Sets) -> _Sets:
        right, down, left, up = reached
        horizontal, vertical = right | left, down | up
        return (
            right | (free & (vertical | shift_down(right, 1))),
            down | (free & (horizontal | shift_down(down, below))),
            left | (free & (vertical | shift_up(left, 1))),
            up | (free & (horizontal | shift_up(up, below))),
        )

    return grow


def _sweeps_until(grow: _Grow, seeds: _Sets, target: _Sets) -> Int[Array, ""]:
    """How many sweeps the seeds need to reach the target; `UNREACHABLE` if they stop growing before."""

    def sweep(carry: tuple[_Sets, Int[Array, ""], Bool[Array, ""], Bool[Array, ""]]):
        reached, count, _, _ = carry
        larger = grow(reached)
        hit = _meet(larger, target)
        return larger, count + 1, hit, ~hit & _differ(larger, reached)

    start = (seeds, jnp.int32(0), jnp.bool_(False), jnp.bool_(True))
    _, count, hit, _ = jax.lax.while_loop(lambda carry: carry[3], sweep, start)
    return jnp.where(hit, count, UNREACHABLE)


def _distances(grow: _Grow, seeds: _Sets, height: int, width: int) -> tuple[Int[Array, "H W"], ...]:
    """The number of sweeps until each state is reached.

    Every sweep adds one to the count of the states that are not reached yet. The counts are kept bit by bit, as a
    stack of sets, the lowest first: adding a set to them is one exclusive or and one carry per bit.
    """
    num_planes = (len(seeds) * height * width).bit_length()
    planes = tuple((jnp.zeros_like(seed),) * num_planes for seed in seeds)

    def sweep(carry: tuple[_Sets, tuple[_Sets, ...], Bool[Array, ""]]):
        reached, planes, _ = carry
        larger = grow(reached)
        planes = tuple(_increment(stack, ~before) for stack, before in zip(planes, reached, strict=True))
        return larger, planes, _differ(larger, reached)

    start = (seeds, planes, jnp.bool_(True))
    reached, planes, _ = jax.lax.while_loop(lambda carry: carry[2], sweep, start)

    def count(inside: Words, stack: _Sets) -> Int[Array, "H W"]:
        digits = [unpack(plane, height, width).astype(jnp.int32) << place for place, plane in enumerate(stack)]
        return jnp.where(unpack(inside, height, width), sum(digits), UNREACHABLE)

    return tuple(count(inside, stack) for inside, stack in zip(reached, planes, strict=True))


def _increment(stack: _Sets, carry: Words) -> _Sets:
    """Add one to the counts of the set `carry`."""
    raised = []
    for plane in stack:
        raised.append(plane ^ carry)
        carry = plane & carry
    return tuple(raised)


def _meet(left: _Sets, right: _Sets) -> Bool[Array, ""]:
    return jnp.any(reduce(or_, [a & b for a, b in zip(left, right, strict=True)]) != 0)


def _differ(left: _Sets, right: _Sets) -> Bool[Array, ""]:
    return jnp.any(reduce(or_, [a ^ b for a, b in zip(left, right, strict=True)]) != 0)
