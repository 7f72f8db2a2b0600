"""OpenAI's bodies, from the server's side: what a client may ask as `Request`s, completions as answers.

What would change the answer and cannot be honoured is refused by name; other unknown fields are passed over.
"""

from __future__ import annotations

import json
import math
import secrets
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.lab.errors import BadInput
from tutelage.lm.model import Capabilities
from tutelage.lm.request import Completion, Failure, Message, Request, Usage

_STATUS = {"rate_limit": 429, "timeout": 504, "connection": 502, "malformed": 502, "auth": 502, "not_found": 404}
_STATUS |= {"context_length": 400, "bad_request": 400, "unsupported": 400, "budget": 402, "cache_miss": 409}
_STATUS |= {"not_finite": 422}
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "logit_bias": ({},),
    "suffix": ("",),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "guided_grammar": (),
    "dimensions": (),
}
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Refusal(Exception):
    """A request that is answered by an error, in OpenAI's shape."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, wait: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.wait = status, message, code, param, wait

    @classmethod
    def of(cls, failure: Failure) -> Refusal:
        """The refusal that passes a model's failure on."""
        code = "context_length_exceeded" if failure.kind == "context_length" else failure.kind
        return cls(_STATUS.get(failure.kind, 500), failure.message, code=code, wait=failure.retry_after)

    def body(self) -> dict[str, Any]:
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True)
class Wanted:
    """A body understood: `requests` has `n` for every prompt, in order; `echo` the prompts to repeat, or nothing."""

    requests: list[Request]
    n: int
    chat: bool
    stream: bool
    usage: bool
    echo: list[str]


def wanted(
    body: Mapping[str, Any], *, chat: bool, capabilities: Capabilities, max_tokens: int, max_requests: int
) -> Wanted:
    """Understand the body of `/chat/completions` or `/completions`. Raises `Refusal` naming the field."""
    refuse_what_is_ignored(body)
    n = _take(body, "n", int, 1)
    contexts = [{"messages": _messages(body)}] if chat else [{"prompt": each} for each in texts(body, "prompt")]
    if not 1 <= n * len(contexts) <= max_requests:
        raise Refusal(400, f"n = {n}: n times the prompts must be in 1–{max_requests} here", param="n")
    tokens = _take(body, "max_completion_tokens", int, None) or _take(body, "max_tokens", int, None)
    if tokens is not None and tokens > max_tokens:
        raise Refusal(400, f"max_tokens = {tokens}: at most {max_tokens} here", param="max_tokens")
    seed = _take(body, "seed", int, None)
    fields: dict[str, Any] = {
        "max_tokens": min(256 if chat else 16, max_tokens) if tokens is None else tokens,
        "temperature": _number(body, "temperature", 1.0),
        "top_p": _number(body, "top_p", 1.0),
        "min_p": _number(body, "min_p", 0.0),
        "top_k": max(0, _take(body, "top_k", int, 0)),  # vLLM writes "off" as -1
        "stop": tuple(texts(body, "stop")) if body.get("stop") is not None else (),
        **_logprobs(body, chat, capabilities),
        **_constraint(body, capabilities),
    }
    echo = _take(body, "echo", bool, False) and not chat
    if echo and fields["logprobs"]:
        hint = "prompts are scored by POST /v1/score_continuations"
        raise Refusal(400, f"echo with logprobs: the prompt's are not given; {hint}", code="unsupported", param="echo")
    try:
        # A seed for each prompt: equal ones are different questions unless the client says otherwise.
        seeds = [secrets.randbits(31) if seed is None else seed for _ in contexts]
        asked = [
            Request(**context, **fields, seed=each, sample_index=index)
            for context, each in zip(contexts, seeds)
            for index in range(n)
        ]
    except BadInput as error:
        raise Refusal(400, str(error)) from None
    options = _take(body, "stream_options", dict, {})
    prompts = [request.prompt or "" for request in asked] if echo else []
    usage = _take(options, "include_usage", bool, False)
    return Wanted(asked, n, chat, _take(body, "stream", bool, False), usage, prompts)


def refuse_what_is_ignored(body: Mapping[str, Any]) -> None:
    """Raises `Refusal` for a field that would change the answer and is not honoured."""
    for name, neutral in _NEUTRAL.items():
        if body.get(name) is not None and body[name] not in neutral:
            raise Refusal(400, f"{name}: not supported here", code="unsupported", param=name)


def texts(body: Mapping[str, Any], name: str) -> list[str]:
    """A text or a list of texts. Raises `Refusal`."""
    value = body.get(name)
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise Refusal(400, f"{name}: must be a text or a list of texts", param=name)
    return value


def messages(value: Any, name: str) -> tuple[Message, ...]:
    """Chat messages; a content in parts must be of text. Raises `Refusal`."""
    if not isinstance(value, list) or not value:
        raise Refusal(400, f"{name}: must be a list of messages, at least one", param=name)
    result = []
    for index, each in enumerate(value):
        role, content = (each.get("role"), each.get("content")) if isinstance(each, dict) else (None, None)
        if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            content = "".join(str(part.get("text", "")) for part in content)
        if not isinstance(role, str) or role not in _ROLES or not isinstance(content, str):
            allowed = f"role ({', '.join(_ROLES)}) and a content of text"
            raise Refusal(400, f"{name}[{index}]: must have a {allowed}", param=f"{name}[{index}]")
        result.append(Message(_ROLES[role], content))  # type: ignore[arg-type]
    return tuple(result)


