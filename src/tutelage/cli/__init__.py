"""The command line: one visible table of commands, each imported only when it is asked for.

Exit codes: 0 done, 1 failed, 2 bad input (one line on stderr, no traceback), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tutelage import studies
from tutelage.cli.streams import tolerate
from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.naming import resolve

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Command:
    """One command: what follows its name, one sentence, and the function `list of arguments -> exit code`."""

    usage: str
    summary: str
    target: str

    def load(self) -> Callable[[list[str]], int]:
        return resolve(self.target)


COMMANDS: dict[str, Command] = {
    "list": Command(
        "[STUDY] [--json]",
        "the systems, a line each; of one, its arms, presets, tools and claims",
        "tutelage.cli.listing:list_studies",
    ),
    "run": Command(
        "STUDY[/ARM] [--preset P] [--seed N | --seeds 0:8] [--out DIR] [--any.setting VALUE]",
        "run one arm of a study; the same command on an unfinished folder goes on",
        "tutelage.cli.runs.running:run",
    ),
    "study": Command(
        "STUDY [--preset P] [--seeds 0:5] [--arms a,b] [--jobs N] [--out DIR] [--any.setting VALUE]",
        "run all arms over all seeds, judge the paper's claims, write the report",
        "tutelage.cli.runs.studying:study",
    ),
    "report": Command(
        "DIR… [--out FILE]", "one self-contained HTML page, and a table here", "tutelage.cli.reporting:report"
    ),
    "where": Command("STUDY [WORDS]", "where each equation of the paper is in the code", "tutelage.cli.listing:where"),
    "resume": Command("DIR [--jobs N]", "go on with an interrupted run or study", "tutelage.cli.runs.resuming:resume"),
    "compare": Command(
        "DIR DIR", "how two sets of runs differ, in settings and in figures", "tutelage.cli.comparing:compare"
    ),
    "lm": Command(
        "serve MODEL | sample MODEL [PROMPT]",
        "language models: serve one to other programs, or see what it says",
        "tutelage.cli.lm:lm",
    ),
    "bench": Command("STUDY […]", "time us against the strongest peer (from a checkout)", "tutelage.cli.bench:bench"),
    "doctor": Command("", "check this machine: versions, devices, caches, disk", "tutelage.cli.doctor:doctor"),
}


def overview() -> str:
    """What `tutelage --help` prints."""
    lines = ["usage: tutelage COMMAND …", "", "How what a learner is taught decides what it can do beyond it.", ""]
    width = max(len(name) for name in COMMANDS) + 2
    for name, command in COMMANDS.items():
        lines += [f"  {name:<{width}}{command.summary}", f"  {'':<{width}}tutelage {name} {command.usage}".rstrip()]
    lines += ["", "Every study has tools for data, models and environments of your own:", ""]
    for name in studies.STUDIES:
        if tools := studies.load(name).tools:
            lines.append(f"  tutelage {name} {{{','.join(tools)}}}")
    lines += ["", "tutelage COMMAND --help says more; tutelage run STUDY --help lists every setting of a study,"]
    lines += ["tutelage STUDY --help its tools."]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    tolerate()
    try:
        return _dispatch(arguments)
    except BadInput as error:
        print(f"tutelage: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        # The reader (`| head`) has left; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        print(f"tutelage: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("tutelage: interrupted", file=sys.stderr)
        return INTERRUPTED


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(overview())
        return DONE
    if arguments[0] == "--version":
        from tutelage import __version__

        print(f"tutelage {__version__}")
        return DONE
    name, *rest = arguments
    if name in studies.STUDIES:
        return resolve("tutelage.cli.tools:use")(arguments)
    if name not in COMMANDS:
        known = [*COMMANDS, *studies.STUDIES]
        raise BadInput(f"{name!r} is neither a command nor a study; there are {', '.join(known)}{nearest(name, known)}")
    return COMMANDS[name].load()(rest)
