"""`play`: a run's agent on tasks of one's own."""

from __future__ import annotations

from pathlib import Path

from tutelage import studies
from tutelage.cli import DONE, options
from tutelage.lab.errors import BadInput
from tutelage.lab.storage import record


def play(argv: list[str]) -> int:
    """Load the newest checkpoint of a run, evaluate its agent on a text of tasks, print the table, write the walks."""
    if options.wants_help(argv):
        from tutelage.cli import help

        usage = "tutelage play DIR --levels FILE"
        help.show(usage, "A run's agent on tasks of your own, given as text.", options.PlayOptions())
        return DONE
    parsed = options.read(options.PlayOptions, argv)
    folder = options.existing(options.one_word(parsed.words, "run folder"))
    chosen = parsed.options
    if not chosen.levels:
        raise BadInput("--levels: a text file of tasks is needed")
    text = Path(chosen.levels).read_text(encoding="utf-8")
    run = studies.load_run(folder)
    for note in run.notes:
        print(note)
    if run.study.play is None:
        raise BadInput(f"study {run.study.name!r} has no tasks as text")
    exhibits = run.study.play(run.config, run.program, run.state, text, chosen.levels, chosen.episodes, chosen.seed)
    _print_tables(exhibits)
    if chosen.out:
        out = Path(chosen.out)
        out.mkdir(parents=True, exist_ok=True)
        record.write_exhibits(out, exhibits)
        print(f"walks: {out}")
    return DONE


def _print_tables(exhibits: list) -> None:
    from rich.console import Console
    from rich.table import Table

    for exhibit in exhibits:
        if exhibit.rows:
            table = Table(*exhibit.rows[0], title=exhibit.title)
            for row in exhibit.rows[1:]:
                table.add_row(*row)
            Console().print(table)
