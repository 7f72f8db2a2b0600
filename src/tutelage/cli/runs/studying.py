"""`study`: all arms over all seeds, then what became of the paper's claims, and the report."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage import studies
from tutelage.cli import DONE, FAILED, INTERRUPTED, options
from tutelage.cli.runs.driving import drive, headline, warn
from tutelage.cli.runs.jobs import Job, StudyPlan, home, plan, read_plan
from tutelage.lab.configuration import configure, fields, preset_of
from tutelage.lab.errors import BadInput
from tutelage.lab.overrides import parse_values
from tutelage.lab.study import RunResult, Study

if TYPE_CHECKING:
    from tutelage.cli.runs.side_by_side import Outcome


def study(argv: list[str]) -> int:
    """Run a whole study, or go on with it."""
    helping = options.wants_help(argv)
    if helping:
        argv = [word for word in argv if word not in ("--help", "-h")]
    parsed = options.read(options.StudyOptions, argv, others=True)
    if not parsed.words and helping:
        return _help(None, parsed.options, {})
    if not parsed.words:
        raise BadInput(f"study needs a name: one of {', '.join(studies.STUDIES)}")
    chosen = parsed.options
    subject = studies.load(options.one_word(parsed.words, "STUDY"))
    overrides = parse_values(parsed.rest, fields(subject.config))
    if helping:
        return _help(subject, chosen, overrides)
    preset = preset_of(subject, chosen.preset)
    arms = chosen.arms or preset.arms or tuple(subject.arms)
    seeds = options.parse_seeds(chosen.seeds) if chosen.seeds else list(range(preset.seeds))
    folder = Path(chosen.out) if chosen.out else home(subject, chosen.preset, overrides)
    todo = StudyPlan(subject.name, chosen.preset, arms, tuple(seeds), overrides)
    return _conduct(subject, todo, folder, jobs=chosen.jobs, quiet=chosen.quiet)


def resume_study(folder: Path, *, jobs: int, quiet: bool) -> int:
    """Go on with a study folder as its `study.json` says."""
    found = read_plan(folder)
    return _conduct(studies.load(found.study), found, folder, jobs=jobs, quiet=quiet)


def _conduct(subject: Study, todo: StudyPlan, folder: Path, *, jobs: int, quiet: bool) -> int:
    """Run what is not finished yet, then judge and report what there is."""
    planned = _jobs(subject, todo, folder)
    finished = {job.folder: job.finished() for job in planned}
    todo.write(folder)
    from tutelage.cli.runs.side_by_side import side_by_side
    from tutelage.lab.driver import Interrupted

    labelled = [(f"[{position}/{len(planned)}] {job.name}", job) for position, job in enumerate(planned, 1)]
    for label, job in labelled:
        if finished[job.folder]:
            print(f"{label}: already finished")
    left = [(label, job) for label, job in labelled if not finished[job.folder]]
    count = min(_at_a_time(subject, todo, jobs), len(left))
    failed: dict[Path, str] = {}
    try:
        outcomes = side_by_side(left, count, folder, quiet=quiet) if count > 1 else _one_by_one(left, quiet)
        with contextlib.closing(outcomes):
            for label, job, results in outcomes:
                if results is None:
                    failed[job.folder] = job.name
                else:
                    print(f"{label}: {headline(subject, results)}", flush=True)
    except Interrupted:
        print(f"tutelage: interrupted; go on with: tutelage resume {shlex.quote(str(folder))}", file=sys.stderr)
        return INTERRUPTED
    _conclude(subject, [job for job in planned if job.folder not in failed], folder)
    if failed:
        print(
            f"tutelage: {len(failed)} of {len(planned)} runs failed ({', '.join(failed.values())}); "
            f"the claims are judged on the others; try again with: tutelage resume {shlex.quote(str(folder))}",
            file=sys.stderr,
        )
    return FAILED if failed else DONE


def _at_a_time(subject: Study, todo: StudyPlan, jobs: int) -> int:
    """How many runs at a time: as asked, else as the preset says, else as the study says; 0 means one per core."""
    from tutelage.cli.runs.side_by_side import num_cores

    if jobs < 0:
        of_preset = preset_of(subject, todo.preset).jobs
        jobs = subject.jobs if of_preset is None else of_preset
    return jobs or num_cores()


def _one_by_one(left: Sequence[tuple[str, Job]], quiet: bool) -> Generator[Outcome]:
    """Run the labelled jobs in this process; the outcome of each."""
    from tutelage.cli.runs.side_by_side import Outcome

    for label, job in left:
        if not quiet:
            print(label, flush=True)
        try:
            results = drive(job, quiet=quiet)
        except BadInput as error:
            print(f"tutelage: {job.name} failed: {error}", file=sys.stderr)
            results = None
        yield Outcome(label, job, results)


def _jobs(subject: Study, todo: StudyPlan, folder: Path) -> list[Job]:
    """All runs of the plan. Every arm's configuration is checked before the first run starts."""
    jobs: list[Job] = []
    said: set[str] = set()
    if repeated := {arm for arm in todo.arms if todo.arms.count(arm) > 1}:
        raise BadInput(f"arms = {', '.join(todo.arms)}: {', '.join(sorted(repeated))} is given twice")
    for arm in todo.arms:
        planned, warnings = plan(subject, arm, todo.preset, todo.overrides, todo.seeds, folder / arm)
        jobs += planned
        warn([f"{arm}: {warning}" for warning in warnings if warning not in said])
        said |= set(warnings)
    return jobs


def _conclude(subject: Study, jobs: Sequence[Job], folder: Path) -> None:
    """Judge the claims over all finished runs; write `claims.json` and the report; print both in short."""
    from tutelage.cli.reporting import publish
    from tutelage.lab.storage.record import read_results
    from tutelage.lab.verdicts import verdicts_of, write_claims
    from tutelage.measures.claims import judge_all

    results: list[RunResult] = [result for job in jobs for result in read_results(job.folder)]
    write_claims(folder / "claims.json", verdicts_of(judge_all(subject.claims, results)))
    publish([folder], subject)


def _help(subject: Study | None, chosen: options.StudyOptions, overrides: Mapping[str, Any]) -> int:
    from tutelage.cli import help

    text = "Run all arms of a study over all seeds, judge the paper's claims and write the report."
    if subject is None:
        help.show("tutelage study STUDY", f"{text} Studies: {', '.join(studies.STUDIES)}.", chosen)
        return DONE
    arm = subject.main_arm or next(iter(subject.arms))
    config, _ = configure(subject, arm, chosen.preset, overrides)
    text += f"\n\nThe defaults below are those of {subject.name}/{arm} at the preset {chosen.preset}."
    help.show(f"tutelage study {subject.name}", text, chosen, config)
    return DONE
