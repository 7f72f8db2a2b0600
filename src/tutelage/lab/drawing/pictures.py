"""Small images in rows, with words under them, as one SVG document that stands alone."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.image import imsave
from numpy.typing import ArrayLike

from tutelage.lab.drawing.svg import plain
from tutelage.lab.errors import BadInput

_GAP, _LINE, _LETTER = 10, 15, 6.2


def gallery(rows: Sequence[Sequence[tuple[ArrayLike, str]]], *, title: str, height: int = 96) -> str:
    """Images beside each other, each with a line of words.

    Args:
        rows: of pairs of an image and its words. An image is (h, w) or (h, w, 3), whole numbers in [0, 255] or numbers
            in [0, 1]; without colours it is grey, 0 black.
        title: what is seen, for those who cannot see it.
        height: of each image, px; images keep their shape, and their pixels stay sharp.

    Raises:
        BadInput: no image, or one of another shape.
    """
    if not any(rows):
        raise BadInput("rows: there is no image; give at least one")
    body, width, y = [], 0, 0
    for row in rows:
        x = 0
        for image, words in row:
            pixels = _pixels(image)
            wide = max(round(height * pixels.shape[1] / pixels.shape[0]), 1)
            words = plain(words, max(math.floor(wide / _LETTER), 3))
            body.append(
                f'<image x="{x}" y="{y}" width="{wide}" height="{height}" image-rendering="pixelated" '
                f'href="data:image/png;base64,{_png(pixels)}"/>'
                f'<text x="{x}" y="{y + height + _LINE - 3}" font-size="11">{escape(words)}</text>'
            )
            x += wide + _GAP
        width, y = max(width, x - _GAP), y + height + _LINE + _GAP
    size = f'viewBox="0 0 {width} {y}" width="{width}" height="{y}"'
    own = "svg{color:#22262c}@media (prefers-color-scheme:dark){svg{color:#e4e2dc}}text{fill:currentColor}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" style="font-family:system-ui,sans-serif">'
        f"<title>{escape(plain(title))}</title><style>{own}</style>{''.join(body)}</svg>"
    )


def _pixels(image: ArrayLike) -> np.ndarray:
    """(h, w, 3) bytes."""
    array = np.asarray(image)
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] != 3):
        raise BadInput(f"image: has shape {array.shape}; must be (h, w) or (h, w, 3), not empty")
    if np.issubdtype(array.dtype, np.floating) or array.dtype == bool:
        array = np.round(np.clip(np.nan_to_num(array.astype(np.float64)), 0, 1) * 255)
    array = np.clip(array, 0, 255).astype(np.uint8)
    return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    imsave(file, pixels, format="png", metadata={"Software": ""})
    return base64.b64encode(file.getvalue()).decode("ascii")
