"""Objects by name, "package.module:name": what is only listed need not be loaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

Named = str | Callable[..., Any]
"""A function, or where it is: "package.module:function"."""


def resolve(place: Named) -> Any:
    """The object at "package.module:name" or "package.module:Class.name"; its module is imported now.

    What is no text is given back as it is. Raises `ModuleNotFoundError` or `AttributeError` where there is none.
    """
    if not isinstance(place, str):
        return place
    module, _, names = place.partition(":")
    found: Any = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found
