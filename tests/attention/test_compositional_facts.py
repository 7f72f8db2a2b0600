"""Compositional attention: the facts F1 to F6 of its page, its sizes, and what it does with bad input, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from literal_attention import literal, shaken
from torch import nn

from tutelage.attention.compositional.layer import CompositionalAttention
from tutelage.attention.config import AttentionConfig
from tutelage.attention.conversion import from_multihead, leak, sharpness_for
from tutelage.attention.kinds import attention_layer
from tutelage.attention.layer import AttentionLayer
from tutelage.lab.errors import BadInput

EXACT = {"rtol": 0, "atol": 1e-10}
DOUBLE = torch.float64


def made(searches: int = 3, retrievals: int = 4, width: int = 12, **options) -> CompositionalAttention:
    options = {"d_value": 5 * retrievals, "d_select": 6} | options
    return shaken(CompositionalAttention(width, searches, retrievals, **options).to(DOUBLE))


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


X = tokens(2, 7, 12)


@pytest.mark.parametrize(("retrievals", "number"), [(1, 248_800), (2, 265_248), (4, 298_144)])
def test_a_layer_has_as_many_parameters_as_the_published_one(retrievals: int, number: int):
    layer = CompositionalAttention(256, 4, retrievals, d_value=64 * retrievals, d_select=32)
    assert sum(p.numel() for p in layer.parameters()) == number
    assert sum(p.numel() for p in nn.MultiheadAttention(256, 4).parameters()) == 263_168


def test_a_value_head_is_as_large_as_a_multihead_layers_unless_told_otherwise():
    layer = attention_layer(AttentionConfig(searches=4, retrievals=3), 32)
    assert isinstance(layer, AttentionLayer) and (layer.d, layer.d_v) == (8, 8)


def test_f1_a_bias_of_the_shared_value_key_has_no_effect_and_an_exactly_zero_gradient():
    layer = made()
    before = layer(X)
    before.square().sum().backward()
    assert not layer.competition.bias.grad.any()
    layer.competition.bias.data += 3.0
    assert torch.equal(layer(X), before)
    torch.testing.assert_close(layer(X), literal(layer, X)[0], **EXACT)


@pytest.mark.filterwarnings("ignore:competition 'linear'")
def test_f2_the_linear_competition_does_not_depend_on_the_value_query():
    layer = made(competition="linear")
    before = layer(X)
    torch.testing.assert_close(before, literal(layer, X)[0], **EXACT)
    before.square().sum().backward()
    assert not layer.value_query.weight.grad.any() and not layer.value_query.bias.grad.any()
    assert layer.competition.weight.grad[0, 6:].any()
    layer.value_query.weight.data.normal_()
    assert torch.equal(layer(X), before)


def test_f2_is_said_when_the_layer_is_made():
    with pytest.warns(UserWarning, match="content-only"):
        made(competition="linear")


def test_f3_one_retrieval_is_multihead_attention_whose_heads_share_their_values():
    layer = made(retrievals=1, d_value=4)
    mha = nn.MultiheadAttention(12, 3, batch_first=True).to(DOUBLE)
    shared = layer.value
    with torch.no_grad():
        mha.in_proj_weight.copy_(torch.cat((layer.query.weight, layer.key.weight, shared.weight.repeat(3, 1))))
        mha.in_proj_bias.copy_(torch.cat((layer.query.bias, layer.key.bias, shared.bias.repeat(3))))
        mha.out_proj.load_state_dict(layer.output.state_dict())
    torch.testing.assert_close(layer(X), mha(X, X, X)[0], **EXACT)


@pytest.mark.parametrize("sharpness", [2.0, 20.0])
def test_f4_multihead_attention_is_contained_up_to_the_closed_form_leak(sharpness: float):
    mha = shaken(nn.MultiheadAttention(12, 3, batch_first=True).to(DOUBLE))
    layer = from_multihead(mha, sharpness=sharpness)
    out, found = layer(X, need=("competition",))
    own = torch.diagonal(found["competition"], dim1=-2, dim2=-1)
    torch.testing.assert_close(1 - own, torch.full_like(own, leak(3, sharpness)), **EXACT)
    if sharpness == 20.0:
        assert leak(3, 20.0) == pytest.approx(4.12e-9, rel=1e-3)
        torch.testing.assert_close(out, mha(X, X, X)[0], rtol=0, atol=1e-6)
    # Without the leak nothing else differs: exactly the heads' mixture that C says.
    shares = torch.full((3, 3), leak(3, sharpness) / 2, dtype=DOUBLE).fill_diagonal_(1 - leak(3, sharpness))
    weight = mha.in_proj_weight.data[24:].unflatten(0, (3, 4))
    bias = mha.in_proj_bias.data[24:].unflatten(0, (3, 4))
    mha.in_proj_weight.data[24:] = torch.einsum("ij,jhd->ihd", shares, weight).flatten(0, 1)
    mha.in_proj_bias.data[24:] = torch.einsum("ij,jh->ih", shares, bias).flatten()
    torch.testing.assert_close(out, mha(X, X, X)[0], **EXACT)


def test_f4_holds_with_more_retrievals_than_heads_without_biases_and_from_a_wanted_leak():
    mha = nn.MultiheadAttention(12, 3, bias=False, batch_first=True).to(DOUBLE)
    layer = from_multihead(mha, retrievals=5, sharpness=sharpness_for(5, 1e-9))
    assert leak(5, sharpness_for(5, 0.01)) == pytest.approx(0.01, rel=1e-12)
    torch.testing.assert_close(layer(X), mha(X, X, X)[0], rtol=0, atol=1e-7)


def test_f5_retrievals_and_searches_may_be_renamed_and_tokens_reordered():
    layer = made()
    before = layer(X)
    order = torch.tensor([5, 0, 3, 6, 1, 2, 4])
    torch.testing.assert_close(layer(X[:, order]), before[:, order], **EXACT)
    other = made()
    rename = torch.tensor([2, 0, 3, 1])
    for part in ("weight", "bias"):
        blocks = getattr(layer.value, part).data.unflatten(0, (4, 5))
        getattr(other.value, part).data.copy_(blocks[rename].flatten(0, 1))
    torch.testing.assert_close(other(X), before, **EXACT)
    rename = torch.tensor([1, 2, 0])
    for name in ("query", "key", "value_query"):
        for part in ("weight", "bias"):
            blocks = getattr(getattr(layer, name), part).data.unflatten(0, (3, -1))
            getattr(getattr(other, name), part).data.copy_(blocks[rename].flatten(0, 1))
    blocks = layer.output.weight.data.unflatten(1, (3, 5))
    other.output.weight.data.copy_(blocks[:, rename].flatten(1))
    torch.testing.assert_close(other(X), before, **EXACT)


def test_f6_without_value_queries_all_retrievals_are_taken_alike():
    layer = made(d_value=16)
    layer.value_query.weight.data.zero_()
    layer.value_query.bias.data.zero_()
    mean = made(retrievals=1, d_value=4)
    for name in ("query", "key", "output"):
        getattr(mean, name).load_state_dict(getattr(layer, name).state_dict())
    mean.value.weight.data = layer.value.weight.data.unflatten(0, (4, 4)).mean(0)
    mean.value.bias.data = layer.value.bias.data.unflatten(0, (4, 4)).mean(0)
    out, found = layer(X, need=("competition",))
    torch.testing.assert_close(found["competition"], torch.full_like(found["competition"], 0.25), **EXACT)
    torch.testing.assert_close(out, mean(X), **EXACT)


def test_top_k_lets_so_many_win_temperature_sharpens_and_static_keys_look_at_no_content():
    layer = made(top_k=2)
    _, found = layer(X, need=("competition",))
    assert ((found["competition"] > 0).sum(-1) == 2).all()
    cold = made(temperature=1e-3)(X, need=("competition",))[1]["competition"]
    torch.testing.assert_close(cold.amax(-1), torch.ones(2, 7, 3, dtype=DOUBLE), rtol=0, atol=1e-2)
    static = made(competition="static")
    first, second = (static(X, tokens(2, 5, 12, seed=s), need=("competition",))[1]["competition"] for s in (1, 2))
    assert torch.equal(first, second)


def test_gumbel_noise_is_in_training_only_and_follows_from_the_generator():
    layer, plain = made(gumbel=True), made()
    draws = [layer(X, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert torch.equal(layer.eval()(X), plain(X)) and torch.equal(layer(X), layer(X))


def test_it_starts_near_uniform_in_its_competition_with_zero_biases():
    torch.manual_seed(0)
    layer = CompositionalAttention(64, 4, 4)
    assert not any(p.any() for name, p in layer.named_parameters() if name.endswith("bias"))
    bound = math.sqrt(6 / (16 + 32)) / math.sqrt(2)
    assert 0.9 * bound < layer.competition.weight.abs().max() <= bound
    c = layer(torch.randn(4, 16, 64), need=("competition",))[1]["competition"]
    assert (c - 0.25).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"searches": 5}, "width = 12: must be a multiple of searches = 5, such as 10 or 15"),
        ({"d_value": 10}, "d_value = 10: must be a multiple of retrievals = 4, such as 8 or 12"),
        ({"d_search": 2}, "d_search = 2: must be a multiple of searches = 3, such as 3"),
        ({"retrievals": 0}, "retrievals = 0: must be at least 1"),
        ({"d_select": None}, "d_select = None: competition 'dot' needs e"),
        ({"competition": "dots"}, "competition = 'dots': must be one of dot, linear, mlp, static; did you mean 'dot'?"),
        ({"top_k": 5}, "top_k = 5: must be at most retrievals = 4"),
        ({"temperature": 0.0}, "temperature = 0: must be above 0"),
        ({"dropout": 1.0}, r"dropout = 1: must be in \[0, 1\)"),
        ({"backend": "flash"}, "backend = 'flash': must be one of auto, stacked, expanded, literal"),
        ({"per_retrieval_key": True, "competition": "mlp"}, "only 'dot' has value keys"),
        ({"positions": "rotary", "d_search": 9}, "d must be even, such as 4"),
    ],
)
def test_a_layer_that_cannot_be_is_refused_in_one_line(options: dict, message: str):
    with pytest.raises(BadInput, match=message) as refusal:
        made(**options)
    assert "\n" not in str(refusal.value)


def test_weights_of_multihead_attention_are_refused_with_the_way_to_convert_them():
    layer, mha = made(), nn.MultiheadAttention(12, 3)
    with pytest.raises(BadInput, match=r"searches = 3 and retrievals = 4: tutelage\.attention\.conversion"):
        layer.load_state_dict(mha.state_dict())
    with pytest.raises(BadInput, match="retrievals = 2: must be at least the 3 heads"):
        from_multihead(mha, retrievals=2)
    with pytest.raises(BadInput, match="kdim = 4"):
        from_multihead(nn.MultiheadAttention(12, 3, kdim=4))
    with pytest.raises(BadInput, match="add_bias_kv"):
        from_multihead(nn.MultiheadAttention(12, 3, add_bias_kv=True))


def test_a_call_that_cannot_be_is_refused():
    layer = made()
    with pytest.raises(BadInput, match=r"x has shape \(2, 7\): must be \(B, N, D\) with D = 12"):
        layer(X[..., 0])
    with pytest.raises(BadInput, match="memory has 1 rows"):
        layer(X, X[:1])
    with pytest.raises(BadInput, match=r"need has 'serch': .*did you mean 'search'"):
        layer(X, need=("serch",))
    with pytest.raises(BadInput, match="exclude_self"):
        made(exclude_self=True)(X, X)
