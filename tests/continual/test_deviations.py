import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_chains import random_chain, random_mdp, random_unichain, two_state

from tutelage.continual.deviations import (
    ChainInverse,
    chain_inverse,
    drift,
    inverted,
    law_of,
    row_deviations,
    row_deviations_of,
    updated,
)
from tutelage.continual.stationary import stationary
from tutelage.continual.tabular import Chain, induced, precise
from tutelage.lab.errors import BadInput


def test_a_thousand_deviations_are_those_of_solving_again():
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(100):
        S, A = int(rng.integers(2, 25)), int(rng.integers(2, 5))
        mdp = random_mdp(rng, S, A, branching=min(S, int(rng.integers(2, 6))) if rng.random() < 0.5 else None)
        P, r = induced(mdp, rng.dirichlet(np.ones(A), size=S))
        inverse = chain_inverse(P, rng.dirichlet(np.full(S, 3)))
        assert_allclose(law_of(inverse), stationary(Chain(P, r)), atol=1e-11)
        gains, visits = row_deviations(inverse, r, mdp.P, mdp.R)
        for _ in range(10):
            s, a = int(rng.integers(S)), int(rng.integers(A))
            other, other_r = P.copy(), r.copy()
            other[s], other_r[s] = mdp.P[s, a], mdp.R[s, a]
            mu = stationary(Chain(other, other_r))
            worst = max(worst, abs(gains[s, a] - mu @ other_r), abs(visits[s, a] - mu[s]))
            one = row_deviations_of(inverse, r, mdp.P[s], mdp.R[s], s)
            assert_allclose(one.gain, gains[s], atol=1e-12)
            assert_allclose(one.visits, visits[s], atol=1e-12)
    assert worst < 1e-10


def test_the_best_deviation_need_not_have_the_largest_advantage():
    rng = np.random.default_rng(1)
    differ = 0
    for _ in range(100):
        mdp = random_mdp(rng, 6, 4)
        P, r = induced(mdp, np.zeros(6, int))
        inverse = chain_inverse(P)
        gains = row_deviations(inverse, r, mdp.P, mdp.R).gain
        mu, v = law_of(inverse), inverse.M @ r
        advantage = mdp.R + mdp.P @ v - v[:, None] - mu @ r
        assert ((gains - mu @ r > 1e-9) == (advantage > 1e-9)).all()
        differ += (gains.argmax(axis=1) != advantage.argmax(axis=1)).sum()
    assert differ > 20


def test_a_deviation_that_closes_a_second_class_has_no_gain():
    # State 0 is left for ever; staying in it for ever makes a second class.
    P = np.array([[0.0, 1.0], [0.0, 1.0]])
    rows = np.stack([np.eye(2)[[0, 1]], np.eye(2)[[1, 1]]])  # [S, A, S]
    found = row_deviations(chain_inverse(P), np.zeros(2), rows, np.ones((2, 2)))
    assert np.isnan(found.gain[0, 0]) and np.isfinite(found.gain.ravel()[1:]).all()
    assert_allclose(found.visits[1], 1)


def test_a_row_change_updates_the_inverse():
    rng = np.random.default_rng(2)
    P = random_unichain(rng, 9).P
    inverse = chain_inverse(P)
    for _ in range(50):
        s = int(rng.integers(9))
        row = random_chain(rng, 9).P[s]
        inverse = updated(inverse, row - P[s], s)
        P[s] = row
    assert_allclose(inverse.M, chain_inverse(P).M, atol=1e-11)
    assert drift(inverse, P) < 1e-12
    assert drift(inverse, random_chain(rng, 9).P) > 1e-3


def test_drift_sees_what_keeps_the_law_and_the_row_sums():
    rng = np.random.default_rng(3)
    P = random_chain(rng, 6).P
    inverse = chain_inverse(P)
    mu = law_of(inverse)
    left, right = rng.normal(size=6), rng.normal(size=6)
    left -= inverse.u @ left  # uᵀM and M1 stay as they are,
    right -= right.mean()
    off = ChainInverse(inverse.M + 1e-4 * np.outer(left, right), inverse.u)
    assert_allclose(law_of(off), mu, atol=1e-12)
    assert drift(off, P) > 1e-6  # and the probe tells.


SHAPE = (20, 3)


@pytest.fixture(scope="module")
def walk():
    """Changes of rows one after another, and the compiled function that follows them."""
    rng = np.random.default_rng(4)
    mdp = random_mdp(rng, *SHAPE)
    P = random_chain(rng, SHAPE[0]).P
    states = rng.integers(SHAPE[0], size=300)
    rows = rng.dirichlet(np.ones(SHAPE[0]), size=300)

    def follow(P, u, rows, states, r, tables, rewards):
        def body(carry, change):
            inverse, P, count = carry
            row, s = change
            inverse = updated(inverse, row - P[s], s)
            P = P.at[s].set(row)
            inverse = jax.lax.cond(count % 100 == 99, lambda: inverted(P, u), lambda: inverse)
            gains = row_deviations_of(inverse, r, tables[s], rewards[s], s).gain
            return (inverse, P, count + 1), (gains, drift(inverse, P))

        (inverse, P, _), found = jax.lax.scan(body, (inverted(P, u), P, 0), (rows, states))
        return inverse, P, found, row_deviations(inverse, r, tables, rewards)

    return P, rows, states, rng.normal(size=SHAPE[0]), mdp, jax.jit(follow)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 2e-4)])
def test_updates_inside_a_scan_stay_exact_in_either_precision(walk, dtype, tolerance):
    P, rows, states, r, mdp, follow = walk
    u = np.full(SHAPE[0], 1 / SHAPE[0])
    arguments = [np.asarray(x, dtype) for x in (P, u, rows)]
    with precise():
        found = follow(*arguments, states, np.asarray(r, dtype), np.asarray(mdp.P, dtype), np.asarray(mdp.R, dtype))
    inverse, after, (gains, drifts), all_gains = jax.tree.map(np.asarray, found)
    assert inverse.M.dtype == gains.dtype == drifts.dtype == dtype
    assert drifts.max() < tolerance
    current = P.copy()
    for k, (row, s) in enumerate(zip(rows, states, strict=True)):
        current[s] = row
        if k % 30 == 0:
            exact = row_deviations(chain_inverse(current), r, mdp.P, mdp.R).gain[s]
            assert_allclose(gains[k], exact, atol=tolerance)
    assert_allclose(after, current, atol=1e-6)
    assert_allclose(all_gains.gain, row_deviations(chain_inverse(current), r, mdp.P, mdp.R).gain, atol=tolerance)


def test_a_fixed_law_that_is_none_is_refused():
    P = two_state().P
    for u in (np.array([1.0, 0.0]), np.array([0.5, 0.6]), np.full(3, 1 / 3)):
        with pytest.raises(BadInput, match="u: shape"):
            chain_inverse(P, u)
