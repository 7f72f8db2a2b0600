"""Terminals that cannot show every character: what they lack is spelt in others, and nothing ends in a traceback."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

_SPELT = {
    "→": "->", "←": "<-", "…": "...", "×": "x", "·": "-", "≥": ">=", "≤": "<=", "≠": "!=", "≈": "~", "±": "+-",
    "−": "-", "–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "ε": "eps", "ρ": "rho", "γ": "gamma",
    "β": "beta",
    "α": "alpha", "λ": "lambda", "τ": "tau", "μ": "mu", "π": "pi", "σ": "sigma", "Σ": "sum", "∞": "inf", "√": "sqrt",
    "✓": "+", "✗": "x", "●": "*", "•": "*", "│": "|", "─": "-", "━": "-", "⊥": "_|_", "½": "1/2", "²": "^2", "³": "^3",
}  # fmt: skip


def tolerate() -> None:
    """Let the standard streams spell what their encoding lacks."""
    codecs.register_error("tutelage", _spelt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where somebody has put another object in their place
            stream.reconfigure(errors="tutelage")


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_in_ascii(character) for character in characters), error.end


def _in_ascii(character: str) -> str:
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _SPELT.get(character) or plain or "?"
