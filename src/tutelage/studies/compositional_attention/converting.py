"""Trained multi-head models as compositional ones: whole folders, or weights of `nn.MultiheadAttention` in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tutelage.attention.baselines.multihead import MultiHead
from tutelage.attention.compositional.layer import CompositionalAttention
from tutelage.attention.conversion import from_baseline, from_heads, leak, packed_heads, sharpness_for
from tutelage.attention.huggingface.config import CompositionalConfig
from tutelage.attention.huggingface.models import CompositionalForCausalLM, CompositionalForConditionalGeneration
from tutelage.lab.configuration import to_json
from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic
from tutelage.studies.compositional_attention.tools import ConvertArguments

LAYERS = "tutelage.layers"
"""Where a written weights file says which layers were converted: JSON, prefix to settings of `AttentionConfig`."""


def convert(arguments: ConvertArguments) -> None:
    """Convert, write, and say by how much the outputs differ.

    Raises:
        BadInput: naming what is no multi-head model or weights, heads that do not divide the width, a leak that cannot
            be, something else at `out`.
    """
    source, out = Path(arguments.folder), Path(arguments.out)
    if source.is_dir():
        differ, count, sharpness = _folder(source, out, arguments)
    elif source.suffix == ".safetensors" and source.is_file():
        differ, count, sharpness = _weights(source, out, arguments)
    else:
        raise BadInput(f"{source}: must be a model folder or a .safetensors file")
    print(f"{count} layers converted at sharpness {sharpness:.4g}; outputs differ by at most {differ:.2g}")
    print(f"written: {out}")


def converted_model(model: Any, sharpness: float = 20.0) -> Any:
    """The same language model with compositional attention; only the attention of its blocks changes.

    Args:
        model: `CompositionalForCausalLM` or `CompositionalForConditionalGeneration` with multi-head attention.
    """
    kind = model.config.attention["kind"]
    if kind != "multihead":
        raise BadInput(f"attention.kind = {kind!r}: must be 'multihead', whose heads have values of their own")
    layers = {name: part for name, part in model.named_modules() if isinstance(part, MultiHead)}
    made = {name: from_baseline(layer, sharpness=sharpness) for name, layer in layers.items()}
    settings = model.config.to_dict() | {"attention": to_json(next(iter(made.values())).config)}
    changed = type(model)(CompositionalConfig(**settings)).to(model.dtype)
    rest = {
        name: value for name, value in model.state_dict().items() if not name.startswith(tuple(f"{n}." for n in made))
    }
    lost = changed.load_state_dict(rest, strict=False)
    assert not lost.unexpected_keys
    for name, layer in made.items():
        changed.get_submodule(name).load_state_dict(layer.state_dict())
    return changed.train(model.training)


def _folder(source: Path, out: Path, arguments: ConvertArguments) -> tuple[float, int, float]:
    from transformers import AutoTokenizer

    from tutelage.lm import folders

    try:
        settings = json.loads((source / "config.json").read_bytes())
    except (OSError, ValueError):
        raise BadInput(f"{source}: holds no model (no config.json)") from None
    if not isinstance(settings, dict) or settings.get("model_type") != CompositionalConfig.model_type:
        kind = settings.get("model_type") if isinstance(settings, dict) else None
        raise BadInput(
            f"{source}: model_type {kind!r}; must be {CompositionalConfig.model_type!r} with multi-head attention "
            "(give the weights of other models as a .safetensors file)"
        )
    seq2seq = bool(settings.get("is_encoder_decoder"))
    kind = CompositionalForConditionalGeneration if seq2seq else CompositionalForCausalLM
    with folders.without_bars():
        model: Any = kind.from_pretrained(source, local_files_only=True, use_safetensors=True).eval()
    sharpness = _sharpness(arguments, model.config.attention["searches"])
    changed = converted_model(model, sharpness)
    ids = torch.randint(model.config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    given = {"input_ids": ids, "decoder_input_ids": ids} if seq2seq else {"input_ids": ids}
    with torch.no_grad():
        differ = float((changed(**given).logits - model(**given).logits).abs().max())
    has_tokenizer = (source / "tokenizer_config.json").is_file()
    folders.save(changed, AutoTokenizer.from_pretrained(source, local_files_only=True) if has_tokenizer else None, out)
    return differ, sum(isinstance(part, CompositionalAttention) for part in changed.modules()), sharpness


def _weights(source: Path, out: Path, arguments: ConvertArguments) -> tuple[float, int, float]:
    if out.suffix != ".safetensors":
        raise BadInput(f"--out {out}: weights go to a file that ends in .safetensors")
    if not arguments.heads:
        raise BadInput("--heads is missing: weights do not say how many heads a layer has")
    try:
        with safe_open(source, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{source}: cannot be read as safetensors: {error}") from None
    prefixes = [name.removesuffix("in_proj_weight") for name in tensors if name.endswith("in_proj_weight")]
    if not prefixes:
        raise BadInput(f"{source}: holds no weights of nn.MultiheadAttention (no …in_proj_weight)")
    sharpness, differ, layers = _sharpness(arguments, arguments.heads), 0.0, {}
    for prefix in prefixes:
        parts = {part: tensors.pop(prefix + part, None) for part in _PARTS}
        try:
            layer, other = _of_parts(parts, arguments.heads, sharpness)
        except BadInput as error:
            raise BadInput(f"{source}: {prefix.rstrip('.') or 'the layer'}: {error}") from None
        differ = max(differ, other)
        layers[prefix.rstrip(".")] = to_json(layer.config)
        tensors |= {prefix + name: value.contiguous() for name, value in layer.state_dict().items()}
    atomic.write_bytes(out, save(tensors, {LAYERS: json.dumps(layers)}))
    return differ, len(layers), sharpness


_PARTS = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")


def _of_parts(parts: dict[str, Tensor | None], heads: int, sharpness: float) -> tuple[CompositionalAttention, float]:
    """The layer, and by how much its outputs differ from the original's on random tokens."""
    weight, bias, out, out_bias = (parts[name] for name in _PARTS)
    if weight is None or out is None:
        raise BadInput("out_proj.weight is missing")
    layer = from_heads(packed_heads(weight, bias, out, out_bias, heads), sharpness=sharpness).eval()
    original = nn.MultiheadAttention(out.shape[0], heads, bias=bias is not None, batch_first=True).to(weight.dtype)
    original.load_state_dict({name: value for name, value in parts.items() if value is not None})
    x = torch.randn(2, 16, out.shape[0], generator=torch.Generator().manual_seed(0)).to(weight.dtype)
    with torch.no_grad():
        return layer, float((layer(x) - original.eval()(x, x, x, need_weights=False)[0]).abs().max())


def _sharpness(arguments: ConvertArguments, heads: int) -> float:
    if not arguments.leak:
        return arguments.sharpness
    if heads < 2 or not arguments.leak < (heads - 1) / heads:
        raise BadInput(f"leak = {arguments.leak:g}: must be below (H - 1) / H, here {1 - 1 / max(heads, 1):g}")
    found = sharpness_for(heads, arguments.leak)
    assert abs(leak(heads, found) - arguments.leak) < 1e-9
    return found
