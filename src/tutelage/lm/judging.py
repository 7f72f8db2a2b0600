"""Judges: one way to choose, to rate and to compare, whatever the model can do; the answer says which way was used.

In falling order of exactness: `score` (the model reads every option), `first_token` (log-probabilities of the first
token tell the options apart), `constrained` (the model can only say one of the options), `parse` (it says what it
likes, and we read it).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tutelage.lab.errors import BadInput, nearest
from tutelage.lm.model import LM
from tutelage.lm.parsing import Unparsed, letter, number
from tutelage.lm.request import Completion, Failure, Request, Scoring, Usage

Method = Literal["score", "first_token", "constrained", "parse"]
METHODS: tuple[Method, ...] = ("score", "first_token", "constrained", "parse")
NOTHING_USED = Usage()


@dataclass(frozen=True)
class Choice:
    """Which option a model chose.

    Attributes:
        index: the option, or None where the answer could not be read or did not come.
        probabilities: `[options]`, sums to 1; one-hot where the method gives only the choice; empty without one.
        method: how it was asked, see the module.
        problem: why there is no answer.
        text: what the model said, where it said something.
        usage, cost: of this question.
    """

    index: int | None
    probabilities: np.ndarray
    method: Method
    problem: Unparsed | Failure | None = None
    text: str = ""
    usage: Usage = NOTHING_USED
    cost: float = 0.0


@dataclass(frozen=True)
class Rating:
    """A number on a scale: `value` is the expectation over the scale's points (None without an answer)."""

    value: float | None
    probabilities: np.ndarray
    method: Method
    problem: Unparsed | Failure | None = None


@dataclass(frozen=True)
class Comparison:
    """How often the first of two is preferred.

    Attributes:
        preference: probability in [0, 1] that `a` is better, mean over orders and votes; None if nothing was readable.
        by_order: the same for the order (a, b) and, if swapped, for (b, a): apart by a position bias.
        unread: the share of votes that could not be read.
        method: see the module.
    """

    preference: float | None
    by_order: tuple[float | None, ...]
    unread: float
    method: Method

    @property
    def winner(self) -> int | None:
        """0 if `a` is better, 1 if `b` is, None for a tie or no answer."""
        if self.preference is None or math.isclose(self.preference, 0.5, abs_tol=1e-9):
            return None
        return 0 if self.preference > 0.5 else 1


async def choose(
    model: LM,
    request: Request,
    options: Sequence[str],
    *,
    methods: Sequence[Method] = METHODS,
    cue: str = "Answer",
    per_token: bool = False,
) -> Choice:
    """Which of the options does the model answer? Takes the first of `methods` that the model is capable of.

    Args:
        options: at least two different texts. With `score` they are appended to a raw prompt as they are (give the
            leading space), with a chat they are the whole reply. An option that another begins with ("1" and "10") is
            credited with the longer one's probability too: end such options alike, with a stop or a new line.
        methods: allowed ways in order of preference; a single one insists on it.
        cue: for `parse`, the word before the final answer.
        per_token: for `score`, compare means over tokens instead of sums (for options of unequal length).

    Raises:
        BadInput: fewer than two options, equal ones, an unknown method, or none that this model is capable of.
    """
    if len(options) < 2 or len(set(options)) < len(options):
        raise BadInput(f"options are {list(options)!r}: must be at least two different texts")
    first, *others = _usable(model, methods, options)
    choice = await _by(first, model, request, options, cue, per_token)
    for method in others:
        # A server's abilities are known only once it has refused; then the next way is tried.
        if not _refused(choice):
            break
        choice = await _by(method, model, request, options, cue, per_token)
    return choice


