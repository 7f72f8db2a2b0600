"""`run`: one arm of a study; `resume`: whatever was interrupted."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from tutelage import studies
from tutelage.cli import BAD_INPUT, DONE, FAILED, INTERRUPTED, options
from tutelage.cli.jobs import Job, home, plan, recorded
from tutelage.cli.reporting import publish
from tutelage.lab.configuration import configure, fields
from tutelage.lab.errors import BadInput
from tutelage.lab.overrides import parse_values
from tutelage.lab.study import RunResult, Study


def run(argv: list[str]) -> int:
    """Run one arm of a study, for one seed or several."""
    helping = options.wants_help(argv)
    if helping:
        argv = [word for word in argv if word not in ("--help", "-h")]
    parsed = options.read(options.RunOptions, argv, others=True)
    if not parsed.words:
        return _help_without_study() if helping else _choices()
    study, arm = named(options.one_word(parsed.words, "STUDY or STUDY/ARM"))
    overrides = parse_values(parsed.rest, fields(study.config))
    chosen = parsed.options
    if helping:
        _help(study, arm, chosen, overrides)
        return DONE
    if {"seed", "seeds"} <= parsed.given:
        raise BadInput("--seed and --seeds: give one of them")
    seeds = options.parse_seeds(chosen.seeds) if chosen.seeds else [chosen.seed]
    root = Path(chosen.out) if chosen.out else home(study, chosen.preset, overrides) / arm
    jobs, warnings = plan(study, arm, chosen.preset, overrides, seeds, root)
    if chosen.out and len(jobs) == 1:
        jobs = [Job(study, arm, chosen.preset, overrides, jobs[0].config, jobs[0].seeds, root)]
    warn(warnings)
    return run_jobs(jobs, quiet=chosen.quiet)


def named(word: str) -> tuple[Study, str]:
    """The study and arm of `STUDY` or `STUDY/ARM`; without an arm, the study's main one."""
    name, slash, arm = word.partition("/")
    study = studies.load(name)
    return study, arm if slash else study.main_arm or next(iter(study.arms))


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


def resume(argv: list[str]) -> int:
    """Go on with an interrupted run folder or study folder, exactly as it was configured."""
    if options.wants_help(argv):
        print("usage: tutelage resume DIR [--jobs N] [--quiet]\n\nGo on with an interrupted run or study folder.")
        return DONE
    parsed = options.read(options.ResumeOptions, argv)
    folder = options.existing(options.one_word(parsed.words, "run or study folder"))
    if (folder / "study.json").is_file():
        from tutelage.cli.studying import resume_study

        return resume_study(folder, jobs=parsed.options.jobs, quiet=parsed.options.quiet)
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder}: holds neither a run (config.json) nor a study (study.json)")
    return run_jobs([recorded(folder)], quiet=parsed.options.quiet)


def _choices() -> int:
    """What `run` says when it is not told what to run."""
    print("tutelage: run needs a study; there are", file=sys.stderr)
    for name in studies.STUDIES:
        study = studies.load(name)
        print(f"  {name}/{{{','.join(study.arms)}}}  --preset {{{','.join(study.presets)}}}", file=sys.stderr)
    return BAD_INPUT


def _help_without_study() -> int:
    from tutelage.cli import help

    text = f"Run one arm of a study: {', '.join(studies.STUDIES)}. `tutelage run STUDY --help` lists every setting too."
    help.show("tutelage run STUDY[/ARM]", text, options.RunOptions())
    return DONE


def _help(study: Study, arm: str, chosen: options.RunOptions, overrides: dict[str, object]) -> None:
    from tutelage.cli import help

    config, _ = configure(study, arm, chosen.preset, overrides)
    arms = "\n".join(f"  {name}: {entry.summary}" for name, entry in study.arms.items())
    presets = "\n".join(f"  {name}: {entry.summary}" for name, entry in study.presets.items())
    text = (
        f"{study.summary}\n\nArms\n{arms}\n\nPresets\n{presets}\n\n"
        f"The defaults below are those of {study.name}/{arm} at the preset {chosen.preset}."
    )
    help.show(f"tutelage run {study.name}[/ARM]", text, chosen, config)
