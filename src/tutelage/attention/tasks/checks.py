"""Each task's settings, looked at before any data is made (no PyTorch)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tutelage.attention.tasks import contextual_retrieval_config, relational_config
from tutelage.attention.tasks.pictures import triangles_config
from tutelage.attention.tasks.words import associative_recall_config, byte_language_config

CHECKS: dict[str, Callable[[Any], object]] = {
    "contextual_retrieval": contextual_retrieval_config.check,
    "triangles": triangles_config.check,
    "relational": relational_config.check,
    "associative_recall": associative_recall_config.check,
    "byte_language": byte_language_config.check,
}
"""Of tasks whose settings can contradict each other."""


def check(task: str, config: Any) -> None:
    """Raises `BadInput`: one line naming the field of that task, its value and what is allowed."""
    if task in CHECKS:
        CHECKS[task](config)
