import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.lab.errors import BadInput
from tutelage.nn.s5 import _associative, _sequential, diagonal_recurrence, hippo_eigenvalues, s5

T, N, P = 9, 3, 4


def restarts():
    first = np.zeros((T, N), bool)
    first[0, 0] = first[4, 1] = first[5, 1] = first[T - 1, 2] = True
    return first


def loop_recurrence(decay, drive, first):
    state, states = jnp.zeros_like(drive[0]), []
    for t in range(drive.shape[0]):
        state = jnp.where(first[t][:, None], 0.0, decay * state) + drive[t]
        states.append(state)
    return jnp.stack(states)


def complex_normal(rng, shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def test_recurrence_and_its_gradient_equal_the_explicit_loop():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        decay = jnp.asarray(0.7 * np.exp(1j * rng.normal(size=P)))
        drive, weight = jnp.asarray(complex_normal(rng, (2, T, N, P)))
        first = jnp.asarray(restarts())

        def both(recurrence):
            def objective(decay, drive):
                states = recurrence(decay, drive, first)
                return jnp.sum(jnp.abs(states) ** 2) + jnp.sum((weight * states).real), states

            return jax.jit(jax.value_and_grad(objective, argnums=(0, 1), has_aux=True))(decay, drive)

        got, want = both(diagonal_recurrence), both(loop_recurrence)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_parallel_scan_equals_the_sequential_one(reverse):
    """A CPU runs the sequential scan, everything else the parallel one; they are the same function."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        decay, drive = (jnp.asarray(part) for part in complex_normal(rng, (2, T, N, P)))
        parallel, sequential = (
            jax.jit(lambda a, b, scan=scan: scan(a, b, reverse=reverse))(decay, drive)
            for scan in (_associative, _sequential)
        )
        np.testing.assert_allclose(parallel, sequential, rtol=1e-12)


def test_recurrence_without_restarts_has_the_closed_form():
    decay = jnp.asarray([0.5 + 0.2j], jnp.complex64)
    drive = jnp.ones((T, 1, 1), jnp.complex64)
    states = jax.jit(diagonal_recurrence)(decay, drive, jnp.zeros((T, 1), bool))
    powers = (1 - (0.5 + 0.2j) ** np.arange(1, T + 1)) / (1 - (0.5 + 0.2j))
    np.testing.assert_allclose(states[:, 0, 0], powers, atol=1e-6)


def test_step_equals_unroll_from_any_carry():
    net = s5(jax.random.key(0), 5, 8, num_layers=2, num_blocks=2)
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(T, N, 5)), jnp.float32)
    first = jnp.asarray(restarts())
    carry = tuple(jnp.asarray(complex_normal(rng, leaf.shape), leaf.dtype) for leaf in net.initial_carry(N))
    final, ys = jax.jit(lambda *args: net.unroll(*args))(carry, x, first)
    step = jax.jit(lambda *args: net.step(*args))
    for t in range(T):
        carry, y = step(carry, x[t], first[t])
        np.testing.assert_allclose(ys[t], y, atol=2e-5)
    for a, b in zip(final, carry, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_discretised_layer_equals_the_exact_solution_of_its_differential_equation():
    """ẋ = Λ x + B u with constant u over Δ: x(Δ) = e^{ΛΔ} x(0) + Λ⁻¹ (e^{ΛΔ} − 1) B u, in plain NumPy."""
    layer = s5(jax.random.key(2), 3, 8, num_layers=1, num_blocks=1).layers[0]
    eigenvalue = np.asarray(layer.eigenvalue[0] + 1j * layer.eigenvalue[1])
    step = np.exp(np.asarray(layer.log_step))
    decay, factor = layer.discretise()
    np.testing.assert_allclose(decay, np.exp(eigenvalue * step), rtol=1e-5)
    np.testing.assert_allclose(factor, (np.exp(eigenvalue * step) - 1) / eigenvalue, rtol=1e-4)
    assert ((step > 1e-3) & (step < 1e-1)).all()


def test_hippo_eigenvectors_diagonalise_the_normal_part():
    """The kept half and its conjugates rebuild A + ½ p pᵀ, A being LegS entry by entry."""
    size = 8
    legs = np.zeros((size, size))
    for n in range(size):
        for k in range(n + 1):
            legs[n, k] = -(n + 1) if n == k else -np.sqrt((2 * n + 1) * (2 * k + 1))
    p = np.sqrt(np.arange(size) + 0.5)
    values, vectors = hippo_eigenvalues(size)
    half = vectors @ np.diag(values) @ vectors.conj().T
    np.testing.assert_allclose((half + half.conj()).real, legs + np.outer(p, p), atol=1e-10)
    np.testing.assert_allclose(values.real, -0.5)


def test_blocks_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="hidden=10"):
        s5(jax.random.key(0), 3, 10, num_layers=1, num_blocks=2)
