"""What models cost: tokens, money and seconds by model and tag, and budgets that hold."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tutelage.lab.errors import BadInput, nearest
from tutelage.lm.clients.cache import Cache
from tutelage.lm.clients.limits import estimated_tokens
from tutelage.lm.model import LanguageModel, Layer
from tutelage.lm.request import Completion, Failure, Request, Scored, Scoring, Usage

Answer = TypeVar("Answer", Completion, Scored)
_NEVER_SENT = ("budget", "cache_miss")


@dataclass(frozen=True, slots=True)
class Price:
    """Money per million tokens: of the prompt, of the completion, and of prompt tokens that the server had cached."""

    prompt: float
    completion: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not value >= 0:
                raise BadInput(f"prices: {name} is {value!r}: must be 0 or more, per million tokens")

    def of(self, usage: Usage) -> float:
        """What these tokens cost."""
        cached = self.prompt if self.cached is None else self.cached
        parts = (usage.prompt - usage.cached) * self.prompt + usage.cached * cached + usage.completion * self.completion
        return parts / 1e6


class Amount(NamedTuple):
    """Calls, tokens (prompt and completion) and money, in the unit of the price table."""

    calls: float = 0
    tokens: float = 0
    money: float = 0.0

    def plus(self, other: Amount, sign: int = 1) -> Amount:
        return Amount(*(one + sign * two for one, two in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that may be spent, ≥ 0; None is no limit."""

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        for name, most in dataclasses.asdict(self).items():
            if most is not None and not most >= 0:
                raise BadInput(f"budget: {name} is {most!r}: must be 0 or more, or None for no limit")


@dataclass(slots=True)
class Row:
    """Sums of one tag of one model. `failed` counts calls without an answer, `wasted` useless answers tried again."""

    calls: int = 0
    hits: int = 0
    failed: int = 0
    wasted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    money: float = 0.0
    seconds: float = 0.0

    def spend(self, usage: Usage, money: float) -> None:
        self.prompt_tokens += usage.prompt
        self.cached_tokens += usage.cached
        self.completion_tokens += usage.completion
        self.money += money


