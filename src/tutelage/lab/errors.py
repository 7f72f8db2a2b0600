"""The errors that a person should read as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class BadInput(ValueError):
    """What was given cannot be used; the message names the field, the value and what is allowed, in one line."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest of the `known` names, or the empty string when none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


@contextmanager
def under(part: str) -> Iterator[None]:
    """Refusals from inside, which begin with a field of a part, name it in full: `low = 2: …` as `beta.low = 2: …`."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{part}.{error}") from None
