"""Pictures of a finished run: which search finds what, what each retrieval is taken for, examples of the task."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tutelage.attention.tasks.words.associative_recall_config import ATTRIBUTES
from tutelage.attention.training import Training
from tutelage.backends.torch_program import TorchProgram
from tutelage.lab.drawing import plots
from tutelage.lab.drawing.pictures import gallery
from tutelage.lab.program import Program
from tutelage.lab.study import Exhibit
from tutelage.studies.compositional_attention.config import Config

CAPTIONS = {
    "search_mass": "Mean attention of each learned search on the token that each true search should find.",
    "competition": "One example: how much of each retrieval each token takes, search after search.",
    "cues": "The same example: the cues. Columns that match these up to their order are a solved task.",
}
"""Of contextual retrieval's arrays."""
LABELS = {
    "search_mass": ("learned", "true"),
    "competition": ("token", ""),
    "cues": ("token", ""),
    "usage": ("search", "retrieval"),
}
USAGE = "Mean share of each retrieval in what each search takes, over the examples shown."
MASS = "Mean share of each search on the token that holds the answer."
EXAMPLES = 6


def exhibits(config: Config, program: Program, state: Any) -> list[Exhibit]:
    """Everything the report shows of one run: its first seed's model, looked into."""
    assert isinstance(program, TorchProgram)
    system = program.system(0)
    assert isinstance(system, Training)
    system.enter(program.seed_state(state, 0))
    system.model.eval()
    with torch.no_grad():
        found = {name: np.asarray(values) for name, values in system.task.show(system.model, system.device).items()}
    shown = []
    if "retrieval_given_cue" in found:
        shown += _tables(found["retrieval_given_cue"])
    if config.task == "contextual_retrieval":
        shown += [_map(name, found[name], CAPTIONS[name]) for name in CAPTIONS if name in found]
    elif "competition" in found:
        shown.append(_map("usage", found["competition"].reshape(-1, *found["competition"].shape[-2:]).mean(0), USAGE))
    for name in ("mass_iid", "mass_ood"):
        if name in found:
            shown.append(_map(name, found[name], MASS, rows="iteration", columns="search"))
    for name in ("competition_iid", "competition_ood"):
        if name in found:
            shown += _by_attribute(name, found[name][-1])
    if "images" in found:
        shown.append(_gallery(found))
    if "commands" in found:
        shown.append(_decoded(found))
    if "nats" in found:
        shown.append(_surprise(found["nats"]))
    return shown


def _tables(tables: np.ndarray) -> list[Exhibit]:
    """Of each search: what each retrieval is taken for, (S, R, v_p)."""
    caption = "Mean competition of each retrieval (rows) given the true cue (columns). One-hot rows: solved."
    return [
        _map(f"retrievals-of-search-{search}", table, caption, rows="retrieval", columns="cue")
        for search, table in enumerate(tables, 1)
    ]


def _by_attribute(name: str, tables: np.ndarray) -> list[Exhibit]:
    """Of each search of the last iteration: what is taken by the attribute that is asked for, (3, S, R)."""
    caption = "Mean competition of each retrieval (columns) by the attribute that a question names (rows)."
    return [
        Exhibit(
            f"{name}-search-{search + 1}".replace("_", "-"),
            f"Retrievals of search {search + 1} by attribute, {name.removeprefix('competition_')}",
            caption,
            svg=plots.heat_map(
                tables[:, search],
                rows=ATTRIBUTES,
                columns=[f"retrieval {i + 1}" for i in range(tables.shape[-1])],
                title=f"Search {search + 1}",
                name=f"{name}-{search + 1}",
            ),
        )
        for search in range(tables.shape[1])
    ]


def _gallery(found: dict[str, np.ndarray]) -> Exhibit:
    """Examples of the test with the model's answers; where there are maps of them, where the CLS token looks."""
    rows = []
    for row in range(min(len(found["images"]), EXAMPLES)):
        images = found["images"][row]
        if images.ndim == 3 and images.shape[-1] != 3:
            cells = [(image, "") for image in images]
            cells[0] = (images[0], _words(found, row))
        else:
            cells = [(images, _words(found, row))]
        search = found.get("search")
        if search is not None and search.ndim == 5:  # (examples, iterations, S, rows, columns)
            last = search[row, -1]
            cells += [(each / max(each.max(), 1e-9), f"search {i}") for i, each in enumerate(last, 1)]
        rows.append(cells)
    caption = "Examples of the test. Grey maps: where each search of the answering token looks in the last iteration."
    return Exhibit("examples", "Examples", caption, svg=gallery(rows, title="Examples of the test"))


def _words(found: dict[str, np.ndarray], row: int) -> str:
    for answer in ("right", "predicted", "given", "probability"):
        if answer in found:
            value = found[answer][row]
            words = f"{value:.2f}" if isinstance(value, np.floating) else str(value)
            true = next((str(found[name][row]) for name in ("answers", "labels") if name in found), "")
            return f"{true}: {words}"
    return ""


def _decoded(found: dict[str, np.ndarray]) -> Exhibit:
    """Commands with what was wanted and what came."""
    rows = [("command", "actions", "decoded")]
    rows += [tuple(map(str, row)) for row in zip(found["commands"], found["actions"], found["decoded"], strict=True)]
    caption = "Commands whose actions are longer than any in training, where there are such."
    return Exhibit("decoded", "Commands, decoded", caption, rows=tuple(rows))


def _surprise(nats: np.ndarray) -> Exhibit:
    line = plots.Curve("surprise", np.arange(1, len(nats) + 1), nats)
    picture = plots.curves([line], title="Surprise and context", x_label="units read before", y_label="nats")
    caption = "Mean surprise at the next unit by how much was read before, over sixteen examples of the test."
    return Exhibit("surprise", "Surprise and context", caption, svg=picture)


def _map(name: str, table: np.ndarray, caption: str, *, rows: str = "", columns: str = "") -> Exhibit:
    title = name.replace("_", " ").replace("-", " ")
    rows, columns = rows or LABELS.get(name, ("", ""))[0], columns or LABELS.get(name, ("", ""))[1]
    picture = plots.heat_map(
        table,
        rows=[f"{rows} {i}".strip() for i in range(1, len(table) + 1)],
        columns=[f"{columns} {i}".strip() for i in range(1, table.shape[1] + 1)],
        title=title,
        name=name,
    )
    return Exhibit(name.replace("_", "-"), title.capitalize(), caption, svg=picture)
