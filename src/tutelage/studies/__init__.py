"""The table of studies: one module per paper, imported only when asked for."""

from __future__ import annotations

import importlib

from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.study import Study

STUDIES: dict[str, str] = {"minimax": "tutelage.studies.minimax"}


def load(name: str) -> Study:
    """The study of that name. Raises `BadInput` with the nearest name when there is none."""
    if name not in STUDIES:
        raise BadInput(f"study {name!r} is not one of {', '.join(STUDIES)}{nearest(name, STUDIES)}")
    return importlib.import_module(STUDIES[name]).study
