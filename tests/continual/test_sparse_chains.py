import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array
from small_chains import alternating, lazy_cycle, noisy_cycle, random_mdp, random_unichain, two_rooms

from tutelage.continual import sparse_mixing
from tutelage.continual.mixing_time import mixing_time, relaxation_time, tv_curve
from tutelage.continual.planning import relative_value_iteration
from tutelage.continual.sparse import SparseChain, induced_sparse, sparse_garnet, sparse_mdp, to_dense, to_sparse
from tutelage.continual.sparse_mixing import (
    slowest_starts,
    sparse_distance,
    sparse_mixing_time,
    sparse_relaxation_time,
    sparse_stationary,
)
from tutelage.continual.stationary import gain, stationary
from tutelage.continual.structure import structure
from tutelage.continual.tabular import Chain, induced
from tutelage.lab.errors import BadInput


def as_sparse(chain):
    return SparseChain(csr_array(chain.P), chain.r)


def test_lists_and_tables_hold_the_same_process():
    rng = np.random.default_rng(0)
    mdp = random_mdp(rng, 9, 3, branching=4)
    lists = to_sparse(mdp)
    assert lists.successors.shape == (9, 3, 4)
    assert_allclose(to_dense(lists).P, mdp.P, atol=0)
    policy = rng.dirichlet(np.ones(3), size=9)
    for chosen in (policy, policy.argmax(axis=1)):
        sparse, dense = induced_sparse(lists, chosen), induced(mdp, chosen)
        assert_allclose(sparse.P.toarray(), dense.P, atol=1e-15)
        assert_allclose(sparse.r, dense.r, atol=1e-15)


def test_repeated_successors_and_padding_add_up():
    lists = sparse_mdp([[[0, 0, 1]], [[1, 0, 0]]], [[[0.2, 0.3, 0.5]], [[1.0, 0, 0]]], np.zeros((2, 1)))
    assert_allclose(to_dense(lists).P[:, 0], [[0.5, 0.5], [0, 1]])
    assert len(structure(induced_sparse(lists, np.zeros(2, int)).P).closed) == 1


def test_iterated_laws_are_the_exact_ones():
    rng = np.random.default_rng(1)
    chains = [random_unichain(rng, 12, branching=2) for _ in range(30)]
    for chain in [*chains, alternating(6), lazy_cycle(64), noisy_cycle(80), lazy_cycle(300)]:
        found = sparse_stationary(as_sparse(chain))
        assert found.residual <= 1e-12
        assert_allclose(found.mu, stationary(chain), atol=1e-7)
        assert_allclose(found.gain, gain(chain), atol=1e-7)
        assert (found.mu[structure(chain.P).transient] == 0).all()


def test_slow_chains_are_left_to_arnoldi():
    # Two cycles of 200 states, joined by a probability of 1e-6: sweeps alone would take millions.
    n = 200
    P = np.kron(np.eye(2), lazy_cycle(n).P)
    P[0, 0] -= 1e-6
    P[0, n] += 1e-6
    P[n, n] -= 2e-6
    P[n, 0] += 2e-6
    chain = Chain(P, np.repeat([0.0, 1.0], n))
    found = sparse_stationary(as_sparse(chain), max_sweeps=1000)
    assert found.residual <= 1e-12 and found.sweeps < 2000
    assert_allclose(found.mu, stationary(chain), atol=1e-7)
    assert_allclose(found.gain, 1 / 3, atol=1e-6)


def test_a_residual_that_stays_is_refused(monkeypatch):
    chain = as_sparse(lazy_cycle(600))
    chain.P[0, 0], chain.P[0, 1] = 0.4, 0.35
    monkeypatch.setattr(sparse_mixing, "_leading", lambda *_, start, **__: (np.ones(1), start[:, None]))
    with pytest.raises(BadInput, match=r"tolerance = 1e-12: the residual is .* after 150 sweeps"):
        sparse_stationary(chain, max_sweeps=100)


def test_relaxation_times_are_those_of_all_eigenvalues():
    rng = np.random.default_rng(2)
    for chain in (noisy_cycle(100), alternating(50), random_unichain(rng, 450, 8), lazy_cycle(420)):
        assert_allclose(sparse_relaxation_time(as_sparse(chain)), relaxation_time(chain), rtol=1e-6)


def test_all_starts_give_the_curve_and_some_give_a_bound():
    rng = np.random.default_rng(3)
    for chain in (random_unichain(rng, 150, branching=3), noisy_cycle(40)):
        sparse, closed = as_sparse(chain), structure(chain.P).closed[0]
        exact = tv_curve(chain, np.arange(30))
        whole = sparse_distance(sparse, 29, starts=closed)
        assert whole.exact
        assert_allclose(whole.distance, exact, atol=1e-9)
        some = sparse_distance(sparse, 29, num_starts=16)
        assert not some.exact and some.starts.size == 16
        assert (some.distance <= exact + 1e-9).all() and (np.diff(some.distance) <= 1e-12).all()
        assert some.distance[-1] > 0.5 * exact[-1]


