"""The backend answers every request as if it had been asked alone, in text that the choices and stops allow."""

from __future__ import annotations

import asyncio
import copy
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import speaking, tiny, tokenizer

from tutelage.lab.errors import BadInput
from tutelage.lm.huggingface import HuggingFace
from tutelage.lm.model import LM, run
from tutelage.lm.request import Completion, Message, Request, Scoring
from tutelage.lm.tokens import GrowingText, decode, encode

PROMPTS = ["the quick brown", "Q: what is two and two? A:", "yes", "naïve café ☕", "a" * 40]


@pytest.fixture(scope="module")
def backend() -> Iterator[HuggingFace]:
    model = HuggingFace(speaking(), tokenizer())
    yield model
    run(model.close())


def many(number: int = 40) -> list[Request]:
    return [
        Request(
            prompt=PROMPTS[n % 5],
            max_tokens=3 + n % 20,
            temperature=(1.0, 0.0, 0.7)[n % 3],
            top_p=(1.0, 0.9)[n % 2],
            seed=n % 4,
            sample_index=n // 5,
        )
        for n in range(number)
    ]


def answers(model: HuggingFace, requests: Sequence[Request]) -> list[Completion]:
    return run(model.generate(requests))


def plain_score(model: HuggingFace, context: str, option: str, raw: bool = True) -> np.ndarray:
    """The reference: one forward over the joint text; the option's tokens are those that end behind the context."""
    found = model.tokenizer(context + option, add_special_tokens=raw, return_offsets_mapping=True)
    ids, ends = found["input_ids"], [end for _, end in found["offset_mapping"]]
    first = next(place for place, end in enumerate(ends) if end > len(context))
    with torch.no_grad():
        logprobs = torch.log_softmax(model.model(input_ids=torch.tensor([ids])).logits[0].float(), -1)
    return np.array([float(logprobs[place - 1, ids[place]]) for place in range(first, len(ids))])


def test_it_is_a_language_model_that_says_what_it_can(backend: HuggingFace) -> None:
    assert isinstance(backend, LM)
    can = backend.capabilities
    assert (can.logprobs, can.score, can.seed, can.schema, can.embed, can.max_context) == (
        20,
        True,
        True,
        False,
        True,
        256,
    )


def test_an_answer_is_the_same_alone_and_among_others_and_order_is_kept(backend: HuggingFace) -> None:
    requests = many()
    together = answers(backend, requests)
    for number in range(0, 40, 3):
        [alone] = answers(backend, [requests[number]])
        assert (alone.text, alone.tokens) == (together[number].text, together[number].tokens)
        assert alone.logprobs == pytest.approx(together[number].logprobs, abs=1e-5)
    for request, found in zip(requests, together):
        assert found.error is None and found.model == backend.identity and found.latency > 0
        assert found.usage.completion == len(found.tokens or ()) <= request.max_tokens
        assert found.finish_reason == ("length" if len(found.tokens or ()) == request.max_tokens else "stop") or (
            found.tokens and found.tokens[-1] == backend.tokenizer.eos_token_id
        )
    by_index = {found.text for request, found in zip(requests, together) if request.prompt == PROMPTS[0]}
    assert len(by_index) > 3


def test_greedy_text_is_that_of_generate_and_log_probabilities_are_the_models(backend: HuggingFace) -> None:
    for prompt in PROMPTS:
        [found] = answers(backend, [Request(prompt=prompt, max_tokens=20, temperature=0, top_logprobs=3)])
        ids = torch.tensor([backend.tokenizer(prompt)["input_ids"]])
        out = backend.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)  # type: ignore[operator]
        expected = out[0, ids.shape[1] :].tolist()
        assert list(found.tokens or ()) == expected
        assert found.text == backend.tokenizer.decode(expected, skip_special_tokens=True)
        with torch.no_grad():
            logprobs = torch.log_softmax(backend.model(input_ids=out).logits[0, ids.shape[1] - 1 : -1], -1)
        assert found.logprobs == pytest.approx([float(row[token]) for row, token in zip(logprobs, expected)], abs=1e-5)
        assert found.top_logprobs is not None and len(found.top_logprobs) == len(expected)
        best: dict[str, float] = {}
        for value, token in zip(*logprobs[0].topk(3)):
            best.setdefault(backend.tokenizer.decode([int(token)]), float(value))
        assert found.top_logprobs[0] == pytest.approx(best, abs=1e-5)


