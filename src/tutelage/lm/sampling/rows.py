"""Rows: single continuations in the making, whatever engine advances them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from tutelage.lm.sampling.next_token import Sampling, draw, top_logprobs, uniforms, what_is_wrong

Top = list[tuple[list[int], list[float]]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One continuation.

    Attributes:
        tokens: `[n]` int64, the stop token included.
        logprobs: `[n]` float32, log softmax(logits / temperature) of each token, before any truncation (temperature 0:
            of the plain logits).
        finish: `stop` (a stop token came) or `length`.
        top: per position ids and log-probabilities of the likeliest tokens, if asked for.
    """

    tokens: np.ndarray
    logprobs: np.ndarray
    finish: Literal["stop", "length"]
    top: Top = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Row:
    """A continuation in the making.

    Attributes:
        prompt: `[P]` int64, P ≥ 1.
        seed: in [0, 2⁶⁴): with the prompt it decides all of the row's draws.
        stops: ids that end it.
        allowed: asked before every token: the only ids that may come, or None for all.
        watch: shown the row after every token; True ends it (as `stop`).
        limit: most new tokens.
        failure: why no further token could be drawn, with `finish` `error`; empty if all is well.
    """

    prompt: np.ndarray
    sampling: Sampling
    seed: int = 0
    stops: frozenset[int] = frozenset()
    allowed: Callable[[Row], list[int] | None] | None = None
    watch: Callable[[Row], bool] | None = None
    limit: int = 0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: Top = field(default_factory=list)
    finish: Literal["stop", "length", "error"] | None = None
    failure: str = ""

    def __post_init__(self) -> None:
        self.limit = self.limit or self.sampling.max_new_tokens

    def sample(self) -> Sample:
        """The finished continuation."""
        tokens, logprobs = np.array(self.tokens, np.int64), np.array(self.logprobs, np.float32)
        return Sample(tokens, logprobs, "stop" if self.finish == "stop" else "length", self.top)


def advance(rows: Sequence[Row], logits: torch.Tensor, seeds: np.ndarray, knobs: np.ndarray) -> np.ndarray:
    """Draws one more token for every row from `logits` `[rows, V]` and marks who is through; the tokens `[rows]`.

    A row whose logits are no distribution gets none and is through, with a `failure`.
    `seeds` `[rows]` uint64 and `knobs` `[rows, 4]` repeat what the rows hold, so that it is not collected each time.
    """
    ages = np.array([len(row.tokens) for row in rows], np.uint64)
    allowed = {
        index: ids
        for index, row in enumerate(rows)
        if row.allowed is not None and (ids := row.allowed(row)) is not None
    }
    drawn, logprobs = draw(logits, uniforms(seeds, ages), knobs, allowed)
    tokens = drawn.cpu().numpy()
    for index, (row, token, logprob) in enumerate(zip(rows, tokens.tolist(), logprobs.tolist())):
        if math.isnan(logprob):
            row.failure = f"the model gave {what_is_wrong(logits[index])} at token {len(row.tokens) + 1}"
            row.finish = "error"
            continue
        row.tokens.append(token)
        row.logprobs.append(logprob)
        if row.sampling.top_logprobs:
            row.top.append(top_logprobs(logits[index], row.sampling.top_logprobs, row.sampling.temperature))
        if token in row.stops or (row.watch is not None and row.watch(row)):
            row.finish = "stop"
        elif len(row.tokens) >= row.limit:
            row.finish = "length"
    return tokens
