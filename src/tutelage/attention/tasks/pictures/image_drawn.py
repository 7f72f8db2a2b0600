"""Images of ten classes that need no files: characters of the fonts that matplotlib brings, drawn by Pillow.

- `digits`: light on black, in seven fonts, three sizes, three slants, moved and dimmed (in place of FashionMNIST);
- `street_digits`: coloured, on another colour, between two other digits (in place of SVHN);
- `symbols`: ten symbols, coloured, on a coloured texture (in place of CIFAR-10).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tutelage.attention.tasks.pictures.image_files import Images
from tutelage.attention.tasks.pictures.image_mix_config import SIZE

CLASSES = 10
_DIGITS, _SYMBOLS = "0123456789", "●■▲◆★✚♥♣☾✈"
_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "DejaVuSansMono",
    "STIXGeneral",
    "cmr10",
)
_SLANTS = (-15.0, 0.0, 15.0)
_SIZES = (18, 22, 26)
_NOISE = 12.0

Pixels = NDArray[Any]


def draw(rng: np.random.Generator, name: str, count: int) -> Images:
    """`count` images of `digits`, `street_digits` or `symbols`, their classes uniform."""
    labels = rng.integers(CLASSES, size=count)
    match name:
        case "digits":
            mask = _placed(rng, labels, _DIGITS, (0, 0), 4)
            light = rng.uniform(150, 255, (count, 1, 1, 1)).astype(np.float32)
            pixels = np.repeat(light * mask[:, None], 3, 1)
        case "street_digits":
            ground, ink = _two_colours(rng, count)
            pixels = _painted(
                _painted(ground, ink, _neighbours(rng, labels)), ink, _placed(rng, labels, _DIGITS, (0, 0), 2)
            )
        case "symbols":
            ground, ink = _two_colours(rng, count)
            coarse = rng.uniform(-60, 60, (count, 3, 4, 4)).astype(np.float32).repeat(SIZE // 4, 2).repeat(SIZE // 4, 3)
            pixels = _painted(ground + coarse, ink, _placed(rng, labels, _SYMBOLS, (0, 0), 4))
        case _:
            raise ValueError(f"{name!r} is not drawn here")
    noisy = pixels + _NOISE * rng.standard_normal((count, 1, SIZE, SIZE), np.float32)
    return Images(noisy.clip(0, 255).astype(np.uint8), labels)


def _two_colours(rng: np.random.Generator, count: int) -> tuple[Pixels, Pixels]:
    """Two (count, 3, 1, 1) of very different brightness, either the darker."""
    dark = rng.uniform(0, 90, (count, 3, 1, 1)).astype(np.float32)
    light = rng.uniform(165, 255, (count, 3, 1, 1)).astype(np.float32)
    swap = rng.random((count, 1, 1, 1)) < 0.5
    return np.where(swap, dark, light), np.where(swap, light, dark)


def _painted(ground: Pixels, ink: Pixels, mask: Pixels) -> Pixels:
    return (ground + (ink - ground) * mask[:, None]).astype(np.float32)


def _neighbours(rng: np.random.Generator, labels: NDArray[np.int64]) -> Pixels:
    left, right = (_placed(rng, rng.integers(CLASSES, size=len(labels)), _DIGITS, (at, 0), 2) for at in (-17, 17))
    return np.maximum(left, right)


def _placed(
    rng: np.random.Generator, classes: NDArray[np.int64], characters: str, at: tuple[int, int], jitter: int
) -> Pixels:
    """(n, 32, 32) in [0, 1]: one character each, its middle `at` (right, down) of the image's ± `jitter` px."""
    bank = _bank(characters)
    chosen = bank[classes, rng.integers(bank.shape[1], size=len(classes))]
    moved = rng.integers(-jitter, jitter + 1, (len(classes), 2)) + at
    window = SIZE + np.arange(SIZE)
    rows, columns = window - moved[:, 1:], window - moved[:, :1]
    return chosen[np.arange(len(classes))[:, None, None], rows[:, :, None], columns[:, None]].astype(
        np.float32
    ) / np.float32(255)


@cache
def _bank(characters: str) -> NDArray[np.uint8]:
    """(characters, variants, 96, 96): each in the middle, in every size, slant and font (symbols in one)."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    # Only the first of the fonts has symbols.
    fonts = _FONTS if characters == _DIGITS else _FONTS[:1]
    drawn = [
        [
            _character(ImageFont.truetype(str(folder / f"{font}.ttf"), size), character, slant)
            for font in fonts
            for size in _SIZES
            for slant in _SLANTS
        ]
        for character in characters
    ]
    return np.asarray(drawn)


def _character(font: ImageFont.FreeTypeFont, character: str, slant: float) -> NDArray[np.uint8]:
    canvas = Image.new("L", (3 * SIZE, 3 * SIZE))
    left, top, right, bottom = font.getbbox(character)
    middle = 1.5 * SIZE
    ImageDraw.Draw(canvas).text(
        (middle - (left + right) / 2, middle - (top + bottom) / 2), character, fill=255, font=font
    )
    return np.asarray(canvas.rotate(slant, Image.Resampling.BILINEAR))
