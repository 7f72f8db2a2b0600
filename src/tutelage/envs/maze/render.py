"""Pictures of levels and walks: SVG (still, animated, galleries), images, and the terminal.

Everything takes one level, with NumPy or JAX leaves. One cell is one unit of an SVG's own coordinates; around the map
runs the border of wall that the agent sees.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from tutelage.envs.maze.dynamics import MazeState
from tutelage.envs.maze.level import Level

_STYLE = """
.maze-wall{fill:#5b6676}.maze-floor{fill:#f4f1ea}.maze-goal{fill:#2f9e62}.maze-agent{fill:#d9482b}
.maze-sight{fill:#e0a11b;fill-opacity:.28}.maze-trail{fill:none;stroke:#d9482b;stroke-opacity:.45;stroke-width:.16;
stroke-linejoin:round;stroke-linecap:round}.maze-text{fill:#5b6676;font:.9px system-ui,sans-serif}
@media (prefers-color-scheme:dark){.maze-wall{fill:#8892a3}.maze-floor{fill:#1b2028}.maze-goal{fill:#4cc487}
.maze-agent{fill:#ff7a59}.maze-trail{stroke:#ff7a59}.maze-text{fill:#c6ccd6}}
@media print{.maze-wall{fill:#777}.maze-floor{fill:#fff}.maze-text{fill:#000}}
"""
_RGB = {"wall": (91, 102, 118), "floor": (244, 241, 234), "goal": (47, 158, 98), "agent": (217, 72, 43)}
_ANSI = {"wall": "\x1b[90m", "goal": "\x1b[1;32m", "agent": "\x1b[1;31m"}
_RESET = "\x1b[0m"
_PAUSE_STEPS = 8
"""How many steps an animation rests on its last position before it begins again."""


class Walk(NamedTuple):
    """Where an agent was: entry 0 is its start, entry t what t steps made of it."""

    x: Int[np.ndarray, "T"]
    y: Int[np.ndarray, "T"]
    direction: Int[np.ndarray, "T"]


def walk_of(states: MazeState, length: int | None = None) -> Walk:
    """The walk of one environment from its stacked states [T], cut after `length` of them."""
    return Walk(*(np.asarray(leaf)[:length] for leaf in (states.x, states.y, states.direction)))


def svg(
    level: Level,
    walk: Walk | None = None,
    *,
    title: str = "",
    cell: int = 16,
    view: int = 5,
    seconds_per_step: float = 0.15,
) -> str:
    """An SVG document of one level; with a walk, the agent goes it over and over, its field of view before it.

    `cell` is the side of a cell in pixels, `view` the side of the field of view in cells. The trail is drawn as well,
    so that a print, or a program that does not animate, shows the walk too.
    """
    height, width = np.asarray(level.wall).shape
    inner = _drawing(level, walk, view, seconds_per_step)
    return _document(inner, width + 2, height + 2, cell, title or f"Maze of {height}×{width} cells")


def gallery(
    levels: Sequence[Level], captions: Sequence[str], *, title: str = "", columns: int = 5, cell: int = 9
) -> str:
    """An SVG document of many levels, row by row, each with a line of text below it."""
    across = max((np.asarray(level.wall).shape[1] + 3 for level in levels), default=1)
    down = max((np.asarray(level.wall).shape[0] + 4 for level in levels), default=1)
    parts = []
    for index, (level, caption) in enumerate(zip(levels, captions, strict=True)):
        height = np.asarray(level.wall).shape[0]
        x, y = index % columns * across, index // columns * down
        parts.append(f'<g transform="translate({x} {y})">{_drawing(level, None, 0, 0.0)}')
        parts.append(f'<text class="maze-text" x="0" y="{height + 3}">{escape(caption)}</text></g>')
    rows = -(-len(levels) // columns)
    shown = min(columns, max(len(levels), 1))
    return _document("".join(parts), shown * across - 1, max(rows, 1) * down, cell, title or "Levels")


def image(level: Level, *, cell: int = 8) -> UInt8[np.ndarray, "Y X 3"]:
    """The level as an RGB picture of (H + 2)·cell × (W + 2)·cell pixels."""
    wall = np.pad(np.asarray(level.wall), 1, constant_values=True)
    colour = np.array([_RGB["floor"], _RGB["wall"]], dtype=np.uint8)[wall.astype(int)]
    x, y = np.asarray(level.goal) + 1
    colour[y, x] = _RGB["goal"]
    picture = colour.repeat(cell, axis=0).repeat(cell, axis=1)
    x, y = (np.asarray(level.agent) + 1) * cell
    row, column = np.mgrid[:cell, :cell] + 0.5
    right = np.abs(row - cell / 2) <= (cell - column) / 2  # a triangle that points right
    triangle = np.rot90(right, -int(level.direction))
    picture[y : y + cell, x : x + cell][triangle] = _RGB["agent"]
    return picture


def png(picture: UInt8[np.ndarray, "Y X 3"]) -> bytes:
    """An RGB picture as a PNG file."""
    height, width, _ = picture.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), picture.reshape(height, -1)], axis=1)  # 0: no filter

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def terminal(level: Level, *, colour: bool = True) -> str:
    """The level for a terminal, two characters a cell, with its border."""
    wall = np.pad(np.asarray(level.wall), 1, constant_values=True)
    cells = np.where(wall, "wall", "floor").tolist()
    for kind, (x, y) in (("goal", np.asarray(level.goal)), ("agent", np.asarray(level.agent))):
        cells[y + 1][x + 1] = kind
    marks = {"wall": "██", "floor": "  ", "goal": "◆ ", "agent": "▶▼◀▲"[int(level.direction)] + " "}

    def mark(kind: str) -> str:
        return f"{_ANSI[kind]}{marks[kind]}{_RESET}" if colour and kind in _ANSI else marks[kind]

    return "\n".join("".join(mark(kind) for kind in row) for row in cells)


def _document(inner: str, width: int, height: int, cell: int, title: str) -> str:
    size = f'width="{width * cell}" height="{height * cell}" style="max-width:100%;height:auto"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size} role="img">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>{inner}</svg>"
    )


def _drawing(level: Level, walk: Walk | None, view: int, seconds_per_step: float) -> str:
    """The level in cells, its border's corner at the origin."""
    wall = np.asarray(level.wall)
    height, width = wall.shape
    goal_x, goal_y = (int(place) + 1 for place in np.asarray(level.goal))
    parts = [
        f'<path class="maze-wall" fill-rule="evenodd" d="M0 0h{width + 2}v{height + 2}h-{width + 2}z'
        f'M1 1h{width}v{height}h-{width}z"/>',
        f'<rect class="maze-floor" x="1" y="1" width="{width}" height="{height}"/>',
        f'<path class="maze-wall" d="{_runs(wall)}"/>',
        f'<rect class="maze-goal" x="{goal_x + 0.12:g}" y="{goal_y + 0.12:g}" width=".76" height=".76" rx=".16"/>',
    ]
    if walk is None:
        start = Walk(*(np.asarray(place)[None] for place in (*np.asarray(level.agent), level.direction)))
        parts.append(_agent(start, "", 0.0))
    else:
        half = view / 2
        sight = f'<rect class="maze-sight" x="-.5" y="-{half:g}" width="{view}" height="{view}"/>'
        trail = " ".join(f"{x + 1.5:g},{y + 1.5:g}" for x, y in zip(walk.x.tolist(), walk.y.tolist(), strict=True))
        parts.append(f'<polyline class="maze-trail" points="{trail}"/>')
        parts.append(_agent(walk, sight, seconds_per_step))
    return "".join(parts)


def _runs(wall: np.ndarray) -> str:
    """Path data of all wall cells, a rectangle for each horizontal run of them."""
    edges = np.diff(np.pad(wall, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)  # in the same order as the starts
    runs = zip((rows + 1).tolist(), (starts + 1).tolist(), (ends - starts).tolist(), strict=True)
    return "".join(f"M{x} {y}h{length}v1h-{length}z" for y, x, length in runs)


def _agent(walk: Walk, sight: str, seconds_per_step: float) -> str:
    """A triangle at the start of the walk, moved along it when the walk is longer than one entry."""
    arrow = '<path class="maze-agent" d="M.42 0L-.34 .38V-.38z"/>'
    x, y = walk.x + 1.5, walk.y + 1.5
    # Turns add up without wrapping at a full circle: otherwise the step from up to right would spin backwards.
    turns = (np.diff(walk.direction) + 1) % 4 - 1
    angle = 90 * (int(walk.direction[0]) + np.concatenate([[0], np.cumsum(turns)]))
    move = rotate = ""
    if len(x) > 1:
        rest = np.full(_PAUSE_STEPS, len(x) - 1)
        frames = np.concatenate([np.arange(len(x)), rest])
        timing = f'dur="{len(frames) * seconds_per_step:.4g}s" repeatCount="indefinite"'
        places = ";".join(f"{x[frame]:g} {y[frame]:g}" for frame in frames)
        angles = ";".join(str(angle[frame]) for frame in frames)
        move = f'<animateTransform attributeName="transform" type="translate" values="{places}" {timing}/>'
        rotate = f'<animateTransform attributeName="transform" type="rotate" values="{angles}" {timing}/>'
    return (
        f'<g transform="translate({x[0]:g} {y[0]:g})">{move}<g transform="rotate({angle[0]})">'
        f"{rotate}{sight}{arrow}</g></g>"
    )
