"""Jobs in this process: each to its end, and what came of it in one line."""

from __future__ import annotations

import sys
import traceback

from tutelage.cli import DONE, FAILED, INTERRUPTED
from tutelage.cli.reporting import publish
from tutelage.cli.runs.jobs import Job
from tutelage.lab.errors import BadInput
from tutelage.lab.process.interruption import leave
from tutelage.lab.study import RunResult, Study


def run_jobs(jobs: list[Job], *, quiet: bool) -> int:
    """Run the jobs one after another; one that fails does not keep the others from running."""
    from tutelage.lab.driver import Interrupted

    finished = [job.finished() for job in jobs]
    failed: list[Job] = []
    for position, (job, done) in enumerate(zip(jobs, finished)):
        if len(jobs) > 1 and not quiet:
            print(f"[{position + 1}/{len(jobs)}] {job.name}", flush=True)
        if done:
            print(f"{job.folder}: already finished; its figures are in {job.folder / 'result.json'}")
            continue
        try:
            results = drive(job, quiet=quiet)
        except Interrupted as interruption:
            others = "; the same command goes on with all seeds" if len(jobs) > 1 else ""
            print(f"tutelage: {interruption}{others}", file=sys.stderr)
            return INTERRUPTED
        if results is None:
            failed.append(job)
        else:
            print(f"{job.folder}: {headline(job.study, results)}", flush=True)
            publish([job.folder], job.study, table=False)
    return FAILED if failed else DONE


def drive(job: Job, *, quiet: bool) -> list[RunResult] | None:
    """Run one job to its end. A failure is said in one line (the traceback goes to `failure.txt`) and gives None.

    Raises `Interrupted` when the user stopped it, and `BadInput` before any work.
    """
    from tutelage.lab import driver

    try:
        return driver.run(
            job.study,
            job.arm,
            job.preset,
            job.config,
            job.seeds,
            job.folder,
            overrides=job.overrides,
            quiet=quiet,
            leave=None if quiet else _leave,  # a quiet one may be a child, whose parent waits for what it saves
        )
    except (driver.Interrupted, BadInput):
        raise
    except driver.Diverged as error:
        print(f"tutelage: {job.name} failed: {error}", file=sys.stderr)
    except Exception as error:
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "failure.txt").write_text(traceback.format_exc(), encoding="utf-8")
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"tutelage: {job.name} failed: {reason[:300]} (see {job.folder / 'failure.txt'})", file=sys.stderr)
    return None


def headline(study: Study, results: list[RunResult]) -> str:
    """The headline figure of each seed, in one line; of arms that have none, the first figure that they have."""
    names = [study.headline, *(name for result in results for name in result.figures)]
    name = next((name for name in names if any(name in result.figures for result in results)), study.headline)
    values = ", ".join(f"{result.figures.get(name, float('nan')):.4g}" for result in results)
    return f"{name} {values} (seed {', '.join(str(result.seed) for result in results)})"


def warn(warnings: list[str]) -> None:
    """Say a study's warnings, one line each."""
    for warning in warnings:
        print(f"tutelage: warning: {warning}", file=sys.stderr)


def _leave(sentence: str) -> None:
    print(f"tutelage: {sentence}", file=sys.stderr)
    leave(INTERRUPTED)
