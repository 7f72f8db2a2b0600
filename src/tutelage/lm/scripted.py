"""A model that says what it is told to: the reference backend of tests and of runs without a language model.

All randomness is a hash of the model's seed and the request (its `seed` and `sample_index` included), so an answer
depends on nothing else: neither on the order of requests nor on how many are in flight, nor on injected faults.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from types import CodeType
from typing import Any

import numpy as np

from tutelage.lab.errors import BadInput, nearest
from tutelage.lm.model import Capabilities, LanguageModel
from tutelage.lm.request import Completion, Failure, Request, Scored, Scoring, Usage

_WORD = re.compile(r"\s*\S+")
_PLACE = re.compile(r"\{(\w+)\}")
_MANY = 200
"""Expansions in one text after which a grammar takes the shortest way to its end."""


class Grammar:
    """Texts by weighted productions: `Grammar({"start": ["The {animal} sleeps.", ("No.", 0.1)], "animal": ["cat"]})`.

    `rules` give for each name its productions, a text (weight 1) or a text with its weight > 0; `{name}` stands for
    an expansion of that name. Raises `BadInput` for unknown names, weights ≤ 0 and names that cannot come to an end.
    """

    def __init__(self, rules: Mapping[str, Sequence[str | tuple[str, float]]], start: str = "start") -> None:
        self.start = start
        self.rules = rules = {
            name: [(each, 1.0) if isinstance(each, str) else (each[0], float(each[1])) for each in productions]
            for name, productions in rules.items()
        }
        used = {place for each in rules.values() for text, _ in each for place in _PLACE.findall(text)}
        for name in {start} | used:
            if name not in rules:
                raise BadInput(f"grammar: {name!r} has no rule; there are {', '.join(rules)}{nearest(name, rules)}")
        for name, productions in rules.items():
            if not productions or not all(0 < weight < math.inf for _, weight in productions):
                raise BadInput(f"grammar: {name!r} must have productions, with weights above 0")
        ways_out: dict[str, str] = {}  # per name the production that ends soonest: found in the order of their depth
        for _ in rules:
            for name, productions in [each for each in rules.items() if each[0] not in ways_out]:
                ends = [text for text, _ in productions if all(place in ways_out for place in _PLACE.findall(text))]
                ways_out |= {name: ends[0]} if ends else {}
        if endless := sorted(set(rules) - set(ways_out)):
            raise BadInput(f"grammar: {endless[0]!r} never comes to an end")
        self._ways_out = ways_out

    def expand(self, source: random.Random) -> str:
        """One text. After 200 expansions only productions that come to an end are taken."""
        return self._expand(self.start, source, itertools.count())

    def _expand(self, name: str, source: random.Random, used: Iterator[int]) -> str:
        texts, weights = zip(*self.rules[name], strict=True)
        text = source.choices(texts, weights)[0] if next(used) < _MANY else self._ways_out[name]
        return _PLACE.sub(lambda place: self._expand(place.group(1), source, used), text)


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and how often: shares in [0, 1] of the attempts, decided by a hash of request and attempt.

    Attributes:
        rate_limit: HTTP 429, with `retry_after` seconds.
        server: HTTP 500.
        disconnect: the connection ends before the answer.
        malformed: the answer cannot be read (failure kind `malformed`).
        garbled: an answer comes, but cut in the middle: what a validator has to find.
        refusal: the answer is "I cannot help with that.", stopped by a content filter.
        attempts: no fault strikes a request after so many attempts at it; so retries end in the clean answer.
        retry_after: seconds.
        latency: mean seconds of an answer, exponentially distributed over requests.
    """

    rate_limit: float = 0.0
    server: float = 0.0
    disconnect: float = 0.0
    malformed: float = 0.0
    garbled: float = 0.0
    refusal: float = 0.0
    attempts: int = 2
    retry_after: float = 0.0
    latency: float = 0.0

    def __post_init__(self) -> None:
        shares = [(each.name, getattr(self, each.name)) for each in fields(self)[:6]]
        for name, share in shares:
            if not 0 <= share <= 1:
                raise BadInput(f"faults: {name} is {share}: must be a share in [0, 1]")
        if sum(share for _, share in shares) > 1 + 1e-9:
            raise BadInput(f"faults: the shares sum to {sum(share for _, share in shares):g}: must be at most 1")
        for name in ("attempts", "retry_after", "latency"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"faults: {name} is {getattr(self, name)}: must be 0 or more")

    def strike(self, key: bytes, attempt: int) -> str | None:
        """Which fault hits this attempt (from 0) at the request of that key, if any."""
        left = randomness(key, "fault", attempt).random() if attempt < self.attempts else 1.0
        for each in fields(self)[:6]:
            left -= getattr(self, each.name)
            if left < 0:
                return each.name
        return None


