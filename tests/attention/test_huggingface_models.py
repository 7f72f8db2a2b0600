"""transformers loads, saves and samples our models as it does its own, and `tutelage.lm` does too."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, DynamicCache

from tutelage import lm
from tutelage.attention.config import AttentionConfig
from tutelage.attention.huggingface.models import (
    CompositionalConfig,
    CompositionalForCausalLM,
    CompositionalForConditionalGeneration,
    CompositionalModel,
)
from tutelage.lab.errors import BadInput
from tutelage.lm import folders
from tutelage.lm.request import Request, Scoring

VOCABULARY = 23
ATTENTION = {"searches": 2, "retrievals": 3, "d_value": 12, "d_select": 4, "per_retrieval_key": True}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """transformers warns by its own logger of what it decides itself."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    yield


def configuration(**changes: Any) -> CompositionalConfig:
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 8, "num_hidden_layers": 2, "dropout": 0.0}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None, "decoder_start_token_id": 1}
    return CompositionalConfig(**{**sizes, **special, "attention": ATTENTION, **changes})


def made(kind: Any = CompositionalForCausalLM, seed: int = 0, **changes: Any) -> Any:
    """A model in evaluation mode with weights large enough that tokens differ in probability."""
    torch.manual_seed(seed)
    model = kind(configuration(**changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0).add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def ids(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(2, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def greedy(model: Any, prompt: Tensor, number: int) -> Tensor:
    """The loop without cache."""
    with torch.no_grad():
        for _ in range(number):
            logits = model(prompt, use_cache=False).logits
            prompt = torch.cat((prompt, logits[:, -1:].argmax(-1)), 1)
    return prompt


POSITIONS = [
    {"input_positions": "sinusoidal"},
    {"input_positions": "none", "attention": {**ATTENTION, "positions": "rotary"}},
    {"input_positions": "legacy", "attention": {**ATTENTION, "positions": "relative"}},
]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False, "shared_layers": False},
        {"attention": {"kind": "switch_head", "searches": 2}, "input_positions": "legacy"},
    ],
)
def test_what_is_saved_is_loaded_to_the_same_bits(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = made(**changes)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is CompositionalForCausalLM
    assert loaded.config.attention_config == model.config.attention_config
    assert loaded.config.to_dict() | {"dtype": None} == AutoConfig.from_pretrained(tmp_path).to_dict() | {"dtype": None}
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(loaded(ids(2, 5)).logits, model(ids(2, 5)).logits)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == model.config.tie_word_embeddings
    base = AutoModel.from_pretrained(tmp_path)
    assert type(base) is CompositionalModel
    assert torch.equal(base(ids(2, 5)).last_hidden_state, model.model(ids(2, 5)).last_hidden_state)


def test_an_encoder_decoder_is_loaded_to_the_same_bits(tmp_path: Path) -> None:
    model = made(CompositionalForConditionalGeneration, num_decoder_layers=3)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(loaded) is CompositionalForConditionalGeneration
    assert loaded.decoder.blocks.iterations == 3
    given = {"input_ids": ids(2, 5), "decoder_input_ids": ids(2, 4, seed=2)}
    assert torch.equal(loaded(**given).logits, model(**given).logits)
    assert loaded.decoder.embed_tokens.weight is loaded.encoder.embed_tokens.weight is loaded.lm_head.weight


@pytest.mark.parametrize("changes", POSITIONS)
def test_generate_is_the_loop_without_cache(changes: dict[str, Any]) -> None:
    model, prompt = made(**changes), ids(3, 4)
    wanted = greedy(model, prompt, 8)
    assert len(set(wanted[:, 4:].flatten().tolist())) > 3  # a model that says one thing proves little
    assert torch.equal(model.generate(prompt, max_new_tokens=8, do_sample=False), wanted)
    assert torch.equal(model.generate(prompt, max_new_tokens=8, do_sample=False, use_cache=False), wanted)


@pytest.mark.parametrize("changes", POSITIONS)
def test_the_cache_gives_the_logits_of_the_whole(changes: dict[str, Any]) -> None:
    model, tokens = made(**changes).double(), ids(2, 7)
    with torch.no_grad():
        whole = model(tokens).logits
        first = model(tokens[:, :4], use_cache=True)
        second = model(tokens[:, 4:5], past_key_values=first.past_key_values)
        third = model(tokens[:, 5:], past_key_values=second.past_key_values, logits_to_keep=1)
    torch.testing.assert_close(torch.cat((first.logits, second.logits), 1), whole[:, :5], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(third.logits, whole[:, -1:], rtol=1e-5, atol=1e-5)
    assert third.past_key_values.get_seq_length() == 7


@pytest.mark.parametrize("changes", POSITIONS)
def test_padding_on_the_left_changes_no_token(changes: dict[str, Any]) -> None:
    model, prompts = made(**changes), [ids(1, 5), ids(1, 2, seed=3)]
    wanted = [greedy(model, prompt, 6)[:, prompt.shape[1] :] for prompt in prompts]
    padded = torch.cat((prompts[0], torch.cat((torch.zeros(1, 3, dtype=torch.long), prompts[1]), 1)))
    real = (padded != 0).long()
    out = model.generate(padded, attention_mask=real, max_new_tokens=6, do_sample=False)
    assert torch.equal(out[:, 5:], torch.cat(wanted))


def test_beams_with_a_cache_are_those_without() -> None:
    model, prompt = made(), ids(2, 4)
    settings: dict[str, Any] = {"max_new_tokens": 6, "num_beams": 3, "do_sample": False}
    assert torch.equal(model.generate(prompt, **settings), model.generate(prompt, use_cache=False, **settings))


def test_tokens_that_were_guessed_wrongly_are_forgotten() -> None:
    model, prompt = made(), ids(1, 3).repeat(1, 3)
    found = model.generate(prompt, max_new_tokens=8, do_sample=False, prompt_lookup_num_tokens=2)
    assert torch.equal(found, greedy(model, prompt, 8))


def test_labels_give_the_loss_of_the_next_token() -> None:
    model, tokens = made(), ids(2, 6)
    labels = tokens.clone()
    labels[0, :3] = -100
    out = model(tokens, labels=labels)
    picked = torch.log_softmax(out.logits[:, :-1], -1).gather(-1, tokens[:, 1:, None])[..., 0]
    wanted = torch.cat((picked[0, 2:], picked[1]))
    torch.testing.assert_close(out.loss, -wanted.mean())
    out.loss.backward()
    assert all(part.grad is not None for part in model.parameters())


def test_labels_give_the_loss_of_an_answer() -> None:
    model, question, answer = made(CompositionalForConditionalGeneration), ids(2, 5), ids(2, 4, seed=2)
    labels = answer.clone()
    labels[1, 2:] = -100
    out = model(question, labels=labels)
    fed = torch.cat((torch.ones(2, 1, dtype=torch.long), answer[:, :-1]), 1)
    logprobs = torch.log_softmax(model(question, decoder_input_ids=fed).logits, -1)
    picked = logprobs.gather(-1, answer[..., None])[..., 0]
    wanted = -torch.cat((picked[0], picked[1, :2]))
    torch.testing.assert_close(out.loss, wanted.mean())
    torch.testing.assert_close(model(question, labels=labels, num_items_in_batch=24).loss, wanted.sum() / 24)


def test_an_answer_is_the_loop_without_cache_whatever_the_padding() -> None:
    model, questions = made(CompositionalForConditionalGeneration), [ids(1, 5), ids(1, 3, seed=3)]
    wanted = []
    for question in questions:
        answer = torch.ones(1, 1, dtype=torch.long)
        for _ in range(6):
            logits = model(question, decoder_input_ids=answer, use_cache=False).logits
            answer = torch.cat((answer, logits[:, -1:].argmax(-1)), 1)
        wanted.append(answer)
    padded = torch.cat((questions[0], torch.cat((questions[1], torch.zeros(1, 2, dtype=torch.long)), 1)))
    given: dict[str, Any] = {"attention_mask": (padded != 0).long(), "max_new_tokens": 6, "do_sample": False}
    assert torch.equal(model.generate(padded, **given), torch.cat(wanted))
    beams = model.generate(padded, num_beams=2, **given)
    assert torch.equal(beams, model.generate(padded, num_beams=2, use_cache=False, **given))


def test_searches_of_every_block_are_returned() -> None:
    out = made()(ids(2, 4), output_attentions=True, output_hidden_states=True)
    assert [each.shape for each in out.attentions] == [(2, 2, 4, 4)] * 2
    torch.testing.assert_close(out.attentions[0].sum(-1), torch.ones(2, 2, 4))
    assert len(out.hidden_states) == 2


def test_a_forward_pass_compiles_without_a_break() -> None:
    model, tokens, real = made(), ids(2, 5), torch.ones(2, 5, dtype=torch.long)
    real[0, :2] = 0
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    given: dict[str, Any] = {"attention_mask": real, "use_cache": False}
    torch.testing.assert_close(compiled(tokens, **given).logits, model(tokens, **given).logits)


def test_dropout_follows_from_the_generator() -> None:
    model = made(dropout=0.5).train()
    draws = [model(ids(2, 4), generator=torch.Generator().manual_seed(seed)).logits for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_new_weights_are_those_of_the_layers() -> None:
    torch.manual_seed(0)
    model = CompositionalForCausalLM(configuration(hidden_size=64, attention={"searches": 4, "d_select": 16}))
    block = model.model.blocks.blocks[0]
    bound = (6 / (64 + 64)) ** 0.5
    assert 0.9 * bound < block.attention.query.weight.abs().max() <= bound
    assert block.attention.competition.weight.abs().max() <= (6 / (16 + 16)) ** 0.5 / 2**0.5
    assert abs(float(model.model.embed_tokens.weight.detach().std()) - 64**-0.5) < 0.02
    assert (block.attention.query.bias == 0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attention": {"serches": 2}}, "attention.serches: .*'attention.searches'"),
        ({"attention": {"searches": 0}}, "attention.searches = 0"),
        ({"attention": {"competition": "dott"}}, "attention.competition = 'dott'"),
        ({"input_positions": "sinus"}, "input_positions = 'sinus': .*'sinusoidal'"),
        ({"dropout": 1.5}, r"dropout = 1.5: must be .*\[0, 1\)"),
        ({"vocab_size": 0}, "vocab_size = 0"),
    ],
)
def test_a_bad_configuration_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        configuration(**settings)


def test_a_bad_call_is_named() -> None:
    model, tokens = made(), ids(1, 4)
    with pytest.raises(BadInput, match="exactly one"):
        model()
    with pytest.raises(BadInput, match=r"attention_mask has shape \(1, 3\)"):
        model(tokens, attention_mask=torch.ones(1, 3))
    with pytest.raises(BadInput, match="DynamicCache: must be a CompositionalCache"):
        model(tokens, past_key_values=DynamicCache())
    with pytest.raises(BadInput, match="cache_implementation = 'static'"):
        model.generate(tokens, max_new_tokens=1, cache_implementation="static")
    with pytest.raises(BadInput, match="CompositionalForConditionalGeneration"):
        CompositionalForCausalLM(configuration(is_encoder_decoder=True))
    with pytest.raises(BadInput, match="decoder_start_token_id = None"):
        made(CompositionalForConditionalGeneration, decoder_start_token_id=None)(tokens, labels=tokens)


def test_the_configuration_takes_settings_as_an_object() -> None:
    wanted = AttentionConfig(searches=2, retrievals=1)
    assert CompositionalConfig(attention=wanted).attention_config == wanted
    assert CompositionalConfig().attention_config == AttentionConfig()


@pytest.mark.parametrize(
    "words",
    [
        ("-c", "import sys; from tutelage.lm import folders; folders.load(sys.argv[1])"),
        ("-m", "tutelage", "lm", "sample", "the quick brown", "--max-tokens", "2"),
    ],
    ids=["load", "sample"],
)
def test_the_lm_layer_finds_the_classes_of_a_folder_by_itself(tmp_path: Path, words: tuple[str, ...]) -> None:
    """In a process that has not imported them."""
    known = tokenizer()
    folder = folders.save(made(vocab_size=len(known), pad_token_id=1, bos_token_id=0), known, tmp_path / "model")
    command = [sys.executable, *(words[:4] if words[0] == "-m" else words), str(folder), *words[4:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_lm_layer_samples_and_scores_from_a_folder(tmp_path: Path) -> None:
    words = tokenizer()
    model = made(vocab_size=len(words), pad_token_id=1, bos_token_id=0, max_position_embeddings=64)
    folders.save(model, words, tmp_path / "model")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is decoded by generate.*")
        connected = lm.connect(str(tmp_path / "model"))
        prompts = ["the quick brown", "yes no"]
        asked = [Request(prompt=text, max_tokens=6, temperature=t, seed=3) for text in prompts for t in (0.0, 1.0)]
        answers = lm.run(connected.generate(asked))
        again = lm.run(connected.generate(list(reversed(asked))))
        scored = lm.run(connected.score([Scoring("the quick", (" brown", " dog"))]))
        lm.run(connected.close())
    assert [each.text for each in answers] == [each.text for each in reversed(again)]
    for text, answer in zip(prompts, answers[::2]):
        prompt = torch.tensor([words(text)["input_ids"]])
        wanted = greedy(model, prompt, 6)[0, prompt.shape[1] :].tolist()
        stop = wanted.index(1) if 1 in wanted else len(wanted)
        assert answer.text == words.decode(wanted[:stop])
    whole, split = words("the quick brown")["input_ids"], len(words("the quick")["input_ids"])
    logprobs = torch.log_softmax(model(torch.tensor([whole])).logits[0], -1)
    wanted = sum(float(logprobs[at - 1, whole[at]].detach()) for at in range(split, len(whole)))
    assert float(scored[0].totals[0]) == pytest.approx(wanted, abs=1e-4)
