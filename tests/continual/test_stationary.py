import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_chains import alternating, long_run_average, random_chain, random_mdp, random_unichain, two_rooms, two_state

from tutelage.continual.differentiable import (
    differentiable_bias,
    differentiable_gain,
    differentiable_stationary,
    softmax_gain,
)
from tutelage.continual.stationary import absorption, fundamental, gain, gain_bias, stationary
from tutelage.continual.structure import structure
from tutelage.continual.tabular import Chain, induced, precise
from tutelage.lab.errors import BadInput


def test_two_states_by_hand():
    chain = two_state(0.1, 0.2)
    assert_allclose(stationary(chain), [2 / 3, 1 / 3], rtol=1e-15)
    rho, bias = gain_bias(chain)
    # h(1) − h(0) = 1/(p + q): what a start in 1 is ahead, halving at rate 1 − p − q.
    assert_allclose([rho, bias[1] - bias[0]], [1 / 3, 1 / 0.3], rtol=1e-14)


def test_laws_gains_and_biases_are_those_of_long_runs():
    rng = np.random.default_rng(1)
    for _ in range(50):
        chain = random_unichain(rng, 7)
        P, r = chain
        mu, (rho, bias) = stationary(chain), gain_bias(chain)
        assert_allclose(mu, long_run_average(P)[0], atol=2e-3)
        assert_allclose(mu @ P, mu, atol=1e-14)
        assert (mu[structure(P).transient] == 0).all()
        assert_allclose([rho, gain(chain)], mu @ r, atol=1e-12)
        assert_allclose(rho + bias, r + P @ bias, atol=1e-10)  # Poisson's equation,
        assert_allclose(mu @ bias, 0, atol=1e-10)  # and the one of its solutions.
        Z = fundamental(chain)
        assert_allclose(Z @ r - rho, bias, atol=1e-9)
        assert_allclose(Z @ (np.eye(7) - P + mu), np.eye(7), atol=1e-9)


def test_a_batch_of_policies_is_solved_side_by_side():
    rng = np.random.default_rng(2)
    mdp = random_mdp(rng, 6, 3)
    policies = rng.dirichlet(np.ones(3), size=(2, 4, 6))
    chains = induced(mdp, policies)
    mu, (rho, bias), Z = stationary(chains), gain_bias(chains), fundamental(chains)
    assert mu.shape == bias.shape == (2, 4, 6) and rho.shape == (2, 4) and Z.shape == (2, 4, 6, 6)
    for index in np.ndindex(2, 4):
        one = Chain(chains.P[index], chains.r[index])
        assert_allclose(mu[index], stationary(one), atol=1e-14)
        assert_allclose(bias[index], gain_bias(one).bias, atol=1e-12)
    assert_allclose(gain(chains), rho, atol=1e-13)


def test_several_closed_classes_have_a_law_each():
    chain = two_rooms()
    laws = stationary(chain, multichain="per_class")
    assert_allclose(laws, [[1 / 2, 1 / 2, 0, 0, 0, 0], [0, 0, 1 / 3, 1 / 3, 1 / 3, 0]], atol=1e-15)
    assert_allclose(absorption(chain)[5], [0.4, 0.6])
    rho, bias = gain_bias(chain, multichain="per_class")
    assert_allclose(rho, [2, 2, 2, 2, 2, 2])
    assert_allclose(laws @ bias, 0, atol=1e-12)
    assert_allclose(rho + bias, chain.r + chain.P @ bias, atol=1e-12)


def test_random_chains_of_every_structure_have_the_gain_of_long_runs():
    rng = np.random.default_rng(3)
    several = 0
    for _ in range(50):
        P, r = random_chain(rng, 6, 1 if rng.random() < 0.5 else 2)
        chain = Chain(P, r)
        several += len(structure(P).closed) > 1
        rho, bias = gain_bias(chain, multichain="per_class")
        assert_allclose(rho, long_run_average(P) @ r, atol=5e-3)
        assert_allclose(rho, gain(chain, multichain="per_class"))
        assert_allclose(rho + bias, r + P @ bias, atol=1e-9)
        assert_allclose(stationary(chain, multichain="per_class") @ bias, 0, atol=1e-9)
    assert several > 10


def test_bad_choices():
    with pytest.raises(BadInput, match=r"multichain = 'per-class'.*did you mean 'per_class'"):
        stationary(two_rooms(), multichain="per-class")
    with pytest.raises(BadInput, match=r"P: shape \(2, 2, 2\); must be one chain"):
        stationary(Chain(np.full((2, 2, 2), 0.5), np.zeros((2, 2))), multichain="per_class")


def test_compiled_law_gain_and_bias_are_the_exact_ones():
    rng = np.random.default_rng(4)
    chains = [random_unichain(rng, 6) for _ in range(4)] + [alternating(3)]
    P, r = (np.stack([chain[k] for chain in chains]) for k in (0, 1))
    with precise():
        mu = jax.jit(jax.vmap(differentiable_stationary))(P)
        rho = jax.jit(jax.vmap(differentiable_gain))(P, r)
        bias = jax.jit(jax.vmap(differentiable_bias))(P, r)
        assert mu.dtype == jnp.float64
    assert_allclose(mu, stationary(Chain(P, r)), atol=1e-13)
    assert_allclose(rho, gain(Chain(P, r)), atol=1e-13)
    assert_allclose(bias, gain_bias(Chain(P, r)).bias, atol=1e-10)


def test_gradients_are_those_of_finite_differences_and_of_the_policy_gradient_theorem():
    rng = np.random.default_rng(5)
    mdp = random_mdp(rng, 5, 3, branching=3)
    logits = rng.normal(size=(5, 3))
    target = rng.normal(size=5)

    def of_law(theta, P, R):
        policy = jax.nn.softmax(theta)
        chain = jnp.einsum("sa,sat->st", policy, P)
        r = (policy * R).sum(axis=1)
        return target @ differentiable_stationary(chain) + target @ differentiable_bias(chain, r)

    step = 1e-6
    with precise():
        slopes = []
        for function in (softmax_gain, of_law):
            compiled, slope = jax.jit(function), jax.jit(jax.grad(function))(logits, mdp.P, mdp.R)
            slopes.append(slope)
            for index in np.ndindex(5, 3):
                shift = np.zeros((5, 3))
                shift[index] = step
                ahead, behind = (compiled(logits + sign * shift, mdp.P, mdp.R) for sign in (1, -1))
                assert_allclose((ahead - behind) / (2 * step), slope[index], atol=2e-8)
        slope = np.asarray(slopes[0])
    policy = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    chain = induced(mdp, policy)
    rho, bias = gain_bias(chain)
    advantage = mdp.R + mdp.P @ bias - rho - bias[:, None]
    assert_allclose(slope, stationary(chain)[:, None] * policy * advantage, atol=1e-12)


def test_single_precision_is_refused_where_it_would_be_lost():
    with pytest.raises(BadInput, match="float32; must be float64"):
        differentiable_stationary(jnp.full((2, 2), 0.5))
