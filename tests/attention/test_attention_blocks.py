"""Masks, caches, positions and blocks around attention."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tutelage.attention.blocks import Encoder
from tutelage.attention.cache import LayerCache
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.kinds import attention_layer
from tutelage.attention.masks import Masks
from tutelage.attention.positions import RelativeBias, legacy_sinusoidal, sinusoidal, toeplitz
from tutelage.lab.errors import BadInput

SHAPE = (2, 4, 5, 5)
ATTENTION = AttentionConfig(searches=2, retrievals=2, d_select=4, dropout=0.2)
NETWORK = NetworkConfig(width=8, iterations=3, dropout=0.1)


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"attn_mask": torch.ones(5, 5, dtype=torch.uint8)},
            "attn_mask is uint8 .*bool, True = may attend, or",
        ),
        (
            {"attn_mask": torch.ones(5, 4, dtype=torch.bool)},
            r"broadcast to \(B, S, N, M\) = \(2, 4, 5, 5\); True",
        ),
        ({"attn_mask": torch.ones(1, 1, 1, 5, 5)}, "must broadcast to"),
        ({"attn_mask": torch.ones(5, 5).triu(1).bool()}, "exactly the future: True = may attend; did you mean ~attn"),
        ({"key_padding_mask": torch.ones(5, dtype=torch.bool)}, r"bool of shape \(B, M\) = \(2, 5\), True = a real"),
        ({"key_padding_mask": torch.ones(2, 5)}, "key_padding_mask is float32"),
        ({"key_padding_mask": torch.zeros(2, 5, dtype=torch.bool)}, "no True at all.*did you mean ~key_padding_mask"),
    ],
)
def test_a_mask_of_the_wrong_type_shape_or_polarity_is_refused(given: dict, message: str):
    with pytest.raises(BadInput, match=message):
        Masks.of(given.get("attn_mask"), given.get("key_padding_mask"), SHAPE)


def test_sines_are_the_published_ones_and_the_legacy_ones_have_their_exponent_twice():
    table, legacy = sinusoidal(7, 6), legacy_sinusoidal(7, 6)
    for position in range(7):
        for pair in (0, 2, 4):
            angle = position / 10000 ** (pair / 6)
            assert table[position, pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)
            scale = 1 / (1 + math.exp(-1))
            angles = [position / 10000 ** (2 * (pair + odd) / 6) for odd in (0, 1)]
            assert legacy[position, pair].item() == pytest.approx(scale * math.sin(angles[0]), abs=1e-6)
            assert legacy[position, pair + 1].item() == pytest.approx(scale * math.cos(angles[1]), abs=1e-6)


def test_relative_buckets_are_one_for_each_near_distance_then_logarithmic_and_tell_sides_apart():
    bias = RelativeBias(1)
    offsets = torch.arange(-200, 201)
    bucket = bias.bucket(offsets)
    assert bucket[200:208].tolist() == [0, *range(17, 24)] and bucket[193:201].tolist() == [*range(7, -1, -1)]
    before = bucket[:201].flip(0)
    assert (before.diff() >= 0).all() and before[8:16].unique().tolist() == [8, 9]
    assert before[128:].unique().tolist() == [15] and bucket[-1] == 31
    bias.weight.data = torch.arange(32.0)[None]
    wanted = [[float(bias.bucket(torch.tensor(m - n - 2))) for m in range(5)] for n in range(3)]
    assert toeplitz(bias(3, 5), 3, 5)[0].tolist() == wanted


def test_a_cache_keeps_what_it_was_given_grows_selects_rows_and_forgets():
    cache, k, v = LayerCache(), tokens(2, 3, 9, 2), tokens(2, 4, 9, 5, seed=1)
    assert cache.k is None and not cache.filled
    for start, end in ((0, 2), (2, 3), (3, 7), (7, 9)):
        all_k, all_v = cache.append(k[:, :, start:end], v[:, :, start:end])
        assert torch.equal(all_k, k[:, :, :end]) and torch.equal(all_v, v[:, :, :end])
    cache.memory.append(k, v)
    cache.select(torch.tensor([1, 1, 0]))
    assert torch.equal(cache.k, k[[1, 1, 0]]) and torch.equal(cache.memory.v, v[[1, 1, 0]]) and cache.memory.filled
    cache.crop(4)
    assert torch.equal(cache.v, v[[1, 1, 0], :, :4])
    cache.append(k[[1, 1, 0], :, 4:5], v[[1, 1, 0], :, 4:5])
    assert torch.equal(cache.k, k[[1, 1, 0], :, :5])


def test_a_cache_lets_gradients_through():
    cache, k = LayerCache(), tokens(1, 1, 3, 2).requires_grad_()
    for at in range(3):
        total, _ = cache.append(k[:, :, at : at + 1], k[:, :, at : at + 1])
    total.sum().backward()
    assert torch.equal(k.grad, torch.ones_like(k))


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_decoding_token_by_token_gives_what_the_whole_network_gives(cross: bool, shared: bool):
    torch.manual_seed(0)
    network = NetworkConfig(width=8, iterations=3, shared=shared)
    encoder = Encoder(ATTENTION, network, cross=cross).eval()
    x, memory = tokens(2, 6, 8), tokens(2, 4, 8, seed=1) if cross else None
    real = torch.tensor([[True, True, True, False], [True] * 4]) if cross else None
    wanted = encoder(x, memory, memory_padding_mask=real, is_causal=True)
    caches = encoder.caches()
    with torch.no_grad():
        steps = [
            encoder(x[:, n : n + 1], memory, memory_padding_mask=real, is_causal=True, caches=caches) for n in range(6)
        ]
    torch.testing.assert_close(torch.cat(steps, 1), wanted, rtol=1e-5, atol=1e-5)


def test_shared_iterations_are_one_block_and_stacked_ones_are_another_model():
    def count(shared: bool) -> int:
        return sum(p.numel() for p in Encoder(ATTENTION, NetworkConfig(width=8, shared=shared)).parameters())

    norm = 16
    assert count(False) - norm == 4 * (count(True) - norm)
    encoder = Encoder(ATTENTION, NetworkConfig(width=8, iterations=2, dropout=0.0)).eval()
    x = tokens(1, 5, 8)
    block = encoder.blocks[0]
    torch.testing.assert_close(encoder(x), encoder.norm(block(block(x))))


def test_a_block_is_pre_norm_attention_and_a_relu_network_of_twice_the_width():
    encoder = Encoder(ATTENTION, NetworkConfig(width=8, iterations=1)).eval()
    block, x = encoder.blocks[0], tokens(1, 5, 8)
    after = x + block.attention(block.attention_norm(x))
    hidden = nn.functional.relu(block.into(block.feedforward_norm(after)))
    assert hidden.shape[-1] == 16
    torch.testing.assert_close(block(x), after + block.out_of(hidden))


def test_activations_come_for_each_iteration_and_dropout_follows_from_the_generator():
    encoder, x, memory = Encoder(ATTENTION, NETWORK, cross=True), tokens(2, 5, 8), tokens(2, 3, 8, seed=1)
    _, record = encoder.eval()(x, memory, need=("search", "competition"))
    assert len(record) == 3
    assert {name: tuple(value.shape) for name, value in record[0].items()} == {
        "search": (2, 2, 5, 5),
        "competition": (2, 5, 2, 2),
        "cross_search": (2, 2, 5, 3),
        "cross_competition": (2, 5, 2, 2),
    }
    encoder.train()
    one, same, other = (encoder(x, memory, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_network_called_wrongly_says_so():
    x = tokens(1, 5, 8)
    with pytest.raises(BadInput, match="memory is missing"):
        Encoder(ATTENTION, NETWORK, cross=True)(x)
    with pytest.raises(BadInput, match="only blocks made with cross = True"):
        Encoder(ATTENTION, NETWORK)(x, x)
    with pytest.raises(BadInput, match="caches are 1: must be one for each of the 3"):
        Encoder(ATTENTION, NETWORK)(x, caches=[LayerCache()])


@pytest.mark.parametrize("kind", ["compositional", "multihead", "switch_head"])
def test_initialisation_of_pytorch_is_uniform_by_the_size_of_the_input(kind: str):
    layer = attention_layer(AttentionConfig(kind, searches=4, retrievals=2, initialisation="pytorch"), 256)
    for name, parameter in layer.named_parameters():
        owner = layer.get_parameter(name.replace("bias", "weight"))
        bound = owner.shape[-1] ** -0.5
        assert parameter.abs().max() <= bound
        if parameter.numel() > 500:
            assert parameter.abs().max() > 0.95 * bound
            assert abs(parameter.std() / (bound / 3**0.5) - 1) < 0.1
