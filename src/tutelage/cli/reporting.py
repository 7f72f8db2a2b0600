"""`report`: the HTML page and the table of one or several run or study folders."""

from __future__ import annotations

from pathlib import Path

from tutelage.cli import DONE, options
from tutelage.lab.errors import BadInput


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
    from tutelage.lab.report import terminal_table, write_report

    page = write_report(folders, Path(parsed.options.out) if parsed.options.out else None)
    terminal_table(folders)
    print(f"report: {page}")
    return DONE
