"""Multi-task images: their numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.attention.config import PAPER, AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.attention.tasks.pictures.triangles_config import TrianglesConfig
from tutelage.lab.settings import setting

SIZE = 32
"""Height and width of every image, px."""
PUBLISHED_SOURCES = ("cifar10", "fashion_mnist", "svhn", "triangles")
DRAWN_SOURCES = ("digits", "street_digits", "symbols", "triangles")
"""What needs no files: grey digits, coloured digits between others, coloured symbols on texture, triangles."""
TRIANGLES = TrianglesConfig(size=SIZE, min_side=10.0)


@dataclass(frozen=True)
class ImageMixConfig:
    """Which sources of images, each a task with a CLS token of its own."""

    sources: tuple[str, ...] = setting(
        PUBLISHED_SOURCES,
        "Tasks: digits, street_digits, symbols and triangles are drawn; any other name is a local copy in `folder`.",
        source=PAPER,
    )
    folder: str = setting("", "Where the local copies are, each in a folder of its source's name.")
    patch: int = setting(4, "Height and width of a patch.", interval="[1, 32]", unit="px", source=PAPER)
    shift: int = setting(
        4,
        "Training images of local copies are moved by up to this.",
        interval="[0, 16]",
        unit="px",
        source="official code",
    )
    mirrored: tuple[str, ...] = setting(
        ("cifar10", "fashion_mnist"),
        "Local copies whose training images are mirrored at random (in the official code also svhn, digits).",
    )
    test_images: int = setting(10_000, "Test images of a source, at most.", interval="[1, inf)")


PUBLISHED_ATTENTION = AttentionConfig(searches=4, retrievals=4, d_select=32)
PUBLISHED_NETWORK = NetworkConfig(width=256, iterations=4)
PUBLISHED_OPTIMIZER = OptimizerConfig(learning_rate=1e-4, batch_size=32)
"""32 images of each source."""
PUBLISHED_UPDATES = 100 * (73_257 // 32 + 1)
"""100 passes over the training images of svhn."""
