"""Budgets hold, sums add up, and estimates are what comes to pass at most."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm.virtual_time import simulate

from tutelage.lab.errors import BadInput
from tutelage.lm.clients.cache import Cache
from tutelage.lm.clients.flight import SingleFlight
from tutelage.lm.clients.ledger import Account, Budget, Ledger, Price
from tutelage.lm.connecting import connect
from tutelage.lm.model import LanguageModel, run
from tutelage.lm.request import Completion, Failure, Request, Scoring, Usage
from tutelage.lm.scripted import Faults, Scripted

PRICE = Price(prompt=2.0, completion=10.0, cached=0.5)


class Metered(LanguageModel):
    """Counts by itself what it gave. A request's meta says how long it takes and what it uses."""

    identity = "metered"

    def __init__(self):
        self.usages: list[Usage] = []
        self.times: list[tuple[float, float]] = []
        self.order: list[int] = []

    async def complete(self, request: Request) -> Completion:
        usage = Usage(request.meta["prompt"], request.meta["cached"], request.meta["completion"])
        start = asyncio.get_running_loop().time()
        await asyncio.sleep(request.meta["seconds"])
        self.times.append((start, asyncio.get_running_loop().time()))
        self.usages.append(usage)
        self.order.append(int(request.text()))
        if request.meta["fails"]:
            return Completion.failed(Failure("server", "broken"))
        return Completion("x", usage=usage, latency=request.meta["seconds"])


sizes = st.fixed_dictionaries(
    {
        "prompt": st.integers(1, 50),
        "cached": st.just(0),
        "completion": st.integers(0, 100),
        "seconds": st.floats(0, 10),
        "estimate": st.integers(1, 50),
        "most": st.integers(1, 100),
        "fails": st.just(False),
    }
)
budgets = st.builds(
    Budget,
    calls=st.none() | st.integers(0, 20),
    tokens=st.none() | st.integers(0, 1500),
    money=st.none() | st.floats(0, 0.01),
)


