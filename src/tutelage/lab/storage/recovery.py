"""Where a run goes on: the newest checkpoint of which all that lies behind it is there, and what was lost in words."""

from __future__ import annotations

import math

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic, checkpoint
from tutelage.lab.storage.lines import Extent, cut
from tutelage.lab.storage.record import RunFolder


def recover(
    run: RunFolder, *, config_hash: str, best_figure: str = ""
) -> tuple[checkpoint.Checkpoint | None, list[str]]:
    """The checkpoint to go on from (None: from the beginning), with the record cut back to what lies behind it.

    A result is taken away: it is written again at the end. Call it under the folder's lock.

    Returns:
        the checkpoint, and a line for everything that was damaged or gone.

    Raises:
        BadInput: there are checkpoints and none can be used. Then nothing was changed: work is never thrown away
            in silence.
    """
    standing = run.standing()
    found, notes = checkpoint.latest_good(
        run.checkpoints, config_hash=config_hash, refuse=lambda found: run.behind(found.path, found.extra)
    )
    if standing.word == "damaged" and not notes:
        notes = [f"{standing.problem}; {'going on from ' + found.path.name if found else 'starting over'}"]
    try:
        run.result_file.unlink(missing_ok=True)
    except OSError as error:
        raise atomic.unwritable(run.result_file, error) from error
    cut(run.metrics_file, Extent(*found.extra["metrics"]).size if found else 0)
    if best_figure and best_so_far(run, best_figure) > -math.inf:
        try:
            checkpoint.load(run.checkpoints / checkpoint.BEST, config_hash=config_hash)
        except BadInput as error:
            notes.append(f"{error}; the best so far is lost, and only a better one will be kept")
    return found, notes


def best_so_far(run: RunFolder, figure: str) -> float:
    """The largest evaluation of a figure in the record, as the mean over the seeds; -inf where there is none."""
    values: dict[int, list[float]] = {}
    for line in run.metrics():
        if line["kind"] == "evaluation" and figure in line:
            values.setdefault(line["step"], []).append(line[figure])
    return max((math.fsum(found) / len(found) for found in values.values()), default=-math.inf)
