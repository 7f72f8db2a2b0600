from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.envs.config import MazeConfig
from tutelage.envs.maze import EditorObs, MazeObs, channels
from tutelage.nn.config import NetworkConfig
from tutelage.nn.encoders import editor_encoder, grid_convolution, maze_encoder, vector_encoder

TABLE = channels(MazeConfig())


def reference_convolution(grid, convolution, table):
    """Look the channels up, then lax's convolution."""
    image = jnp.asarray(table)[grid]
    kernel = convolution.kernel.reshape(3, 3, table.shape[1], -1)
    y = jax.lax.conv_general_dilated(image, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(y + convolution.bias).reshape(grid.shape[0], -1)


@pytest.mark.parametrize(("side", "codes"), [(5, 3), (5, 7), (7, 3), (15, 7)])
def test_convolution_and_its_gradient_equal_lax(side, codes):
    """Small views go through a Toeplitz product, a 15×15 map through a convolution; both are the same function."""
    table = TABLE[:codes]
    convolution = grid_convolution(jax.random.key(0), side, side, 4, table)
    rng = np.random.default_rng(1)
    convolution = jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), convolution)
    grid = jnp.asarray(rng.integers(0, codes, size=(6, side, side)), jnp.uint8)
    weight = jnp.asarray(rng.normal(size=(6, convolution.size)), jnp.float32)

    def value_and_grad(function):
        return jax.jit(jax.value_and_grad(lambda net: jnp.sum(weight * function(net))))(convolution)

    got = value_and_grad(lambda net: net(grid))
    want = value_and_grad(lambda net: reference_convolution(grid, net, table))
    np.testing.assert_allclose(convolution(grid), reference_convolution(grid, convolution, table), atol=1e-5)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_maze_encoder_puts_view_and_direction_side_by_side():
    encoder = maze_encoder(jax.random.key(0), NetworkConfig(), 5, TABLE[:3])
    rng = np.random.default_rng(2)
    obs = MazeObs(
        jnp.asarray(rng.integers(0, 3, size=(4, 2, 5, 5)), jnp.uint8), jnp.asarray(rng.integers(0, 4, size=(4, 2)))
    )
    features = encoder(obs)
    assert features.shape == (4, 2, encoder.size) == (4, 2, 3 * 3 * 16 + 5)
    np.testing.assert_allclose(features[1, 1], encoder(jax.tree.map(lambda leaf: leaf[1, 1], obs)), atol=1e-6)
    np.testing.assert_array_equal(features[..., -5:], np.asarray(encoder.direction)[np.asarray(obs.direction)])
    np.testing.assert_allclose(encoder.direction @ encoder.direction.T, np.eye(4), atol=1e-6)


def test_editor_encoder_puts_map_time_and_noise_side_by_side():
    encoder = editor_encoder(
        jax.random.key(0), height=9, width=8, num_filters=2, num_steps=6, noise=3, table=TABLE, time_embedding=4
    )
    rng = np.random.default_rng(3)
    obs = EditorObs(
        jnp.asarray(rng.integers(0, 7, size=(5, 9, 8)), jnp.uint8),
        jnp.asarray([0, 1, 3, 5, 6]),
        jnp.asarray(rng.uniform(size=(5, 3)), jnp.float32),
    )
    features = encoder(obs)
    assert features.shape == (5, encoder.size) == (5, 7 * 6 * 2 + 4 + 3)
    np.testing.assert_array_equal(features[:, -3:], obs.noise)
    np.testing.assert_allclose(features[:, -7:-3], np.asarray(encoder.time)[np.asarray(obs.time)], atol=1e-7)


def test_vector_encoder_flattens_every_leaf_and_is_a_multilayer_perceptron():
    class Obs(NamedTuple):
        position: jax.Array
        flag: jax.Array

    example = Obs(jax.ShapeDtypeStruct((2, 3), jnp.float32), jax.ShapeDtypeStruct((), jnp.bool_))
    encoder = vector_encoder(jax.random.key(0), NetworkConfig(activation="relu"), example, widths=(8, 5))
    rng = np.random.default_rng(4)
    obs = Obs(jnp.asarray(rng.normal(size=(4, 2, 3)), jnp.float32), jnp.asarray([True, False, True, True]))
    x = np.concatenate([np.asarray(obs.position).reshape(4, 6), np.asarray(obs.flag)[:, None]], axis=1)
    for layer in encoder.layers:
        x = np.maximum(x @ np.asarray(layer.weight) + np.asarray(layer.bias), 0)
    assert encoder.size == 5
    np.testing.assert_allclose(encoder(obs), x, atol=1e-5)
