"""A hundred glyphs of 32×32 pixels, drawn from strokes: any two differ in at least four of twelve.

Which strokes a glyph has is a word of the binary lexicode of length 12 and distance 4 (128 words, the empty one left
out), so the set is the same on every machine and no two glyphs are near misses of each other.

References: Conway & Sloane (1986), Lexicographic codes.
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

from tutelage.lab.errors import BadInput

NUM_STROKES, DISTANCE = 12, 4
_LOW, _MIDDLE, _HIGH = 5.0, 15.5, 26.0


@cache
def codes() -> tuple[int, ...]:
    """The 127 words of the lexicode but the empty one, ascending; bit s says whether stroke s is drawn."""
    chosen = [0]
    for word in range(1, 1 << NUM_STROKES):
        if all((word ^ other).bit_count() >= DISTANCE for other in chosen):
            chosen.append(word)
    return tuple(chosen[1:])


def glyphs(count: int = 100) -> np.ndarray:
    """float32 (count, 32, 32) in [0, 1]: white strokes on black, edges smoothed over one pixel.

    Raises:
        BadInput: more than the 127 that there are.
    """
    if not 1 <= count <= len(codes()):
        raise BadInput(f"count = {count}: must be in [1, {len(codes())}]")
    strokes = _strokes()
    drawn = np.array([[code >> s & 1 for s in range(NUM_STROKES)] for code in codes()[:count]], np.float32)
    return (drawn[:, :, None, None] * strokes).max(1)


def _strokes() -> np.ndarray:
    y, x = np.mgrid[:32, :32].astype(np.float64)
    corners = {"nw": (_LOW, _LOW), "ne": (_HIGH, _LOW), "sw": (_LOW, _HIGH), "se": (_HIGH, _HIGH)}
    sides = {"n": (_MIDDLE, _LOW), "s": (_MIDDLE, _HIGH), "w": (_LOW, _MIDDLE), "e": (_HIGH, _MIDDLE)}
    at = {**corners, **sides}

    def line(*points: str) -> np.ndarray:
        pieces = [_to_segment(x, y, at[a], at[b]) for a, b in itertools.pairwise(points)]
        return np.min(pieces, axis=0)

    radius = np.hypot(x - _MIDDLE, y - _MIDDLE)
    distances = [
        line("nw", "ne"),
        line("sw", "se"),
        line("nw", "sw"),
        line("ne", "se"),
        line("n", "s"),
        line("w", "e"),
        line("nw", "se"),
        line("ne", "sw"),
        line("w", "n", "e"),
        line("w", "s", "e"),
        np.abs(radius - 6.5),
        np.maximum(radius - 2.5, 0.0),
    ]
    return np.clip(1.5 - np.array(distances), 0.0, 1.0).astype(np.float32)


def _to_segment(x: np.ndarray, y: np.ndarray, a: tuple[float, float], b: tuple[float, float]) -> np.ndarray:
    along = np.array(b) - np.array(a)
    t = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / (along @ along), 0.0, 1.0)
    return np.hypot(x - a[0] - t * along[0], y - a[1] - t * along[1])