async def rate(
    model: LM,
    request: Request,
    scale: tuple[int, int] = (1, 10),
    *,
    methods: Sequence[Method] = METHODS,
    cue: str = "Rating",
    prefix: str = "",
) -> Rating:
    """The expected rating Σ_k k·p(k) over the whole numbers of `scale`, p normalised over these alone.

    `prefix` goes before each number (a space for raw prompts). With `parse` the number after the last `cue` is read
    (or the last number), and refused outside of the scale. Raises as `choose`.
    """
    low, high = scale
    if not low < high:
        raise BadInput(f"scale is {scale}: must be two whole numbers, the lower first")
    points = np.arange(low, high + 1)
    options = [f"{prefix}{point}" for point in points]
    usable = _usable(model, methods, options)
    exact: list[Method] = [method for method in usable if method != "parse"]
    if exact:
        choice = await choose(model, request, options, methods=exact)
        if not _refused(choice) or "parse" not in usable:
            value = float(choice.probabilities @ points) if choice.index is not None else None
            return Rating(value, choice.probabilities, choice.method, choice.problem)
    [completion] = await model.generate([request])
    if completion.error is not None:
        return Rating(None, np.empty(0), "parse", completion.error)
    value = number(completion.text, low, high, cue=cue if cue.casefold() in completion.text.casefold() else None)
    if isinstance(value, Unparsed):
        return Rating(None, np.empty(0), "parse", value)
    return Rating(value, (points == round(value)).astype(float), "parse")


async def compare(
    model: LM,
    ask: Callable[[str, str], Request],
    a: str,
    b: str,
    *,
    options: tuple[str, str] = ("A", "B"),
    swap: bool = True,
    votes: int = 1,
    methods: Sequence[Method] = METHODS,
    cue: str = "Answer",
) -> Comparison:
    """Is `a` better than `b`? Asked in both orders unless `swap` is off, `votes` times each where answers are sampled.

    Args:
        ask: makes the request that shows its first argument as option A and its second as option B.
        options: how the judge names the first and the second.
        votes: ≥ 1; each has its own `sample_index`. Methods that give probabilities, and greedy requests, need one.

    An unreadable vote counts for nobody; it is part of `unread`. Raises as `choose`.
    """
    if votes < 1:
        raise BadInput(f"votes is {votes}: must be at least 1")
    first = await choose(model, ask(a, b), options, methods=methods, cue=cue)
    questions: list[tuple[bool, Request]] = []
    for straight in (True, False) if swap else (True,):
        request = ask(a, b) if straight else ask(b, a)
        repeats = 1 if first.method in ("score", "first_token") or request.temperature == 0 else votes
        for vote in range(repeats):
            questions.append((straight, request.replace(sample_index=request.sample_index + vote)))
    others = [choose(model, request, options, methods=[first.method], cue=cue) for _, request in questions[1:]]
    choices = [first, *await asyncio.gather(*others)]
    shares: dict[bool, list[float]] = {True: [], False: []}
    for (straight, _), choice in zip(questions, choices):
        if choice.index is not None:
            shares[straight].append(float(choice.probabilities[0 if straight else 1]))
    by_order = tuple(
        float(np.mean(part)) if part else None for part in ([shares[True], shares[False]] if swap else [shares[True]])
    )
    read = [share for share in by_order if share is not None]
    unread = sum(choice.index is None for choice in choices) / len(choices)
    return Comparison(float(np.mean(read)) if read else None, by_order, unread, first.method)


async def _by(method: Method, model: LM, request: Request, options: Sequence[str], cue: str, per_token: bool) -> Choice:
    if method == "score":
        return await _by_score(model, request, options, per_token)
    if method == "first_token":
        return await _by_first_token(model, request, options)
    if method == "constrained":
        return await _by_constraint(model, request, options)
    return await _by_reading(model, request, options, cue)


def _refused(choice: Choice) -> bool:
    return isinstance(choice.problem, Failure) and choice.problem.kind == "unsupported"


