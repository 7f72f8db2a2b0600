"""Exhibits in a terminal: their tables, as far as it is wide."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.lab.study import Exhibit


def print_tables(exhibits: Sequence[Exhibit], console: Console | None = None) -> None:
    """Print those of the exhibits that are tables; their texts are shown as they are, without markup."""
    console = console or Console()
    for exhibit in exhibits:
        if exhibit.rows:
            table = Table(title=Text(exhibit.title))
            for title in exhibit.rows[0]:
                table.add_column(Text(title))
            for row in exhibit.rows[1:]:
                table.add_row(*map(Text, row))
            console.print(table)
