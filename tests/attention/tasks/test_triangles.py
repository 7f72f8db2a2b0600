"""Triangles: labels are what the corners say, the two kinds never overlap, pictures show the corners."""

import math

import numpy as np
import pytest

from tutelage.attention.tasks.pictures.triangles_config import QUICK, TrianglesConfig, check
from tutelage.attention.tasks.pictures.triangles_images import draw, draw_corners, render
from tutelage.lab.errors import BadInput


def sides(triangle):
    return sorted(math.dist(triangle[i], triangle[i - 1]) for i in range(3))


@pytest.mark.parametrize("config", [TrianglesConfig(), QUICK])
def test_kinds_never_overlap_and_every_side_is_long_enough(config):
    labels = np.arange(600) % 2
    corners = draw_corners(np.random.default_rng(0), labels, config).tolist()
    for label, triangle in zip(labels, corners, strict=True):
        short, _, long = sides(triangle)
        assert short >= config.min_side
        assert (long / short >= config.min_ratio) == (label == 1)
        assert all(config.jitter <= of <= config.size - config.jitter for corner in triangle for of in corner)


def test_the_third_corner_is_the_second_turned_by_60_degrees_and_truncated():
    corners = draw_corners(np.random.default_rng(1), np.zeros(300, int), TrianglesConfig())
    for first, second, third in corners:
        angle = -math.pi / 3
        dx, dy = second - first
        turned = (
            first[0] + math.cos(angle) * dx - math.sin(angle) * dy,
            first[1] + math.sin(angle) * dx + math.cos(angle) * dy,
        )
        assert tuple(third) == (int(turned[0]), int(turned[1]))


def test_without_jitter_a_picture_is_three_discs():
    config = TrianglesConfig(jitter=0)
    corners = np.array([[[10, 20], [40, 20], [25, 50]], [[0, 0], [63, 30], [30, 30]]])
    images = render(np.random.default_rng(0), corners, config)
    assert images.shape == (2, 1, 64, 64) and set(np.unique(images)) == {0, 255}
    expected = np.zeros((2, 64, 64), bool)
    for picture, triangle in enumerate(corners):
        for x, y in triangle:
            for dx in range(-2, 3):
                for dy in range(-2, 3):
                    inside = abs(dx) + abs(dy) < 4 and 0 <= x + dx < 64 and 0 <= y + dy < 64
                    if inside:
                        expected[picture, y + dy, x + dx] = True
    assert np.array_equal(images[:, 0] == 255, expected)


def test_clusters_are_symmetric_about_their_corners():
    corners = np.array([[[12, 12], [50, 12], [30, 50]]])
    image = render(np.random.default_rng(3), corners, TrianglesConfig())[0, 0]
    for x, y in corners[0]:
        around = image[y - 4 : y + 5, x - 4 : x + 5]
        assert around.any() and np.array_equal(around, around[::-1, ::-1])


def test_labels_are_balanced_and_drawn_from_the_generator_alone():
    images, labels = draw(np.random.default_rng(4), 1000, QUICK)
    assert 430 < labels.sum() < 570
    again, _ = draw(np.random.default_rng(4), 1000, QUICK)
    assert np.array_equal(images, again)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrianglesConfig(patch=5), "patch = 5: must divide size = 64"),
        (TrianglesConfig(points=7), "points = 7: must be even"),
        (TrianglesConfig(min_side=40.0), "min_side = 40.0: must be at most half of size = 64"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(config, message):
    with pytest.raises(BadInput, match=message):
        check(config)
