"""Sort-of-CLEVR: pictures of six coloured objects, questions about them and the exact answers. NumPy only.

Each of six colours has one object, a square or a disc of radius 5 px, in a picture of 75×75. Centres are whole and at
least 10 px apart. A question is one-hot in 18: 6 for a colour, 6 for a second colour (ternary only), 3 for the kind, 3
for the subtype:

| kind | subtype 0 | subtype 1 | subtype 2 |
|---|---|---|---|
| unary | shape? | in the left half? | in the upper half? |
| binary | shape of the nearest other | shape of the farthest | how many have its shape, itself among them |
| ternary, A and B | others in the box that A and B span | is another on the line AB? | others with an obtuse angle |

The last asks how many others make an obtuse or right triangle with A and B. The ten answers are yes, no, rectangle,
circle, 1, …, 6; ternary counts start from 0, and are told as count + 1.

Different from the official generator (Compositional-Attention, `sort_of_clevr_generator.py`):
1. its nearest object sets the object's own squared distance to 999, so that with no other within 31.6 px an object is
   its own nearest; here the object itself is left out;
2. its ternary questions are drawn from five colours, never of the sixth; here from all;
3. it finds angles by arccos of rounded numbers, which is NaN for some triples on a line, and takes a right angle for
   acute or obtuse as rounding falls; here the signs of whole scalar products tell, and three on a line are no triangle;
4. its band around the line AB, measured upright as here, divides by Δx + 1e-10, so that rounding decides for A above B;
   here |Δx·(y - y_A) - Δy·(x - x_A)| <= band·|Δx| in whole numbers: on an upright line are its own points only.
It is also left at the setting which makes the binary questions of another data set; that one is not rebuilt.
Of objects at equal distance the first in the order of colours counts, as there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.lab.errors import BadInput

SIZE, RADIUS, OBJECTS = 75, 5, 6
COLOURS = ("red", "green", "blue", "orange", "grey", "yellow")
RGB = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 156, 0], [128, 128, 128], [255, 255, 0]], np.uint8)
ANSWERS = ("yes", "no", "rectangle", "circle", "1", "2", "3", "4", "5", "6")
KINDS = ("unary", "binary", "ternary")
QUESTION_SIZE = 18
_YES, _NO, _RECTANGLE, _CIRCLE, _ONE = range(5)

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Scenes:
    """Objects of n pictures in the order of `COLOURS`.

    Attributes:
        centres: (n, 6, 2) whole px, x to the right and y downwards, 5 to 69.
        square: (n, 6) bool; the others are discs.
    """

    centres: Whole
    square: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, of: Any) -> Scenes:
        return Scenes(self.centres[of], self.square[of])


@dataclass(frozen=True)
class Questions:
    """About n pictures, q each; all fields (n, q) whole.

    Attributes:
        kind: 0 unary, 1 binary, 2 ternary.
        subtype: 0 to 2.
        first: colour, 0 to 5.
        second: colour, other than the first; -1 unless ternary.
    """

    kind: Whole
    subtype: Whole
    first: Whole
    second: Whole

    def __getitem__(self, of: Any) -> Questions:
        return Questions(self.kind[of], self.subtype[of], self.first[of], self.second[of])


def draw_scenes(rng: np.random.Generator, count: int) -> Scenes:
    """Objects placed one after another, uniformly among the places that are far enough from the earlier ones."""
    centres = np.zeros((count, OBJECTS, 2), np.int64)
    for placed in range(OBJECTS):
        pending = np.arange(count)
        while len(pending):
            centres[pending, placed] = rng.integers(RADIUS, SIZE - RADIUS, (len(pending), 2))
            away = centres[pending, :placed] - centres[pending, placed, None]
            pending = pending[((away**2).sum(-1) < (2 * RADIUS) ** 2).any(-1)]
    return Scenes(centres, rng.random((count, OBJECTS)) < 0.5)


def draw_questions(rng: np.random.Generator, scenes: int, each: int) -> Questions:
    """`each` unary, then as many binary, then ternary questions of a picture; subtypes and colours are uniform."""
    shape = (scenes, 3 * each)
    kind = np.broadcast_to(np.repeat(np.arange(3), each), shape).copy()
    first = rng.integers(OBJECTS, size=shape)
    second = (first + rng.integers(1, OBJECTS, shape)) % OBJECTS
    return Questions(kind, rng.integers(3, size=shape), first, np.where(kind == 2, second, -1))


def encode(questions: Questions) -> NDArray[np.float32]:
    """(n, q, 18) one-hot parts: colour, second colour or zeros, kind, subtype."""
    colours = np.concatenate([np.eye(OBJECTS, dtype=np.float32), np.zeros((1, OBJECTS), np.float32)])
    three = np.eye(3, dtype=np.float32)
    parts = [colours[questions.first], colours[questions.second], three[questions.kind], three[questions.subtype]]
    return np.concatenate(parts, -1)


def describe(questions: Questions) -> list[str]:
    """One line for each of q questions about one picture (fields (q,))."""
    words = (
        ("shape of {}?", "{} in the left half?", "{} in the upper half?"),
        ("shape nearest to {}?", "shape farthest from {}?", "how many have the shape of {}?"),
        (
            "one more than those between {} and {}?",
            "any on the line through {} and {}?",
            "one more than the obtuse triangles on {} and {}?",
        ),
    )
    fields = (questions.kind, questions.subtype, questions.first, questions.second)
    rows = zip(*(field.tolist() for field in fields), strict=True)
    return [words[kind][sub].format(COLOURS[first], COLOURS[second]) for kind, sub, first, second in rows]


def answer(scenes: Scenes, questions: Questions, band: int = 12) -> Whole:
    """(n, q) places in `ANSWERS`. `band` is how far above or below the line an object may be, px.

    Raises:
        BadInput: as many rows of questions as pictures are needed.
    """
    if len(scenes) != len(questions.kind):
        raise BadInput(f"questions of {len(questions.kind)} pictures: must be of {len(scenes)}, as there are scenes")
    row = np.arange(len(scenes))[:, None]
    unary = _unary(scenes)[row, questions.subtype, questions.first]
    binary = _binary(scenes)[row, questions.subtype, questions.first]
    answers = np.where(questions.kind == 0, unary, binary)
    about = np.nonzero(questions.kind == 2)
    answers[about] = _ternary(scenes[about[0]], questions[about], band)
    return answers


def render(scenes: Scenes) -> NDArray[np.uint8]:
    """(n, 3, 75, 75) RGB on white; later colours cover earlier ones where corners of squares meet."""
    images = np.full((len(scenes), SIZE, SIZE, 3), 255, np.uint8)
    dy, dx = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1].reshape(2, -1)
    inside = dx**2 + dy**2 <= RADIUS**2
    for colour in range(OBJECTS):
        for square, stamp in ((True, slice(None)), (False, inside)):
            rows = np.flatnonzero(scenes.square[:, colour] == square)[:, None]
            centre = scenes.centres[rows, colour]
            images[rows, centre[..., 1] + dy[stamp], centre[..., 0] + dx[stamp]] = RGB[colour]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _unary(scenes: Scenes) -> Whole:
    halves = np.where(2 * scenes.centres < SIZE, _YES, _NO)
    return np.stack([_shape(scenes.square), halves[..., 0], halves[..., 1]], 1)


def _binary(scenes: Scenes) -> Whole:
    distance = ((scenes.centres[:, :, None] - scenes.centres[:, None]) ** 2).sum(-1)
    farthest = distance.argmax(-1)
    own = np.arange(OBJECTS)
    distance[:, own, own] = np.iinfo(np.int64).max
    row = np.arange(len(scenes))[:, None]
    shape = _shape(scenes.square)
    alike = (scenes.square[:, :, None] == scenes.square[:, None]).sum(-1)
    return np.stack([shape[row, distance.argmin(-1)], shape[row, farthest], _ONE - 1 + alike], 1)


def _ternary(scenes: Scenes, questions: Questions, band: int) -> Whole:
    """Answers to m ternary questions (fields (m,)), each about its own scene."""
    row, index = np.arange(len(scenes)), np.arange(OBJECTS)
    p = scenes.centres.astype(np.int32)
    a, b = p[row, None, questions.first], p[row, None, questions.second]
    third = (index != questions.first[:, None]) & (index != questions.second[:, None])
    boxed = ((np.minimum(a, b) <= p) & (p <= np.maximum(a, b))).all(-1)
    across, down = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    cross = across * (p - a)[..., 1] - down * (p - a)[..., 0]
    line = np.abs(cross) <= band * np.abs(across)
    corners = [((b - a) * (p - a)).sum(-1), ((a - b) * (p - b)).sum(-1), ((a - p) * (b - p)).sum(-1)]
    obtuse = (np.min(corners, 0) <= 0) & (cross != 0)
    counts = [_ONE + (of & third).sum(-1) for of in (boxed, obtuse)]
    return np.choose(questions.subtype, [counts[0], np.where((line & third).any(-1), _YES, _NO), counts[1]])


def _shape(square: NDArray[np.bool_]) -> Whole:
    return np.where(square, _RECTANGLE, _CIRCLE)
