"""The endpoint client over real HTTP: what it sends, and what becomes of every kind of bad answer."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sys
import types
from collections import Counter
from contextlib import contextmanager
from email.utils import formatdate
from time import time

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm.faulty_server import faulty
from lm.parrot import Parrot

from tutelage.lab.errors import BadInput
from tutelage.lm import Completion, Message, Request, Scoring, connect, run
from tutelage.lm.clients import endpoint_format as wire
from tutelage.lm.clients.endpoint import Endpoint, EndpointError
from tutelage.lm.serving.server import running

SECRET = "sk-very-secret-0123456789"
HELLO = Request(prompt="hello")
CHAT = Request(messages=(Message("user", "hello"),))


def ask(url, *requests, gather=True, **options):
    """Completions by a client that is closed again; one request gives one completion."""

    async def main():
        endpoint = Endpoint(url, options.pop("model", "m"), **options)
        try:
            return await endpoint.generate(requests)
        finally:
            await endpoint.close()

    found = asyncio.run(main())
    return found[0] if len(requests) == 1 else found


@contextmanager
def client(url, **options):
    """A client in a loop of its own: `call(coroutine)` runs there."""
    with asyncio.Runner() as runner:
        endpoint = Endpoint(url, options.pop("model", "m"), **options)
        yield endpoint, runner.run
        runner.run(endpoint.close())


def test_requests_go_out_as_the_protocol_says_and_answers_come_back_whole():
    def answer(call):
        call.json(
            {
                "model": "m-2",
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
                "choices": [
                    {
                        "finish_reason": "length",
                        "message": {"content": "héllo \ud83d\ude00"},
                        "logprobs": {
                            "content": [
                                {"logprob": -0.25, "top_logprobs": [{"token": "a", "logprob": -0.25}]},
                                {"logprob": -2, "top_logprobs": [{"token": "b", "logprob": -0.5}]},
                            ]
                        },
                    }
                ],
            }
        )

    request = Request(
        messages=(Message("system", "be brief"), Message("user", "hi")),
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        stop=("\n",),
        seed=3,
        top_logprobs=1,
        schema={"type": "string"},
    )
    with faulty(answer) as calls:
        completion = ask(calls.url, request, api_key=SECRET)
    [call] = calls
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == f"Bearer {SECRET}"
    assert call.body == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "stop": ["\n"],
        "seed": 3,
        "logprobs": True,
        "top_logprobs": 1,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {"type": "string"}, "strict": True},
        },
    }
    assert completion.error is None
    assert (completion.text, completion.finish_reason, completion.model) == ("héllo 😀", "length", "m-2")
    assert completion.logprobs == (-0.25, -2.0)
    assert completion.top_logprobs == ({"a": -0.25}, {"b": -0.5})
    assert (completion.usage.prompt, completion.usage.cached, completion.usage.completion) == (9, 4, 2)
    assert 0 < completion.latency < 10


@pytest.mark.parametrize(
    ("status", "headers", "details", "kind", "wait"),
    [
        (429, {"Retry-After": "12"}, {}, "rate_limit", 12),
        (429, {"Retry-After": "soon"}, {}, "rate_limit", None),
        (401, {}, {}, "auth", None),
        (403, {}, {}, "auth", None),
        (400, {}, {}, "bad_request", None),
        (400, {}, {"code": "context_length_exceeded"}, "context_length", None),
        (400, {}, {"type": "exceed_context_size_error"}, "context_length", None),
        (408, {}, {}, "server", None),
        (409, {}, {}, "server", None),
        (500, {}, {}, "server", None),
        (503, {"Retry-After": "3"}, {}, "server", 3),
        (307, {"Location": "http://elsewhere/"}, {}, "bad_request", None),
    ],
)
def test_every_status_becomes_its_kind_of_failure(status, headers, details, kind, wait):
    with faulty(lambda call: call.error(status, "no: 4096 at most, 5000 given", headers, **details)) as calls:
        failure = ask(calls.url, HELLO).error
    assert (failure.kind, failure.status, failure.retry_after) == (kind, status, wait)
    assert "\n" not in failure.message
    if kind == "context_length":
        assert "4096" in failure.message and "5000" in failure.message
    assert len(calls) == 1, "an attempt is made once"


def test_retry_after_as_a_date_is_seconds_from_now():
    with faulty(lambda call: call.error(429, "slow", {"Retry-After": formatdate(time() + 30, usegmt=True)})) as calls:
        assert 25 < ask(calls.url, HELLO).error.retry_after <= 30


def test_an_unknown_model_is_named_with_the_known_ones():
    def answer(call):
        if call.path == "/v1/models":
            call.json({"data": [{"id": "llama"}, {"id": "qwen"}]})
        else:
            call.error(404, "The model `lama` does not exist.", code="model_not_found")

    with faulty(answer) as calls:
        failure = ask(calls.url, HELLO, model="lama").error
    assert failure.kind == "not_found"
    said = f"model 'lama' is not served at {calls.url}; there are llama, qwen; did you mean 'llama'?"
    assert failure.message == said


def test_a_server_with_chat_alone_says_how_to_send_raw_prompts():
    def answer(call):
        call.text("fine") if "chat" in call.path else call.error(404, "Not Found")

    with faulty(answer) as calls:
        failure = ask(calls.url, HELLO).error
        assert failure.kind == "not_found" and "chat=True" in failure.message
        assert ask(calls.url, HELLO, chat=True).text == "fine"
        assert ask(calls.url, CHAT, chat=False).error.kind == "unsupported"
    assert calls[-1].body["messages"] == [{"role": "user", "content": "hello"}]


GOOD = {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}
BAD_CHOICES = [
    ({"text": 5}, "choices[0].text is of type int"),
    ({"text": None}, "choices[0].text is missing"),
    ({"finish_reason": None}, "choices[0].finish_reason is missing"),
    ({"finish_reason": "bored"}, "choices[0].finish_reason is 'bored'"),
    ({"message": ["x"]}, "choices[0].message is of type list"),
    ({"message": {"content": ["x"]}}, "choices[0].message.content is of type list"),
    ({"logprobs": [1]}, "choices[0].logprobs is of type list"),
    ({"logprobs": {"token_logprobs": ["a"]}}, "token_logprobs holds something else"),
    ({"logprobs": {"token_logprobs": [float("nan")]}}, "token_logprobs holds something else"),
    ({"logprobs": {"token_logprobs": [3.0]}}, "token_logprobs holds something else"),
    ({"logprobs": {"token_logprobs": [-1], "top_logprobs": [5]}}, "top_logprobs holds something else"),
    ({"logprobs": {"token_logprobs": [-1, -1], "top_logprobs": [{}]}}, "top_logprobs has 1 positions, of 2"),
    ({"logprobs": {"content": [{"logprob": True}]}}, "logprobs.content.logprob is of type bool"),
    ({"logprobs": {"content": ["x"]}}, "logprobs.content is not an object"),
    ({"token_ids": ["a"]}, "choices[0].token_ids holds something else"),
]
BAD_ANSWERS = [
    ([], "the answer is not an object"),
    ({}, "choices is missing"),
    ({"choices": []}, "choices holds no object"),
    ({"choices": ["x"]}, "choices holds no object"),
    (GOOD | {"usage": [1]}, "usage is of type list"),
    (GOOD | {"usage": {"prompt_tokens": "many"}}, "usage.prompt_tokens is of type str"),
    (GOOD | {"usage": {"prompt_tokens": -1}}, "usage counts less than 0"),
    (GOOD | {"model": 5}, "model is of type int"),
    *(({"choices": [GOOD["choices"][0] | choice]}, field) for choice, field in BAD_CHOICES),
]


@pytest.mark.parametrize(("answer", "field"), BAD_ANSWERS, ids=[field for _, field in BAD_ANSWERS])
def test_an_answer_of_the_wrong_shape_is_malformed_and_names_the_field(answer, field):
    with faulty(lambda call: call.json(answer)) as calls:
        failure = ask(calls.url, HELLO).error
    assert failure.kind == "malformed"
    assert field in failure.message


NAMES = [
    "choices",
    "text",
    "message",
    "content",
    "finish_reason",
    "logprobs",
    "token_logprobs",
    "top_logprobs",
    "usage",
    "prompt_tokens",
    "model",
    "logprob",
    "token",
    "tokens",
    "token_ids",
    "refusal",
    "error",
    "code",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner | st.just("stop"), max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(JSON, st.booleans())
def test_no_json_at_all_gets_past_the_checks_with_another_error(answer, deep):
    request = Request(prompt="x", top_logprobs=2)
    try:
        found = wire.completion_of({"choices": [answer]} if deep else answer, request)
    except wire.Malformed:
        return
    assert isinstance(found, Completion) and isinstance(found.text, str)
    found.text.encode()
    for status in (400, 404, 500):
        wire.failure_of(status, {}, json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("payload", "length", "kind"),
    [
        (b'{"choices": [{"te', None, "malformed"),
        (b"<html>502</html>", None, "malformed"),
        (b"", None, "malformed"),
        (b"[" * 100_000, None, "malformed"),
        (b'{"choices": [{"te', 500, "connection"),
    ],
    ids=["truncated JSON", "no JSON", "nothing", "too deep", "disconnect in the middle"],
)
def test_broken_bodies_are_failures(payload, length, kind):
    with faulty(lambda call: call.raw(payload, 200, length)) as calls:
        failure = ask(calls.url, HELLO).error
    assert failure.kind == kind and failure.passing


def test_hangs_end_at_the_timeout_and_lost_servers_are_connection_failures():
    with faulty(lambda call: call.hang()) as calls:
        failure = ask(calls.url, HELLO, timeout=0.2).error
        assert failure.kind == "timeout" and "0.2 s" in failure.message
    with faulty(lambda call: call.hang_up()) as calls:
        assert ask(calls.url, HELLO).error.kind == "connection"
    failure = ask(calls.url, HELLO).error  # nobody listens any more
    assert failure.kind == "connection" and "cannot connect" in failure.message


def test_an_answer_that_never_ends_is_cut_off(monkeypatch):
    monkeypatch.setattr("tutelage.lm.clients.endpoint.MAX_ANSWER", 1000)
    with faulty(lambda call: call.raw(b" " * 5000)) as calls:
        assert ask(calls.url, HELLO).error.kind == "malformed"


def test_a_run_over_a_server_full_of_faults_ends_with_the_answers_of_a_clean_run():
    """Through all layers, as `connect` builds them; no answered question is asked again."""
    requests = [Request(prompt=f"q{i}") for i in range(60)]
    faults = [
        lambda call: call.error(429, "slow", {"Retry-After": "0"}),
        lambda call: call.raw(b'{"choices": [{"te'),
        lambda call: call.raw(b'{"choices": [{"te', 200, 500),
        lambda call: call.hang_up(),
        lambda call: call.error(503, "busy", {"Retry-After": "0"}),
        lambda call: call.json({"choices": [{"text": 5, "finish_reason": "stop"}]}),
    ]
    tries = Counter()

    def answer(call):
        prompt = call.body["prompt"]
        tries[prompt] += 1
        number = int(prompt[1:])
        if number % 3 == 0 and tries[prompt] < 3:
            return faults[(number // 3 + tries[prompt]) % len(faults)](call)
        call.text(f"answer to {prompt}")

    with faulty(answer) as calls:
        model = connect(f"{calls.url}#m")
        found = run(model.generate(requests))
        run(model.close())
    assert [each.text for each in found] == [f"answer to q{i}" for i in range(60)]
    assert max(tries.values()) == 3 and len(calls) == 60 + 2 * 20


def test_content_filters_are_a_way_to_finish_and_no_failure():
    def answer(call):
        if "chat" in call.path:
            call.text("", message={"content": None, "refusal": "I cannot."})
        else:
            call.error(400, "filtered", code="content_filter")

    with faulty(answer) as calls:
        chat, raw = ask(calls.url, CHAT, HELLO)
    assert (chat.text, chat.finish_reason, chat.error) == ("I cannot.", "content_filter", None)
    assert (raw.text, raw.finish_reason, raw.error) == ("", "content_filter", None)


REFUSALS = {
    "logprobs": lambda call: call.error(400, "This model does not support logprobs."),
    "seed": lambda call: call.json({"detail": [{"loc": ["body", "seed"], "msg": "extra fields not permitted"}]}, 422),
    "top_k": lambda call: call.error(400, "Unrecognized request argument supplied", param="top_k"),
    "min_p": lambda call: call.json({"object": "error", "message": "Unknown parameter: 'min_p'"}, 400),
    "schema": lambda call: call.error(400, "not available here", param="response_format.json_schema"),
}


@pytest.mark.parametrize("feature", REFUSALS)
def test_a_refused_feature_is_left_out_with_one_warning_and_taken_off_the_capabilities(feature, caplog):
    fields = wire.FEATURES[feature]
    requests = [
        Request(prompt=f"q{i}", top_logprobs=2, top_k=3, min_p=0.1, schema={"type": "string"}) for i in range(8)
    ]

    def answer(call):
        if any(field in call.body for field in fields):
            return REFUSALS[feature](call)
        call.text('"fine"', logprobs={"token_logprobs": [-1.0], "top_logprobs": [{"a": -1.0}]})

    with faulty(answer) as calls, client(calls.url) as (endpoint, call), caplog.at_level(logging.WARNING):
        before = endpoint.capabilities
        completions = call(endpoint.generate(requests))
        call(endpoint.complete(requests[0]))
    assert {each.text for each in completions} == {'"fine"'}
    [record] = caplog.records
    assert f"does not support {feature}" in record.getMessage()
    assert all(field not in calls[-1].body for field in fields), "it is not asked again"
    if hasattr(before, feature):
        assert getattr(before, feature) and not getattr(endpoint.capabilities, feature)


@pytest.mark.parametrize(
    ("request_", "text", "feature"),
    [
        (HELLO.replace(logprobs=True), "x", "logprobs"),
        (HELLO.replace(choices=("a", "b")), "I think a", "schema"),
        (HELLO.replace(regex="[0-9]+"), "seven", "schema"),
        (HELLO.replace(schema={"type": "object"}), "Sure! {}", "schema"),
    ],
)
def test_a_feature_that_is_ignored_in_silence_is_noticed_by_the_answer(request_, text, feature, caplog):
    with faulty(lambda call: call.text(text)) as calls, client(calls.url) as (endpoint, call):
        with caplog.at_level(logging.WARNING):
            assert call(endpoint.complete(request_)).text == text
        assert not getattr(endpoint.capabilities, feature)
    assert len(caplog.records) == 1


def test_a_bad_schema_is_the_requests_fault_and_not_the_servers(caplog):
    with faulty(lambda call: call.error(400, "Invalid schema for response_format 'answer'")) as calls:
        assert ask(calls.url, HELLO.replace(schema={"type": "lion"})).error.kind == "bad_request"
    assert not caplog.records


def test_max_tokens_is_spelt_as_the_server_wants_it(caplog):
    def answer(call):
        if "max_tokens" in call.body:
            call.error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        else:
            call.text(str(call.body["max_completion_tokens"]))

    with faulty(answer) as calls:
        assert ask(calls.url, CHAT.replace(max_tokens=33)).text == "33"
    assert not caplog.records


def test_samples_of_one_question_have_seeds_of_their_own():
    with faulty(lambda call: call.text(str(call.body["seed"]))) as calls:
        texts = [each.text for each in ask(calls.url, *(HELLO.replace(seed=5, sample_index=i) for i in range(20)))]
        again = [each.text for each in ask(calls.url, *(HELLO.replace(seed=5, sample_index=i) for i in range(20)))]
    assert texts[0] == "5" and len(set(texts)) == 20 and texts == again
    assert all(0 <= int(text) < 2**31 for text in texts)


def test_raw_prompts_sent_as_chat_have_an_identity_of_their_own():
    plain, chat = (Endpoint("http://127.0.0.1:1/v1", "m", chat=chat) for chat in (None, True))
    assert plain.identity != chat.identity


def test_one_at_a_time_and_64_at_once_give_the_same_answers_in_order():
    requests = [Request(prompt=f"question {'x' * (i % 5)} {i}", seed=i, sample_index=i % 3) for i in range(120)]

    async def one_by_one(url):
        endpoint = Endpoint(url, "model")
        found = [await endpoint.complete(request) for request in requests]
        await endpoint.close()
        return found

    async def at_once(url):
        endpoint, gate = Endpoint(url, "model"), asyncio.Semaphore(64)

        async def turn(request):
            async with gate:
                return await endpoint.complete(request)

        found = await asyncio.gather(*map(turn, requests))
        await endpoint.close()
        return found

    parrot = Parrot()
    with running(parrot) as url:
        first, second = asyncio.run(one_by_one(url)), asyncio.run(at_once(url))
        third = ask(url, *requests, model="model")
    assert all(each.error is None for each in first)
    same = [[each.replace(latency=0) for each in found] for found in (first, second, third)]
    assert same[0] == same[1] == same[2]
    assert [f" {i} " in f"{each.text} " for i, each in enumerate(first)] == [True] * len(requests)
    assert parrot.counts["most at once"] > 16


def test_a_server_that_restarts_in_the_middle_is_found_again():
    with client("http://127.0.0.1:1/v1") as (nobody, call):
        assert call(nobody.complete(HELLO)).error.kind == "connection"
    with asyncio.Runner() as runner:
        with running(Parrot()) as url:
            endpoint = Endpoint(url, "model")
            assert runner.run(endpoint.complete(HELLO)).error is None
        down = runner.run(endpoint.complete(HELLO)).error
        assert down.kind == "connection" and down.passing
        with running(Parrot(), port=int(url.split(":")[2].split("/")[0])):
            attempts = [runner.run(endpoint.complete(HELLO)) for _ in range(3)]
            assert attempts[-1].error is None
        runner.run(endpoint.close())


def test_one_client_serves_several_event_loops():
    with running(Parrot()) as url:
        endpoint = Endpoint(url, "model")

        async def once(close):
            completion = await endpoint.complete(HELLO)
            if close:
                await endpoint.close()
            return completion.text

        assert asyncio.run(once(True)) == asyncio.run(once(True)) == "HELLO 0 0"


class TestScoring:
    ITEM = Scoring("ab", ("cd", "e"))

    def test_by_our_own_server_equals_the_model_to_the_bit(self):
        parrot = Parrot()
        items = [Scoring("ctx", ("yes", "no", "zzz")), Scoring((Message("user", "hi"),), ("é\u2028",))]
        with running(parrot) as url, client(url, model="model") as (endpoint, call):
            found = call(endpoint.score(items))
        local = asyncio.run(parrot.score(items))
        for ours, theirs in zip(found, local):
            assert ours.error is None
            np.testing.assert_array_equal(ours.totals, theirs.totals)
            assert [each.tolist() for each in ours.tokens] == [each.tolist() for each in theirs.tokens]
        assert found[0].totals[2] == -math.inf

    def echo(self, call):
        """As vLLM: the prompt by characters in pairs, no log-probability for the first token, one new token."""
        if call.path != "/v1/completions":
            return call.error(404, "Not Found")
        prompt = call.body["prompt"]
        tokens = ["<s>", *(prompt[i : i + 2] for i in range(0, len(prompt), 2)), "new"]
        values = [None, *(-float(i) for i in range(1, len(tokens)))]
        call.text(prompt + "new", logprobs={"tokens": tokens, "token_logprobs": values})

    def test_by_echo_takes_the_continuations_tokens_and_one_across_the_border(self):
        with faulty(self.echo) as calls, client(calls.url) as (endpoint, call):
            [plain] = call(endpoint.score([self.ITEM]))
            [across] = call(endpoint.score([Scoring("abc", ("def", ""))]))
            chat = call(endpoint.score_one(Scoring((Message("user", "q"),), ("a",))))
        assert plain.error is None
        assert plain.totals.tolist() == [-2.0, -2.0]
        assert [row.tolist() for row in across.tokens] == [[-2.0, -3.0], []]
        assert chat.error.kind == "unsupported" and endpoint.capabilities.score
        assert sum(each.path.endswith("score_continuations") for each in calls) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            lambda call: call.text("n", logprobs={"tokens": ["n"], "token_logprobs": [-1.0]}),
            lambda call: call.text(call.body["prompt"] + "n", logprobs={"tokens": ["n"], "token_logprobs": [-1.0]}),
            lambda call: call.text(call.body["prompt"] + "n"),
            lambda call: call.error(400, "Only no echo is supported"),
            lambda call: call.error(404, "Not Found"),
        ],
        ids=["echo ignored", "logprobs of new tokens alone", "no logprobs", "refused", "no such route"],
    )
    def test_servers_without_echoed_log_probabilities_are_recognised(self, answer, caplog):
        def route(call):
            answer(call) if call.path == "/v1/completions" else call.error(404, "Not Found")

        with faulty(route) as calls, client(calls.url) as (endpoint, call), caplog.at_level(logging.WARNING):
            first, second = call(endpoint.score([self.ITEM])), call(endpoint.score([self.ITEM]))
        assert first[0].error.kind == second[0].error.kind == "unsupported"
        assert not endpoint.capabilities.score
        assert len(caplog.records) == 1

    def test_passing_faults_do_not_take_scoring_away(self):
        def route(call):
            call.error(429, "slow") if call.path == "/v1/completions" else call.error(404, "Not Found")

        with faulty(route) as calls, client(calls.url) as (endpoint, call):
            assert call(endpoint.score_one(self.ITEM)).error.kind == "rate_limit"
        assert endpoint.capabilities.score


class TestEmbedding:
    def test_rows_are_in_the_order_of_the_texts(self, monkeypatch):
        monkeypatch.setattr("tutelage.lm.clients.endpoint.TEXTS_PER_CALL", 2)

        def answer(call):
            rows = [{"index": i, "embedding": [len(text), 0.5]} for i, text in enumerate(call.body["input"])]
            call.json({"data": rows[::-1]})

        with faulty(answer) as calls, client(calls.url) as (endpoint, call):
            found = call(endpoint.embed(["a", "bb", "ccc"]))
            assert call(endpoint.embed([])).shape == (0, 0)
        assert found.dtype == np.float32
        assert found.tolist() == [[1, 0.5], [2, 0.5], [3, 0.5]]

    @pytest.mark.parametrize(
        "data",
        [
            [{"index": 0, "embedding": [1]}],
            [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}],
            [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}],
            [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [float("nan")]}],
            [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": [1]}],
            {"0": 1},
        ],
    )
    def test_wrong_shapes_are_malformed(self, data):
        with (
            faulty(lambda call: call.json({"data": data})) as calls,
            client(calls.url) as (endpoint, call),
            pytest.raises(EndpointError) as caught,
        ):
            call(endpoint.embed(["a", "b"]))
        assert caught.value.failure.kind == "malformed"

    def test_a_server_without_embeddings_is_bad_input_and_a_busy_one_is_not(self):
        with faulty(lambda call: call.error(404, "Not Found")) as calls, client(calls.url) as (endpoint, call):
            with pytest.raises(BadInput, match="gives no embeddings"):
                call(endpoint.embed(["a"]))
            assert not endpoint.capabilities.embed
        with faulty(lambda call: call.error(429, "slow")) as calls, client(calls.url) as (endpoint, call):
            with pytest.raises(EndpointError) as caught:
                call(endpoint.embed(["a"]))
            assert caught.value.failure.kind == "rate_limit" and endpoint.capabilities.embed


class TestStreaming:
    @staticmethod
    def pieces(url, request=HELLO, **options):
        async def main():
            endpoint = Endpoint(url, "m", **options)
            found = [piece async for piece in endpoint.stream(request)]
            await endpoint.close()
            return found

        return asyncio.run(main())

    @staticmethod
    def events(*events, end=b"data: [DONE]\n\n"):
        lines = b"".join(b"data: " + json.dumps(each, ensure_ascii=False).encode() + b"\r\n\r\n" for each in events)
        return lambda call: call.raw(b": hello\n\n" + lines + end, 200, content_type="text/event-stream")

    def test_pieces_come_one_by_one_and_the_completion_last(self):
        events = [
            {"choices": [{"delta": {"role": "assistant", "content": ""}}]},
            {"choices": [{"delta": {"content": "a\u2028b"}, "logprobs": {"content": [{"logprob": -1.0}]}}]},
            {"choices": [{"delta": {"content": " 😀"}, "logprobs": {"content": [{"logprob": -2.0}]}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        ]
        with faulty(self.events(*events)) as calls:
            *pieces, last = self.pieces(calls.url, CHAT.replace(logprobs=True))
        assert pieces == ["a\u2028b", " 😀"]
        assert (last.text, last.finish_reason, last.logprobs) == ("a\u2028b 😀", "stop", (-1.0, -2.0))
        assert last.usage.completion == 2

    def test_streams_that_break_end_in_a_failure(self):
        piece = {"choices": [{"text": "a"}]}
        for answer, kind in [
            (self.events(piece), "malformed"),
            (self.events(piece, end=b"data: {oops\n\n"), "malformed"),
            (self.events(piece, {"error": {"message": "out of memory"}}), "server"),
            (self.events(piece, {"choices": "x"}), "malformed"),
            (lambda call: call.raw(b'data: {"choices": [{"text": "a"}]}\n\n', 200, 9999), "connection"),
        ]:
            with faulty(answer) as calls:
                first, last = self.pieces(calls.url)
            assert (first, last.error.kind) == ("a", kind)
        with faulty(lambda call: call.error(429, "slow", {"Retry-After": "2"})) as calls:
            [only] = self.pieces(calls.url)
        assert (only.error.kind, only.error.retry_after) == ("rate_limit", 2)

    def test_a_server_that_knows_no_usage_in_streams_is_asked_without(self, caplog):
        good = self.events({"choices": [{"text": "a", "finish_reason": "stop"}]})

        def answer(call):
            call.error(400, "Unknown: stream_options") if "stream_options" in call.body else good(call)

        with faulty(answer) as calls:
            assert self.pieces(calls.url)[0] == "a"
        assert not caplog.records


def test_probing_learns_what_the_server_says_and_what_it_does():
    with running(Parrot(logprobs=3, embed=False)) as url, client(url, model="model") as (endpoint, call):
        found = call(endpoint.probe())
        assert found == endpoint.capabilities == Parrot(logprobs=3, embed=False).capabilities

    def vllm(call):
        if call.path == "/v1/models":
            return call.json({"data": [{"id": "m", "max_model_len": 2048, "owned_by": "vllm"}]})
        call.error(404, "Not Found")

    with faulty(vllm) as calls:
        with client(calls.url) as (endpoint, call):
            found = call(endpoint.probe())
            assert found.max_context == 2048 and not found.score
        with client(calls.url, model="n") as (endpoint, call), pytest.raises(EndpointError, match="there are m"):
            call(endpoint.probe())


def test_the_key_appears_nowhere(caplog, capfd):
    def answer(call):
        call.error(call.body["seed"], f"bad {call.headers['authorization']} {SECRET} given", code=SECRET)

    caplog.set_level(logging.DEBUG)
    shown = []
    with faulty(answer) as calls, client(calls.url, api_key=SECRET) as (endpoint, call):
        for status in (400, 401, 403, 404, 429, 500):
            shown.append(call(endpoint.complete(HELLO.replace(seed=status))))
            shown += call(endpoint.score([Scoring("a", ("b",))]))
        shown += [endpoint, endpoint.identity, vars(endpoint)]
        with pytest.raises((EndpointError, BadInput)) as caught:
            call(endpoint.embed(["a"]))
        shown.append(caught.value.args)
    assert len(calls) > 6
    text = " ".join(map(repr, shown)) + caplog.text + "".join(capfd.readouterr())
    assert SECRET not in text
    assert "very-secret" not in text
    with pytest.raises(BadInput) as caught:
        Endpoint("http://x/v1", "m", api_key=SECRET + "\n")
    assert SECRET not in str(caught.value)


def test_the_key_is_not_in_the_debug_log_of_http2(caplog):
    """httpx's transport for HTTP/2 over a socket pair's worth of compression: only the log matters here."""
    import hpack

    Endpoint("https://x/v1", "m", api_key=SECRET)
    caplog.set_level(logging.DEBUG)
    hpack.Encoder().encode([("authorization", f"Bearer {SECRET}")])
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("127.0.0.1:8000", "m"), "base_url"),
        (("ftp://x/v1", "m"), "base_url is 'ftp://x/v1'"),
        (("http://user:hunter2@x/v1", "m"), "no user"),
        (("http://x/v1?key=hunter2", "m"), "no user, query"),
        (("http://x/v1", ""), "model is empty"),
    ],
)
def test_bad_addresses_are_refused_in_one_line_without_their_secrets(arguments, said):
    with pytest.raises(BadInput, match=said) as caught:
        Endpoint(*arguments)
    assert "hunter2" not in str(caught.value) and "\n" not in str(caught.value)


def test_what_json_cannot_hold_is_the_requests_fault():
    with faulty(lambda call: call.text("x")) as calls:
        completion = ask(calls.url, HELLO.replace(schema={"enum": {1, 2}}))
        assert completion.error.kind == "bad_request"
        assert ask(calls.url, Request(prompt="a\ud800b")).text == "x"
    assert len(calls) == 1


def test_another_transport_can_stand_in():
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=GOOD))
    assert ask("https://nowhere.example/v1", HELLO, transport=transport).text == "x"


class TestLiteLLM:
    def test_without_it_one_line_says_so(self, monkeypatch):
        from tutelage.lm.clients.litellm_adapter import LiteLLM

        monkeypatch.setitem(sys.modules, "litellm", None)
        with pytest.raises(BadInput, match=r"^litellm is not installed: pip install litellm$"):
            LiteLLM("openai/gpt")

    def test_answers_and_errors_are_checked_like_an_endpoints(self, monkeypatch):
        import os

        from tutelage.lm.clients.litellm_adapter import LiteLLM

        class RateLimitError(Exception):
            status_code = 429

        asked = []

        async def acompletion(**body):
            asked.append(body)
            if body["seed"] == 1:
                raise RateLimitError(f"slow down, {SECRET}")
            answer = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop" if body["seed"] else 5}]}
            return types.SimpleNamespace(model_dump=lambda: answer)

        monkeypatch.setitem(sys.modules, "litellm", types.SimpleNamespace(acompletion=acompletion))
        monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP", raising=False)
        model = LiteLLM("anthropic/claude", api_key=SECRET)
        assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
        wrong, busy, good = asyncio.run(model.generate([CHAT.replace(seed=seed) for seed in range(3)]))
        assert (wrong.error.kind, busy.error.kind, good.text) == ("malformed", "rate_limit", "hi")
        assert asked[0]["max_retries"] == 0
        assert SECRET not in repr([model, vars(model)["_secret"], wrong, busy, good])
