"""Equilateral triangles: their numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.attention.config import PAPER, AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.lab.errors import BadInput
from tutelage.lab.settings import setting

CODE = "official code"


@dataclass(frozen=True)
class TrianglesConfig:
    """Pictures of three clusters of points."""

    size: int = setting(64, "Height and width of a picture.", interval="[16, inf)", unit="px", source=PAPER)
    patch: int = setting(4, "Height and width of a patch.", interval="[1, inf)", unit="px", source=PAPER)
    points: int = setting(8, "Of a cluster, in pairs that mirror each other.", interval="[2, inf)", source=CODE)
    jitter: int = setting(
        1, "Points are so far from their cluster's centre.", interval="[0, inf)", unit="px", source=CODE
    )
    radius: int = setting(2, "Of the disc that is drawn for a point.", interval="[0, inf)", unit="px", source=CODE)
    min_side: float = setting(12.0, "Shortest side of any triangle.", interval="[0, inf)", unit="px")
    min_ratio: float = setting(
        1.25, "Longest side over shortest of a triangle that is not equilateral.", interval="(1, 4]"
    )
    test_images: int = setting(10_000, "Pictures of the test.", interval="[1, inf)", source=CODE)


PUBLISHED_ATTENTION = AttentionConfig(searches=4, retrievals=4, d_select=32)
PUBLISHED_NETWORK = NetworkConfig(width=256, iterations=4)
PUBLISHED_OPTIMIZER = OptimizerConfig(learning_rate=1e-4, curve="cosine", batch_size=64)
PUBLISHED_UPDATES = 200 * 50_000 // 64
"""200 epochs of 50,000 pictures, which are never the same."""
QUICK = TrianglesConfig(size=32, min_side=10.0, test_images=2_000)
QUICK_NETWORK = NetworkConfig(width=64, iterations=2)
QUICK_UPDATES = 10_000 // 64


def check(config: TrianglesConfig) -> None:
    """Raises BadInput where no triangle fits, or where points, patches or ratio cannot be."""
    if config.size % config.patch:
        raise BadInput(f"patch = {config.patch}: must divide size = {config.size}")
    if config.points % 2:
        raise BadInput(f"points = {config.points}: must be even, as they mirror each other")
    if config.min_side > config.size / 2:
        raise BadInput(f"min_side = {config.min_side}: must be at most half of size = {config.size}")
