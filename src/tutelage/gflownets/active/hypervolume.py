"""Hypervolume of two or three objectives inside compiled programs: shapes are fixed, and a mask says what is there.

Objectives are maximised. One sweep (`sweep`) cuts space into boxes which do not overlap: those that cover what a set
dominates, whose volumes are the hypervolume, and those that cover what it does not, against which an improvement, or
its expectation, is a sum of products of one-dimensional terms. For K points there are K and K + 1 of them in two
dimensions, 2K and 2K + 1 in three. Points that are masked out, dominated, duplicates, or not better than the reference
in every objective may be among the K: their boxes are empty.

More objectives, or a set known only on the host: `tutelage.measures.pareto`.

Reference: Yang, Emmerich, Deutz & Bäck (2019), Efficient computation of expected hypervolume improvement using box
decomposition algorithms, J. Global Optimization 75 (the 2K + 1 boxes).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tutelage.lab.errors import BadInput


class Boxes(NamedTuple):
    """Axis-parallel boxes which do not overlap: `lower` ≤ y ≤ `upper` in each objective.

    Attributes:
        lower: [C, M], finite.
        upper: [C, M]; +∞ where a box has no end, equal to `lower` in every objective where it is empty.
    """

    lower: Float[Array, "C M"]
    upper: Float[Array, "C M"]


@jax.jit
def nondominated(points: Float[Array, "K M"], mask: Bool[Array, "K"]) -> Bool[Array, "K"]:
    """Which points are there and dominated by no other one; of equal points the first. Any M ≥ 1."""
    at_least = (points[:, None] >= points[None]).all(axis=-1) & mask[:, None]  # [j, i]: j is as good as i everywhere
    earlier = jnp.tri(points.shape[0], k=-1, dtype=bool).T
    return mask & ~(at_least & (~at_least.T | earlier)).any(axis=0)


@jax.jit
def dominated_boxes(points: Float[Array, "K M"], mask: Bool[Array, "K"], reference: Float[Array, "M"]) -> Boxes:
    """What the points dominate and the reference does not: K boxes for two objectives, 2K for three.

    Raises:
        BadInput: unless there are two or three objectives.
    """
    return sweep(points, mask, reference)[0]


@jax.jit
def cells(points: Float[Array, "K M"], mask: Bool[Array, "K"], reference: Float[Array, "M"]) -> Boxes:
    """What lies above the reference and no point dominates: K + 1 boxes for two objectives, 2K + 1 for three.

    Raises:
        BadInput: unless there are two or three objectives.
    """
    return sweep(points, mask, reference)[1]


@jax.jit
def hypervolume(points: Float[Array, "K M"], mask: Bool[Array, "K"], reference: Float[Array, "M"]) -> Float[Array, ""]:
    """The volume of what the points dominate above the reference; two or three objectives, O(K log K) and O(K²)."""
    boxes = dominated_boxes(points, mask, reference)
    return jnp.prod(boxes.upper - boxes.lower, axis=-1).sum()


@jax.jit
def improvement(candidates: Float[Array, "*batch M"], free: Boxes) -> Float[Array, "*batch"]:
    """By how much each candidate alone would raise the hypervolume of the set whose `cells` are given."""
    sides = jnp.minimum(candidates[..., None, :], free.upper) - free.lower
    return jnp.prod(jnp.maximum(sides, 0.0), axis=-1).sum(axis=-1)


def sweep(points: Float[Array, "K M"], mask: Bool[Array, "K"], reference: Float[Array, "M"]) -> tuple[Boxes, Boxes]:
    """The boxes of what is dominated, and of what is not (see `dominated_boxes`, `cells`)."""
    inside = mask & (points > reference).all(axis=-1)
    points = jnp.where(inside[:, None], points, reference)
    match points.shape[-1]:
        case 2:
            return _strips(points, reference)
        case 3:
            return _slices(points, inside, reference)
        case width:
            raise BadInput(f"{width} objectives: the compiled hypervolume has two or three; use measures.pareto")


def _strips(points: Array, reference: Array) -> tuple[Boxes, Boxes]:
    """From left to right: between two neighbours the highest point of all that lie further right bounds the strip."""
    points = points[jnp.argsort(points[:, 0])]
    x, y = points[:, 0], points[:, 1]
    left = jnp.concatenate([reference[:1], x])
    right = jnp.append(x, jnp.inf)
    height = jnp.append(jax.lax.cummax(y, reverse=True), reference[1])
    floor = jnp.full_like(left, reference[1])
    below = _boxes((left[:-1], right[:-1]), (floor[:-1], height[:-1]), reference=reference)
    above = _boxes((left, right), (height, jnp.full_like(left, jnp.inf)), reference=reference)
    return below, above


def _slices(points: Array, inside: Array, reference: Array) -> tuple[Boxes, Boxes]:
    """From the highest z down: each point adds to the staircase in the plane of x and y, and hides others from it.

    What it adds to the staircase is cut into strips, one below the point itself and one above each point that it
    hides: dominated below the point's z, free above it. So each point has one box when it comes and one when it goes;
    what is above the staircase in the end is free at every z.
    """
    points, inside = (v[jnp.argsort(points[:, 0])] for v in (points, inside))
    x, y, z = points.T
    low_x, low_y, low_z = reference

    def before(stairs):  # x of the stair to the left of each point
        through = jax.lax.cummax(jnp.where(stairs, x, low_x))
        return jnp.concatenate([low_x[None], through[:-1]])

    def add(stairs, q):
        covered = (stairs & (x >= x[q]) & (y >= y[q])).any()
        enters = inside[q] & ~covered
        hidden = enters & stairs & (x <= x[q]) & (y <= y[q])
        own_left = jnp.max(jnp.where(stairs & (x <= x[q]), x, low_x))
        own_floor = jnp.max(jnp.where(stairs & (x > x[q]), y, low_y))
        own = jnp.stack([own_left, x[q], own_floor, y[q]])
        going = jnp.where(hidden, jnp.array([before(stairs), x, y, jnp.full_like(x, y[q])]), 0.0)
        return (stairs & ~hidden).at[q].set(enters | stairs[q]), (enters, own, hidden, going)

    order = jnp.argsort(-z)
    stairs, (enters, own, hidden, going) = jax.lax.scan(add, jnp.zeros_like(inside), order)
    # A point goes at most once: its strip is that of the step that hid it.
    went, strip, level = hidden.any(axis=0), going.sum(axis=0), (hidden * z[order][:, None]).sum(axis=0)

    there = jnp.concatenate([enters, went])
    plane = jnp.concatenate([own, strip.T])
    left, right, floor, height = plane.T
    at = jnp.concatenate([z[order], level])
    endless = jnp.full_like(at, jnp.inf)
    width, depth = (left, right), (floor, height)
    below = _boxes(width, depth, (jnp.full_like(at, low_z), at), reference=reference, there=there)
    above = _boxes(width, depth, (at, endless), reference=reference, there=there)
    # The slots of points that never went are those of the strips above the last staircase.
    end = jnp.append(stairs, True)
    left = jnp.append(before(stairs), jnp.max(jnp.where(stairs, x, low_x)))
    right, floor = jnp.append(x, jnp.inf), jnp.append(y, low_y)
    endless = jnp.full_like(left, jnp.inf)
    last = _boxes(
        (left, right), (floor, endless), (jnp.full_like(left, low_z), endless), reference=reference, there=end
    )
    number = x.shape[0]
    goes = went[:, None]
    return below, Boxes(
        *(
            jnp.concatenate([a[:number], jnp.where(goes, a[number:], b[:number]), b[number:]])
            for a, b in zip(above, last, strict=True)
        )
    )


def _boxes(*sides: tuple[Array, Array], reference: Array, there: Array | bool = True) -> Boxes:
    lower, upper = (jnp.stack(ends, axis=-1) for ends in zip(*sides, strict=True))
    full = (upper > lower).all(axis=-1) & there
    return Boxes(*(jnp.where(full[:, None], ends, reference) for ends in (lower, upper)))
