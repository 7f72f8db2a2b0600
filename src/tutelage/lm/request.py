"""What is asked of a language model and what comes back, as plain data that JSON can hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import numpy as np

from tutelage.lab.errors import BadInput

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter", "error"]
"""`stop`: the model ended, or a stop text was met; `length`: cut at `max_tokens`; `error`: see `Completion.error`."""

LEAST_TEMPERATURE, MOST_TEMPERATURE = 1e-6, 1e6
"""The range of a temperature above 0: logits of up to 1e32 stay finite when they are divided by it, in float32."""
TEMPERATURES = f"0 (greedy), or in [{LEAST_TEMPERATURE:g}, {MOST_TEMPERATURE:g}]"

_NOT_IDENTITY = ("tag", "meta")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One completion wanted: either `messages` (a chat template is applied) or a raw `prompt`, never both.

    Attributes:
        max_tokens: the most tokens to generate, ≥ 1.
        temperature: 0 is greedy; otherwise in [1e-6, 1e6].
        top_p, min_p: in (0, 1] and [0, 1); 1 and 0 switch them off.
        top_k: ≥ 0; 0 switches it off.
        stop: texts which end the completion and are not part of it.
        seed: where this request's randomness starts; the same request with the same seed gives the same text.
        top_logprobs: how many alternatives to report at every position, 0–20.
        logprobs: whether the log-probabilities of the generated tokens are wanted.
        schema: a JSON schema that the text must satisfy.
        choices: the text must be one of these.
        regex: the text must match this.
        sample_index: tells apart samples of one question: part of the identity, so best-of-N keeps N answers.
        template: the version of the prompt template that made this request; part of the identity.
        tag: for the ledger's sums ("judge", "debater"); no part of the identity.
        meta: anything the caller wants back; no part of the identity.
    """

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    top_logprobs: int = 0
    logprobs: bool = False
    schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] | None = None
    regex: str | None = None
    sample_index: int = 0
    template: str = ""
    tag: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.messages) == (self.prompt is not None):
            raise BadInput("request: give either messages or prompt, and not both")
        _check("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1")
        _check("temperature", self.temperature, usable_temperature(self.temperature), TEMPERATURES)
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "in (0, 1]")
        _check("top_k", self.top_k, self.top_k >= 0, "0 (off) or more")
        _check("min_p", self.min_p, 0 <= self.min_p < 1, "in [0, 1)")
        _check("top_logprobs", self.top_logprobs, 0 <= self.top_logprobs <= 20, "in 0–20")
        _check("stop", self.stop, all(self.stop), "texts that are not empty")
        constraints = [name for name in ("schema", "choices", "regex") if getattr(self, name) is not None]
        if len(constraints) > 1:
            raise BadInput(f"request: {' and '.join(constraints)} exclude each other; give one")
        if self.choices is not None and not self.choices:
            raise BadInput("request: choices is empty: must name at least one text")

    def replace(self, **changes: Any) -> Request:
        """The same request with some fields changed."""
        return dataclasses.replace(self, **changes)

    def text(self) -> str:
        """Everything that is asked, in one text: the prompt, or the messages' contents line by line."""
        return self.prompt if self.prompt is not None else "\n".join(message.content for message in self.messages)

    def identity(self) -> dict[str, Any]:
        """All fields that may change the answer, as JSON can hold them."""
        fields = {
            each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name not in _NOT_IDENTITY
        }
        fields["messages"] = [[message.role, message.content] for message in self.messages]
        return fields

    def key(self, model: str) -> bytes:
        """16 bytes (BLAKE2b) that name this request to that model; see `LanguageModel.identity`."""
        return _key([model, self.identity()])


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens: of the prompt, of these how many were read from a cache, and of the completion."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer.

    Attributes:
        kind: `rate_limit`, `timeout`, `connection`, `server`, `malformed` (worth another attempt); `auth`,
            `not_found`, `context_length`, `bad_request`, `unsupported`, `budget`, `cache_miss`, `not_finite` (a model
            whose logits are NaN, infinite, or rule every token out) (final).
        message: one line, free of secrets.
        status: the HTTP status, if there was one.
        retry_after: seconds that the server asked to wait.
    """

    kind: str
    message: str
    status: int | None = None
    retry_after: float | None = None

    @property
    def passing(self) -> bool:
        """Whether another attempt may succeed."""
        return self.kind in {"rate_limit", "timeout", "connection", "server", "malformed"}


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, or the `error` in its place.

    Attributes:
        text: without the stop text and without special tokens.
        tokens: ids of the generated tokens, the end-of-sequence token included, where the backend knows them.
        logprobs: log p of each generated token under the sampled distribution before any truncation of it
            (temperature applied; at temperature 0 the plain model's), where the backend can tell.
        top_logprobs: per position the `top_logprobs` likeliest tokens' texts and their log p.
        usage: tokens; `cost`: money, in the unit of the price table; `latency`: seconds.
        from_cache: whether the answer was read from our cache (then it cost nothing).
    """

    text: str
    tokens: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    top_logprobs: tuple[Mapping[str, float], ...] | None = None
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()
    cost: float = 0.0
    latency: float = 0.0
    model: str = ""
    from_cache: bool = False
    error: Failure | None = None

    @classmethod
    def failed(cls, failure: Failure, model: str = "") -> Completion:
        """The completion that stands for a failure."""
        return cls(text="", finish_reason="error", model=model, error=failure)

    def replace(self, **changes: Any) -> Completion:
        """The same completion with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How likely is each continuation after the context? `context` is a raw prompt or messages, as in `Request`.

    The continuations are appended as they are: a leading space is the caller's to give.
    """

    context: str | tuple[Message, ...]
    continuations: tuple[str, ...]
    tag: str = ""

    def text(self) -> str:
        """The context in one text, as in `Request.text`."""
        return self.context if isinstance(self.context, str) else "\n".join(each.content for each in self.context)

    def key(self, model: str) -> bytes:
        """16 bytes (BLAKE2b) that name this scoring to that model; the tag is no part of it."""
        context = self.context
        if not isinstance(context, str):
            context = [[message.role, message.content] for message in context]
        return _key([model, "score", context, self.continuations])


@dataclass(frozen=True, slots=True)
class Scored:
    """log p of each continuation given the context, in nats.

    Attributes:
        totals: `[options]` sums over the continuation's tokens.
        tokens: per option `[tokens of it]`.
        usage: tokens read; `from_cache` and `error` as in `Completion` (with an error, `totals` is empty).
    """

    totals: np.ndarray
    tokens: tuple[np.ndarray, ...]
    usage: Usage = Usage()
    from_cache: bool = False
    error: Failure | None = None


def usable_temperature(value: float) -> bool:
    """Whether it is 0 or in [1e-6, 1e6]."""
    return value == 0 or LEAST_TEMPERATURE <= value <= MOST_TEMPERATURE


def _key(content: list[Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _check(name: str, value: Any, good: bool, allowed: str) -> None:
    if not good:
        raise BadInput(f"request: {name} is {value!r}: must be {allowed}")
