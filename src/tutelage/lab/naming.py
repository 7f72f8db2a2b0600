"""Objects by name, `package.module:name`, so that what is listed need not be loaded."""

from __future__ import annotations

import importlib
from typing import Any


def resolve(place: str) -> Any:
    """The object at `package.module:name` or `package.module:Class.name`; its module is imported now.

    Raises `ModuleNotFoundError` or `AttributeError` where there is none.
    """
    module, _, name = place.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
