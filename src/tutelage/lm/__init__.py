"""Language models behind one interface: local, over an endpoint, scripted; sampling, scoring, training, judging.

    import tutelage.lm as lm

    model = lm.connect("runs/base")                       # a folder or hub id, run by our sampler
    model = lm.connect("http://127.0.0.1:8000/v1#base")   # an OpenAI-compatible server
    model = lm.Scripted({"2+2?": "4"})                    # a deterministic stand-in

    [completion] = lm.run(model.generate([lm.Request(prompt="2+2?")]))

Importing this package loads no framework and opens no socket; names are resolved when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.lm.connecting import connect
    from tutelage.lm.judging import choose, compare, rate
    from tutelage.lm.model import LM, Capabilities, LanguageModel, run
    from tutelage.lm.request import Completion, Failure, Message, Request, Scored, Scoring, Usage
    from tutelage.lm.scripted import Scripted

_PLACES = {
    "LM": "model",
    "Capabilities": "model",
    "Completion": "request",
    "Failure": "request",
    "LanguageModel": "model",
    "Message": "request",
    "Request": "request",
    "Scored": "request",
    "Scoring": "request",
    "Scripted": "scripted",
    "Usage": "request",
    "choose": "judging",
    "compare": "judging",
    "connect": "connecting",
    "rate": "judging",
    "run": "model",
}

__all__ = [
    "LM",
    "Capabilities",
    "Completion",
    "Failure",
    "LanguageModel",
    "Message",
    "Request",
    "Scored",
    "Scoring",
    "Scripted",
    "Usage",
    "choose",
    "compare",
    "connect",
    "rate",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
