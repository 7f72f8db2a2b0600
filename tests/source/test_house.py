"""The house as its imports draw it: no circle of files, no crowded folder, no name that is two things."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import grimp
import networkx
import pytest

SOURCE = Path(__file__).parents[2] / "src"
EQUALS = 15
"""Modules that a folder may hold beside its `__init__.py`; DESIGN's "about fifteen"."""
PACKAGES = sorted(file.parent for file in SOURCE.rglob("__init__.py"))


@cache
def imports() -> networkx.DiGraph:
    """Every module and whom it imports, imports inside functions included."""
    graph = grimp.build_graph("tutelage", cache_dir=None)
    drawn = networkx.DiGraph()
    for module in graph.modules:
        drawn.add_edges_from((module, other) for other in graph.find_modules_directly_imported_by(module))
    return drawn


def test_no_circle_of_files():
    assert [sorted(found) for found in networkx.strongly_connected_components(imports()) if len(found) > 1] == []


def test_a_circle_would_be_found():
    graph = imports().copy()
    below = next(graph.successors("tutelage.cli.runs.running"))
    graph.add_edge(below, "tutelage.cli.runs.running")
    assert [found for found in networkx.strongly_connected_components(graph) if len(found) > 1]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.relative_to(SOURCE).as_posix())
def test_a_package_is_a_room(package: Path):
    """Few equals; a paragraph that says what is inside; no function under the name of a module."""
    modules = {file.stem for file in package.glob("*.py")} - {"__init__", "__main__"}
    folders = {folder.name for folder in package.iterdir() if (folder / "__init__.py").is_file()}
    assert len(modules) <= EQUALS, f"{len(modules)} modules: divide it by the field's own words"
    assert not modules & folders
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    about = ast.get_docstring(tree) or ""
    assert len(about) > 60, "say what is inside, and where to begin reading"
    bound = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert not bound & (modules | folders), "a module and what it holds share a path"


def test_no_room_without_a_subject():
    names = {"utils", "util", "common", "helpers", "misc"}
    assert [file for file in SOURCE.rglob("*.py") if file.stem in names or names & set(file.parts)] == []