def test_stop_texts_cut_where_they_first_appear_even_inside_tokens(backend: HuggingFace) -> None:
    for seed in range(6):
        request = Request(prompt="yes", max_tokens=30, seed=seed)
        [whole] = answers(backend, [request])
        for stop in {whole.text[3:5], whole.text[6:7], whole.text[-3:]} - {""}:
            [cut] = answers(backend, [request.replace(stop=(stop, "never this"))])
            assert cut.text in whole.text and whole.text.startswith(cut.text)
            assert stop not in cut.text
            if "\ufffd" not in whole.text:
                assert cut.text == whole.text[: whole.text.find(stop)] and cut.finish_reason == "stop"


def test_streamed_pieces_are_whole_characters_and_join_to_the_text(backend: HuggingFace) -> None:
    async def pieces(request: Request) -> tuple[list[str], Completion]:
        found: list[Any] = [piece async for piece in backend.stream(request)]
        return found[:-1], found[-1]

    for seed in range(10):
        for stop in ((), ("e", "th")):
            request = Request(prompt="naïve café ☕", max_tokens=40, seed=seed, stop=stop)
            got, completion = run(pieces(request))
            assert "".join(got) == completion.text and all(got)
            [whole] = answers(backend, [request])
            assert (whole.text, whole.tokens) == (completion.text, completion.tokens)


def test_growing_text_gives_multibyte_characters_whole_and_holds_back_beginnings_of_stops() -> None:
    words = tokenizer(False)
    text = "naïve café ☕ 東京 end"
    growing = GrowingText(words, ("京 e",))
    given = [growing.push(token) for token in words(text)["input_ids"]]
    assert all("\ufffd" not in piece for piece in given) and "".join(given) == "naïve café ☕ 東"
    assert growing.stopped and growing.finish() == "" and growing.text == "naïve café ☕ 東"
    growing = GrowingText(words, ("end of it",))
    given = [growing.push(token) for token in words(text)["input_ids"]]
    assert "".join(given) == "naïve café ☕ 東京 " and growing.finish() == "end" and growing.text == text


def test_choices_are_kept_to_exactly_also_where_one_begins_another(backend: HuggingFace) -> None:
    options = ("yes", "yes, maybe", "no", " the lazy dog", "東京")
    requests = [
        Request(prompt="Q: what? A:", choices=options, max_tokens=1, seed=seed, temperature=2.0) for seed in range(60)
    ]
    found = answers(backend, requests)
    assert all(each.text in options and each.finish_reason == "stop" for each in found)
    assert len({each.text for each in found}) >= 3
    messages = (Message("user", "which?"),)
    [single] = answers(backend, [Request(messages=messages, choices=("only this",))])
    assert single.text == "only this"
    for impossible in (("",), ("a</s>b", "c</s>d")):
        [refused] = answers(backend, [Request(prompt="x", choices=impossible)])
        assert refused.error is not None and refused.error.kind == "bad_request"


