"""HTML as values: whatever is not `Markup` is escaped, so that nothing from outside becomes a tag."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

_VOID = frozenset({"br", "hr", "img", "meta", "wbr"})
_SEPARATORS = ("/", "_", ".")  # none of them is part of an escape or of <wbr>


class Markup(str):
    """Text that is HTML already. Only this module and code that draws SVG make it."""

    __slots__ = ()


def text(value: Any) -> Markup:
    """A value as escaped text. Control characters and lone surrogates, which no page may hold, become spaces."""
    if isinstance(value, Markup):
        return value
    plain = "".join(" " if _forbidden(letter) else letter for letter in str(value))
    return Markup(html.escape(plain))


def element(tag: str, /, *children: Any, **attributes: Any) -> Markup:
    """`<tag …>children</tag>`. Children may be nested in lists; None is nothing. `class_` is class, `_` is hyphen.

    An attribute of None or False is left out, True stands without a value.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        written.append(f" {word}" if value is True else f' {word}="{text(value)}"')
    opening = f"<{tag}{''.join(written)}>"
    return Markup(opening if tag in _VOID else f"{opening}{join(children)}</{tag}>")


def join(children: Iterable[Any]) -> Markup:
    """Children one after another, each escaped unless it is `Markup`."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, list | tuple):
            parts.append(join(child))
        else:
            parts.append(text(child))
    return Markup("".join(parts))


def name(word: str) -> Markup:
    """A long identifier that may break after its separators."""
    escaped = text(word)
    for separator in _SEPARATORS:
        escaped = escaped.replace(separator, separator + "<wbr>")
    return Markup(escaped)


def _forbidden(letter: str) -> bool:
    code = ord(letter)
    return (code < 32 and letter not in "\n\t") or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000