@given(st.lists(sizes, max_size=40), budgets, st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_budget_is_never_passed_by_more_than_what_is_under_way(asked, budget, honest):
    if honest:  # then estimates are upper bounds, and the budget is not passed at all
        asked = [
            each | {"estimate": max(each["estimate"], each["prompt"]), "most": max(each["most"], each["completion"])}
            for each in asked
        ]
    backend = Metered()
    account = Account(budget, {"metered": PRICE})
    model = Ledger(backend, account, tokens=lambda request: request.meta["estimate"])
    requests = [Request(prompt=str(index), meta=each, max_tokens=each["most"]) for index, each in enumerate(asked)]
    answers = simulate(model.generate(requests))
    spent = (
        len(backend.usages),
        sum(usage.prompt + usage.completion for usage in backend.usages),
        sum(PRICE.of(usage) for usage in backend.usages),
    )
    # What went over is at most what the calls that were under way when the last one was sent took beyond their
    # estimates: nothing at all, where these are upper bounds.
    last = max((start for start, _ in backend.times), default=0.0)
    expected = {index: Usage(each["estimate"], completion=each["most"]) for index, each in enumerate(asked)}
    beyond_tokens, beyond_money = 0, 0.0
    for (_, end), usage, index in zip(backend.times, backend.usages, backend.order, strict=True):
        if end >= last:
            guess = expected[index]
            beyond_tokens += max(0, usage.prompt + usage.completion - guess.prompt - guess.completion)
            beyond_money += max(0.0, PRICE.of(usage) - PRICE.of(guess))
    assert not honest or beyond_tokens == beyond_money == 0
    assert budget.calls is None or spent[0] <= budget.calls
    assert budget.tokens is None or spent[1] <= budget.tokens + beyond_tokens
    assert budget.money is None or spent[2] <= budget.money + beyond_money + 1e-12
    assert account.spent == pytest.approx(spent)
    # No call is refused that would have fitted, and each answer stands at its request's place.
    refused = [answer.error for answer in answers if answer.error]
    assert all(failure.kind == "budget" for failure in refused) and len(refused) + len(backend.usages) == len(asked)
    if refused:
        assert any(most is not None for most in (budget.calls, budget.tokens, budget.money))
    for each, answer in zip(asked, answers, strict=True):
        assert answer.error or answer.usage.prompt == each["prompt"]
    assert account.aside == (0, 0, 0)


def test_a_call_that_fits_once_others_have_returned_waits_for_them():
    backend = Metered()
    one = {"prompt": 10, "cached": 0, "completion": 5, "seconds": 1.0, "estimate": 10, "fails": False}
    model = Ledger(backend, Account(Budget(tokens=1000)), tokens=lambda request: 10)
    answers = simulate(model.generate([Request(prompt=str(i), max_tokens=90, meta=one) for i in range(61)]))
    # 15 of the 100 set aside are used: 1000 tokens last for 61 calls, of which the last had 100 left to set aside.
    assert sum(answer.error is None for answer in answers) == 61
    assert model.account.spent.tokens == 61 * 15


def test_a_refusal_is_one_clear_line_with_figures():
    model = connect({"a": "b"}, budget={"calls": 0})
    [answer] = run(model.generate([Request(prompt="a")]))
    assert answer.error is not None and answer.error.kind == "budget" and not answer.error.passing
    assert answer.error.message == "over budget: 0 of 0 calls spent, up to 1 more needed"
    with pytest.raises(BadInput, match="over budget: 0 of 3 tokens spent"):
        run(connect({}, budget={"tokens": 3}).embed(["a long text"]))


def test_answers_from_the_cache_cost_nothing_even_when_nothing_is_left(tmp_path: Path):
    requests = [Request(prompt="a", sample_index=index, tag="t") for index in range(6)]
    for spent in (4, 2, 0):
        model = connect({"a": "b"}, cache=tmp_path / "lm.sqlite", budget={"calls": 4})
        answers = run(model.generate(requests))
        run(model.close())
        [row] = model.account.rows.values()
        assert (row.calls, row.hits) == (spent, sum(each.from_cache for each in answers))
        assert model.account.spent.calls == spent
        assert sum(each.error is None for each in answers) == (4 if spent == 4 else 6)


def test_a_damaged_entry_is_no_way_around_the_budget(tmp_path: Path):
    import sqlite3

    model = connect({"a": "b"}, cache=tmp_path / "lm.sqlite")
    run(model.generate([Request(prompt="a")]))
    run(model.close())
    with sqlite3.connect(tmp_path / "lm.sqlite") as other:
        other.execute("UPDATE answers SET value = x'00'")
    other.close()
    model = connect(backend := Scripted({"a": "b"}), cache=tmp_path / "lm.sqlite", budget={"calls": 0})
    [answer] = run(model.generate([Request(prompt="a")]))
    run(model.close())
    assert answer.error is not None and not backend.calls


def test_identical_requests_under_way_are_paid_once():
    backend = Scripted({"a": "b"}, faults=Faults(latency=0.001))
    model = Ledger(SingleFlight(backend), Account(Budget(calls=10)))
    run(model.generate([Request(prompt="a")] * 10))
    assert model.account.spent.calls == 1 and next(iter(model.account.rows.values())).hits == 9


def test_an_estimate_is_a_dry_run_that_knows_the_cache(tmp_path: Path):
    backend = Scripted({"a": "b", "c": "d"}, name="priced")
    model = connect(backend, cache=tmp_path / "lm.sqlite", prices={backend.identity: PRICE})
    run(model.generate([Request(prompt="a", max_tokens=7)]))
    requests = [Request(prompt="a", max_tokens=7), Request(prompt="c", max_tokens=7), Request(prompt="c", max_tokens=7)]
    estimate = model.estimate(requests)
    assert backend.calls["generate"] == 1
    assert (estimate.calls, estimate.hits, estimate.prompt_tokens, estimate.completion_tokens) == (1, 2, 5, 7)
    assert estimate.money == pytest.approx((5 * 2 + 7 * 10) / 1e6)
    before = model.account.spent
    run(model.generate(requests))
    run(model.close())
    assert all(one <= two for one, two in zip(model.account.spent, before.plus((estimate.calls, 12, estimate.money))))


def test_money_is_what_the_table_says_cached_tokens_apart():
    assert PRICE.of(Usage(1_000_000, 400_000, 200_000)) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.2 * 10)
    assert Price(2.0, 10.0).of(Usage(1_000_000, 400_000)) == pytest.approx(2.0)
    one = {"prompt": 100, "cached": 40, "completion": 20, "seconds": 0.0, "fails": False}
    model = Ledger(Metered(), Account(prices={"metered": PRICE}))
    [answer] = run(model.generate([Request(prompt="0", meta=one, tag="judge")]))
    assert answer.cost == PRICE.of(Usage(100, 40, 20)) == model.account.spent.money


def test_sums_by_model_and_tag_are_plain_json_and_add_up():
    account = Account(Budget(calls=100))
    judge = Ledger(Scripted({"a": "b c"}, words={"b": 1}), account, model="judge-model")
    writer = connect({"a": "b c d"}, budget=account)
    run(judge.generate([Request(prompt="a", tag="judge")] * 3 + [Request(prompt="zzz", tag="judge")]))
    run(writer.generate([Request(prompt="a", tag="draft"), Request(prompt="a", sample_index=1, tag="final")]))
    run(judge.score([Scoring("a", (" b",), tag="judge")]))
    run(writer.embed(["some text"]))
    summary = json.loads(json.dumps(account.summary(), allow_nan=False))
    rows = [row for tags in summary["models"].values() for row in tags.values()]
    assert summary["models"]["judge-model"]["judge"]["calls"] == 5
    assert summary["models"]["judge-model"]["judge"]["failed"] == 1
    assert set(summary["models"][writer.model]) == {"draft", "final", "embed"}
    assert summary["spent"]["calls"] == sum(row["calls"] for row in rows) == 8
    assert summary["spent"]["tokens"] == sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows)
    assert summary["budget"]["calls"] == 100


