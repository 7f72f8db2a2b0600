"""What an OpenAI-compatible server is sent and what may come back: plain functions without a connection.

An answer is untrusted: every field that is used is checked, and what does not fit raises `Malformed` with its name.
"""

from __future__ import annotations

import json
import math
import re
import time
import unicodedata
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from hashlib import blake2b
from typing import Any

from tutelage.lm.request import Completion, Failure, FinishReason, Request, Usage

FEATURES: dict[str, tuple[str, ...]] = {
    "logprobs": ("logprobs", "top_logprobs"),
    "seed": ("seed",),
    "schema": ("response_format", "structured_outputs", "guided_choice", "guided_regex"),
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "usage": ("stream_options",),
}
"""What a server may not know, with the fields of the request's body that ask for it."""

_FINISHED: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "length": "length",
    "content_filter": "content_filter",
}
_CONTEXT = re.compile(r"context[_ ](length|size|window)|maximum model length|exceed_context|max_model_len", re.I)


class NotEchoed(LookupError):
    """A server does not read prompts back with their log-probabilities."""


class Malformed(ValueError):
    """An answer has another shape than was agreed; the message names the field."""


class Hidden:
    """A secret that no repr shows."""

    def __init__(self, value: str) -> None:
        self.taken_out = lambda text: text.replace(value, "***") if value else text


