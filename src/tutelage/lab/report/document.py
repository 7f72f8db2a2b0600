"""One self-contained HTML page: style inside, no network, no script; and pages of exhibits alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tutelage.lab.report import exhibits
from tutelage.lab.report.markup import Markup, element
from tutelage.lab.report.style import CSS
from tutelage.lab.storage import atomic
from tutelage.lab.study import Exhibit

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(title: str, body: Markup) -> str:
    """The page as text."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="referrer", content="no-referrer"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(CSS)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def write_exhibits_page(path: str | Path, title: str, about: str, shown: Sequence[Exhibit]) -> Path:
    """A page of exhibits under a head, as tools end with it.

    Args:
        about: a sentence or two: what was read, what was done. Shown as plain text, as everything else.

    Raises:
        BadInput: the page cannot be written.
    """
    target = Path(path)
    body = element(
        "body",
        element("header", element("h1", title), element("p", about), class_="top"),
        element("main", exhibits.comparisons([exhibits.shown(each) for each in shown], title="")),
        element("footer", "Written by tutelage. This file needs no network and runs no script."),
    )
    try:
        atomic.write_bytes(target, document(f"{title} · Tutelage", body).encode("utf-8"))
    except OSError as error:
        raise atomic.unwritable(target, error) from error
    return target
