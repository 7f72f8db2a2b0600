"""The server over real HTTP: with a plain client, with the official one, and with clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from lm.parrot import Parrot

from tutelage.lab.errors import BadInput
from tutelage.lm import Message, Request
from tutelage.lm.clients.endpoint import Endpoint
from tutelage.lm.serving.server import Limits, application, running, serve

ROOT = Path(__file__).parents[3]


@pytest.fixture
def parrot():
    return Parrot()


@pytest.fixture
def url(parrot):
    with running(parrot, limits=Limits(max_concurrent=8, max_tokens_per_request=300, max_body=5000, grace=1)) as url:
        yield url


def post(url, route, body, **options):
    with httpx.Client(trust_env=False) as client:
        return client.post(f"{url}/{route}", json=body, **options)


def error_of(answer):
    found = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_the_official_client_is_content(parrot):
    with (
        running(parrot, name="bird", token="seed-eater") as url,
        openai.OpenAI(
            base_url=url, api_key="seed-eater", max_retries=0, http_client=httpx.Client(trust_env=False)
        ) as ai,
    ):
        assert [model.id for model in ai.models.list()] == ["bird"]
        assert ai.models.retrieve("bird").owned_by == "tutelage"

        chat = ai.chat.completions.create(
            model="bird",
            messages=[{"role": "system", "content": "be"}, {"role": "user", "content": "kind"}],
            n=2,
            seed=4,
            logprobs=True,
            top_logprobs=2,
        )
        assert [choice.message.content for choice in chat.choices] == ["BE KIND 4 0", "BE KIND 4 1"]
        entry = chat.choices[1].logprobs.content[1]
        assert (entry.token, entry.logprob) == ("token_id:1", -1.0)
        assert [(each.token, each.logprob) for each in entry.top_logprobs] == [("KIND!", -1.0), ("KIND", -2.0)]
        assert (chat.usage.prompt_tokens, chat.usage.completion_tokens, chat.usage.total_tokens) == (2, 8, 10)
        assert chat.usage.prompt_tokens_details.cached_tokens == 1

        raw = ai.completions.create(model="bird", prompt=["a b", "c"], n=2, seed=1, echo=True, max_tokens=2)
        assert [choice.text for choice in raw.choices] == ["a bA B", "a bA B", "cC 1", "cC 1"]
        assert [choice.index for choice in raw.choices] == [0, 1, 2, 3]
        assert raw.choices[0].finish_reason == "length"
        scored = ai.completions.create(model="bird", prompt="a", seed=0, logprobs=1).choices[0].logprobs
        assert scored.token_logprobs == [-0.5, -1.0, -1.5] and scored.top_logprobs[0] == {"A!": -0.5}

        options = {"stream": True, "stream_options": {"include_usage": True}, "seed": 2}
        pieces = list(
            ai.chat.completions.create(model="bird", messages=[{"role": "user", "content": "x y"}], **options)
        )
        assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == "X Y 2 0"
        assert len(pieces) == 6 and pieces[-2].choices[0].finish_reason == "stop"
        assert pieces[-1].usage.completion_tokens == 4
        texts = ["", ""]
        for piece in ai.completions.create(model="bird", prompt=["q", "r"], echo=True, **options):
            for choice in piece.choices:
                texts[choice.index] += choice.text
        assert texts == ["qQ 2 0", "rR 2 0"]

        vectors = ai.embeddings.create(model="bird", input=["ab", "c"])  # asks for base64
        np.testing.assert_allclose([each.embedding for each in vectors.data], [[2, 0.1, -1], [1, 0.1, -1]], rtol=1e-6)
        assert ai.embeddings.create(model="bird", input="ab", encoding_format="float").data[0].embedding[0] == 2

        ask = lambda text: ai.completions.create(model="bird", prompt=text)  # noqa: E731
        with pytest.raises(openai.BadRequestError, match="4096 tokens at most") as caught:
            ask("fail context_length")
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.RateLimitError) as busy:
            ask("fail rate_limit")
        assert busy.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.InternalServerError):
            ask("fail server")
        with pytest.raises(openai.NotFoundError, match="only 'bird'"):
            ai.completions.create(model="fish", prompt="x")
        with pytest.raises(openai.AuthenticationError):
            ai.with_options(api_key="wrong").models.list()


def test_what_is_asked_reaches_the_model_unchanged(url, parrot):
    async def main():
        endpoint = Endpoint(url, "model")
        asked = [
            Request(
                prompt="p\u2028é😀",
                max_tokens=9,
                temperature=0.3,
                top_p=0.5,
                top_k=4,
                min_p=0.2,
                stop=("a", "b"),
                seed=8,
                top_logprobs=3,
                logprobs=True,
            ),
            Request(messages=(Message("system", "s"), Message("user", "u"), Message("assistant", "a"))),
            Request(prompt="c", choices=("yes", "no")),
            Request(prompt="r", regex="[a-z]+"),
            Request(prompt="s", schema={"type": "object", "properties": {"x": {"type": "integer"}}}),
            Request(prompt=""),
        ]
        answers = await endpoint.generate(asked)
        await endpoint.close()
        return asked, answers

    asked, answers = asyncio.run(main())
    assert [each.error for each in answers] == [None] * len(asked)
    received = {each.text(): each for each in parrot.seen}
    assert all(received[each.text()] == each for each in asked)
    assert answers[0].logprobs and answers[0].tokens and len(answers[0].top_logprobs[0]) == 2
    assert answers[2].text == "no"


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("completions", {"prompt": 5}, "prompt"),
        ("completions", {"prompt": []}, "prompt"),
        ("completions", {"prompt": [1, 2]}, "prompt"),
        ("completions", {}, "prompt"),
        ("completions", {"prompt": "x", "n": 9}, "n"),
        ("completions", {"prompt": ["x"] * 5, "n": 2}, "n"),
        ("completions", {"prompt": "x", "n": 0}, "n"),
        ("completions", {"prompt": "x", "n": True}, "n"),
        ("completions", {"prompt": "x", "max_tokens": 301}, "max_tokens"),
        ("completions", {"prompt": "x", "max_tokens": "5"}, "max_tokens"),
        ("completions", {"prompt": "x", "temperature": "hot"}, "temperature"),
        ("completions", {"prompt": "x", "temperature": 10**400}, "temperature"),
        ("completions", {"prompt": "x", "stop": [5]}, "stop"),
        ("completions", {"prompt": "x", "logprobs": 6}, "logprobs"),
        ("completions", {"prompt": "x", "logprobs": 1, "echo": True}, "echo"),
        ("completions", {"prompt": "x", "presence_penalty": 0.5}, "presence_penalty"),
        ("completions", {"prompt": "x", "suffix": "y"}, "suffix"),
        ("completions", {"prompt": "x", "response_format": {"type": "poem"}}, "response_format"),
        ("completions", {"prompt": "x", "response_format": {"type": "json_schema"}}, "response_format"),
        ("completions", {"prompt": "x", "guided_choice": "a"}, None),
        ("completions", {"prompt": "x", "guided_choice": [1]}, "choices"),
        ("completions", {"prompt": "x", "stream": "yes"}, "stream"),
        ("chat/completions", {"messages": []}, "messages"),
        ("chat/completions", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0]"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ("chat/completions", {"messages": [{"role": ["user"], "content": "x"}]}, "messages[0]"),
        ("chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": [{}]}, "tools"),
        ("embeddings", {"input": [[1, 2]]}, "input"),
        ("embeddings", {"input": "x", "encoding_format": "zip"}, "encoding_format"),
        ("score_continuations", {"context": 5, "continuations": ["a"]}, "context"),
        ("score_continuations", {"context": "a", "continuations": []}, "continuations"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(url, parrot, route, body, param):
    answer = post(url, route, body)
    if body.get("guided_choice") == "a":
        assert answer.status_code == 200  # one text is a list of one
        return
    assert answer.status_code == 400
    found = error_of(answer)
    assert found["param"] == param and param.split("[")[0] in found["message"]
    assert not parrot.seen


@pytest.mark.parametrize("value", [-1, float("nan")])
def test_numbers_out_of_range_are_refused_in_the_requests_own_words(url, value):
    body = json.dumps({"prompt": "x", "temperature": value})
    answer = httpx.post(f"{url}/completions", content=body, trust_env=False)
    assert answer.status_code == 400 and "temperature" in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("completions", {"prompt": "x", "logprobs": 1}),
        ("completions", {"prompt": "x", "response_format": {"type": "json_object"}}),
        ("completions", {"prompt": "x", "structured_outputs": {"choice": ["a"]}}),
        ("embeddings", {"input": "x"}),
        ("score_continuations", {"context": "x", "continuations": ["a"]}),
    ],
)
def test_what_the_model_is_not_capable_of_is_refused_as_unsupported(route, body):
    with running(Parrot(logprobs=0, schema=False, embed=False, score=False)) as url:
        answer = post(url, route, body)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "unsupported")


def test_without_a_seed_answers_differ_and_with_one_they_do_not(url):
    texts = [post(url, "completions", {"prompt": "x"}).json()["choices"][0]["text"] for _ in range(5)]
    assert len(set(texts)) == 5


def test_equal_prompts_in_one_request_are_different_questions_unless_a_seed_is_given(url, parrot):
    def texts(**more):
        answer = post(url, "completions", {"prompt": ["x", "x"], "n": 2, **more}).json()
        return [choice["text"] for choice in answer["choices"]]

    assert len(set(texts())) == 4
    first, second = (texts(seed=5)[start : start + 2] for start in (0, 2))
    assert first == second


def test_bodies_that_are_too_long_or_no_json_are_refused(url):
    with httpx.Client(trust_env=False) as client:
        assert client.post(f"{url}/completions", content=b"{" * 5001).status_code == 413
        assert client.post(f"{url}/completions", content=iter([b"x" * 3000] * 9)).status_code == 413
        for content in (b"{", b"[1]", b"[" * 4000, b"\xff\xfe"):
            answer = client.post(f"{url}/completions", content=content)
            assert answer.status_code == 400 and "JSON" in error_of(answer)["message"]
        missing = client.get(f"{url}/nothing")
        assert missing.status_code == 404 and "/v1/nothing" in error_of(missing)["message"]
        assert client.get(f"{url}/completions").status_code == 405
        assert client.get(url.replace("/v1", "/health")).json() == {"status": "ok"}


def test_an_unexpected_failure_says_nothing_of_its_inside(url, caplog):
    for stream in (False, True):
        answer = post(url, "completions", {"prompt": "explode", "stream": stream})
        assert answer.status_code == 500 and "secret" not in answer.text
    assert "the parrot's secret" in caplog.text


def test_beyond_the_places_clients_are_told_to_come_back(url, parrot):
    answers = []

    def ask(text):
        answers.append(post(url, "completions", {"prompt": text, "n": 4}))

    threads = [threading.Thread(target=ask, args=("slow",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    codes = sorted(answer.status_code for answer in answers)
    assert codes.count(200) >= 2 and set(codes) == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["retry-after"] == "1" and error_of(refused)["type"] == "rate_limit_error"
    assert parrot.counts["most at once"] <= 8
    assert post(url, "completions", {"prompt": "x", "n": 8}).status_code == 200, "all places are free again"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_cancels_its_work_and_frees_its_places(url, parrot, stream):
    for _ in range(3):
        with contextlib.suppress(httpx.ReadTimeout):
            post(url, "completions", {"prompt": "hang", "n": 4, "stream": stream}, timeout=0.3)
    until(lambda: parrot.counts["cancelled"] == (3 if stream else 12))  # streamed choices come one after the other
    assert post(url, "completions", {"prompt": "x", "n": 8}).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_a_stream_stops_the_model(url, parrot):
    finished = threading.Event()

    async def stream(request):
        try:
            for index in range(100_000):
                await asyncio.sleep(0.001)
                yield f"{index} "
        finally:
            finished.set()

    parrot.stream = stream
    with (
        httpx.Client(trust_env=False) as client,
        client.stream("POST", f"{url}/completions", json={"prompt": "x", "stream": True}) as answer,
    ):
        pieces = answer.iter_bytes()
        assert next(pieces).startswith(b"data: ")
        assert not finished.is_set()
    assert finished.wait(5)


def test_failures_in_a_stream_are_a_status_before_and_an_event_after_its_first_piece(url, parrot):
    answer = post(url, "completions", {"prompt": "fail rate_limit", "stream": True})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")

    async def stream(request):
        yield "a"
        raise RuntimeError("oh")

    parrot.stream = stream
    lines = post(url, "completions", {"prompt": "x", "stream": True}).text.split("\n\n")
    assert json.loads(lines[0][6:])["choices"][0]["text"] == "a"
    assert json.loads(lines[1][6:])["error"]["type"] == "server_error"
    assert lines[2] == "data: [DONE]"


def test_streaming_and_not_streaming_give_the_same_completion(url):
    async def main():
        endpoint = Endpoint(url, "model")
        request = Request(messages=(Message("user", "slowly é😀"),), seed=3, top_logprobs=2)
        whole = await endpoint.complete(request)
        *pieces, streamed = [piece async for piece in endpoint.stream(request)]
        await endpoint.close()
        return whole, pieces, streamed

    whole, pieces, streamed = asyncio.run(main())
    assert pieces == ["SLOWLY", " É😀", " 3", " 0"] and streamed.logprobs == (-0.5, -1.0, -1.5, -2.0)
    assert streamed.replace(latency=0) == whole.replace(latency=0)


def test_any_text_of_a_model_can_be_sent(url, parrot):
    from tutelage.lm import Completion

    async def complete(request):
        return Completion("\ud800\x00\u2028</script>", logprobs=(-float("inf"),))

    parrot.complete = complete
    answer = post(url, "completions", {"prompt": "x", "logprobs": 0})
    choice = json.loads(answer.text)["choices"][0]
    assert choice["text"] == "\ud800\x00\u2028</script>" and choice["logprobs"]["token_logprobs"] == [-9999.0]


class TestSafety:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
    def test_other_machines_need_a_token(self, host):
        with pytest.raises(BadInput, match="give a token"):
            serve(Parrot(), name="m", host=host, port=0)

    @pytest.mark.parametrize("token", ["", " ", "é", "a\n"])
    def test_a_token_that_no_header_can_hold_is_refused(self, token):
        with pytest.raises(BadInput, match="token"):
            application(Parrot(), name="m", token=token)

    def test_every_route_but_health_wants_the_token(self):
        with running(Parrot(), token="s3cret-e") as url, httpx.Client(trust_env=False) as client:
            for shown in ({}, {"authorization": "Bearer s3cret"}, {"authorization": "Bearer s3cret-é".encode()}):
                for route in ("models", "models/model", "nothing"):
                    answer = client.get(f"{url}/{route}", headers=shown)
                    assert answer.status_code == (404 if route == "nothing" else 401)
                for route in ("completions", "chat/completions", "embeddings", "score_continuations"):
                    answer = client.post(f"{url}/{route}", json={"prompt": "x"}, headers=shown)
                    assert answer.status_code == 401 and "s3cret" not in answer.text
            assert client.get(url.replace("/v1", "/health")).status_code == 200
            good = {"authorization": "Bearer s3cret-e"}
            assert client.get(f"{url}/models", headers=good).status_code == 200

    @pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}])
    def test_pages_of_other_sites_cannot_use_a_server_without_a_token(self, url, parrot, headers):
        assert post(url, "completions", {"prompt": "x"}, headers=headers).status_code == 403
        assert not parrot.seen

    @pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1", "http://[::1]:80"])
    def test_pages_of_this_machine_can(self, url, origin):
        assert post(url, "completions", {"prompt": "x"}, headers={"origin": origin}).status_code == 200

    @pytest.mark.parametrize("wrong", [{"max_concurrent": 0}, {"max_body": -1}, {"grace": -1}])
    def test_limits_are_checked(self, wrong):
        with pytest.raises(BadInput, match=next(iter(wrong))):
            Limits(**wrong)


class TestStopping:
    def test_running_stops_its_server_also_when_requests_hang_and_bodies_raise(self, parrot):
        before = threading.active_count()
        start = time.monotonic()
        with pytest.raises(KeyError), running(parrot, limits=Limits(grace=0)) as url:
            answers = []
            hanging = threading.Thread(
                target=lambda: answers.append(post(url, "completions", {"prompt": "hang"}, timeout=20))
            )
            hanging.start()
            until(lambda: parrot.counts["under way"] == 1)
            raise KeyError
        hanging.join(10)
        assert time.monotonic() - start < 15
        assert threading.active_count() == before
        assert parrot.counts["cancelled"] == 1
        assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "1")]
        with pytest.raises(httpx.ConnectError):
            post(url, "completions", {"prompt": "x"})

    def test_a_taken_port_is_one_line(self, url):
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(BadInput, match=f"127.0.0.1:{port}: cannot be listened at: Address already in use"):
            serve(Parrot(), name="m", port=port)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_signals_end_serve_cleanly_after_the_answers_under_way(self, number):
        program = (
            "from lm.parrot import Parrot\n"
            "from tutelage.lm.serving.server import serve\n"
            "class Slow(Parrot):\n"
            "    async def complete(self, request):\n"
            "        print('asked', flush=True)\n"
            "        return await super().complete(request)\n"
            "serve(Slow(), name='m', port=0, announce=lambda url: print(url, flush=True))\n"
            "print('closed')\n"
        )
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            answers = []
            asking = threading.Thread(target=lambda: answers.append(post(url, "completions", {"prompt": "slow slow"})))
            asking.start()
            assert process.stdout.readline() == "asked\n"
            process.send_signal(number)
            rest, _ = process.communicate(timeout=15)
            asking.join(10)
        finally:
            process.kill()
            process.wait()
        assert (rest, process.returncode) == ("closed\n", 0)
        assert answers[0].json()["choices"][0]["text"].startswith("SLOW SLOW")
