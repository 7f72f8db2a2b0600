"""A prompt has the same ids wherever it is read: in pretraining, fine-tuning, sampling, scoring and over a server."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm.some_tokenizers import KINDS, some
from tiny_models import speaking
from transformers import AutoTokenizer

from tutelage import lm
from tutelage.lab.errors import BadInput
from tutelage.lm.huggingface import HuggingFace
from tutelage.lm.request import Message, Request, Scoring
from tutelage.lm.serving.server import running
from tutelage.lm.tokens import begin_with_bos, encode, fingerprint, prompt_ids, raw_prompts_ids
from tutelage.lm.training import batches, evaluation
from tutelage.lm.training.pretraining import documents
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question

PROMPTS = ["Q: what is two?\n", "yes\n", "the </s> quick\n"]


def expected(name: str, text: str) -> list[int]:
    """What the tokenizer of that name is known to put before a text, and the text's own ids."""
    tokenizer = some(name)
    front = tokenizer.convert_tokens_to_ids(KINDS[name][1])
    ids = [*front, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    empty = [each for each in (tokenizer.bos_token_id, tokenizer.eos_token_id) if each is not None][:1]
    return ids or empty


class Read:
    """A backend's worker, and what it was given to read."""

    def __init__(self, backend: HuggingFace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.worker, self.rows = backend._workers[0], []
        self.inbox = self
        monkeypatch.setattr(backend, "_worker", lambda: self)

    def put(self, item: Any) -> None:
        self.rows.append(item.row.prompt.tolist() if hasattr(item, "row") else item.given)
        self.worker.inbox.put(item)


@pytest.fixture(scope="module")
def model() -> Any:
    return speaking("llama", vocab_size=400)


@pytest.mark.parametrize("name", KINDS)
def test_every_way_reads_the_same(name: str, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, wanted = some(name), [expected(name, prompt) for prompt in PROMPTS]
    assert [prompt_ids(tokenizer, prompt) for prompt in PROMPTS] == wanted
    assert raw_prompts_ids(tokenizer, PROMPTS) == wanted
    if tokenizer.eos_token is not None:  # training needs an end
        pairs = [batches.encode(tokenizer, prompt, "7") for prompt in PROMPTS]
        assert [pair.prompt.tolist() for pair in pairs] == wanted
        policy = Policy(None, tokenizer, "{question}\n", suffix=(5,))
        questions = [Question.of(prompt[:-1], "#### 1") for prompt in PROMPTS]
        assert [policy.prompt(each).tolist() for each in questions] == [[*ids, 5] for ids in wanted]
        assert [policy.example(each, "7").prompt.tolist() for each in questions] == [[*ids, 5] for ids in wanted]
        rows = [[*piece[0].prompt, *piece[0].response] for piece in ([d] for d in documents(tokenizer, PROMPTS, 999))]
        assert rows == [[*ids, tokenizer.eos_token_id] for ids in wanted]
        seen: list[list[int]] = []
        evaluation.prediction(_Watched(model, seen), tokenizer, [(prompt, "7") for prompt in PROMPTS], micro_tokens=1)
        whole = [[*pair.prompt, *pair.response] for pair in pairs]
        assert sorted(seen) == sorted(whole)
    backend = HuggingFace(model, tokenizer)
    read = Read(backend, monkeypatch)
    asked = [Request(prompt=prompt, max_tokens=1, temperature=0) for prompt in PROMPTS]
    found = lm.run(backend.generate([*asked, *(request.replace(choices=("7", "8")) for request in asked)]))
    assert read.rows == wanted * 2 and [each.usage.prompt for each in found] == [len(ids) for ids in wanted] * 2
    read.rows.clear()
    scored = lm.run(backend.score([Scoring(prompt, ("7", "8")) for prompt in PROMPTS]))
    assert [each.error for each in scored] == [None] * 3
    assert [list(reading.prefix) for reading in read.rows] == wanted
    read.rows.clear()
    lm.run(backend.embed(PROMPTS))
    assert read.rows == [wanted]
    lm.run(backend.close())


class _Watched:
    """A model that notes each row that it reads."""

    def __init__(self, model: Any, seen: list[list[int]]) -> None:
        self.model, self.seen = model, seen

    def __call__(self, input_ids: torch.Tensor, **options: Any) -> Any:
        self.seen += input_ids.tolist()
        return self.model(input_ids=input_ids, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


@pytest.mark.parametrize("name", ["ours, words", "BOS and EOS around", "BOS not added"])
def test_a_server_reads_the_same(name: str, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = HuggingFace(model, some(name))
    read = Read(backend, monkeypatch)
    chat = (Message("user", "which?"),)
    with running(backend, name="it") as url:
        remote = lm.connect(f"{url}#it")
        asked = [Request(prompt=prompt, max_tokens=1) for prompt in PROMPTS]
        if some(name).chat_template:
            asked.append(Request(messages=chat, max_tokens=1))
        for request in asked:
            [found] = lm.run(remote.generate([request]))
            assert found.error is None
            ids = prompt_ids(some(name), request.messages if request.prompt is None else request.prompt)
            assert read.rows.pop() == ids and found.usage.prompt == len(ids)
        lm.run(remote.score([Scoring(PROMPTS[0], ("7", "8"))]))
        assert list(read.rows.pop().prefix) == expected(name, PROMPTS[0])
        lm.run(remote.close())
    lm.run(backend.close())


@pytest.mark.parametrize("name", [name for name in KINDS if getattr(some(name), "chat_template", None)])
def test_messages_have_what_the_template_writes_and_a_written_prompt_has_it_once(name: str, model: Any) -> None:
    tokenizer, chat = some(name), (Message("user", "which?"),)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "which?"}], tokenize=False, add_generation_prompt=True
    )
    wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert prompt_ids(tokenizer, chat) == wanted
    if tokenizer.eos_token is not None:
        assert batches.encode(tokenizer, chat, "7").prompt.tolist() == wanted
    front = tokenizer.convert_tokens_to_ids(KINDS[name][1])
    as_prompt = prompt_ids(tokenizer, text)
    assert as_prompt == (wanted if wanted[: len(front)] == front else [*front, *wanted])
    assert as_prompt.count(tokenizer.bos_token_id) <= 1
    for option in ("7", " 8"):
        ids, ends = encode(tokenizer, text + option, raw=True)
        assert ends[-1] == len(text + option) and len(ends) == len(ids)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_read_as_the_beginning_of_a_text(name: str, model: Any) -> None:
    tokenizer = some(name)
    if tokenizer.bos_token is None and tokenizer.eos_token is None:
        with pytest.raises(BadInput, match="no token stands before"):
            prompt_ids(tokenizer, "")
        return
    assert prompt_ids(tokenizer, "") == raw_prompts_ids(tokenizer, [""])[0] == expected(name, "")
    assert batches.encode(tokenizer, "", "7").prompt.tolist() == expected(name, "")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(KINDS)), st.text(st.sampled_from("yes no\n<s>/東é7"), max_size=12))