def test_scores_are_those_of_the_joint_text_at_any_batch_size(backend: HuggingFace) -> None:
    contexts = ["the quick brown", "", "Q: two and ", "naïve caf", "the qui"]
    options = (" fox", "ck brown fox", "é ☕", "three? A: five.", "x")
    items = [Scoring(context, options) for context in contexts]
    together = run(backend.score(items))
    for context, item, found in zip(contexts, items, together):
        assert found.error is None
        [alone] = run(backend.score([item]))
        np.testing.assert_allclose(alone.totals, found.totals, atol=1e-5)
        for option, total, tokens in zip(options, found.totals, found.tokens):
            expected = plain_score(backend, context, option)
            np.testing.assert_allclose(tokens, expected, atol=1e-5)
            assert total == pytest.approx(expected.sum(), abs=1e-4)
    chat = (Message("user", "the quick"),)
    [found] = run(backend.score([Scoring(chat, ("yes", "no"))]))
    expected = plain_score(backend, "<s><|user|>the quick<|assistant|>", "yes", raw=False)
    np.testing.assert_allclose(found.tokens[0], expected, atol=1e-5)


def test_scores_and_samples_asked_at_once_do_not_disturb_each_other(backend: HuggingFace) -> None:
    async def both() -> tuple[list[Completion], Any, np.ndarray]:
        return await asyncio.gather(
            backend.generate(many(12)),
            backend.score([Scoring("the", (" fox", " dog"))] * 5),
            backend.embed(["the lazy dog", "yes"]),
        )

    completions, scores, embedded = run(both())
    assert [each.tokens for each in completions] == [each.tokens for each in answers(backend, many(12))]
    expected = [plain_score(backend, "the", option).sum() for option in (" fox", " dog")]
    for scored in scores:
        np.testing.assert_allclose(scored.totals, expected, atol=1e-4)
    with torch.no_grad():
        ids = torch.tensor([backend.tokenizer("yes")["input_ids"]])
        hidden = backend.model.base_model(input_ids=ids).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(embedded[1], hidden, atol=1e-5)
    assert embedded.shape == (2, 32) and embedded.dtype == np.float32


def test_messages_use_the_template_and_its_absence_or_refusal_is_a_clear_error(backend: HuggingFace) -> None:
    chat, prompt = (Message("user", "the quick"),), "<|user|>the quick<|assistant|>"
    found = answers(
        backend,
        [Request(messages=chat, temperature=0, max_tokens=9), Request(prompt=prompt, temperature=0, max_tokens=9)],
    )
    assert found[0].tokens == found[1].tokens
    [refused] = answers(backend, [Request(messages=(Message("system", "x"), *chat))])
    assert refused.error is not None and "no system" in refused.error.message
    bare = HuggingFace(speaking(), tokenizer(template=False))
    [without] = answers(bare, [Request(messages=chat)])
    assert without.error is not None and "has none: give a prompt" in without.error.message
    assert run(bare.score([Scoring(chat, ("a",))]))[0].error is not None
    run(bare.close())


def test_impossible_items_fail_alone_with_the_numbers(backend: HuggingFace) -> None:
    requests = [
        Request(prompt="ok", max_tokens=3),
        Request(prompt="q" * 300),
        Request(prompt="ok", schema={"type": "object"}),
        Request(prompt="ok", regex="a+"),
        Request(prompt="q" * 254, max_tokens=30, temperature=0),
    ]
    good, long, schema, regex, cut = answers(backend, requests)
    assert good.error is None and good.usage.prompt == len(encode(backend.tokenizer, "ok", raw=True)[0]) == 3
    assert long.error is not None and long.error.kind == "context_length" and "301 tokens" in long.error.message
    assert {each.error.kind for each in (schema, regex) if each.error} == {"unsupported"}
    assert cut.error is None and cut.usage.prompt == 255 and cut.usage.completion == 1
    bad = run(backend.score([Scoring("a", ("",)), Scoring("a", ("q" * 300,)), Scoring("a", ("b",))]))
    assert [each.error.kind if each.error else None for each in bad] == ["bad_request", "context_length", None]
    with pytest.raises(BadInput, match="text 1 has 301 tokens: the model's context is 256"):
        run(backend.embed(["a", "q" * 300]))


