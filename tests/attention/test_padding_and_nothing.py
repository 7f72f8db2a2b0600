"""What padding holds reaches nothing else, whatever it is; and no tokens at all are an input like any other."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tutelage.attention.blocks import Encoder
from tutelage.attention.cache import LayerCache
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.kinds import KINDS, attention_layer
from tutelage.nn.compositional_attention import compositional_attention

WIDTH = 8
REAL = torch.tensor([[True, True, True, False, False], [True, False, True, True, True]])
LAYERS = [
    *(
        ("compositional", backend, positions)
        for backend in ("stacked", "expanded", "literal")
        for positions in ("none", "relative")
    ),
    ("compositional", "auto", "rotary"),
    *((kind, "auto", "none") for kind in KINDS if kind != "compositional"),
    ("multihead", "auto", "relative"),
]
every_layer = pytest.mark.parametrize(("kind", "backend", "positions"), LAYERS)


def made(kind, backend, positions) -> Any:
    torch.manual_seed(0)
    return attention_layer(AttentionConfig(kind, 2, 2, backend=backend, positions=positions), WIDTH)


def learnt(layer, x, memory=None, **masks):
    """The output, and the gradients of all parameters for a loss that looks at real tokens alone."""
    layer.zero_grad()
    out = layer(x, memory, **masks)
    seen = out[REAL] if memory is None else out
    seen.square().sum().backward()
    return [out, *(parameter.grad for parameter in layer.parameters() if parameter.grad is not None)]


def spoilt(value):
    return torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1)).masked_fill(~REAL[..., None], value)


def same(found, expected):
    assert all(torch.equal(one, other) and one.isfinite().all() for one, other in zip(found, expected, strict=True))


@every_layer
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_padding_of_any_number_is_padding_of_zeros_bit_for_bit(kind, backend, positions, value):
    layer = made(kind, backend, positions)
    for causal in (False, True):
        masks = {"key_padding_mask": REAL, "is_causal": causal}
        same(learnt(layer, spoilt(value), **masks), learnt(layer, spoilt(0.0), **masks))
        if positions == "none":
            x = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(2))
            same(learnt(layer, x, spoilt(value), **masks), learnt(layer, x, spoilt(0.0), **masks))


def test_finite_padding_keeps_its_own_output():
    layer = made("compositional", "literal", "none")
    x = spoilt(3.0)
    out = layer(x, key_padding_mask=REAL)
    same([out], [layer(x, torch.where(REAL[..., None], x, 7.0), key_padding_mask=REAL)])


def test_padding_in_a_cache_stays_padding():
    layer, x = made("compositional", "auto", "rotary"), spoilt(float("nan"))
    cache = LayerCache()
    with torch.no_grad():
        parts = [layer(x[:, :4], key_padding_mask=REAL[:, :4], is_causal=True, cache=cache)]
        parts.append(layer(x[:, 4:], key_padding_mask=REAL, is_causal=True, cache=cache))
        whole = layer(spoilt(0.0), key_padding_mask=REAL, is_causal=True)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-6)


def test_padding_reaches_no_gradient_of_norms_and_feed_forward_parts():
    torch.manual_seed(0)
    model = Encoder(AttentionConfig("compositional", 2, 2), NetworkConfig(width=WIDTH, iterations=2, dropout=0.0))
    masks = {"key_padding_mask": REAL}
    same(learnt(model, spoilt(float("nan")), **masks), learnt(model, spoilt(0.0), **masks))


def test_the_twin_in_jax_hides_padding_too():
    layer = compositional_attention(jax.random.key(0), WIDTH, 2, 2)
    visible = jnp.asarray(REAL.numpy())[:, None, None]
    x = jax.random.normal(jax.random.key(1), (2, 3, WIDTH))

    def loss(layer, tokens):
        own = jnp.where(REAL.numpy()[..., None], layer(tokens, None, visible), 0)
        return own.sum() + layer(x, tokens, visible).sum(), (own, layer(x, tokens, visible))

    found, expected = (
        jax.grad(loss, argnums=(0, 1), has_aux=True)(layer, jnp.asarray(spoilt(value).numpy()))
        for value in (float("nan"), 0.0)
    )
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.array_equal(one, other) and np.isfinite(one).all()


@every_layer
@pytest.mark.parametrize(
    ("batch", "queries", "keys"), [(2, 0, None), (0, 3, None), (0, 0, None), (2, 3, 0), (2, 0, 3), (2, 0, 0), (0, 3, 2)]
)
def test_no_tokens_are_no_error(kind, backend, positions, batch, queries, keys):
    layer = made(kind, backend, positions)
    x = torch.randn(batch, queries, WIDTH, requires_grad=True)
    memory = None if keys is None else torch.randn(batch, keys, WIDTH)
    real = torch.ones(batch, queries if keys is None else keys, dtype=torch.bool)
    for masks in ({}, {"is_causal": True}, {"key_padding_mask": real}):
        out, found = layer(x, memory, need=("empty",), **masks)
        out.sum().backward()
        assert out.shape == (batch, queries, WIDTH) and torch.equal(out, layer(x, memory, **masks))
        assert found["empty"].shape == (batch, 2, queries)
        if keys == 0:  # nothing may be attended to: zeros before the output projection
            assert found["empty"].all()
            assert torch.equal(out, layer.output.bias.expand_as(out))


@pytest.mark.parametrize(("batch", "queries", "keys"), [(2, 0, None), (0, 3, None), (2, 3, 0), (2, 0, 3)])
def test_no_tokens_are_no_error_in_jax(batch, queries, keys):
    layer = compositional_attention(jax.random.key(0), WIDTH, 2, 2)
    out = layer(
        jnp.ones((batch, queries, WIDTH)), None if keys is None else jnp.ones((batch, keys, WIDTH)), causal=True
    )
    assert out.shape == (batch, queries, WIDTH)
    if keys == 0:
        assert np.array_equal(out, np.broadcast_to(layer.merge.bias, out.shape))
