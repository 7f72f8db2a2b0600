"""Drawn images: from the generator alone, every class with a look of its own."""

import numpy as np
import pytest

from tutelage.attention.tasks.pictures.image_drawn import draw

NAMES = ("digits", "street_digits", "symbols")


@pytest.mark.parametrize("name", NAMES)
def test_images_follow_from_the_generator_alone_and_have_ten_classes(name):
    first, again = (draw(np.random.default_rng(3), name, 200) for _ in range(2))
    assert np.array_equal(first.pixels, again.pixels) and np.array_equal(first.labels, again.labels)
    assert first.pixels.shape == (200, 3, 32, 32) and first.pixels.dtype == np.uint8
    assert set(first.labels.tolist()) == set(range(10))


@pytest.mark.parametrize(("name", "least"), [("digits", 0.7), ("street_digits", 0.4), ("symbols", 0.5)])
def test_the_nearest_image_by_contrast_tells_the_class_far_above_chance(name, least):
    known, asked = draw(np.random.default_rng(0), name, 1500), draw(np.random.default_rng(1), name, 150)

    def contrast(images):
        grey = images.pixels.mean(1).reshape(len(images.labels), 32, 32)[:, 4:28, 4:28].reshape(len(images.labels), -1)
        centred = grey - grey.mean(1, keepdims=True)
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)

    # Light on dark or dark on light: only the size of the correlation counts.
    nearest = np.abs(contrast(asked) @ contrast(known).T).argmax(1)
    assert (known.labels[nearest] == asked.labels).mean() > least


def test_digits_are_grey_and_the_others_are_not():
    for name, grey in (("digits", True), ("street_digits", False), ("symbols", False)):
        pixels = draw(np.random.default_rng(0), name, 20).pixels
        assert np.array_equal(pixels[:, 0], pixels[:, 1]) == grey
