"""The transformer: a step with a cache is the whole pass, the causal mask holds, attention is its formula."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.lab.errors import BadInput
from tutelage.nn.mlp import mlp
from tutelage.nn.transformer import attend, sinusoidal, transformer

B, T, WIDTH, HEADS = 3, 6, 8, 2


@pytest.fixture(scope="module")
def net():
    return transformer(jax.random.key(0), WIDTH, 2, HEADS)


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(1), (B, T, WIDTH))


@pytest.fixture(scope="module")
def whole(net, x):
    return np.asarray(jax.jit(lambda x: net.causal(x))(x))


def test_steps_with_a_cache_are_the_whole_pass(net, x, whole):
    step, cache, rows = jax.jit(lambda cache, row: net.step(cache, row)), net.cache(B, T), []
    for t in range(T):
        cache, row = step(cache, x[:, t])
        rows.append(row)
    np.testing.assert_allclose(np.stack(rows, axis=1), whole, atol=1e-5)
    assert int(cache.length) == T


def test_a_causal_position_does_not_see_what_follows(net, x, whole):
    changed = np.asarray(jax.jit(lambda x: net.causal(x))(x.at[:, 3, 0].add(1.0)))
    np.testing.assert_array_equal(changed[:, :3], whole[:, :3])
    assert (np.abs(changed[:, 3:] - whole[:, 3:]).max(axis=(0, 2)) > 1e-4).all()


def test_a_bidirectional_position_sees_what_exists_and_nothing_else(net, x):
    exist = jnp.array([True, True, True, True, False, False])[None].repeat(B, axis=0)
    read = jax.jit(lambda x: net.bidirectional(x, exist))
    first, hidden, seen = read(x), read(x.at[:, 5, 0].add(1.0)), read(x.at[:, 3, 0].add(1.0))
    np.testing.assert_array_equal(np.asarray(first)[:, :4], np.asarray(hidden)[:, :4])
    assert float(jnp.abs(first - seen)[:, 0].max()) > 1e-4


def test_without_positions_places_are_interchangeable(net, x):
    read, order = jax.jit(lambda x: net.bidirectional(x)), np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(np.asarray(read(x[:, order])), np.asarray(read(x))[:, order], atol=1e-5)


def test_attention_is_a_softmax_of_scaled_products():
    rng = np.random.default_rng(0)
    query, key, value = rng.normal(size=(3, 1, 4, 2, 5))
    visible = np.tri(4, dtype=bool)
    expected = np.zeros((4, 2, 5))
    for head in range(2):
        for t in range(4):
            weight = np.exp([query[0, t, head] @ key[0, s, head] / np.sqrt(5) for s in range(t + 1)])
            expected[t, head] = (weight / weight.sum()) @ value[0, : t + 1, head]
    found = attend(*(jnp.asarray(part, jnp.float32) for part in (query, key, value)), jnp.asarray(visible))
    np.testing.assert_allclose(np.asarray(found)[0], expected, atol=1e-5)


def test_positions_differ_and_odd_widths_are_allowed():
    table = np.asarray(sinusoidal(jnp.arange(64), 7))
    assert table.shape == (64, 7)
    assert len(np.unique(table.round(4), axis=0)) == 64


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(BadInput, match="width = 10 is no multiple of heads = 4"):
        transformer(jax.random.key(0), 10, 1, 4)


def test_an_mlp_without_hidden_layers_is_an_affine_map():
    net, x = mlp(jax.random.key(0), 3, 5, 0, 2), jnp.ones((4, 3))
    np.testing.assert_allclose(np.asarray(net(x)), np.asarray(x @ net.layers[0].weight + net.layers[0].bias), atol=1e-6)
