"""One job in a process of its own, started by `tutelage.cli.runs.side_by_side`.

The first line of standard input says what to run. The pipe then stays open and says nothing more: when it ends, the
process that started this one is gone, however it went, and this one leaves at once (the next to run the job goes on
from its last checkpoint).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from tutelage import studies
from tutelage.cli import DONE, FAILED, INTERRUPTED
from tutelage.cli.runs.driving import drive
from tutelage.cli.runs.jobs import Job
from tutelage.lab.configuration import from_json, to_json
from tutelage.lab.errors import BadInput


def order(job: Job) -> bytes:
    """The line that tells a child to run this job."""
    words: dict[str, Any] = {
        "study": job.study.name,
        "module": studies.STUDIES[job.study.name],
        "arm": job.arm,
        "preset": job.preset,
        "overrides": dict(job.overrides),
        "config": to_json(job.config),
        "seeds": list(job.seeds),
        "folder": str(job.folder),
    }
    return json.dumps(words).encode() + b"\n"


def main() -> None:
    """Run what standard input says; the exit code is that of a command."""
    pipe = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # processes of the job's own must not hold the pipe
    os.close(nothing)
    words = json.loads(_line(pipe))
    threading.Thread(target=_leave_with_parent, args=(pipe,), daemon=True).start()
    sys.exit(_run(words))


def _run(words: dict[str, Any]) -> int:
    from tutelage.lab.driver import Interrupted

    studies.STUDIES[words["study"]] = words["module"]
    study = studies.load(words["study"])
    config = from_json(study.config, words["config"])
    folder = Path(words["folder"])
    job = Job(study, words["arm"], words["preset"], words["overrides"], config, tuple(words["seeds"]), folder)
    try:
        return FAILED if drive(job, quiet=True) is None else DONE
    except Interrupted:
        return INTERRUPTED
    except BadInput as error:
        print(f"tutelage: {job.name} failed: {error}", file=sys.stderr)
        return FAILED


def _line(pipe: int) -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        piece = os.read(pipe, 65536)
        if not piece:
            os._exit(INTERRUPTED)
        text += piece
    return text


def _leave_with_parent(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os._exit(INTERRUPTED)
