"""`lm`: a table of commands for language models. MODEL is whatever `tutelage.lm.connect` takes."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage import lm as models
from tutelage.cli import DONE, FAILED, Command, options
from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.settings import setting

if TYPE_CHECKING:
    from tutelage.lm import Completion

COMMANDS: dict[str, Command] = {
    "serve": Command(
        "MODEL [--port 8000] [--name NAME] [--host ADDRESS]",
        "an OpenAI-compatible server over a model",
        "tutelage.cli.lm:serve",
    ),
    "sample": Command(
        "MODEL [PROMPT|-] [--n 4] [--max-tokens 64] [--temperature 0.8] [--chat] [--json]",
        "what a model says",
        "tutelage.cli.lm:sample",
    ),
    "pretrain": Command(
        "CORPUS… --out FOLDER [--size mini] [--num-epochs 3] [--tokenizer.kind word]",
        "a tokenizer and a small model from text files or built-in problems",
        "tutelage.cli.lm_models:pretrain",
    ),
    "eval": Command(
        "MODEL --data FILE [--limit N] [--json]",
        "loss and bits per byte of a text, exact match of questions with answers",
        "tutelage.cli.lm_models:evaluate",
    ),
}

TOKEN = "TUTELAGE_LM_TOKEN"
"""The environment variable of the server's token: a command line can be read by everyone on the machine."""
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


@dataclass(frozen=True)
class ServeOptions:
    """Options of `lm serve`. The token, which a host that is not loopback needs, is read from TUTELAGE_LM_TOKEN."""

    name: str = setting("", "What clients call the model; empty: the last part of MODEL.")
    host: str = setting("127.0.0.1", "Address to listen at; another than loopback needs a token.")
    port: int = setting(8000, "Port; 0 takes a free one.", interval="[0, 65535]")
    max_concurrent: int = setting(256, "Completions under way; beyond it clients must come back.", interval="[1, inf)")
    max_tokens: int = setting(4096, "The most that one request may ask for.", interval="[1, inf)", unit="tokens")


@dataclass(frozen=True)
class SampleOptions:
    """Options of `lm sample`."""

    n: int = setting(1, "How many completions.", interval="[1, inf)")
    max_tokens: int = setting(128, "The most tokens of each.", interval="[1, inf)", unit="tokens")
    temperature: float = setting(1.0, "0 always takes the likeliest token; else at least 1e-6.", interval="[0, 1e6]")
    top_p: float = setting(1.0, "Only the likeliest tokens that together have this probability.", interval="(0, 1]")
    top_k: int = setting(0, "Only so many of the likeliest tokens; 0: all.", interval="[0, inf)")
    min_p: float = setting(0.0, "Only tokens at least so likely as this times the likeliest.", interval="[0, 1)")
    stop: tuple[str, ...] = setting((), "Texts that end a completion, with commas between them.")
    seed: int = setting(0, "Seed of the samples.", interval="[0, 4294967295]")
    chat: bool = setting(False, "PROMPT is a user's message: use the model's chat template.")
    json: bool = setting(False, "Print one JSON object per completion, for programs.")


def lm(argv: list[str]) -> int:
    """Dispatch to one of the commands in the table."""
    if not argv or argv[0] in ("--help", "-h", "help"):
        width = max(map(len, COMMANDS)) + 2
        print("usage: tutelage lm COMMAND …\n")
        for name, command in COMMANDS.items():
            print(f"  {name:<{width}}{command.summary}\n  {'':<{width}}tutelage lm {name} {command.usage}")
        print("\nMODEL is a folder or hub id of a model, or a server's URL with the model's name: http://…/v1#name")
        return DONE
    name, *rest = argv
    if name not in COMMANDS:
        raise BadInput(f"lm {name!r}: there are {', '.join(COMMANDS)}{nearest(name, COMMANDS)}")
    return COMMANDS[name].load()(rest)


