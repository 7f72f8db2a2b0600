"""Multi-head attention and its relatives are what they are called."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutelage.attention.baselines import layer
from tutelage.attention.config import AttentionConfig
from tutelage.attention.layer import AttentionLayer, attention_layer
from tutelage.lab.errors import BadInput


def made(kind: str, width: int = 16, **settings: Any) -> Any:
    torch.manual_seed(0)
    found = layer(AttentionConfig(kind=kind, **{"searches": 4, **settings}), width).double().eval()
    for parameter in found.parameters():  # biases are not 0 in a trained layer
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.5)
    return found


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_torch(mine: Any, width: int = 16) -> nn.MultiheadAttention:
    """PyTorch's multi-head attention with the weights of ours."""
    theirs = nn.MultiheadAttention(width, mine.heads, batch_first=True, dtype=torch.float64).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in (mine.query, mine.key, mine.value)]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in (mine.query, mine.key, mine.value)]))
        theirs.out_proj.weight.copy_(mine.output.weight)
        theirs.out_proj.bias.copy_(mine.output.bias)
    return theirs


@pytest.mark.parametrize("case", ["self", "cross", "causal", "padding", "boolean", "additive"])
def test_multihead_is_the_one_of_pytorch(case: str) -> None:
    mine, x = made("multihead"), tokens(3, 5, 16)
    memory = tokens(3, 7, 16, seed=2) if case == "cross" else x
    real = torch.ones(3, 5, dtype=torch.bool)
    real[1, 3:] = False
    pattern = torch.rand(5, 5, generator=torch.Generator().manual_seed(3)) > 0.4
    pattern.fill_diagonal_(True)
    added = tokens(5, 5, seed=4)
    ours: dict[str, dict[str, Any]] = {
        "causal": {"is_causal": True},
        "padding": {"key_padding_mask": real},
        "boolean": {"attn_mask": pattern},
        "additive": {"attn_mask": added},
    }
    theirs: dict[str, dict[str, Any]] = {
        "causal": {"attn_mask": ~torch.ones(5, 5, dtype=torch.bool).tril()},
        "padding": {"key_padding_mask": ~real},
        "boolean": {"attn_mask": ~pattern},
        "additive": {"attn_mask": added},
    }
    wanted, weights = of_torch(mine)(x, memory, memory, average_attn_weights=False, **theirs.get(case, {}))
    out, found = mine(x, memory, need=("search",), **ours.get(case, {}))
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(found["search"], weights, rtol=0, atol=1e-12)
    torch.testing.assert_close(mine(x, memory, **ours.get(case, {})), wanted, rtol=0, atol=1e-12)


def test_multihead_has_the_parameters_of_the_publication() -> None:
    found = attention_layer(AttentionConfig(kind="multihead", searches=4), 256)
    assert isinstance(found, AttentionLayer)
    assert sum(parameter.numel() for parameter in found.parameters()) == 263_168


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(BadInput, match=r"kind = 'multihed'.*multihead"):
        layer(AttentionConfig(kind="multihed"), 16)


def test_the_value_size_is_shared_out_among_the_heads() -> None:
    assert made("multihead", d_value=24, d_search=8).value.weight.shape == (24, 16)
    with pytest.raises(BadInput, match=r"d_value = 26: .*searches = 4, such as 24 or 28"):
        layer(AttentionConfig(kind="multihead", d_value=26), 16)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(BadInput, match=r"need = 'serch'.*'search'"):
        made("multihead")(tokens(1, 2, 16), need=("serch",))