def test_mixing_times_are_lower_bounds_and_say_so():
    chain = lazy_cycle(64)
    found = sparse_mixing_time(as_sparse(chain))
    assert found.steps == 389  # By symmetry every start is the worst.
    assert "a lower bound from 32 start states of the first t" in str(found)
    whole = sparse_mixing_time(as_sparse(chain), starts=np.arange(64))
    assert whole.steps == 389 and "lower bound" not in str(whole)
    rng = np.random.default_rng(4)
    bumpy = random_unichain(rng, 120, branching=3)
    assert sparse_mixing_time(as_sparse(bumpy), 0.05).steps <= mixing_time(bumpy, 0.05).steps
    periodic = sparse_mixing_time(as_sparse(alternating(40)))
    assert periodic.steps == math.inf and periodic.period == 80


def test_starts_are_sought_where_the_chain_is_slow():
    # A cycle of 100 states behind a door of probability 0.001, in a complete graph of 300.
    n = 400
    P = np.zeros((n, n))
    P[:300, :300] = 1 / 300
    P[0] *= 0.999
    P[0, 300] = 0.001
    for s in range(300, n):
        P[s, s] = 0.9
        P[s, s + 1 if s + 1 < n else 0] = 0.1
    starts = slowest_starts(as_sparse(Chain(P, np.zeros(n))), 8)
    assert starts.size == 8 and 300 in starts


def test_a_garnet_of_20000_states_is_solved():
    garnet = sparse_garnet(20_000, 3, 4, seed=5)
    assert (np.diff(np.sort(garnet.successors, axis=-1), axis=-1) > 0).all()
    chain = induced_sparse(garnet, np.random.default_rng(0).integers(3, size=20_000))
    law = sparse_stationary(chain)
    assert law.residual <= 1e-12 and law.mu.sum() == pytest.approx(1)
    bound = sparse_distance(chain, 40, law=law, num_starts=8)
    assert bound.distance[0] > 0.99 and bound.distance[-1] < 0.01
    best = relative_value_iteration(garnet, tolerance=1e-6)
    assert best.rho > law.gain + 0.1
    assert abs(sparse_stationary(induced_sparse(garnet, best.policy)).gain - best.rho) <= best.error


def test_small_garnets_have_different_successors_too():
    for branching in (1, 3, 7, 8):
        garnet = sparse_garnet(8, 2, branching)
        assert (np.diff(np.sort(garnet.successors, axis=-1), axis=-1) > 0).all()
    with pytest.raises(BadInput, match=r"branching = 9: must be in \[1, 8\]"):
        sparse_garnet(8, 2, 9)


def test_a_table_too_large_for_memory_is_refused(monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: 1000)
    with pytest.raises(BadInput, match=r"300 states × 2 actions .* GB; .* `tutelage.continual.sparse`"):
        to_dense(sparse_garnet(300, 2, 3))


GOOD = ([[[0, 1]], [[1, 0]]], [[[0.5, 0.5]], [[1.0, 0.0]]], np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, [[[0, 2]], [[1, 0]]], r"successors\[0, 0, 1\] = 2: must be in \[0, 2\)"),
        (0, [[[0.0, 1.0]], [[1, 0]]], "successors: float64"),
        (1, [[[0.5, 0.6]], [[1.0, 0.0]]], r"probabilities: rows \(0, 0\) do not sum to 1"),
        (1, [[[0.5, 0.5]], [[1.1, -0.1]]], r"probabilities: rows \(1, 0\) have negative entries"),
        (1, np.ones((2, 1, 3)) / 3, "probabilities: shape"),
        (2, np.zeros((2, 2)), "R: shape"),
        (2, np.full((2, 1), np.nan), "R: 2 entries are not finite"),
    ],
)
def test_lists_that_are_no_process_are_refused(place, value, message):
    given = list(GOOD)
    given[place] = value
    with pytest.raises(BadInput, match=message):
        sparse_mdp(*given)


def test_bad_chains_and_policies_are_refused():
    lists = sparse_mdp(*GOOD)
    with pytest.raises(BadInput, match="policy: shape"):
        induced_sparse(lists, np.full((2, 2), 0.5))
    with pytest.raises(BadInput, match=r"policy: actions .* in \[0, 1\)"):
        induced_sparse(lists, np.array([0, 1]))
    with pytest.raises(BadInput, match=r"P: rows \[0\] do not sum to 1"):
        sparse_stationary(SparseChain(csr_array(np.array([[0.5, 0.4], [0, 1]])), np.zeros(2)))
    with pytest.raises(BadInput, match=r"P: negative entries, in rows \[1\]"):
        sparse_stationary(SparseChain(csr_array(np.array([[0.5, 0.5], [-1, 2]])), np.zeros(2)))
    with pytest.raises(BadInput, match="2 closed classes"):
        sparse_stationary(as_sparse(two_rooms()))
    with pytest.raises(BadInput, match=r"eps = 1.0: must be in \(0, 1\)"):
        sparse_mixing_time(as_sparse(lazy_cycle(8)), 1.0)
    with pytest.raises(BadInput, match="max_steps = 10: the distance is"):
        sparse_mixing_time(as_sparse(lazy_cycle(64)), max_steps=10)
    transient = random_unichain(np.random.default_rng(0), 5, 1)
    outside = structure(transient.P).transient
    assert outside.size
    with pytest.raises(BadInput, match="must be states of the closed class"):
        sparse_distance(as_sparse(transient), 3, starts=outside)
