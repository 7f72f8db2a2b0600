"""A model that says back what it was asked, with everything a server may be asked for, and counts what it does."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter

import numpy as np

from tutelage.lm.model import Capabilities, LanguageModel
from tutelage.lm.request import Completion, Failure, Request, Scored, Scoring, Usage


class Parrot(LanguageModel):
    """Words of the question in capitals; `hang`, `slow` and `fail KIND` in it do what they say."""

    identity = "parrot"

    def __init__(self, **capabilities) -> None:
        full = Capabilities(logprobs=5, score=True, seed=True, schema=True, embed=True, max_context=64)
        self.capabilities = dataclasses.replace(full, **capabilities)
        self.counts: Counter[str] = Counter()
        self.seen: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        text = request.text()
        self.seen.append(request)
        self.counts["under way"] += 1
        self.counts["most at once"] = max(self.counts["most at once"], self.counts["under way"])
        try:
            if "hang" in text:
                await asyncio.sleep(60)
            # Later questions finish earlier, so that an order that is kept is kept on purpose.
            await asyncio.sleep(0.05 if "slow" in text else 0.002 * (len(text) % 3))
        except asyncio.CancelledError:
            self.counts["cancelled"] += 1
            raise
        finally:
            self.counts["under way"] -= 1
        if "explode" in text:
            raise ZeroDivisionError("the parrot's secret")
        if "fail " in text:
            kind = text.split("fail ")[1].split()[0]
            return Completion.failed(Failure(kind, f"injected {kind}: 4096 tokens at most, 5000 given", retry_after=7))
        words = [*text.upper().split(), str(request.seed), str(request.sample_index)]
        kept = words[: request.max_tokens]
        if request.choices:
            kept = [request.choices[-1]]
        values = tuple(-0.5 * (index + 1) for index in range(len(kept)))
        tables = tuple({f"{word}!": value, word: value - 1} for word, value in zip(kept, values))
        return Completion(
            " ".join(kept),
            tokens=tuple(range(len(kept))),
            logprobs=values if request.logprobs or request.top_logprobs else None,
            top_logprobs=tuple(dict(list(t.items())[: request.top_logprobs]) for t in tables)
            if request.top_logprobs
            else None,
            finish_reason="length" if len(kept) < len(words) and not request.choices else "stop",
            usage=Usage(len(text.split()), 1, len(kept)),
        )

    async def stream(self, request: Request):
        completion = await self.complete(request)
        for index, word in enumerate(completion.text.split(" ") if completion.text else []):
            await asyncio.sleep(0.005)
            yield word if index == 0 else f" {word}"
        yield completion

    async def score_one(self, item: Scoring) -> Scored:
        rows = tuple(np.array([-float(ord(letter)) / 7 for letter in text]) for text in item.continuations)
        rows = tuple(np.where(row < -17.2, -np.inf, row) for row in rows)
        return Scored(np.array([row.sum() for row in rows]), rows, Usage(prompt=len(rows)))

    async def embed(self, texts):
        return np.array([[len(text), 0.1, -1.0] for text in texts], np.float32)
