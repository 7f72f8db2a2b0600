"""`resume`: go on with whatever was interrupted."""

from __future__ import annotations

from tutelage.cli import DONE, options
from tutelage.cli.runs.driving import run_jobs
from tutelage.cli.runs.jobs import recorded
from tutelage.cli.runs.studying import resume_study
from tutelage.lab.errors import BadInput


def resume(argv: list[str]) -> int:
    """Go on with an interrupted run folder or study folder, exactly as it was configured."""
    if options.wants_help(argv):
        print("usage: tutelage resume DIR [--jobs N] [--quiet]\n\nGo on with an interrupted run or study folder.")
        return DONE
    parsed = options.read(options.ResumeOptions, argv)
    folder = options.existing(options.one_word(parsed.words, "run or study folder"))
    if (folder / "study.json").is_file():
        return resume_study(folder, jobs=parsed.options.jobs, quiet=parsed.options.quiet)
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder}: holds neither a run (config.json) nor a study (study.json)")
    return run_jobs([recorded(folder)], quiet=parsed.options.quiet)