async def _by_score(model: LM, request: Request, options: Sequence[str], per_token: bool) -> Choice:
    context = request.prompt if request.prompt is not None else request.messages
    [scored] = await model.score([Scoring(context, tuple(options), tag=request.tag)])
    if scored.error is not None:
        return Choice(None, np.empty(0), "score", scored.error)
    totals = np.asarray(scored.totals, float)
    if per_token:
        totals = totals / np.array([max(1, len(part)) for part in scored.tokens])
    return _chosen(totals, "score", usage=scored.usage)


async def _by_first_token(model: LM, request: Request, options: Sequence[str]) -> Choice:
    wide = min(20, model.capabilities.logprobs)
    [completion] = await model.generate([request.replace(max_tokens=1, top_logprobs=wide, temperature=0.0)])
    if completion.error is not None:
        return _without(completion, "first_token", completion.error)
    if not completion.top_logprobs:
        return _without(completion, "first_token", Unparsed("the answer has no log-probabilities"))
    totals = np.full(len(options), -np.inf)
    for token, logprob in completion.top_logprobs[0].items():
        for index, option in enumerate(options):
            # "A" and " A" are two tokens for one answer: their probabilities add.
            if token.strip() and option.strip().startswith(token.strip()):
                totals[index] = np.logaddexp(totals[index], logprob)
    if np.all(np.isneginf(totals)):
        return _without(completion, "first_token", Unparsed(f"no option is among the {wide} likeliest tokens"))
    return _chosen(totals, "first_token", completion)


async def _by_constraint(model: LM, request: Request, options: Sequence[str]) -> Choice:
    [completion] = await model.generate([request.replace(choices=tuple(options), schema=None, regex=None)])
    if completion.error is not None:
        return _without(completion, "constrained", completion.error)
    if completion.text not in options:
        return _without(completion, "constrained", Unparsed(f"the answer is none of the {len(options)} options"))
    return _chosen(_one_hot(options, completion.text), "constrained", completion)


async def _by_reading(model: LM, request: Request, options: Sequence[str], cue: str) -> Choice:
    [completion] = await model.generate([request])
    if completion.error is not None:
        return _without(completion, "parse", completion.error)
    stripped = [option.strip() for option in options]
    found = letter(completion.text, stripped, cue=cue)
    if isinstance(found, Unparsed):
        return _without(completion, "parse", found)
    return _chosen(_one_hot(stripped, found), "parse", completion)


def _chosen(
    totals: np.ndarray, method: Method, completion: Completion | None = None, usage: Usage = NOTHING_USED
) -> Choice:
    weights = np.exp(totals - totals.max())
    text, cost = "", 0.0
    if completion is not None:
        text, usage, cost = completion.text, completion.usage, completion.cost
    return Choice(int(totals.argmax()), weights / weights.sum(), method, text=text, usage=usage, cost=cost)


def _without(completion: Completion, method: Method, problem: Unparsed | Failure) -> Choice:
    return Choice(None, np.empty(0), method, problem, completion.text, completion.usage, completion.cost)


def _one_hot(options: Sequence[str], answer: str) -> np.ndarray:
    return np.array([0.0 if option == answer else -np.inf for option in options])


def _told_apart(options: Sequence[str]) -> bool:
    """Whether no option is, or begins like, another: then the first character, and so the first token, decides."""
    return len({option.strip()[:1] for option in options}) == len(options)


def _usable(model: LM, methods: Sequence[Method], options: Sequence[str]) -> list[Method]:
    """Those of the methods that the model is, as far as is known, capable of, in their order."""
    for method in methods:
        if method not in METHODS:
            raise BadInput(f"method {method!r} is unknown; allowed: {', '.join(METHODS)}{nearest(method, METHODS)}")
    able: dict[Method, bool] = {
        "score": model.capabilities.score,
        "first_token": model.capabilities.logprobs > 1 and _told_apart(options),
        "constrained": model.capabilities.schema or model.capabilities.choices,
        "parse": True,
    }
    usable: list[Method] = [method for method in methods if able[method]]
    if not usable:
        raise BadInput(f"methods {list(methods)} ask more than {model.identity} is capable of; 'parse' always works")
    return usable
