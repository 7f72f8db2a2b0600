"""Every function that needs one closed class lists the classes of a chain that has several, before it solves."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tutelage.continual.deviations import chain_inverse, law_of
from tutelage.continual.differentiable import (
    differentiable_bias,
    differentiable_gain,
    differentiable_stationary,
    softmax_gain,
)
from tutelage.continual.hitting import residence_time
from tutelage.continual.mixing_time import mixing_time, relaxation_time, tv_curve
from tutelage.continual.planning import relative_value_iteration, solve_gain
from tutelage.continual.return_mixing import return_deviation, return_mixing_time
from tutelage.continual.sparse import SparseChain, to_sparse
from tutelage.continual.sparse_mixing import (
    slowest_starts,
    sparse_distance,
    sparse_mixing_time,
    sparse_relaxation_time,
    sparse_stationary,
)
from tutelage.continual.stationary import fundamental, gain, gain_bias, stationary
from tutelage.continual.tabular import Chain, TabularMDP, precise
from tutelage.lab.errors import BadInput


def rewarded(P):
    return Chain(P, np.arange(len(P)) * 1.0)


def sparse(P):
    return SparseChain(csr_array(P), np.arange(len(P)) * 1.0)


def process(P):
    """The chain twice, as two actions that do the same; each closed class earns what no other does."""
    R = np.arange(len(P)) * 1.0
    return TabularMDP(np.stack([P, P], 1), np.stack([R, R], 1), np.full(len(P), 1 / len(P)), ())


def logits(P):
    return softmax_gain(jnp.zeros((len(P), 2)), jnp.asarray(process(P).P), jnp.asarray(process(P).R))


OF_A_CHAIN = {
    "stationary": lambda P: stationary(rewarded(P)),
    "fundamental": lambda P: fundamental(rewarded(P)),
    "gain": lambda P: gain(rewarded(P)),
    "gain_bias": lambda P: gain_bias(rewarded(P)),
    "mixing_time": lambda P: mixing_time(rewarded(P)),
    "tv_curve": lambda P: tv_curve(rewarded(P), [1]),
    "relaxation_time": lambda P: relaxation_time(rewarded(P)),
    "return_mixing_time": lambda P: return_mixing_time(rewarded(P), 0.1),
    "return_deviation": lambda P: return_deviation(rewarded(P), [1]),
    "residence_time": lambda P: residence_time(rewarded(P), 0),
    "chain_inverse": chain_inverse,
    "chain_inverse, JAX": lambda P: chain_inverse(jnp.asarray(P)),
    "sparse_stationary": lambda P: sparse_stationary(sparse(P)),
    "sparse_relaxation_time": lambda P: sparse_relaxation_time(sparse(P)),
    "sparse_distance": lambda P: sparse_distance(sparse(P), 1),
    "sparse_mixing_time": lambda P: sparse_mixing_time(sparse(P)),
    "slowest_starts": lambda P: slowest_starts(sparse(P)),
    "differentiable_stationary": lambda P: differentiable_stationary(jnp.asarray(P)),
    "differentiable_gain": lambda P: differentiable_gain(jnp.asarray(P), jnp.arange(len(P)) * 1.0),
    "differentiable_bias": lambda P: differentiable_bias(jnp.asarray(P), jnp.arange(len(P)) * 1.0),
    "softmax_gain": logits,
}

OF_A_PROCESS = {
    "solve_gain": lambda P: solve_gain(process(P)),
    "relative_value_iteration": lambda P: relative_value_iteration(process(P)),
    "relative_value_iteration, sparse": lambda P: relative_value_iteration(to_sparse(process(P))),
}


@st.composite
def chains(draw, fewest=1, most=3):
    """A chain whose closed classes are known: full blocks, and transient states that lead to all; permuted."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=fewest, max_size=most))
    transient = draw(st.integers(0, 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ends = np.cumsum(sizes)
    num_states = int(ends[-1]) + transient
    P = np.zeros((num_states, num_states))
    for end, size in zip(ends, sizes, strict=True):
        P[end - size : end, end - size : end] = rng.dirichlet(np.full(size, 5.0), size)
    P[ends[-1] :] = rng.dirichlet(np.full(num_states, 5.0), transient)
    order = rng.permutation(num_states)  # State k is at order[k].
    permuted = np.zeros_like(P)
    permuted[np.ix_(order, order)] = P
    return permuted, sorted(sorted(order[end - size : end].tolist()) for end, size in zip(ends, sizes, strict=True))


@settings(deadline=None, max_examples=12)
@given(chains(fewest=2))
def test_every_function_lists_exactly_these_classes(drawn):
    P, classes = drawn
    listed = f"{len(classes)} closed classes: " + ", ".join("{" + ", ".join(map(str, c)) + "}" for c in classes)
    with precise():
        for name, function in (OF_A_CHAIN | OF_A_PROCESS).items():
            with pytest.raises(BadInput) as error:
                function(P)
            assert listed in str(error.value), name


@settings(deadline=None, max_examples=25)
@given(chains(most=1))
def test_the_law_of_one_class_is_that_of_least_squares(drawn):
    P, _ = drawn
    balance = np.vstack([(np.eye(len(P)) - P).T, np.ones(len(P))])
    law = np.linalg.lstsq(balance, np.eye(len(P) + 1)[-1])[0]
    with precise():
        laws = stationary(rewarded(P)), law_of(chain_inverse(P)), np.asarray(differentiable_stationary(jnp.asarray(P)))
    for found in (*laws, sparse_stationary(sparse(P)).mu):
        np.testing.assert_allclose(found, law, atol=1e-10)
    gain = float(law @ np.arange(len(P)))
    assert solve_gain(process(P)).rho == pytest.approx(gain, abs=1e-9)
    assert relative_value_iteration(process(P)).rho == pytest.approx(gain, abs=1e-8)


@pytest.mark.parametrize(
    "P",
    [
        [[1 - 1e-17, 1e-17], [3e-17, 1 - 3e-17]],
        [[1, 1e-300], [1e-300, 1]],
        [[1, 1e-17, 0], [3e-17, 0.5, 0.5], [0, 0.5, 0.5]],
    ],
)
def test_what_hangs_together_only_below_rounding_is_told_as_that(P):
    with precise():
        for function in (OF_A_CHAIN | OF_A_PROCESS).values():
            with pytest.raises(BadInput, match="below rounding"):
                function(np.array(P))


def test_a_rare_state_is_no_class():
    P = np.array([[1, 1e-17], [0.5, 0.5]])
    np.testing.assert_allclose(stationary(rewarded(P)), [1, 2e-17], atol=1e-15)
    assert chain_inverse(P).M.shape == (2, 2)


def test_closed_classes_of_one_gain_have_relative_values():
    mdp = process(np.eye(2))._replace(R=np.ones((2, 2)))
    assert relative_value_iteration(mdp).rho == pytest.approx(1, abs=1e-9)
    assert relative_value_iteration(to_sparse(mdp)).rho == pytest.approx(1, abs=1e-9)
