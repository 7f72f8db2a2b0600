"""`report`: the HTML page and the table of one or several run or study folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tutelage import studies
from tutelage.cli import DONE, options
from tutelage.lab.errors import BadInput
from tutelage.lab.study import Study


def report(argv: list[str]) -> int:
    """Write one self-contained page over the folders, and print the table."""
    if options.wants_help(argv):
        from tutelage.cli import help

        help.show("tutelage report DIR…", "One self-contained HTML page, and a table here.", options.ReportOptions())
        return DONE
    parsed = options.read(options.ReportOptions, argv)
    if not parsed.words:
        raise BadInput("report needs at least one run or study folder")
    folders = [options.existing(word) for word in parsed.words]
    publish(folders, study_of(folders), Path(parsed.options.out) if parsed.options.out else None)
    return DONE


def publish(folders: Sequence[Path], study: Study | None, out: Path | None = None, *, table: bool = True) -> None:
    """Write the page, print the table and say where the page is."""
    from tutelage.lab.report import terminal_table, write_report

    page = write_report(folders, out, study=study, known=studies.STUDIES)
    if table:
        terminal_table(folders, study=study, known=studies.STUDIES)
    print(f"report: {page}", flush=True)


def study_of(folders: Sequence[Path]) -> Study | None:
    """The one study that all runs in the folders are of; None when they are of several, or of one unknown here."""
    names: set[str] = set()
    for folder in folders:
        for pattern in ("study.json", "config.json", "*/config.json", "*/*/config.json"):
            for file in folder.glob(pattern):
                try:
                    names.add(str(json.loads(file.read_bytes())["study"]))
                except (OSError, ValueError, KeyError, TypeError):
                    continue  # the report itself names what it cannot read
    known = names & studies.STUDIES.keys()
    return studies.load(known.pop()) if len(names) == len(known) == 1 else None
