"""`list`: what there is; `where`: which symbol is which equation of a paper."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from tutelage import studies
from tutelage.cli import DONE, FAILED, options
from tutelage.lab.errors import BadInput
from tutelage.lab.study import Study


def list_studies(argv: list[str]) -> int:
    """Print a line for every study, or all about one; with the verdicts of study folders under `runs/`."""
    if options.wants_help(argv):
        from tutelage.cli import help

        about = "The systems, a line each; of one: its arms, presets, tools and claims, and what became of them here."
        help.show("tutelage list [STUDY]", about, options.ListOptions())
        return DONE
    parsed = options.read(options.ListOptions, argv)
    if len(parsed.words) > 1:
        raise BadInput(f"{parsed.words[1]!r}: a word too many; list takes at most one study")
    judged = list(_judged(Path("runs")))
    records = [_record(studies.load(name), judged) for name in parsed.words or studies.STUDIES]
    if parsed.options.json:
        print(json.dumps({"studies": records}, indent=2))
    elif parsed.words:
        _print_study(records[0])
    else:
        _print_lines(records)
    return DONE


def _record(study: Study, judged: list[tuple[Path, dict[str, Any], Counter[str]]]) -> dict[str, Any]:
    return {
        "name": study.name,
        "question": study.question,
        "summary": study.summary,
        "paper": vars(study.paper),
        "arms": {name: {"summary": arm.summary, "role": arm.role} for name, arm in study.arms.items()},
        "main_arm": study.main_arm,
        "presets": {name: preset.summary for name, preset in study.presets.items()},
        "tools": {
            name: {"usage": options.usage(tool.arguments), "summary": tool.summary}
            for name, tool in study.tools.items()
        },
        "claims": {claim.name: claim.sentence for claim in study.claims},
        "extra": study.extra,
        "judged": [
            {"folder": str(folder), "preset": plan.get("preset"), "verdicts": dict(verdicts)}
            for folder, plan, verdicts in judged
            if plan.get("study") == study.name
        ],
    }


def _print_lines(records: list[dict[str, Any]]) -> None:
    """One line each: the question, how many arms and claims, the extra that it needs, the last verdicts here."""
    width = max(len(record["name"]) for record in records)
    asked = max(len(record["question"]) for record in records)
    for record in records:
        facts = [f"{len(record['arms'])} arms", f"{len(record['claims'])} claims"]
        facts += [f"needs [{record['extra']}]"] if record["extra"] else []
        if record["judged"]:
            last = record["judged"][-1]
            facts.append(f"{_counts(last['verdicts'])} ({last['folder']})")
        print(f"{record['name']:<{width}}  {record['question']:<{asked}}  {' · '.join(facts)}")
    print("\ntutelage list STUDY says more; tutelage run STUDY runs one; tutelage STUDY --help shows its tools")


def _print_study(record: dict[str, Any]) -> None:
    paper = record["paper"]
    source = f"{paper['authors']}, {paper['year']}" + (f", arXiv {paper['arxiv']}" if paper["arxiv"] else "")
    print(f"{record['name']}: {record['question']}\n  {record['summary']}")
    print(f"  {paper['title']} ({source})")
    if record["extra"]:
        print(f"  needs the extra [{record['extra']}]: pip install -e '.[{record['extra']}]'")
    parts = {
        "arms": {
            name + (" (main)" if name == record["main_arm"] else ""): arm["summary"]
            for name, arm in record["arms"].items()
        },
        "presets": record["presets"],
        "tools": {f"{name} {tool['usage']}".strip(): tool["summary"] for name, tool in record["tools"].items()},
        "claims": record["claims"],
        "judged": {entry["folder"]: _counts(entry["verdicts"]) for entry in record["judged"]},
    }
    for title, entries in parts.items():
        if entries:
            print(f"\n{title}")
            width = min(max(map(len, entries)), 40)
            for name, summary in entries.items():
                print(f"  {name:<{width}}  {summary}")


def _counts(verdicts: dict[str, int]) -> str:
    words = {"holds": "hold", "fails": "fail"}
    return ", ".join(
        f"{count} {words.get(verdict, verdict) if count != 1 else verdict}" for verdict, count in verdicts.items()
    )


def _judged(runs: Path) -> Iterator[tuple[Path, dict[str, Any], Counter[str]]]:
    """Study folders, the last judged last, with plan and counts of verdicts. What cannot be read is left out."""
    for plan in sorted(runs.glob("*/study.json"), key=_written):
        try:
            record = json.loads(plan.read_text(encoding="utf-8"))
            claims = json.loads((plan.parent / "claims.json").read_text(encoding="utf-8"))["claims"]
            yield plan.parent, dict(record), Counter(str(claim["verdict"]) for claim in claims)
        except FileNotFoundError:
            continue  # not judged yet
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            line = f"{plan.parent}: study.json or claims.json is damaged; the command that made them makes them again"
            print(f"tutelage: {line}", file=sys.stderr)


def _written(file: Path) -> float:
    try:
        return file.with_name("claims.json").stat().st_mtime
    except OSError:
        return 0.0


def where(argv: list[str]) -> int:
    """Print the study's map: part of the paper, symbol, file and line. Exit code 1 when a symbol is not found."""
    if options.wants_help(argv):
        print(
            "usage: tutelage where STUDY [WORDS]\n\nWhere each part of the paper is in the code; WORDS narrow it down."
        )
        return DONE
    parsed = options.read(options.NoOptions, argv)
    if not parsed.words:
        raise BadInput(f"where needs a study: one of {', '.join(studies.STUDIES)}")
    study = studies.load(parsed.words[0])
    sought = " ".join(parsed.words[1:]).lower()
    entries = {part: symbol for part, symbol in study.map.items() if sought in f"{part} {symbol}".lower()}
    if not entries:
        raise BadInput(f"{sought!r}: nothing in the map of {study.name} contains it")
    width = max(len(part) for part in entries)
    lost = 0
    for part, symbol in entries.items():
        place = locate(symbol)
        lost += place is None
        print(f"{part:<{width}}  {symbol}  {place or 'NOT FOUND'}")
    return FAILED if lost else DONE


def locate(symbol: str) -> str | None:
    """`file:line` of `package.module:name` or `…:Class.method`, read from the source so that nothing is imported.

    A name that a package passes on (`from .scores import max_mc`) is followed to where it is defined.
    """
    module, _, name = symbol.partition(":")
    spec = _find(module)
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    line = _line_of(tree.body, name.split(".")) if name else 1
    if line is None:
        return _follow(tree, name, spec.parent or "")
    return f"{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}:{line}"


def _find(module: str) -> ModuleSpec | None:
    """The spec of a module. `importlib.util.find_spec` would run the packages above it, which may load a framework."""
    spec: ModuleSpec | None = None
    names = module.split(".")
    for depth in range(len(names)):
        folders = None if depth == 0 else spec.submodule_search_locations if spec else []
        spec = PathFinder.find_spec(".".join(names[: depth + 1]), folders)
    return spec


def _line_of(body: list[ast.stmt], names: list[str]) -> int | None:
    head, *rest = names
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == head:
            if not rest:
                return node.lineno
            return _line_of(node.body, rest)
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if not rest and any(isinstance(target, ast.Name) and target.id == head for target in targets):
            return node.lineno
    return None


def _follow(tree: ast.Module, name: str, package: str) -> str | None:
    head, dot, rest = name.partition(".")
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == head:
                    origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                    return locate(f"{origin}:{alias.name}{dot}{rest}")
    return None
