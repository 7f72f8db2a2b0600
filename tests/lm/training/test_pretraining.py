"""Small models from text: tokenizers that give the text back, ordinary folders, resumption to the same bits."""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lm.tiny_architectures import tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from tutelage import lm
from tutelage.cli import lm_models
from tutelage.lab.errors import BadInput
from tutelage.lm import folders
from tutelage.lm.request import Completion, Request
from tutelage.lm.training import corpus, evaluation, pretraining
from tutelage.lm.training.config import PretrainConfig, TokenizerConfig
from tutelage.lm.training.pretraining import documents, pretrain, train_tokenizer
from tutelage.lm.training.sft import SFT

TEXTS = corpus.texts(["arithmetic"], number=300, seed=1)
SMALL = PretrainConfig(size="nano", context=64, batch_tokens=1024, num_epochs=2.0)


def test_generated_problems_have_right_steps_and_answers() -> None:
    """Every step's arithmetic, the chain from step to step, and the final answer."""
    problems = corpus.arithmetic(500, seed=3)
    assert problems == corpus.arithmetic(500, seed=3) != corpus.arithmetic(500, seed=4)
    assert len(set(problems)) > 450
    for problem in problems:
        *steps, last = problem.answer.split("\n")
        total = int(re.findall(r"\d+", problem.question)[0])
        for step in steps:
            a, kind, b, _, result = step.split(" ")
            assert int(a) == total
            total = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[kind]
            assert total == int(result)
        assert last == f"#### {total}"
        assert 0 <= total <= 99


@pytest.mark.parametrize(("kind", "vocabulary"), [("bpe", 400), ("word", 400), ("character", 400)])
def test_a_tokenizer_gives_its_texts_back_from_disk_too(kind: str, vocabulary: int, tmp_path: Path) -> None:
    config = TokenizerConfig(kind=kind, vocabulary=vocabulary)
    tokenizer = train_tokenizer(TEXTS, config)
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert len({again.pad_token_id, again.bos_token_id, again.eos_token_id, again.unk_token_id}) == 4
    for text in TEXTS[:50]:
        ids = again.encode(text, add_special_tokens=False)
        assert ids == tokenizer.encode(text, add_special_tokens=False)
        assert again.decode(ids) == text
        assert again.unk_token_id not in ids


@pytest.mark.parametrize("kind", ["bpe", "word", "character"])
def test_prompt_and_answer_have_the_same_tokens_apart_as_together(kind: str) -> None:
    """Otherwise a model would be asked in other tokens than it was trained on."""
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(kind=kind, vocabulary=400))
    for problem in corpus.arithmetic(50, seed=2):
        parts = [tokenizer.encode(text, add_special_tokens=False) for text in (problem.prompt, problem.answer)]
        assert parts[0] + parts[1] == tokenizer.encode(problem.text, add_special_tokens=False)


