"""Files that people give and take: texts in UTF-8, and tables as JSON lines or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic

TABLES = (".jsonl", ".csv")
"""Endings of tables that `write_rows` writes."""


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, without a byte-order mark.

    Raises:
        BadInput: in one line: no such file, a folder, unreadable, or not UTF-8 (naming the byte).
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None


def check_table(path: str | Path) -> Path:
    """Where a table is to go. Raises `BadInput`, before any work, if it ends otherwise or its folder is not there."""
    target = Path(path)
    if target.suffix not in TABLES:
        raise BadInput(f"{path}: must end in {' or '.join(TABLES)}")
    if not target.parent.is_dir():
        raise BadInput(f"{path}: there is no folder {target.parent}")
    return target


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a table, all or nothing: an object on each line of `.jsonl`, or `.csv` with the first row's names as head.

    In CSV, what is neither text nor number is written as JSON.
    """
    target = check_table(path)
    text = io.StringIO(newline="")
    if target.suffix == ".jsonl":
        text.writelines(json.dumps(atomic.plain(dict(row)), ensure_ascii=False) + "\n" for row in rows)
    elif rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    atomic.write_bytes(target, text.getvalue().encode())
    return target


def _cell(value: Any) -> Any:
    value = atomic.plain(value)
    return value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)