def test_useless_answers_are_paid_and_end_where_the_budget_does():
    backend = Scripted({"a": "b " * 50}, faults=Faults(garbled=1.0, attempts=99))
    model = connect(
        backend, budget={"tokens": 400}, attempts=99, valid=lambda r, c: "cut" if "\ufffd" in c.text else None
    )
    model.inner.inner._base = 0.0  # type: ignore[attr-defined]
    [answer] = run(model.generate([Request(prompt="a", max_tokens=50)]))
    [row] = model.account.rows.values()
    assert answer.error is not None and answer.error.kind == "budget"
    assert backend.calls["generate"] * 51 <= 400 + 51 and row.wasted == backend.calls["generate"] > 5
    assert model.account.spent.tokens == row.prompt_tokens + row.completion_tokens <= 400


def test_where_no_usage_is_told_the_estimate_is_booked():
    class Silent(Metered):
        async def complete(self, request):
            return Completion("x" * 30)

    model = Ledger(Silent())
    run(model.generate([Request(prompt="a" * 30)]))
    assert model.account.spent.tokens == 28


def test_what_was_cancelled_stays_booked_as_it_was_set_aside():
    async def check():
        one = {"prompt": 1, "cached": 0, "completion": 1, "seconds": 100.0, "fails": False}
        model = Ledger(Metered(), Account(Budget(calls=2)), tokens=lambda request: 10)
        tasks = [
            asyncio.ensure_future(model.complete(Request(prompt=str(index), max_tokens=90, meta=one)))
            for index in range(4)
        ]
        await asyncio.sleep(1)
        tasks[0].cancel()
        tasks[3].cancel()  # one under way, one that waits
        await asyncio.gather(*tasks, return_exceptions=True)
        return model.account, tasks[2].result()

    account, third = simulate(check())
    assert account.spent.calls == 2 and account.spent.tokens == 100 + 2
    assert third.error is not None and account.aside == (0, 0, 0)


def test_what_was_set_aside_for_one_who_is_cancelled_in_the_same_moment_is_given_back():
    async def check():
        class Cancelling(Metered):
            async def complete(self, request: Request) -> Completion:
                answer = await super().complete(request)
                asyncio.get_running_loop().call_soon(tasks[1].cancel)
                return answer

        one = {"prompt": 10, "cached": 0, "completion": 0, "seconds": 1.0, "fails": False}
        model = Ledger(Cancelling(), Account(Budget(tokens=115)), tokens=lambda request: 10)
        tasks = [
            asyncio.ensure_future(model.complete(Request(prompt=str(index), max_tokens=90, meta=one)))
            for index in range(2)
        ]
        await asyncio.wait(tasks)
        return model.account, tasks[1].cancelled()

    account, cancelled = simulate(check())
    assert cancelled and account.aside == (0, 0, 0) and account.spent == (1, 10, 0)


def test_failed_calls_count_as_calls_and_cost_no_tokens():
    one = {"prompt": 9, "cached": 0, "completion": 9, "seconds": 0.0, "fails": True}
    model = Ledger(Metered(), Account(Budget(calls=5)))
    run(model.generate([Request(prompt="0", meta=one)]))
    assert tuple(model.account.spent) == (1, 0, 0)


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: connect({}, budget={"cals": 3}), "did you mean 'calls'"),
        (lambda: connect({}, budget={"calls": -1}), "calls is -1"),
        (lambda: connect({}, budget=3), "budget is 3"),
        (lambda: connect({}, budget={"money": 1.0}, prices={"scripted:scriptd@x": PRICE}), "needs the price"),
        (lambda: connect({}, prices={"m": {"promt": 3, "completion": 1}}), "did you mean 'prompt'"),
        (lambda: connect({}, prices={"m": {"prompt": -3, "completion": 1}}), "prompt is -3"),
        (lambda: connect({}, budget=Account(), prices={"m": PRICE}), "shared"),
    ],
)
def test_wrong_budgets_and_prices_are_refused_in_one_line(make, part):
    with pytest.raises(BadInput, match=part) as told:
        make()
    assert "\n" not in str(told.value)


def test_the_ledger_sees_the_cache_below_it(tmp_path: Path):
    model = Ledger(Cache(Scripted({"a": "b"}), tmp_path / "lm.sqlite"))
    run(model.generate([Request(prompt="a")]))
    assert model.estimate([Request(prompt="a")]).hits == 1
    run(model.close())
