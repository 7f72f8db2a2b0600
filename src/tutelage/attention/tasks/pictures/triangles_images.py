"""Pictures of three clusters of points, which make an equilateral triangle or do not. NumPy only.

A cluster has points at whole distances up to `jitter` from its centre in both directions, each with its mirror image,
drawn as white discs on black. The third centre of an equilateral triangle is the second turned by 60° about the first,
truncated to whole pixels. Label 0: equilateral.

Different from the official generator: sides have a shortest length (there, clusters may fall together, and such a
picture is called equilateral or not by chance), and triangles that are not equilateral have a longest side of at least
`min_ratio` times the shortest (there, random triangles may be equilateral to the pixel and yet be called otherwise).
Where truncation spoils an equilateral one beyond that ratio, it is drawn anew; so the two kinds never overlap.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.attention.tasks.pictures.triangles_config import TrianglesConfig

_TURN = np.array([[math.cos(math.pi / 3), math.sin(math.pi / 3)], [-math.sin(math.pi / 3), math.cos(math.pi / 3)]])


def draw_corners(
    rng: np.random.Generator, labels: NDArray[np.integer[Any]], config: TrianglesConfig
) -> NDArray[np.int64]:
    """(n, 3, 2) whole centres (x, y), each in [jitter, size - jitter], for n labels: 0 equilateral, 1 not."""
    corners = np.zeros((len(labels), 3, 2), np.int64)
    pending = np.arange(len(labels))
    while len(pending):
        drawn = rng.integers(config.jitter, config.size - config.jitter + 1, (len(pending), 3, 2))
        third = drawn[:, 0] + (drawn[:, 1] - drawn[:, 0]) @ _TURN.T
        equal = labels[pending] == 0
        drawn[equal, 2] = np.trunc(third[equal]).astype(np.int64)
        inside = ((drawn[:, 2] >= config.jitter) & (drawn[:, 2] <= config.size - config.jitter)).all(-1)
        sides = side_lengths(drawn)
        shortest = sides.min(-1)
        unequal = sides.max(-1) >= config.min_ratio * shortest
        good = inside & (shortest >= max(config.min_side, 1)) & (unequal != equal)
        corners[pending[good]] = drawn[good]
        pending = pending[~good]
    return corners


def side_lengths(corners: NDArray[Any]) -> NDArray[np.float64]:
    """(n, 3) px of (n, 3, 2) corners."""
    return np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1)


def render(rng: np.random.Generator, corners: NDArray[np.int64], config: TrianglesConfig) -> NDArray[np.uint8]:
    """(n, 1, size, size), 0 or 255; discs are cut off at the border."""
    count = len(corners)
    offsets = rng.integers(-config.jitter, config.jitter + 1, (count, 3, config.points // 2, 2))
    points = np.concatenate([corners[:, :, None] + offsets, corners[:, :, None] - offsets], 2).reshape(count, -1, 1, 2)
    # One more than the squared radius rounds the disc as usual rasterisers do: radius 2 is 5×5 without its corners.
    disc = np.mgrid[-config.radius : config.radius + 1, -config.radius : config.radius + 1].reshape(2, -1).T
    disc = disc[(disc**2).sum(-1) <= config.radius**2 + 1]
    border = config.radius + config.jitter
    images = np.zeros((count, config.size + 2 * border + 1, config.size + 2 * border + 1), np.uint8)
    at = points + disc + border
    images[np.arange(count)[:, None, None], at[..., 1], at[..., 0]] = 255
    return np.ascontiguousarray(images[:, None, border : border + config.size, border : border + config.size])


def draw(rng: np.random.Generator, count: int, config: TrianglesConfig) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(pictures (count, 1, size, size), labels (count,)), either label with probability 1/2."""
    labels = rng.integers(2, size=count)
    return render(rng, draw_corners(rng, labels, config), config), labels