def test_any_text_has_the_special_tokens_before_it_once_and_none_behind(name: str, text: str) -> None:
    tokenizer = some(name)
    own = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not own:
        return
    front = tokenizer.convert_tokens_to_ids(KINDS[name][1])
    wanted = own if own[: len(front)] == front else [*front, *own]
    ids, ends = encode(tokenizer, text, raw=True)
    assert ids == prompt_ids(tokenizer, text) == wanted == raw_prompts_ids(tokenizer, ["a", text])[1]
    assert len(ends) == len(ids) and sorted(ends) == ends
    assert encode(tokenizer, text, raw=False)[0] == own


@pytest.mark.parametrize("name", [name for name in KINDS if some(name).bos_token is not None])
def test_a_tokenizer_that_begins_with_bos_does_so_once_and_from_disk(name: str, tmp_path: Any) -> None:
    tokenizer, before = some(name), fingerprint(some(name))
    made = begin_with_bos(tokenizer) if name != "two before" else begin_with_bos(some("unigram"))
    own = made("yes", add_special_tokens=False)["input_ids"]
    assert prompt_ids(made, "yes") == [made.bos_token_id, *own]
    assert begin_with_bos(made) is made and fingerprint(some(name)) == before
    if name == "Python alone":
        return
    assert (made is tokenizer) == (fingerprint(made) == before)
    made.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert prompt_ids(again, "yes") == [made.bos_token_id, *own]
    assert fingerprint(again) == fingerprint(made)


def test_a_tokenizer_that_cannot_begin_with_bos_is_refused() -> None:
    with pytest.raises(BadInput, match="tokenizer: has no bos token; a text must begin with one"):
        begin_with_bos(some("no BOS"))
    letters = copy.copy(some("Python alone"))
    letters.build_inputs_with_special_tokens = lambda ids, more=None: ids
    with pytest.raises(BadInput, match="does not put its bos token before a text"):
        begin_with_bos(letters)


def test_a_fingerprint_changes_with_whatever_changes_ids() -> None:
    prints = [fingerprint(some(name)) for name in KINDS]
    assert len(set(prints)) == len(KINDS)
    assert prints == [fingerprint(some(name)) for name in KINDS]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