def serve(argv: list[str]) -> int:
    """Serve a model until Ctrl-C or SIGTERM."""
    if _helped(argv, "serve", "Serve a model to other programs, by the protocol of OpenAI.", ServeOptions()):
        return DONE
    parsed = options.read(ServeOptions, argv)
    where, chosen = options.one_word(parsed.words, "MODEL"), parsed.options
    from tutelage.lm.clients.endpoint import is_loopback
    from tutelage.lm.model import Layer
    from tutelage.lm.serving import server

    token = os.environ.get(TOKEN) or None
    if token is None and not is_loopback(chosen.host):
        raise BadInput(f"host = {chosen.host!r}: other machines could use the model; set {TOKEN}, or keep 127.0.0.1")
    name = chosen.name or Path(where.rstrip("/").rpartition("#")[2]).name
    model = models.connect(where)
    bare = model
    while isinstance(bare, Layer):  # clients retry, cache and count for themselves; a layer would hold streams up
        bare = bare.inner
    try:
        server.serve(
            bare,
            name=name,
            host=chosen.host,
            port=chosen.port,
            token=token,
            limits=server.Limits(max_concurrent=chosen.max_concurrent, max_tokens_per_request=chosen.max_tokens),
            announce=lambda url: print(f"{plain(name)}: serving at {url} (Ctrl-C stops)", flush=True),
        )
    finally:
        models.run(model.close())
    print(f"{plain(name)}: stopped")
    return DONE


def sample(argv: list[str]) -> int:
    """Print completions. Exit code 1 when one of them failed."""
    if _helped(argv, "sample", "What a model says. PROMPT - is read from standard input.", SampleOptions()):
        return DONE
    parsed = options.read(SampleOptions, argv)
    if not 1 <= len(parsed.words) <= 2:
        raise BadInput(f"{' '.join(parsed.words) or 'nothing'}: give MODEL, and a PROMPT in quotation marks")
    where, prompt, chosen = parsed.words[0], parsed.words[1] if parsed.words[1:] else "", parsed.options
    if prompt == "-":
        prompt = sys.stdin.read()
    fields = dataclasses.asdict(chosen)
    count, chat, as_json = (fields.pop(name) for name in ("n", "chat", "json"))
    asked: dict[str, Any] = {"messages": (models.Message("user", prompt),)} if chat else {"prompt": prompt}
    requests = [models.Request(**asked, **fields, sample_index=index) for index in range(count)]
    model = models.connect(where)
    try:
        completions = models.run(model.generate(requests))
    finally:
        models.run(model.close())
    if as_json:
        for completion in completions:
            print(json.dumps(dataclasses.asdict(completion)))
    else:
        _show(completions)
    return FAILED if any(completion.error for completion in completions) else DONE


def plain(text: str) -> str:
    """What a terminal may be given of a text from outside: no control characters but line feed and tab, and none that
    turn the direction of reading."""
    return "".join(
        each
        for each in text.replace("\r\n", "\n")
        if each in "\n\t" or (unicodedata.category(each) not in ("Cc", "Cs") and each not in _TURNS)
    )


def _show(completions: Sequence[Completion]) -> None:
    """The texts; a line before each that says how it came to be, where there are several."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for index, completion in enumerate(completions):
        if completion.error is not None:
            print(f"tutelage: {plain(completion.error.message)}", file=sys.stderr)
            continue
        if len(completions) > 1:
            tokens = f", {completion.usage.completion} tokens" if completion.usage.completion else ""
            console.print(Text(f"── {index + 1}{tokens}, {completion.finish_reason} ──", "dim"), soft_wrap=True)
        # A Text is printed as it is: nothing in it is taken for markup.
        console.print(Text(plain(completion.text)), soft_wrap=True)


def _helped(argv: Sequence[str], name: str, description: str, defaults: Any) -> bool:
    if not options.wants_help(argv):
        return False
    from tutelage.cli import help

    usage = COMMANDS[name].usage.split(" [--")[0]
    help.show(f"tutelage lm {name} {usage}", description, defaults)
    return True
