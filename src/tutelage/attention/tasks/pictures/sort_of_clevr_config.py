"""Sort-of-CLEVR: its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.attention.config import AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.lab.settings import setting

CODE = "official code"


@dataclass(frozen=True)
class SortOfClevrConfig:
    """How many pictures, and how many questions about each."""

    train_images: int = setting(9_800, "Pictures of training.", interval="[1, inf)", source=CODE)
    test_images: int = setting(200, "Pictures of the test.", interval="[1, inf)", source=CODE)
    questions: int = setting(
        10, "Questions about a picture, of each of the three kinds.", interval="[1, inf)", source=CODE
    )
    band: int = setting(
        12,
        "An object this far above or below the line through two others is on it.",
        interval="[0, inf)",
        unit="px",
        source=CODE,
    )


PUBLISHED_ATTENTION = AttentionConfig(searches=4, retrievals=2, d_select=32)
PUBLISHED_NETWORK = NetworkConfig(width=256, iterations=4)
PUBLISHED_OPTIMIZER = OptimizerConfig(learning_rate=1e-4, batch_size=64)
PUBLISHED_UPDATES = 100 * 9_800 * 30 // 64
"""100 epochs over all questions."""