@dataclass(frozen=True, slots=True)
class Estimate:
    """What requests would take: an upper bound, as far as the prompt's tokens are estimated well."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    money: float
    hits: int


class Account:
    """Sums and one budget, which several models may share.

    Before a call its worst case is set aside, afterwards what it took is booked: so the budget is passed by no more
    than what the calls under way take beyond their estimates. A call that fits only once others have returned waits.
    """

    def __init__(self, budget: Budget | None = None, prices: Mapping[str, Price] | None = None) -> None:
        self.budget, self.prices = budget or Budget(), dict(prices or {})
        self.spent, self.aside, self._open = Amount(), Amount(), 0
        self.rows: dict[tuple[str, str], Row] = {}
        self._waiting: deque[tuple[Amount, asyncio.Future[Failure | None]]] = deque()

    def price(self, model: str) -> Price:
        """The model's; free when there is no price. Raises `BadInput` if a budget of money needs one."""
        if model not in self.prices and self.budget.money is not None:
            known = f"known: {', '.join(self.prices) or 'none'}{nearest(model, self.prices)}"
            raise BadInput(f"prices: a budget of money needs the price of {model!r}; {known}")
        return self.prices.get(model, Price(0, 0))

    def row(self, model: str, tag: str) -> Row:
        return self.rows.setdefault((model, tag), Row())

    async def reserve(self, worst: Amount) -> Failure | None:
        """Set `worst` aside, if need be after others have returned; or why that can never be."""
        if not self._waiting and (decided := self._decide(worst)) is not _LATER:
            return decided
        turn: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((worst, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result() is None:
                self.settle(worst, Amount())
            raise

    def settle(self, worst: Amount, actual: Amount) -> None:
        """Book what a call took in place of what was set aside for it."""
        self._open -= 1
        # Sums of fractions leave a rest, which must not keep the last call waiting for ever.
        self.aside = self.aside.plus(worst, -1) if self._open else Amount()
        self.spent = self.spent.plus(actual)
        while self._waiting:
            amount, turn = self._waiting[0]
            if not turn.done():
                decided = self._decide(amount)
                if decided is _LATER:
                    return
                turn.set_result(decided)
            self._waiting.popleft()

    def over(self, amount: Amount) -> Failure | None:
        """Which part of the budget would be passed by `amount`, in a line with figures."""
        limits = dataclasses.astuple(self.budget)
        for name, most, spent, wanted in zip(Amount._fields, limits, self.spent, amount, strict=True):
            if most is not None and spent + wanted > most:
                figures = f"{spent:.6g} of {most:g} {name} spent, up to {wanted:.6g} more needed"
                return Failure("budget", f"over budget: {figures}")
        return None

    def summary(self) -> dict[str, Any]:
        """Budget, what was spent, and the sums by model and tag, as JSON can hold them."""
        models: dict[str, dict[str, Any]] = {}
        for (model, tag), row in sorted(self.rows.items()):
            models.setdefault(model, {})[tag] = dataclasses.asdict(row)
        return {"budget": dataclasses.asdict(self.budget), "spent": self.spent._asdict(), "models": models}

    def _decide(self, worst: Amount) -> Any:
        if failure := self.over(worst):
            return failure
        if self._open and self.over(self.aside.plus(worst)):
            return _LATER
        self.aside, self._open = self.aside.plus(worst), self._open + 1
        return None


_LATER = object()


class Ledger(Layer):
    """Books every call to one account, under the model's name, and refuses what is over its budget.

    A refusal is a failure of kind `budget`. Answers from the cache cost nothing and count apart. Where a server tells
    no usage, the estimate is booked; a call that was cancelled is booked as what was set aside for it.

    Args:
        account: shared with other models, or None for one of its own.
        model: name in the price table and in the sums; `price`: instead of the table's.
        tokens: the most tokens that a prompt may have; by default a third of its bytes.
    """

    def __init__(
        self,
        inner: LanguageModel,
        account: Account | None = None,
        *,
        model: str = "",
        price: Price | None = None,
        tokens: Callable[[Any], int] = estimated_tokens,
    ) -> None:
        super().__init__(inner)
        self.account = account or Account()
        self.model = model or inner.identity
        self.price = price or self.account.price(self.model)
        self._tokens = tokens
        self._held = inner.held if isinstance(inner, Cache) else lambda item: False

    async def complete(self, request: Request) -> Completion:
        worst = Usage(self._tokens(request), completion=request.max_tokens)
        answer = await self._booked(request, worst, self.inner.complete, Completion.failed)
        return answer if answer.error else answer.replace(cost=self.price.of(self._usage(request, answer)))

    async def score_one(self, item: Scoring) -> Scored:
        worst = Usage(self._tokens(item) * max(1, len(item.continuations)))
        return await self._booked(item, worst, self.inner.score_one, lambda why: Scored(np.empty(0), (), error=why))

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """As the model's, booked under the tag "embed" by the estimate. Raises `BadInput` over budget."""
        missing = [text for text in dict.fromkeys(texts) if not self._held(text)]
        row = self.account.row(self.model, "embed")
        row.hits += len(texts) - len(missing)
        if not missing:
            return await self.inner.embed(texts)
        usage = Usage(sum(map(self._tokens, missing)))
        amount = self._amount(usage)
        if failure := await self.account.reserve(amount):
            raise BadInput(failure.message)
        start = time.perf_counter()
        try:
            return await self.inner.embed(texts)
        finally:
            self.account.settle(amount, amount)
            row.calls += 1
            row.seconds += time.perf_counter() - start
            row.spend(usage, amount.money)

    def spent_on_failure(self, request: Request, usage: Usage) -> Failure | None:
        """Book a useless answer that would be asked for again; a failure if the budget has no room for that."""
        amount = self._amount(usage)._replace(calls=0)
        row = self.account.row(self.model, request.tag)
        row.wasted += 1
        row.spend(usage, amount.money)
        self.account.spent = self.account.spent.plus(amount)
        return self.account.over(self.account.aside)  # in which the next attempt is contained

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """A dry run: what these requests would take, were they sent now. Nothing is sent."""
        distinct = {request.key(self.identity): request for request in requests}
        fresh = [request for request in distinct.values() if not self._held(request)]
        usage = Usage(sum(map(self._tokens, fresh)), completion=sum(request.max_tokens for request in fresh))
        money = self.price.of(usage)
        return Estimate(len(fresh), usage.prompt, usage.completion, money, len(requests) - len(fresh))

    def summary(self) -> dict[str, Any]:
        """See `Account.summary`."""
        return self.account.summary()

    async def _booked(
        self,
        item: Any,
        worst: Usage,
        send: Callable[[Any], Coroutine[Any, Any, Answer]],
        failed: Callable[[Failure], Answer],
    ) -> Answer:
        aside = self._amount(worst)
        row = self.account.row(self.model, item.tag)
        if failure := await self.account.reserve(aside):
            if self._held(item):
                row.hits += 1
                return await send(item)
            row.failed += 1
            return failed(failure)
        start = time.perf_counter()
        try:
            answer = await send(item)
        except BaseException:
            self.account.settle(aside, aside)
            row.failed += 1
            row.spend(worst, aside.money)
            raise
        sent = not answer.from_cache and not (answer.error and answer.error.kind in _NEVER_SENT)
        usage = self._usage(item, answer) if sent else Usage()
        actual = self._amount(usage) if sent else Amount()
        self.account.settle(aside, actual)
        row.calls += sent
        row.hits += answer.from_cache
        row.failed += answer.error is not None
        row.seconds += time.perf_counter() - start if sent else 0.0
        row.spend(usage, actual.money)
        return answer

    def _usage(self, item: Any, answer: Completion | Scored) -> Usage:
        if answer.usage.prompt or answer.error:
            return answer.usage
        return Usage(self._tokens(item), completion=self._tokens(answer.text) if isinstance(answer, Completion) else 0)

    def _amount(self, usage: Usage) -> Amount:
        return Amount(1, usage.prompt + usage.completion, self.price.of(usage))
