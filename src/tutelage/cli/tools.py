"""`tutelage STUDY TOOL …`: what a study offers for one's own data, models and environments."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from tutelage import studies
from tutelage.cli import BAD_INPUT, DONE, help, options
from tutelage.lab.configuration import fields
from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.naming import resolve
from tutelage.lab.study import Study, Tool


def use(argv: list[str]) -> int:
    """Run a tool: the study, the tool, then what its arguments say. Without a tool, list those of the study."""
    name, *rest = argv
    study = studies.load(name)
    if not rest or rest[0] in ("--help", "-h"):
        print(overview(study))
        return DONE if rest else BAD_INPUT
    word, *rest = rest
    tool = _of(study, word)
    if options.wants_help(rest):
        words = {path: field.help for path, field in fields(tool.arguments).items() if field.word}
        help.show(f"tutelage {name} {word} {options.usage(tool.arguments)}", _about(tool, words), tool.arguments())
        return DONE
    arguments = options.read_all(tool.arguments, rest)
    try:
        run = resolve(tool.run)
    except ModuleNotFoundError as error:
        if not study.extra or str(error.name).startswith("tutelage"):
            raise
        extra = study.extra
        raise BadInput(
            f"{name} {word} needs {error.name}, which is in the extra {extra!r}: pip install 'tutelage[{extra}]'"
        ) from error
    run(arguments)
    return DONE


def overview(study: Study) -> str:
    """What `tutelage STUDY --help` prints: the tools, and the commands that run the study itself."""
    lines = [f"{study.name}: {study.summary}", ""]
    for name, tool in study.tools.items():
        lines += [f"  tutelage {study.name} {name} {options.usage(tool.arguments)}".rstrip()]
        lines += textwrap.wrap(tool.summary, 100, initial_indent="      ", subsequent_indent="      ")
    lines += ["", f"  tutelage {study.name} TOOL --help says more", f"  tutelage run {study.name} --help"]
    lines += ["      how to run the system itself, its arms and every setting", f"  tutelage list {study.name}"]
    lines += ["      arms, presets, claims, tools"]
    return "\n".join(lines)


def _of(study: Study, word: str) -> Tool:
    if word in study.tools:
        return study.tools[word]
    if word in study.arms:
        raise BadInput(f"{word!r} is an arm of {study.name}, not a tool: tutelage run {study.name}/{word}")
    there = f"there are {', '.join(study.tools)}" if study.tools else "it has none"
    raise BadInput(f"{word!r} is not a tool of {study.name}; {there}{nearest(word, study.tools)}")


def _about(tool: Tool, words: Mapping[str, str]) -> str:
    return "\n".join([tool.summary, "", *(f"{name.upper()}: {sentence}" for name, sentence in words.items())])