def test_texts_that_cannot_be_read_fail_alone() -> None:
    words = copy.deepcopy(tokenizer())
    words.add_tokens(["<new>"])
    model = HuggingFace(speaking(), words)
    for bad in ("a\ud800", "a<new>"):
        requests = [Request(prompt=bad), Request(prompt="a", choices=(bad, "b")), Request(prompt="a", max_tokens=3)]
        requests.append(Request(messages=(Message("user", bad),)))
        found = answers(model, requests)
        assert [each.error and each.error.kind for each in found] == ["bad_request", "bad_request", None, "bad_request"]
        scored = run(model.score([Scoring(bad, ("b",)), Scoring("a", ("b",)), Scoring("a", ("b", bad))]))
        assert [each.error and each.error.kind for each in scored] == ["bad_request", None, "bad_request"]
        with pytest.raises(BadInput):
            run(model.embed(["a", bad]))
    run(model.close())


def test_a_cancelled_request_frees_its_rows_and_the_rest_go_on() -> None:
    model = HuggingFace(speaking(max_position_embeddings=100_000), tokenizer(), max_rows=2)
    model._stops = frozenset()

    async def story() -> list[Completion]:
        endless = [asyncio.ensure_future(model.complete(Request(prompt="yes", max_tokens=90_000))) for _ in range(2)]
        stream = model.stream(Request(prompt="no", max_tokens=90_000))
        await asyncio.sleep(0.2)
        for task in endless:
            task.cancel()
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        return await asyncio.wait_for(model.generate([Request(prompt="the", max_tokens=5)] * 3), 30)

    assert all(each.error is None for each in run(story()))
    run(model.close())


def test_a_folder_loads_with_the_same_answers_and_identity_and_other_weights_have_another(tmp_path: Path) -> None:
    model = speaking()
    model.save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    loaded, memory = HuggingFace(tmp_path / "base", device="cpu"), HuggingFace(model, tokenizer())
    request = Request(prompt="the quick", max_tokens=12)
    assert answers(loaded, [request])[0].tokens == answers(memory, [request])[0].tokens
    assert loaded.identity.startswith("hf:base@")
    assert loaded.identity.split("@")[1] == memory.identity.split("@")[1]
    with torch.no_grad():
        model.lm_head.weight[3, 3] += 1e-3  # type: ignore[union-attr,index,operator]
    other = HuggingFace(model, tokenizer())
    half = HuggingFace(tmp_path / "base", device="cpu", dtype="bfloat16")
    assert len({each.identity.split("@")[1] for each in (loaded, other, half)}) == 3
    assert answers(half, [request])[0].error is None
    for each in (loaded, memory, other, half):
        run(each.close())


def test_whatever_changes_the_answers_changes_the_identity() -> None:
    model, seen = speaking(), []
    changes = [
        lambda: None,
        lambda: setattr(model.config, "_commit_hash", "0123abc"),  # was loaded from the hub, and is trained further
        lambda: model.lm_head.weight.data.mul_(2),
        lambda: setattr(model.config, "rms_norm_eps", 0.5),
        lambda: setattr(model.generation_config, "eos_token_id", [1, 7]),
    ]
    for change in changes:
        change()
        backend = HuggingFace(model, tokenizer())
        seen.append(backend.identity)
        run(backend.close())
    assert seen[0] == seen[1] and len(set(seen)) == 4


def test_replicas_answer_as_one_does() -> None:
    two = HuggingFace(speaking("gpt2", n_positions=256), tokenizer(), replicas=2, max_rows=4)
    one = HuggingFace(speaking("gpt2", n_positions=256), tokenizer())
    assert [each.tokens for each in answers(two, many(20))] == [each.tokens for each in answers(one, many(20))]
    run(two.close())
    run(one.close())
    assert not [thread for thread in threading.enumerate() if thread in (*two._workers, *one._workers)]
    with pytest.raises(RuntimeError, match="is closed"):
        answers(one, many(1))


