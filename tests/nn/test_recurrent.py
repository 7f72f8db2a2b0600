"""LSTM and GRU: against the textbook equations in NumPy, step against unroll, and the hand-written backward pass
against plain differentiation of a loop over `step`."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.nn.gru import gru
from tutelage.nn.lstm import lstm

T, N, F, H = 7, 3, 5, 4
MAKERS = {"lstm": lstm, "gru": gru}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(net, carry, x, first):
    cell, hidden = (np.where(first[:, None], 0, leaf) for leaf in carry)
    i, f, g, o = np.split(x @ net.input_weight + hidden @ net.recurrent_weight + net.bias, 4, axis=-1)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    hidden = sigmoid(o) * np.tanh(cell)
    return (cell, hidden), hidden


def numpy_gru(net, carry, x, first):
    hidden = np.where(first[:, None], 0, carry)
    from_x, from_h = x @ net.input_weight + net.bias, hidden @ net.recurrent_weight
    r, u = sigmoid(from_x[:, :H] + from_h[:, :H]), sigmoid(from_x[:, H : 2 * H] + from_h[:, H : 2 * H])
    n = np.tanh(from_x[:, 2 * H :] + r * (from_h[:, 2 * H :] + net.candidate_bias))
    hidden = (1 - u) * n + u * hidden
    return hidden, hidden


NUMPY = {"lstm": numpy_lstm, "gru": numpy_gru}


def problem(kind, dtype):
    """A network with no zero parameter, a non-zero carry, inputs, and restarts at the start, inside and at the end."""
    net = MAKERS[kind](jax.random.key(0), F, H)
    leaves, tree = jax.tree.flatten(net)
    rng = np.random.default_rng(1)
    net = jax.tree.unflatten(tree, [jnp.asarray(rng.normal(size=leaf.shape) * 0.5, dtype) for leaf in leaves])
    carry = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), dtype), net.initial_carry(N))
    x = jnp.asarray(rng.normal(size=(T, N, F)), dtype)
    first = np.zeros((T, N), bool)
    first[0, 0] = first[3, 1] = first[4, 1] = first[T - 1, 2] = True
    return net, carry, x, jnp.asarray(first)


def loop(net, carry, x, first):
    """The obvious unroll, for JAX to differentiate."""
    ys = []
    for t in range(x.shape[0]):
        carry, y = net.step(carry, x[t], first[t])
        ys.append(y)
    return carry, jnp.stack(ys)


@pytest.mark.parametrize("kind", MAKERS)
def test_step_is_the_textbook_cell(kind):
    net, carry, x, first = problem(kind, jnp.float32)
    reference = jax.tree.map(np.asarray, net)
    expected = jax.tree.map(np.asarray, carry)
    step = jax.jit(lambda *args: net.step(*args))
    for t in range(T):
        carry, y = step(carry, x[t], first[t])
        expected, expected_y = NUMPY[kind](reference, expected, np.asarray(x[t]), np.asarray(first[t]))
        np.testing.assert_allclose(y, expected_y, atol=1e-6)
        for got, want in zip(jax.tree.leaves(carry), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 5e-6), ("float64", 1e-13)])
def test_unroll_and_its_gradients_equal_the_loop(kind, dtype, atol):
    with jax.enable_x64(dtype == "float64"):
        net, carry, x, first = problem(kind, dtype)
        weight = jnp.asarray(np.random.default_rng(2).normal(size=(T, N, H)), dtype)

        def objective(unroll, net, carry, x):
            final, y = unroll(net, carry, x, first)
            # Uses outputs and the final carry, so that both cotangents are exercised.
            return jnp.sum(weight * y) + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(final))

        def both(unroll):
            return jax.jit(jax.value_and_grad(lambda *args: objective(unroll, *args), argnums=(0, 1, 2)))(net, carry, x)

        got = both(lambda net, *args: net.unroll(*args))
        want = both(loop)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, atol=atol, rtol=atol)


@pytest.mark.parametrize("kind", MAKERS)
def test_gradients_of_a_population_are_those_of_its_members(kind):
    net, carry, x, first = problem(kind, jnp.float32)
    nets = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf]), net)
    grad = jax.grad(lambda net: jnp.sum(jnp.square(net.unroll(carry, x, first)[1])))
    together = jax.jit(jax.vmap(grad))(nets)
    grad = jax.jit(grad)
    for member in range(2):
        alone = grad(jax.tree.map(operator.itemgetter(member), nets))
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[member], b, atol=1e-5)


@pytest.mark.parametrize("kind", MAKERS)
def test_weights_are_orthogonal_gate_by_gate(kind):
    net = MAKERS[kind](jax.random.key(3), 6, 8)
    for weight in (net.input_weight, net.recurrent_weight):
        for gate in np.split(np.asarray(weight), weight.shape[1] // 8, axis=1):
            np.testing.assert_allclose(gate @ gate.T, np.eye(gate.shape[0]), atol=1e-5)
