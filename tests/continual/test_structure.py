import networkx as nx
import numpy as np
import pytest
from scipy.sparse import csr_array
from small_chains import alternating, lazy_cycle, random_chain, two_rooms

from tutelage.continual.hitting import residence_time
from tutelage.continual.mixing_time import mixing_time
from tutelage.continual.stationary import fundamental, gain_bias, stationary
from tutelage.continual.structure import refuse_dense, structure, unichain
from tutelage.continual.tabular import Chain
from tutelage.lab.errors import BadInput


def test_closed_classes_and_periods_are_those_of_the_graph():
    rng = np.random.default_rng(0)
    several = periodic = 0
    for _ in range(200):
        P = random_chain(rng, int(rng.integers(1, 9)), 1 if rng.random() < 0.7 else None).P
        graph = nx.DiGraph(zip(*np.nonzero(P), strict=True))
        expected = sorted(sorted(map(int, c)) for c in nx.attracting_components(graph))
        found = structure(P)
        assert [states.tolist() for states in found.closed] == expected
        assert sorted([*np.concatenate(found.closed), *found.transient]) == list(range(len(P)))
        for states, period in zip(found.closed, found.periods, strict=True):
            # The period of a small class is the gcd of the lengths at which its first state can come back.
            power, lengths = np.eye(states.size), []
            for length in range(1, 2 * states.size**2 + 1):
                power = ((power @ P[np.ix_(states, states)]) > 0).astype(float)
                lengths += [length] if power[0, 0] else []
            assert period == np.gcd.reduce(lengths)
            periodic += period > 1
        several += len(found.closed) > 1
        sparse = structure(csr_array(P))
        assert sparse.periods == found.periods
        assert [s.tolist() for s in sparse.closed] == expected
    assert several > 20 and periodic > 20


def test_classes_are_told_by_name():
    found = structure(two_rooms().P, names="abcdef")
    assert str(found) == "2 closed classes: {a, b}, {c, d, e} of period 3; transient: f"
    assert str(structure(alternating(5).P)) == "1 closed class: {0, 1, 2, 3, 4, 5, 6, 7, … (10 states)} of period 10"


def test_a_stored_zero_is_no_edge():
    P = csr_array((np.array([1.0, 0.0, 1.0]), np.array([0, 1, 1]), np.array([0, 2, 3])), shape=(2, 2))
    assert len(structure(P).closed) == 2


@pytest.mark.parametrize("measure", [stationary, fundamental, gain_bias, mixing_time])
def test_several_closed_classes_are_listed(measure):
    with pytest.raises(BadInput, match=r"P: the chain has 2 closed classes: \{a, b\}, \{c, d, e\} of period 3"):
        measure(two_rooms(), names="abcdef")
    with pytest.raises(BadInput, match='multichain="per_class"'):
        unichain(two_rooms().P)


def spoilt(row, value):
    P = lazy_cycle(4).P.copy()
    P[row] = value
    return Chain(P, np.zeros(4))


@pytest.mark.parametrize("measure", [stationary, gain_bias, mixing_time, lambda chain: residence_time(chain, 0)])
@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (spoilt(2, [0.5, 0.5, 0.1, 0]), r"P: rows 2 do not sum to 1 ± 1e-08"),
        (spoilt(1, [1.5, -0.5, 0, 0]), r"P: rows 1 have negative entries"),
        (spoilt(3, [np.nan, 1, 0, 0]), r"P: rows 3 are not finite"),
        (Chain(np.eye(3)[:2], np.zeros(2)), r"P: shape \(2, 3\)"),
        (Chain(np.full((2, 2), 0.5), np.zeros(3)), r"r: shape \(3,\); must be \(2,\)"),
        (Chain(np.full((2, 2), 0.5), np.array([0, np.inf])), r"r: 1 entries are not finite"),
    ],
)
def test_what_is_no_chain_is_refused(measure, chain, message):
    with pytest.raises(BadInput, match=message):
        measure(chain)


def test_a_table_too_large_is_refused_with_its_bytes():
    with pytest.raises(BadInput, match=r"20000 states × 4 actions .* 12\.8 GB; .*`tutelage\.continual\.sparse`"):
        refuse_dense(20_000, 4, limit=10**9)
    refuse_dense(300, 4)