def test_two_backends_of_one_model_object_do_not_disturb_each_other(backend: HuggingFace) -> None:
    model = speaking()
    one, two = HuggingFace(model, tokenizer()), HuggingFace(model, tokenizer())

    async def both() -> list[Any]:
        return await asyncio.gather(
            one.generate(many()), two.generate(many()), two.embed(["yes"]), one.score([Scoring("the", (" fox",))])
        )

    expected = [each.tokens for each in answers(backend, many())]
    for _ in range(3):
        first, second, _, [scored] = run(both())
        assert [each.tokens for each in first] == [each.tokens for each in second] == expected
        assert scored.error is None
    run(one.close()), run(two.close())
    assert model.config._attn_implementation != "tutelage_shared_prefix"


def test_an_uncovered_model_is_served_all_the_same() -> None:
    model = HuggingFace(tiny("mamba", vocab_size=len(tokenizer())), tokenizer())
    with pytest.warns(UserWarning, match="Mamba"):
        found = answers(model, many(8))
    assert all(each.error is None for each in found)
    assert answers(model, many(8)[3:4])[0].tokens == found[3].tokens
    [scored] = run(model.score([Scoring("the", (" fox", "x"))]))
    np.testing.assert_allclose(scored.totals[0], plain_score(model, "the", " fox").sum(), atol=1e-4)
    run(model.close())


def test_a_program_that_ends_while_answers_are_in_the_making_ends_well() -> None:
    program = """
import threading
from tiny_models import speaking, tokenizer
from tutelage.lm.huggingface import HuggingFace
from tutelage.lm.model import run
from tutelage.lm.request import Request
model = HuggingFace(speaking(max_position_embeddings=100_000), tokenizer())
model._stops, begun = frozenset(), threading.Event()
async def first():
    async for _ in model.stream(Request(prompt="a", max_tokens=90_000)):
        begun.set()
threading.Thread(target=lambda: run(first()), daemon=True).start()
begun.wait()
print("over")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "over\n"), ended.stderr


def test_a_broken_model_fails_its_requests_and_not_the_worker(
    backend: HuggingFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise MemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(backend.model, "forward", broken)
        [failed] = answers(backend, [Request(prompt="a")])
        assert failed.error is not None and failed.error.kind == "server" and "out of memory" in failed.error.message
        assert run(backend.score([Scoring("a", ("b",))]))[0].error is not None
    assert answers(backend, [Request(prompt="a", max_tokens=2)])[0].error is None


def test_an_answer_that_cannot_be_written_fails_alone(backend: HuggingFace, monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(tokenizer: Any, ids: Sequence[int]) -> str:
        if len(ids) == 3:
            raise OverflowError("no such token")
        return decode(tokenizer, ids)

    monkeypatch.setattr("tutelage.lm.sampling.worker.decode", picky)
    backend_stops, backend._stops = backend._stops, frozenset()
    try:
        requests = [Request(prompt="a", max_tokens=length, seed=length) for length in (2, 3, 3, 4)]
        found = run(asyncio.wait_for(backend.generate(requests), 20))
    finally:
        backend._stops = backend_stops
    assert [each.error and each.error.kind for each in found] == [None, "server", "server", None]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"replicas": 0}, "replicas is 0"),
        ({"max_rows": 0}, "max_rows is 0"),
        ({"dtype": "float99"}, "dtype is 'float99'"),
        ({"device": "abacus"}, "device is 'abacus'"),
    ],
)
def test_bad_settings_are_named_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        HuggingFace(speaking(), tokenizer(), **settings)


def test_missing_models_and_tokenizers_are_named_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"model .* cannot be loaded") as found:
        HuggingFace(tmp_path / "nowhere")
    assert "\n" not in str(found.value)
    with pytest.raises(BadInput, match="tokenizer is missing"):
        HuggingFace(speaking())
    speaking().save_pretrained(tmp_path / "bare")
    with pytest.raises(BadInput, match=r"tokenizer .* cannot be loaded"):
        HuggingFace(tmp_path / "bare", device="cpu")