def answer(wanted: Wanted, completions: Sequence[Completion], name: str) -> dict[str, Any]:
    """The body that answers; see `Wanted`."""
    choices = []
    for index, completion in enumerate(completions):
        text = (wanted.echo[index] if wanted.echo else "") + completion.text
        content = {"message": {"role": "assistant", "content": text}} if wanted.chat else {"text": text}
        choices.append({"index": index, **content, **ending(wanted, completion)})
    return {**head(wanted.chat, name), "choices": choices, "usage": usage(wanted, completions)}


def head(chat: bool, name: str, *, piece: bool = False) -> dict[str, Any]:
    """What stands above the choices of an answer, or of all pieces of a streamed one."""
    kind = ("chat.completion.chunk" if piece else "chat.completion") if chat else "text_completion"
    prefix = "chatcmpl" if chat else "cmpl"
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": name}


def ending(wanted: Wanted, completion: Completion) -> dict[str, Any]:
    """What a choice says of its completion besides the text. The texts of sampled tokens are not known here: their ids
    stand in, as vLLM can write them."""
    logprobs: dict[str, Any] | None = None
    if completion.logprobs is not None:
        chosen = [*map(_finite, completion.logprobs)]
        ids = completion.tokens or ()
        shown = [f"token_id:{token}" for token in ids] if len(ids) == len(chosen) else [""] * len(chosen)
        tables = [{t: _finite(v) for t, v in each.items()} for each in completion.top_logprobs or [{}] * len(chosen)]
        if wanted.chat:
            entries = [
                {"token": token, "logprob": value, "bytes": None, "top_logprobs": [*map(_alternative, table.items())]}
                for token, value, table in zip(shown, chosen, tables)
            ]
            logprobs = {"content": entries}
        else:
            logprobs = {"tokens": shown, "token_logprobs": chosen, "top_logprobs": tables}
    result = {"logprobs": logprobs, "finish_reason": completion.finish_reason}
    return result | ({"token_ids": [*completion.tokens]} if completion.tokens is not None else {})


def usage(wanted: Wanted, completions: Sequence[Completion]) -> dict[str, Any]:
    """Tokens of the whole answer: a prompt counts once, however many completions it has."""
    counts = [completion.usage for completion in completions]
    prompts = counts[:: wanted.n]
    total = Usage(sum(c.prompt for c in prompts), sum(c.cached for c in prompts), sum(c.completion for c in counts))
    return usage_body(total)


def usage_body(total: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": total.prompt,
        "completion_tokens": total.completion,
        "total_tokens": total.prompt + total.completion,
        "prompt_tokens_details": {"cached_tokens": total.cached},
    }


def dumps(body: Any) -> bytes:
    """ASCII JSON: it can hold any text of a model, and no number that JSON does not have."""
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


def _messages(body: Mapping[str, Any]) -> tuple[Message, ...]:
    return messages(body.get("messages"), "messages")


def _logprobs(body: Mapping[str, Any], chat: bool, capabilities: Capabilities) -> dict[str, Any]:
    if chat:
        on, most = _take(body, "logprobs", bool, False), _take(body, "top_logprobs", int, 0)
    else:
        most = _take(body, "logprobs", int, None)
        on, most = most is not None, most or 0
    if (on or most) and not capabilities.logprobs:
        raise Refusal(400, "logprobs: this model gives none", code="unsupported", param="logprobs")
    if most > capabilities.logprobs > 0:
        raise Refusal(400, f"logprobs: at most {capabilities.logprobs} alternatives here", param="logprobs")
    return {"logprobs": bool(on or most), "top_logprobs": most}


def _constraint(body: Mapping[str, Any], capabilities: Capabilities) -> dict[str, Any]:
    """`response_format`, and both of vLLM's spellings."""
    structured = _take(body, "structured_outputs", dict, {})
    form = _take(body, "response_format", dict, {})
    schema = {"json_object": {"type": "object"}}.get(str(form.get("type")))
    if form.get("type") == "json_schema":
        schema = _take(_take(form, "json_schema", dict, {}), "schema", dict, None)
    if schema is None and form.get("type", "text") != "text":
        raise Refusal(400, "response_format: must be text, json_object or json_schema", param="response_format")
    found: dict[str, Any] = {
        "schema": schema or structured.get("json") or body.get("guided_json"),
        "choices": structured.get("choice") or body.get("guided_choice"),
        "regex": structured.get("regex") or body.get("guided_regex"),
    }
    found = {name: value for name, value in found.items() if value is not None}
    if found and not (capabilities.schema or (capabilities.choices and set(found) == {"choices"})):
        param = "response_format" if "schema" in found and form else "structured_outputs"
        raise Refusal(400, f"{param}: this model cannot be held to it", code="unsupported", param=param)
    if "choices" in found:
        found["choices"] = tuple(texts(found, "choices"))
    for name, kind in (("schema", dict), ("regex", str)):
        _take(found, name, kind, None)
    return found


def _take(body: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise Refusal(400, f"{name}: must be of type {kind.__name__}", param=name)
    return value


def _number(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if type(value) not in (int, float) or not abs(value) < 1e9:
        raise Refusal(400, f"{name}: must be a number", param=name)
    return float(value)


def _finite(logprob: float) -> float:
    """JSON has no infinity: log 0 is written as OpenAI does."""
    return logprob if math.isfinite(logprob) else -9999.0


def _alternative(pair: tuple[str, float]) -> dict[str, Any]:
    return {"token": pair[0], "logprob": pair[1], "bytes": list(pair[0].encode("utf-8", "replace"))}