def body_of(request: Request, model: str, *, chat: bool) -> dict[str, Any]:
    """The body for `/chat/completions` (a raw prompt becomes one user message) or for `/completions`.

    Choices and regular expressions go in both spellings of vLLM, the one up to 0.11 and the one since.
    """
    wire: dict[str, Any] = {"model": model, "seed": seed_of(request)}
    wire |= {"max_tokens": request.max_tokens, "temperature": request.temperature}
    if chat:
        turns = [(turn.role, turn.content) for turn in request.messages] or [("user", request.prompt)]
        wire["messages"] = [{"role": role, "content": content} for role, content in turns]
    else:
        wire["prompt"] = request.prompt
    if request.logprobs or request.top_logprobs:
        most = request.top_logprobs
        wire |= {"logprobs": True, **({"top_logprobs": most} if most else {})} if chat else {"logprobs": max(1, most)}
    if request.schema is not None:
        schema = {"name": "answer", "schema": dict(request.schema), "strict": True}
        wire["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.choices is not None:
        wire |= {"structured_outputs": {"choice": [*request.choices]}, "guided_choice": [*request.choices]}
    if request.regex is not None:
        wire |= {"structured_outputs": {"regex": request.regex}, "guided_regex": request.regex}
    optional = {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
    wire |= {name: getattr(request, name) for name, off in optional.items() if getattr(request, name) != off}
    if request.stop:
        wire["stop"] = [*request.stop]
    return wire


def seed_of(request: Request) -> int:
    """The seed that is sent: 31 bits, the request's own for sample 0 and another one for each further sample."""
    if request.sample_index == 0:
        return request.seed % 2**31
    digest = blake2b(f"{request.seed}/{request.sample_index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 2**31


def completion_of(answer: Any, request: Request) -> Completion:
    """The completion in the body of an answer to either route. Raises `Malformed`."""
    choice = _first_choice(answer)
    if "message" in choice:
        message = field(choice, "message", dict, "choices[0].")
        text = field(message, "content", str, "choices[0].message.", optional=True)
        refusal = field(message, "refusal", str, "choices[0].message.", optional=True)
    else:
        text, refusal = field(choice, "text", str, "choices[0]."), None
    reason = field(choice, "finish_reason", str, "choices[0].")
    if reason not in _FINISHED:
        raise Malformed(f"choices[0].finish_reason is {plain(reason, 40)!r}")
    logprobs, top = _logprobs(choice, request.top_logprobs)
    tokens = field(choice, "token_ids", list, "choices[0].", optional=True)
    if tokens is not None and not all(type(token) is int and token >= 0 for token in tokens):
        raise Malformed("choices[0].token_ids holds something else than whole numbers")
    wanted = request.logprobs or request.top_logprobs > 0
    return Completion(
        text=well_formed(refusal if text is None and refusal else text or ""),
        tokens=None if tokens is None else tuple(tokens),
        logprobs=logprobs if wanted else None,
        top_logprobs=top if wanted and request.top_logprobs else None,
        finish_reason="content_filter" if refusal and text is None else _FINISHED[reason],
        usage=usage_of(answer),
        model=well_formed(field(answer, "model", str, "", optional=True) or ""),
    )


def usage_of(answer: Mapping[str, Any]) -> Usage:
    """The counts of tokens, 0 where the server tells none. Raises `Malformed`."""
    counts = field(answer, "usage", dict, "", optional=True) or {}
    details = field(counts, "prompt_tokens_details", dict, "usage.", optional=True) or {}
    found = [
        field(counts, "prompt_tokens", int, "usage.", optional=True) or 0,
        field(details, "cached_tokens", int, "usage.prompt_tokens_details.", optional=True) or 0,
        field(counts, "completion_tokens", int, "usage.", optional=True) or 0,
    ]
    if min(found) < 0:
        raise Malformed("usage counts less than 0 tokens")
    return Usage(*found)


def vectors_of(answer: Any, count: int) -> list[list[float]]:
    """So many embeddings of equal length, in the order of their texts. Raises `Malformed`."""
    data = field(answer, "data", list, "")
    found = {field(each, "index", int, "data."): numbers(each.get("embedding"), "data.embedding") for each in data}
    if sorted(found) != list(range(count)) or len(data) != count:
        raise Malformed(f"data.index does not number the {count} texts")
    if len({len(row) for row in found.values()}) != 1:
        raise Malformed("data.embedding are of different lengths")
    return [found[index] for index in range(count)]


def echoed(answer: Any, context: str, continuation: str) -> list[float]:
    """log p of the continuation's tokens in an answer with `echo`; a token across the border is the continuation's.

    Raises `NotEchoed`, `ValueError` where it does and this item still cannot be scored, `Malformed` for another shape.
    """
    choice = _first_choice(answer)
    prompt = context + continuation
    found = field(choice, "logprobs", dict, "choices[0].", optional=True) or {}
    if not field(choice, "text", str, "choices[0].").startswith(prompt) or "token_logprobs" not in found:
        raise NotEchoed("the answer does not read the prompt back with its log-probabilities")
    tokens = field(found, "tokens", list, "choices[0].logprobs.")
    values = field(found, "token_logprobs", list, "choices[0].logprobs.")
    if len(tokens) != len(values) or not all(isinstance(token, str) for token in tokens):
        raise Malformed("choices[0].logprobs.tokens are not texts, one per log-probability")
    if sum(map(len, tokens)) < len(prompt):
        raise NotEchoed("the answer has log-probabilities of the new tokens only")
    # Some servers show the beginning-of-sequence token, which the text has not.
    skip = next((n for n in (0, 1) if "".join(tokens[n:]).startswith(prompt)), None)
    if skip is None:
        raise ValueError("the server's tokens do not spell the prompt")
    result, end = [], 0
    for token, value in zip(tokens[skip:], values[skip:]):
        start, end = end, end + len(token)
        if end > len(context) and start < len(prompt):
            if value is None:
                raise ValueError("the first token has no log-probability here: give a context")
            result.append(_logprob(value, "token_logprobs"))
    return result


def failure_of(status: int, headers: Mapping[str, str], payload: bytes) -> tuple[Failure, str, str]:
    """What a refusal means: the failure, and the server's `code` and `param` as far as it gave them."""
    try:
        answer = json.loads(payload)
    except (ValueError, RecursionError):
        answer = payload.decode("utf-8", "replace")
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    details = error if isinstance(error, dict) else {"message": error}
    said = next((details[key] for key in ("message", "detail", "error") if details.get(key)), "")
    text = plain(said if isinstance(said, str) else json.dumps(said), 400)
    code, param = (plain(str(details.get(key) or ""), 80) for key in ("code", "param"))
    kind = _kind(status, code, f"{code} {details.get('type')} {text}")
    # What a server says about a key may hold parts of the key.
    said = "the key was refused or is missing" if kind == "auth" else text or "no reason given"
    return Failure(kind, f"{said} (HTTP {status})", status, retry_after(headers)), code, param


def _kind(status: int, code: str, text: str) -> str:
    if status in (401, 403):
        return "auth"
    if code == "not_finite":  # our own server's word, within a stream too, where every fault counts as 500
        return code
    if status in (400, 413, 422) and _CONTEXT.search(text):
        return "context_length"
    known = {400: "unsupported" if code == "unsupported" else "bad_request", 404: "not_found", 429: "rate_limit"}
    if status in known:
        return known[status]
    if status == 501:
        return "unsupported"
    return "server" if status in (408, 409, 425) or status >= 500 else "bad_request"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After` (seconds or a date); None where it is absent or not understood."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def refused_feature(failure: Failure, param: str, body: Mapping[str, Any]) -> str | None:
    """Which feature in the body is what the server does not want, if it says so."""
    if failure.status not in (400, 422, 500, 501) or failure.kind == "context_length":
        return None
    if re.search(r"invalid (json )?schema", failure.message, re.I):
        return None  # the schema is at fault, not the server
    if "max_completion_tokens" in failure.message and "max_tokens" in body:
        return "max_tokens"
    for feature, names in FEATURES.items():
        for name in names:
            if name in body and (param.split(".")[0] == name or re.search(rf"\b{name}\b", failure.message)):
                return feature
    return None


def obeys(completion: Completion, request: Request) -> bool:
    """Whether a finished text satisfies the request's choices or regular expression, or is JSON where a schema is."""
    if completion.finish_reason != "stop":
        return True
    if request.choices is not None:
        return completion.text.strip() in {choice.strip() for choice in request.choices}
    try:
        if request.regex is not None:
            return re.fullmatch(request.regex, completion.text) is not None
        if request.schema is not None:
            json.loads(completion.text)
    except re.error:
        return True  # another dialect than Python's
    except (ValueError, RecursionError):
        return False
    return True


def field(record: Any, name: str, kind: type | tuple[type, ...], where: str, *, optional: bool = False) -> Any:
    """A field of the right type, or None where it may be missing. Raises `Malformed`."""
    if not isinstance(record, Mapping):
        raise Malformed(f"{where.rstrip('.') or 'the answer'} is not an object")
    value = record.get(name)
    if value is None and optional:
        return None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Malformed(f"{where}{name} is {'missing' if value is None else f'of type {type(value).__name__}'}")
    return value


def numbers(values: Any, where: str) -> list[float]:
    """A list of finite numbers. Raises `Malformed`."""
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise Malformed(f"{where} is not a list of numbers")
    if not all(map(math.isfinite, values)):
        raise Malformed(f"{where} holds a number that is not finite")
    return [float(value) for value in values]


def plain(text: str, most: int) -> str:
    """One line without control characters, at most so long."""
    line = " ".join("".join(" " if unicodedata.category(each)[0] == "C" else each for each in text[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def well_formed(text: str) -> str:
    """The text with lone surrogates (which JSON can hold and UTF-8 cannot) replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _first_choice(answer: Any) -> dict[str, Any]:
    choices = field(answer, "choices", list, "")
    if not choices or not isinstance(choices[0], dict):
        raise Malformed("choices holds no object")
    return choices[0]


def _logprobs(
    choice: Mapping[str, Any], most: int
) -> tuple[tuple[float, ...] | None, tuple[dict[str, float], ...] | None]:
    """Both shapes: `content` with a record per token (chat), or parallel lists (completions)."""
    where = "choices[0].logprobs."
    found = field(choice, "logprobs", dict, "choices[0].", optional=True) or {}
    if (content := field(found, "content", list, where, optional=True)) is not None:
        chosen = [_logprob(field(each, "logprob", (int, float), f"{where}content."), "logprob") for each in content]
        tables = [field(each, "top_logprobs", list, f"{where}content.", optional=True) or [] for each in content]
        pairs = [
            [
                (field(row, "token", str, "top_logprobs."), field(row, "logprob", (int, float), "top_logprobs."))
                for row in table
            ]
            for table in tables
        ]
    elif (listed := field(found, "token_logprobs", list, where, optional=True)) is not None:
        chosen = [_logprob(value, "token_logprobs") for value in listed]
        tables = field(found, "top_logprobs", list, where, optional=True) or [{}] * len(listed)
        if not all(table is None or isinstance(table, dict) for table in tables):
            raise Malformed(f"{where}top_logprobs holds something else than objects")
        pairs = [list((table or {}).items()) for table in tables]
    else:
        return None, None
    if len(pairs) != len(chosen):
        raise Malformed(f"{where}top_logprobs has {len(pairs)} positions, of {len(chosen)}")
    top = []
    for position in pairs:
        best = sorted(((_logprob(value, "top_logprobs"), token) for token, value in position), reverse=True)[:most]
        # Two tokens may have one text: the likelier is kept.
        top.append({well_formed(token): value for value, token in reversed(best)})
    return tuple(chosen), tuple(top)


def _logprob(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not value <= 1e-3:
        raise Malformed(f"{where} holds something else than a log-probability")
    return min(0.0, float(value))
