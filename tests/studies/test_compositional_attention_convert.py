"""`compositional_attention convert`: the same outputs up to the closed-form leak, of whole models and of weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tutelage.attention.baselines.multihead import MultiHead
from tutelage.attention.compositional.layer import CompositionalAttention
from tutelage.attention.config import AttentionConfig
from tutelage.attention.conversion import from_baseline
from tutelage.attention.huggingface.models import (
    CompositionalConfig,
    CompositionalForCausalLM,
    CompositionalForConditionalGeneration,
)
from tutelage.cli import main
from tutelage.lab.configuration import from_json
from tutelage.lab.errors import BadInput
from tutelage.studies.compositional_attention.converting import LAYERS, converted_model

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "max_position_embeddings": 32}


def model(kind=CompositionalForCausalLM, positions="none", **settings):
    torch.manual_seed(0)
    attention = {"kind": "multihead", "searches": 4, "positions": positions}
    return kind(CompositionalConfig(**SIZES, attention=attention, **settings)).eval()


@pytest.mark.parametrize("positions", ["none", "rotary", "relative"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_decoder_says_the_same(positions, shared):
    before = model(positions=positions, shared_layers=shared).double()
    for part in before.modules():
        if hasattr(part, "relative") and part.relative is not None:
            nn.init.normal_(part.relative.weight)
    after = converted_model(before)
    ids = torch.arange(24).view(2, 12)
    torch.testing.assert_close(after(ids).logits, before(ids).logits, atol=1e-6, rtol=0)
    assert {type(part) for part in after.modules()} & {MultiHead, CompositionalAttention} == {CompositionalAttention}


def test_a_folder_is_read_again_and_says_the_same(tmp_path, capsys):
    before = model(CompositionalForConditionalGeneration, is_encoder_decoder=True, decoder_start_token_id=0)
    before.save_pretrained(tmp_path / "before")
    assert main(["compositional_attention", "convert", f"{tmp_path}/before", "--out", f"{tmp_path}/after"]) == 0
    assert "3 layers converted at sharpness 20" in capsys.readouterr().out
    after = CompositionalForConditionalGeneration.from_pretrained(tmp_path / "after").eval()
    ids = torch.arange(10)[None]
    given = {"input_ids": ids, "decoder_input_ids": ids}
    torch.testing.assert_close(after(**given).logits, before(**given).logits, atol=1e-5, rtol=0)


def test_weights_of_anybodys_model(tmp_path, capsys):
    torch.manual_seed(0)
    stack = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, batch_first=True), 2).eval()
    save_file({name: value.contiguous() for name, value in stack.state_dict().items()}, tmp_path / "a.safetensors")
    line = ["compositional_attention", "convert", f"{tmp_path}/a.safetensors", "--out", f"{tmp_path}/b.safetensors"]
    assert main([*line, "--heads", "4"]) == 0
    assert "2 layers converted" in capsys.readouterr().out
    tensors = load_file(tmp_path / "b.safetensors")
    with safe_open(tmp_path / "b.safetensors", framework="pt") as file:
        layers = json.loads(file.metadata()[LAYERS])
    prefix = "layers.1.self_attn"
    layer = CompositionalAttention.of(from_json(AttentionConfig, layers[prefix]), 16).eval()
    layer.load_state_dict({n.removeprefix(f"{prefix}."): v for n, v in tensors.items() if n.startswith(f"{prefix}.")})
    x = torch.randn(2, 5, 16)
    theirs = stack.layers[1].self_attn(x, x, x, need_weights=False)[0]
    torch.testing.assert_close(layer(x), theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(tensors["layers.0.linear1.weight"], stack.layers[0].linear1.weight)


def test_a_leak_is_what_was_asked_for(tmp_path, capsys):
    """Values that differ by retrieval alone: a search takes 1 − leak of its own and leak of the others' together."""
    model().save_pretrained(tmp_path / "before")
    line = ["compositional_attention", "convert", f"{tmp_path}/before", "--out", f"{tmp_path}/after", "--leak", "0.1"]
    assert main(line) == 0
    # (R - 1) e^-c / (1 + (R - 1) e^-c) = 1/10 at R = 4: c = ln 27.
    assert "sharpness 3.296" in capsys.readouterr().out
    after = CompositionalForCausalLM.from_pretrained(tmp_path / "after").eval()
    layer = next(part for part in after.modules() if isinstance(part, CompositionalAttention))
    chosen = layer(torch.randn(1, 3, 16), need=("competition",))[1]["competition"]
    torch.testing.assert_close(chosen.diagonal(dim1=2, dim2=3), torch.full((1, 3, 4), 0.9), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("nothing --out x", "nothing: must be a model folder or a .safetensors file"),
        (". --out x", ".: holds no model (no config.json)"),
        ("compositional --out x", "attention.kind = 'compositional': must be 'multihead', whose heads have values of"),
        ("llama --out x", "llama: model_type 'llama'; must be 'tutelage_compositional' with multi-head attention"),
        ("a.safetensors --out b.safetensors", "--heads is missing: weights do not say how many heads a layer has"),
        ("a.safetensors --out b.safetensors --heads 5", "a.safetensors: attn: heads = 5: must divide the width 8"),
        ("a.safetensors --out b --heads 2", "--out b: weights go to a file that ends in .safetensors"),
        (
            "none.safetensors --out b.safetensors --heads 2",
            "none.safetensors: holds no weights of nn.MultiheadAttention",
        ),
        ("broken.safetensors --out b.safetensors --heads 2", "broken.safetensors: cannot be read as safetensors"),
        ("a.safetensors --out b.safetensors --heads 2 --leak 0.5", "leak = 0.5: must be below (H - 1) / H, here 0.5"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama/config.json").write_text('{"model_type": "llama"}')
    CompositionalForCausalLM(CompositionalConfig(**SIZES)).save_pretrained("compositional")
    layer = nn.MultiheadAttention(8, 2)
    save_file({f"attn.{name}": value.contiguous() for name, value in layer.state_dict().items()}, "a.safetensors")
    save_file({"weight": torch.zeros(1)}, "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    capsys.readouterr()
    assert main(["compositional_attention", "convert", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tutelage: {line}"), error
    assert not (tmp_path / "x").exists() and not (tmp_path / "b.safetensors").exists()


def test_what_is_no_plain_head_is_refused():
    for settings, words in (
        ({"kind": "grouped_query"}, "multihead"),
        ({"kind": "multihead", "join_input": True}, "joins"),
    ):
        from tutelage.attention.kinds import attention_layer

        with pytest.raises(BadInput, match=words):
            from_baseline(attention_layer(AttentionConfig(**settings, searches=4), 16))
