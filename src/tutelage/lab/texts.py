"""Text files that people give: UTF-8, with or without the mark that some editors put in front."""

from __future__ import annotations

from pathlib import Path

from tutelage.lab.errors import BadInput


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
