"""`run`: one arm of a study."""

from __future__ import annotations

import sys
from pathlib import Path

from tutelage import studies
from tutelage.cli import BAD_INPUT, DONE, options
from tutelage.cli.runs.driving import run_jobs, warn
from tutelage.cli.runs.jobs import Job, home, plan
from tutelage.lab.configuration import configure, fields
from tutelage.lab.errors import BadInput
from tutelage.lab.overrides import parse_values
from tutelage.lab.study import Study


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
