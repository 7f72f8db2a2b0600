"""The table of studies: a package for each paper, imported only when asked for.

All are alike: `__init__` is the table of contents (`study`), `config` and `checks` are its settings, `arms` and
`claims` what is run and judged, `build` composes the system out of its family, `exhibits` and `panels` draw, `tools`
are what users do with their own data. Runs are loaded again by `tutelage.studies.loading`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tutelage.lab.errors import BadInput, nearest

if TYPE_CHECKING:
    from tutelage.lab.study import Study

STUDIES: dict[str, str] = {
    "compositional_attention": "tutelage.studies.compositional_attention",
    "minimax": "tutelage.studies.minimax",
    "mixing": "tutelage.studies.mixing",
    "mogfn": "tutelage.studies.mogfn",
    "reason_rl": "tutelage.studies.reason_rl",
}


def load(name: str) -> Study:
    """The study of that name. Raises `BadInput` with the nearest name when there is none."""
    if name not in STUDIES:
        raise BadInput(f"study {name!r} is not one of {', '.join(STUDIES)}{nearest(name, STUDIES)}")
    return importlib.import_module(STUDIES[name]).study