Answer = str | Completion
Words = Mapping[str, float] | Callable[[str], Mapping[str, float]]
_NO_FAULTS = Faults()


class Scripted(LanguageModel):
    """Answers from a table, a function or a grammar; a token is a word with the white space before it.

    Args:
        answers: by prompt (`Request.text()`, or the last message alone) an answer, or several of which `sample_index`
            picks one; or a function of the request, or of the request and a `random.Random` of its own; or a `Grammar`.
        seed: of all randomness.
        name: part of the identity; change it when a function starts to answer differently for reasons outside its code.
        words: relative frequencies of words, or a function from the text so far to them: the next-word distribution
            behind `logprobs`, `top_logprobs` and `score`. A word that is not in it has log p = -inf.
        faults: what goes wrong, for tests; no part of the identity, because it never changes the answer.
        dimensions: of embeddings.

    `calls` counts what was asked: "generate" (every attempt), "score", "embed".
    """

    def __init__(
        self,
        answers: Mapping[str, Answer | Sequence[Answer]] | Callable[..., Answer] | Grammar,
        *,
        seed: int = 0,
        name: str = "scripted",
        words: Words | None = None,
        faults: Faults = _NO_FAULTS,
        dimensions: int = 256,
    ) -> None:
        if not (isinstance(answers, Mapping | Grammar) or callable(answers)):
            raise BadInput(f"answers is a {type(answers).__name__}: must be a mapping, a function or a Grammar")
        if dimensions < 1:
            raise BadInput(f"dimensions is {dimensions}: must be at least 1")
        self._answers, self._words, self._faults = answers, words, faults
        self._dimensions, self._seed = dimensions, seed
        self._attempts: Counter[bytes] = Counter()
        self._with_random = callable(answers) and _takes_two(answers)
        content = json.dumps([seed, _content(answers), _content(words), dimensions])
        self.identity = f"scripted:{name}@{blake2b(content.encode(), digest_size=8).hexdigest()}"
        scores = words is not None
        self.capabilities = Capabilities(logprobs=20 * scores, score=scores, seed=True, embed=True)
        self.calls: Counter[str] = Counter()
        self._failures = {
            "rate_limit": Failure("rate_limit", "too many requests (injected)", 429, faults.retry_after),
            "server": Failure("server", "internal error (injected)", 500),
            "disconnect": Failure("connection", "the connection was lost (injected)"),
            "malformed": Failure("malformed", "the answer was cut off (injected)"),
        }

    async def complete(self, request: Request) -> Completion:
        key = request.key(str(self._seed))
        attempt = self._attempts[key]
        self._attempts[key] += 1
        self.calls["generate"] += 1
        latency = 0.0
        if self._faults.latency:
            latency = randomness(key, "latency").expovariate(1 / self._faults.latency)
            await asyncio.sleep(latency)
        fault = self._faults.strike(key, attempt)
        if fault in self._failures:
            return Completion.failed(self._failures[fault], self.identity)
        answer = self._answer(request, key)
        if isinstance(answer, Failure):
            return Completion.failed(answer, self.identity)
        completion = self._finished(request, answer).replace(latency=latency)
        if fault == "garbled":
            return completion.replace(text=completion.text[: len(completion.text) // 2] + "\ufffd")
        if fault == "refusal":
            return completion.replace(text="I cannot help with that.", finish_reason="content_filter")
        return completion

    async def score_one(self, item: Scoring) -> Scored:
        if self._words is None:
            return await super().score_one(item)
        self.calls["score"] += 1
        context = item.text()
        tokens = tuple(np.array(self._log_probabilities(context, text)[0]) for text in item.continuations)
        read = len(_WORD.findall(context)) + sum(len(each) for each in tokens)
        return Scored(np.array([each.sum() for each in tokens]), tokens, Usage(prompt=read))

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """`[texts, dimensions]` unit vectors of signed, hashed counts of words and of three letters in a row."""
        self.calls["embed"] += 1
        vectors = np.zeros((len(texts), self._dimensions), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            whole = f" {text.lower()} "
            for gram in [whole, *whole.split(), *(whole[at : at + 3] for at in range(len(whole) - 2))]:
                code = zlib.crc32(gram.encode("utf-8", "surrogatepass"))
                vector[(code >> 1) % self._dimensions] += 1 - 2 * (code & 1)
            if not vector.any():
                vector[0] = 1
            vector /= np.linalg.norm(vector)
        return vectors

    def _answer(self, request: Request, key: bytes) -> Answer | Failure:
        if isinstance(self._answers, Grammar):
            return self._answers.expand(randomness(key, "answer"))
        if not isinstance(self._answers, Mapping):
            return self._answers(request, randomness(key, "answer")) if self._with_random else self._answers(request)
        asked = [request.text(), *(message.content for message in request.messages[-1:])]
        found = next((self._answers[text] for text in asked if text in self._answers), None)
        if found is None:
            return Failure("bad_request", f"no answer to {asked[-1][:60]!r}{nearest(asked[-1], self._answers)}")
        return found if isinstance(found, str | Completion) else found[request.sample_index % len(found)]

    def _finished(self, request: Request, answer: Answer) -> Completion:
        """The answer as a model gives it: ended by stop texts and `max_tokens`, with usage and log-probabilities."""
        if isinstance(answer, Completion):
            return answer.replace(model=answer.model or self.identity)
        text = answer[: min((at for stop in request.stop if (at := answer.find(stop)) >= 0), default=len(answer))]
        words = _WORD.findall(text)
        cut = len(words) > request.max_tokens
        if cut:
            words = words[: request.max_tokens]
            text = "".join(words)
        logprobs = top = None
        if self._words is not None and (request.logprobs or request.top_logprobs):
            found, top = self._log_probabilities(request.text(), text, request.temperature, request.top_logprobs)
            logprobs, top = tuple(found), tuple(top) if request.top_logprobs else None
        return Completion(
            text,
            logprobs=logprobs,
            top_logprobs=top,
            finish_reason="length" if cut else "stop",
            usage=Usage(prompt=len(_WORD.findall(request.text())), completion=len(words)),
            model=self.identity,
        )

    def _log_probabilities(
        self, context: str, text: str, temperature: float = 1.0, top: int = 0
    ) -> tuple[list[float], list[dict[str, float]]]:
        """log p of each word of `text` after `context`, and at each place the `top` likeliest words."""
        assert self._words is not None
        found, alternatives = [], []
        for word in _WORD.findall(text):
            weights = self._words(context) if callable(self._words) else self._words
            logits = {each: math.log(weight) / (temperature or 1) for each, weight in weights.items() if weight > 0}
            if not logits:
                raise BadInput("words: no word has a frequency above 0")
            highest = max(logits.values())
            total = highest + math.log(math.fsum(math.exp(logit - highest) for logit in logits.values()))
            found.append(logits.get(word.strip(), -math.inf) - total)
            likeliest = sorted(logits.items(), key=lambda item: (-item[1], item[0]))[:top]
            alternatives.append({each: logit - total for each, logit in likeliest})
            context += word
        return found, alternatives


def randomness(key: bytes, *purpose: str | int) -> random.Random:
    """A generator whose numbers depend on nothing but `key` and what they are for."""
    code = blake2b(key + repr(purpose).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(code, "big"))


def _takes_two(function: Callable[..., Any]) -> bool:
    needed = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    return len([each for each in needed if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]) == 2


def _content(source: Any) -> Any:
    """What decides the answers, as JSON can hold it: a table's or grammar's entries, a function's name and code."""
    if isinstance(source, Grammar):
        return [source.start, _content(source.rules)]
    if isinstance(source, Mapping):
        return sorted([str(name), repr(entry)] for name, entry in source.items())
    code = getattr(source, "__code__", None)
    return [getattr(source, "__qualname__", type(source).__qualname__), code and _code(code)]


def _code(code: CodeType) -> Any:
    # Only constants whose repr is the same in every process: a set of texts has another order in each.
    inside = [each for each in code.co_consts if isinstance(each, str | int | float | CodeType)]
    parts = [_code(each) if isinstance(each, CodeType) else repr(each) for each in inside]
    return [code.co_code.hex(), code.co_names, parts]
