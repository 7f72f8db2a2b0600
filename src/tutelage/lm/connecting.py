"""From the name of a model to the model, with the layers around it."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tutelage.lab.errors import BadInput, nearest
from tutelage.lm.clients.cache import MODES, Cache, Store
from tutelage.lm.clients.flight import SingleFlight
from tutelage.lm.clients.ledger import Account, Budget, Ledger, Price
from tutelage.lm.clients.limits import Limits
from tutelage.lm.clients.retry import Retry
from tutelage.lm.model import LanguageModel
from tutelage.lm.request import Completion, Request
from tutelage.lm.scripted import Grammar, Scripted

_SCHEMES = ("http", "https", "litellm")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_KEY = "OPENAI_API_KEY"


def connect(
    where: Any,
    *,
    cache: str | Path | Store | None = None,
    cache_mode: str = "rw",
    budget: Budget | Mapping[str, float] | Account | None = None,
    prices: Mapping[str, Price | Mapping[str, float]] | None = None,
    concurrency: int | None = None,
    rpm: float | None = None,
    tpm: float | None = None,
    attempts: int = 6,
    run_attempts: int | None = None,
    valid: Callable[[Request, Completion], str | None] | None = None,
    api_key_env: str = _KEY,
    **options: Any,
) -> Ledger:
    """The model at `where`, within: ledger, cache, single flight, retry, limits (outside-in).

    Args:
        where: a folder or hub id of a causal language model, or such a model; `http(s)://host/v1#model`, a model of an
            OpenAI-compatible server; `litellm:model`; what `Scripted` answers from; or a `LanguageModel`.
        cache, cache_mode: see `Cache`; no file is no cache.
        budget, prices: see `Budget` and `Price`, by the model's name; an `Account` is shared with other models.
        concurrency, rpm, tpm: see `Limits`. Servers have 64 calls at once unless told otherwise, others no limit.
        attempts, run_attempts, valid: see `Retry`; models that run here are not asked twice.
        api_key_env: the environment variable that holds the server's key, which goes nowhere else.
        options: of the backend.

    Raises `BadInput` for what cannot be understood, before any work.
    """
    if cache_mode not in MODES:
        raise BadInput(f"cache_mode is {cache_mode!r}: must be one of {', '.join(MODES)}{nearest(cache_mode, MODES)}")
    if cache is None and cache_mode in ("ro", "replay"):
        raise BadInput(f"cache_mode is {cache_mode!r} and there is no cache: give its file")
    account = _account(budget, prices)
    inner, name, kind = _backend(where, api_key_env, options)
    price = Price(0, 0) if kind == "local" and name not in account.prices else account.price(name)
    if kind == "server" or not (concurrency is rpm is tpm is None):
        inner = Limits(inner, concurrency=64 if concurrency is None else concurrency, rpm=rpm, tpm=tpm)
    retry = None
    if kind != "local" or valid is not None:
        inner = retry = Retry(inner, attempts=attempts, run_attempts=run_attempts, valid=valid)
    inner = SingleFlight(inner)
    if cache is not None and cache_mode != "off":
        inner = Cache(inner, cache, cache_mode)
        if retry is not None and cache_mode == "rw":
            retry.store = inner.store
    ledger = Ledger(inner, account, model=name, price=price)
    if retry is not None:
        retry.spent_on_failure = ledger.spent_on_failure
    return ledger


def _backend(where: Any, api_key_env: str, options: Mapping[str, Any]) -> tuple[LanguageModel, str, str]:
    """The model, its name, and whether it is `given`, on a `server`, or `local`: computed by this process."""
    if isinstance(where, LanguageModel):
        if options:
            raise BadInput(f"option {next(iter(options))!r}: a model that is already there takes none")
        return where, getattr(where, "model", "") or where.identity, "given"
    if not isinstance(where, str | Path) and not hasattr(where, "state_dict"):
        if not (isinstance(where, Mapping | Grammar) or callable(where)):
            raise BadInput(f"model is a {type(where).__name__}: must be {_WHERE}")
        model = _made(Scripted, where, **options)
        return model, model.identity, "given"
    text = str(where)
    scheme, colon, rest = text.partition(":")
    if isinstance(where, str) and scheme in ("http", "https"):
        address, _, name = text.partition("#")
        if not name:
            raise BadInput(f"model {_shown(text)!r} names no model: must be {scheme}://host/v1#model")
        key = os.environ.get(api_key_env)
        if not key and api_key_env != _KEY:
            raise BadInput(f"api_key_env is {api_key_env!r}: there is no such environment variable")
        endpoint = _class("clients.endpoint", "Endpoint")
        return _made(endpoint, address, name, **{"api_key": key or None, **options}), name, "server"
    if isinstance(where, str) and scheme == "litellm" and rest:
        return _made(_class("clients.litellm_adapter", "LiteLLM"), rest, **options), rest, "server"
    hub = isinstance(where, str) and _HUB.fullmatch(text)
    if isinstance(where, str | Path) and not hub and not Path(where).is_dir():
        if isinstance(where, str) and colon and re.fullmatch(r"\w+", scheme):
            raise BadInput(f"model {_shown(text)!r}: must be {_WHERE}{nearest(scheme, _SCHEMES)}")
        beside = [each.name for each in Path(where).parent.iterdir()] if Path(where).parent.is_dir() else []
        raise BadInput(f"model {text!r}: there is no such folder; must be {_WHERE}{nearest(Path(where).name, beside)}")
    name = text if isinstance(where, str | Path) else type(where).__name__
    return _made(_class("huggingface", "HuggingFace"), where, **options), name, "local"


_WHERE = "a folder, a hub id, http(s)://host/v1#model, litellm:model, a mapping, a function, or a model"


def _account(budget: Any, prices: Mapping[str, Any] | None) -> Account:
    if isinstance(budget, Account):
        if prices:
            raise BadInput("prices: an account that is shared has its own; give them to it")
        return budget
    if not isinstance(budget, Mapping | Budget | None):
        raise BadInput(f"budget is {budget!r}: must be a mapping of calls, tokens or money, a Budget or an Account")
    table = {
        name: price if isinstance(price, Price) else _made(Price, **price) for name, price in (prices or {}).items()
    }
    return Account(_made(Budget, **budget) if isinstance(budget, Mapping) else budget, table)


def _made(kind: type, *arguments: Any, **options: Any) -> Any:
    """An object of that kind, once its options are known to be such."""
    known = list(inspect.signature(kind).parameters)[len(arguments) :]
    for name in options:
        if name not in known:
            raise BadInput(f"{kind.__name__} has no option {name!r}: has {', '.join(known)}{nearest(name, known)}")
    return kind(*arguments, **options)


def _class(module: str, name: str) -> type:
    return getattr(importlib.import_module(f"tutelage.lm.{module}"), name)


def _shown(address: str) -> str:
    """The address without what may be a password in it."""
    return re.sub(r"//[^/@]*@", "//…@", address).partition("?")[0]
