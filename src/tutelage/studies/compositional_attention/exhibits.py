"""Pictures of a finished run: which search finds what, what each retrieval is taken for, examples of the task."""

from __future__ import annotations

from typing import Any

import numpy as np

from tutelage.attention.training import Training
from tutelage.backends.torch_program import TorchProgram
from tutelage.lab import plots
from tutelage.lab.program import Program
from tutelage.lab.study import Exhibit
from tutelage.studies.compositional_attention.config import Config

CAPTIONS = {
    "search_mass": "Mean attention of each learned search on the token that each true search should find.",
    "competition": "One example: how much of each retrieval each token takes, search after search.",
    "cues": "The same example: the cues. Columns that match these up to their order are a solved task.",
    "usage": "Mean share of each retrieval in each search, over all tokens of the test.",
    "overlap": "How alike the searches are: 1 where two look at the same tokens, 0 where never.",
}


def exhibits(config: Config, program: Program, state: Any) -> list[Exhibit]:
    """Everything the report shows of one run: its first seed's model, looked into."""
    assert isinstance(program, TorchProgram)
    system = program.system(0)
    assert isinstance(system, Training)
    system.enter(program.seed_state(state, 0))
    system.model.eval()
    shown = []
    for name, values in system.task.show(system.model, system.device).items():
        if isinstance(values, Exhibit):
            shown.append(values)
        elif name == "retrieval_given_cue":
            shown += _tables(np.asarray(values))
        elif name in CAPTIONS:
            shown.append(_map(name, np.asarray(values), CAPTIONS[name]))
    return shown


def _tables(tables: np.ndarray) -> list[Exhibit]:
    """Of each search: what each retrieval is taken for, (S, R, v_p)."""
    return [
        _map(
            f"retrievals-of-search-{search}",
            table,
            "Mean competition of each retrieval (rows) given the true cue (columns). One-hot rows: solved.",
            columns="cue",
            rows="retrieval",
        )
        for search, table in enumerate(tables, 1)
    ]


def _map(name: str, table: np.ndarray, caption: str, *, rows: str = "", columns: str = "") -> Exhibit:
    title = name.replace("_", " ").replace("-", " ")
    picture = plots.heat_map(
        table,
        rows=[f"{rows} {i}".strip() for i in range(1, len(table) + 1)],
        columns=[f"{columns} {i}".strip() for i in range(1, table.shape[1] + 1)],
        title=title,
        name=name,
    )
    return Exhibit(name.replace("_", "-"), title.capitalize(), caption, svg=picture)
