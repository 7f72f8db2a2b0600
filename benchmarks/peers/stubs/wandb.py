"""Stands in for Weights & Biases where a peer's script insists on importing it: keeps the configuration only."""

from __future__ import annotations

from typing import Any


class Configuration(dict):
    """What `wandb.config` is to a script: a mapping with `as_dict`."""

    def as_dict(self) -> dict[str, Any]:
        return dict(self)


config = Configuration()


def init(config: Any = None, **_: Any) -> None:
    """Remember the configuration as `wandb.config`."""
    globals()["config"] = Configuration(config or {})


def define_metric(*_: Any, **__: Any) -> None:
    """Nothing is logged, so no metric needs an axis."""


def log(*_: Any, **__: Any) -> None:
    """Dropped."""