def test_bytes_can_spell_anything() -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(kind="bpe", vocabulary=300))
    text = "žluťoučký kůň 🐎\t\x00 <eo"
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_a_chat_template_puts_one_token_for_each_role() -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(chat=True))
    messages = [{"role": "user", "content": " How many"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    names = tokenizer.convert_ids_to_tokens(ids)
    assert names == ["<bos>", "<|user|>", " How", " many", "<eos>", "<|assistant|>"]


def test_long_documents_are_cut_so_that_every_token_is_predicted_once() -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(kind="character"))
    text = TEXTS[0][:100]
    pieces = documents(tokenizer, [text], context=16)
    assert all(len(piece) <= 16 for piece in pieces)
    learnt = np.concatenate([piece.response for piece in pieces])
    assert learnt.tolist() == [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    for before, after in itertools.pairwise(pieces):
        assert after.prompt.tolist() == before.response[-1:].tolist()


def test_a_model_is_made_kept_and_read_by_transformers_and_only_made_once(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "base"
    figures = pretrain(TEXTS, folder, SMALL, seed=5, quiet=True)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert figures["loss"] < math.log(len(tokenizer)) - 1
    assert not list(tmp_path.glob(".*"))
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors", ".jinja"}
    monkeypatch.setattr(pretraining, "train_tokenizer", lambda *_: pytest.fail("made again"))
    assert pretrain(TEXTS, folder, SMALL, seed=5, quiet=True) == figures
    with pytest.raises(BadInput, match="other text or settings"):
        pretrain(TEXTS, folder, SMALL, seed=6, quiet=True)


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path, monkeypatch) -> None:
    pretrain(TEXTS, tmp_path / "whole", SMALL, quiet=True)
    update, calls = SFT.update, []

    def dies(self, state):
        calls.append(state["step"])
        if len(calls) == 8:
            raise KeyboardInterrupt
        return update(self, state)

    monkeypatch.setattr(SFT, "update", dies)
    for _ in range(2):
        try:
            pretrain(TEXTS, tmp_path / "cut", SMALL, quiet=True, save_every=3)
        except KeyboardInterrupt:
            assert not (tmp_path / "cut").exists()
    assert calls[7:9] == [7, 6]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_prediction_is_the_plain_sum_over_texts() -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(kind="character"))
    model = tiny("llama", vocab_size=len(tokenizer), max_position_embeddings=512)
    pairs = [("", TEXTS[0]), (TEXTS[1][:20], TEXTS[1][20:]), ("", "ü" + TEXTS[2])]
    found = evaluation.prediction(model, tokenizer, pairs, micro_tokens=300)
    total, count = 0.0, 0
    for before, text in pairs:
        read = [tokenizer.bos_token_id, *tokenizer.encode(before, add_special_tokens=False)]
        ids = [*read, *tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        logp = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1).detach()
        total -= sum(float(logp[place - 1, ids[place]]) for place in range(len(read), len(ids)))
        count += len(ids) - len(read)
    assert found["tokens"] == count
    assert found["loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(
        total / math.log(2) / sum(len(t.encode()) for _, t in pairs), rel=1e-5
    )


class Answering(lm.LanguageModel):
    """Right on every second question; cut off on the last."""

    def __init__(self, problems) -> None:
        self.answers = {each.prompt: each.answer for each in problems}
        self.asked: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        answer = self.answers[request.prompt or ""]
        text = answer.replace("####  ", "####") if len(self.asked) % 2 else "#### -1"
        return Completion(text, finish_reason="length" if len(self.asked) == 4 else "stop")


def test_exact_match_compares_final_answers_of_greedy_completions() -> None:
    problems = corpus.arithmetic(4)
    model = Answering(problems)
    found = lm.run(evaluation.exact_match(model, problems))
    assert found == {"exact_match": 0.5, "cut_off": 0.25, "failed": 0.0}
    assert {request.temperature for request in model.asked} == {0.0}
    assert evaluation.final_answer("1 + 1 = 2\n####  2 \nmore") == "2"
    assert evaluation.final_answer(" a  b ") == "a b"


def test_folders_are_written_whole_and_nothing_of_others_is_overwritten(tmp_path: Path, monkeypatch) -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig())
    model = tiny("llama", vocab_size=len(tokenizer))
    folders.save(model, tokenizer, tmp_path / "m")
    again, _ = folders.load(tmp_path / "m")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    before = (tmp_path / "m" / "model.safetensors").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(BadInput, match="No space left"):
        patch.setattr(type(tokenizer), "save_pretrained", full)
        folders.save(tiny("llama", seed=1), tokenizer, tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    folders.save(tiny("llama", seed=1), tokenizer, tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() != before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(BadInput, match="not a model"):
        folders.save(model, tokenizer, tmp_path / "mine")


def test_the_commands_make_and_judge_a_model(tmp_path: Path, monkeypatch, capsys) -> None:
    """`eval` answers questions through whatever `connect` gives; here a stand-in that is always right."""
    monkeypatch.chdir(tmp_path)
    words = ["arithmetic", "--out", "base", "--documents", "200", "--size", "nano", "--context", "64", "--quiet"]
    assert lm_models.pretrain([*words, "--tokenizer.kind", "character", "--num-epochs", "1"]) == 0
    assert "base: loss" in capsys.readouterr().out
    problems = corpus.arithmetic(6, seed=9)
    short = [problem for problem in problems if len(problem.text) < 400]
    lines = [json.dumps({"question": each.question, "answer": each.answer}) for each in short]
    Path("qa.jsonl").write_text("\n".join(lines))
    Path("text.txt").write_text("Ada has 2 pens.\n\nBen has 3 coins.")
    assert lm_models.evaluate(["base", "--data", "text.txt", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["bytes"] == 31
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    monkeypatch.setattr(evaluation, "prediction", lambda *_: {"loss": 1.0})
    stand_in = SimpleNamespace(connect=lambda name: lm_answering(problems, name))
    monkeypatch.setitem(sys.modules, "tutelage.lm.connecting", stand_in)
    assert lm_models.evaluate(["base", "--data", "qa.jsonl"]) == 0
    assert re.search(r"exact match +1\n", capsys.readouterr().out)
    for command in (lm_models.pretrain, lm_models.evaluate):
        assert command(["--help"]) == 0
        assert "usage: tutelage lm" in capsys.readouterr().out


def lm_answering(problems, name: str):
    assert name == "base"

    class Right(Answering):
        async def complete(self, request: Request) -> Completion:
            return Completion(self.answers[request.prompt or ""])

    return Right(problems)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pretrain([], "x"), "corpus: is empty"),
        (lambda: pretrain(["a"], "x", PretrainConfig(size="mni")), "did you mean 'mini'"),
        (lambda: pretrain(["a"], "x", PretrainConfig(tokenizer=TokenizerConfig("bpe", 100))), "at least 260 for bpe"),
        (lambda: corpus.texts([]), "give files"),
        (lambda: corpus.texts(["arithmetics"]), "did you mean 'arithmetic'"),
        (lambda: corpus.problems(__file__), "line 1 of .* is not JSON"),
        (lambda: folders.load("./nowhere"), "no such folder"),
        (lambda: folders.load(Path(__file__).parent), "cannot be loaded"),
        (lambda: lm_models.pretrain(["arithmetic", "--sise", "nano"]), "did you mean .--size"),
        (lambda: lm_models.evaluate(["base"]), "--data"),
        (lambda: lm_models.evaluate(["--data", "x"]), "exactly one model"),
    ],
)
def test_bad_input_is_one_line(call, words: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_text_beyond_the_context_is_told() -> None:
    tokenizer = train_tokenizer(TEXTS, TokenizerConfig(kind="character"))
    with pytest.raises(BadInput, match=r"text 1: \d+ tokens exceed the model's context of 64"):
        evaluation.prediction(tiny("llama"), tokenizer, [("", "A"), ("", TEXTS[0])])
