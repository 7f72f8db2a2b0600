"""Galleries: the pixels that were given come back, words are escaped, equal input gives equal bytes."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from matplotlib.image import imread

from tutelage.lab.drawing.pictures import gallery
from tutelage.lab.errors import BadInput


def images(svg: str) -> list[np.ndarray]:
    return [
        np.round(imread(io.BytesIO(base64.b64decode(data)))[..., :3] * 255).astype(np.uint8)
        for data in re.findall(r"base64,([^\"]+)", svg)
    ]


def test_pixels_come_back_as_they_were():
    rng = np.random.default_rng(0)
    colours, grey, shares = rng.integers(0, 256, (4, 6, 3)), rng.integers(0, 256, (5, 5)), rng.random((3, 2))
    svg = gallery([[(colours, "a"), (grey, "b")], [(shares, "c")]], title="three")
    found = images(svg)
    assert (found[0] == colours).all()
    assert (found[1] == grey[..., None]).all()
    assert (found[2] == np.round(shares * 255)[..., None]).all()
    assert svg == gallery([[(colours, "a"), (grey, "b")], [(shares, "c")]], title="three")


def test_words_are_words_and_the_document_is_well_formed():
    svg = gallery([[(np.zeros((2, 2)), "<b>&</b>")]], title="<script>")
    root = ElementTree.fromstring(svg)
    assert [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")] == ["<b>&</b>"]
    assert "<script>" not in svg


@pytest.mark.parametrize("rows", [[], [[]]])
def test_nothing_to_show_is_refused(rows):
    with pytest.raises(BadInput, match="rows: there is no image"):
        gallery(rows, title="none")


@pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 2, 4)])
def test_an_image_of_another_shape_is_refused(shape):
    with pytest.raises(BadInput, match="image: has shape"):
        gallery([[(np.zeros(shape), "x")]], title="none")
