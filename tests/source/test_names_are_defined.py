"""Every global name that the code reads is imported, assigned or built in.

Linters cannot tell: the shape strings of jaxtyping look like undefined names to them, so the rule is off.
"""

from __future__ import annotations

import builtins
import symtable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_MODULES = {"__file__", "__name__", "__doc__", "__path__", "__annotations__", "__spec__"}


def undefined_names(source: str, path: str) -> set[tuple[str, str]]:
    """(scope, name) of what would be a `NameError` when it is reached."""
    top = symtable.symtable(source, path, "exec")
    tables, stack = [], [top]
    while stack:
        tables.append(table := stack.pop())
        stack.extend(table.get_children())
    known = OF_MODULES | set(dir(builtins))
    known |= {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    known |= {s.get_name() for t in tables for s in t.get_symbols() if s.is_declared_global() and s.is_assigned()}
    return {
        (table.get_name(), symbol.get_name())
        for table in tables
        for symbol in table.get_symbols()
        if symbol.is_referenced() and (table is top or symbol.is_global()) and symbol.get_name() not in known
    }


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks"])
def test_every_name_that_is_read_is_defined(folder):
    found = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (names := undefined_names(path.read_text(), str(path)))
    }
    assert not found


def test_a_lost_import_is_found():
    source = "import os\ndef f(x: missing_annotation) -> None:\n    return os.path, json.dumps(x)\n"
    assert undefined_names("from __future__ import annotations\n" + source, "x.py") == {("f", "json")}
