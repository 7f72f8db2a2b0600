import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from small_chains import alternating, lazy_cycle, noisy_cycle, random_unichain, two_state

from tutelage.continual.mixing_time import mixing_time, mixing_times, relaxation_time, tv_curve
from tutelage.continual.stationary import stationary
from tutelage.continual.structure import structure
from tutelage.continual.tabular import Chain
from tutelage.lab.errors import BadInput


def by_powers(chain, steps, states=None):
    """d(0) … d(steps), by multiplying one step at a time."""
    mu, power, distance = stationary(chain), np.eye(len(chain.r)), []
    for _ in range(steps + 1):
        distance.append(max(0.5 * np.abs(power[s] - mu).sum() for s in (range(len(mu)) if states is None else states)))
        power = power @ chain.P
    return np.array(distance)


def test_the_analytic_mixing_times():
    assert mixing_time(two_state(0.1, 0.2)).steps == 3
    assert [mixing_time(lazy_cycle(n)).steps for n in (8, 16, 32, 64)] == [6, 25, 98, 389]
    assert [mixing_time(noisy_cycle(n)).steps for n in (10, 20, 40, 80)] == [128, 499, 1982, 7910]


@pytest.mark.parametrize(("p", "q"), [(0.1, 0.2), (0.9, 0.8), (0.5, 0.5), (0.01, 0.3), (1.0, 0.999)])
def test_two_states_have_the_closed_form_curve(p, q):
    ts = np.arange(30)
    assert_allclose(tv_curve(two_state(p, q), ts), max(p, q) / (p + q) * abs(1 - p - q) ** ts, atol=1e-13)


def test_mixing_times_and_curves_are_those_of_plain_powers():
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(30):
        chain = random_unichain(rng, 7, branching=2)
        found = structure(chain.P)
        if found.periods[0] > 1:
            continue
        for starts, states in (("closed", found.closed[0]), ("all", None)):
            plain = by_powers(chain, 400, states)
            ts = rng.permutation(60)
            assert_allclose(tv_curve(chain, ts, starts=starts), plain[ts], atol=1e-12)
            for eps in (0.01, 0.25, 0.6):
                below = np.flatnonzero(plain <= eps + 1e-12)
                if below.size:
                    assert mixing_time(chain, eps, starts=starts).steps == below[0]
                    seen += 1
    assert seen > 60


def test_a_distance_that_is_epsilon_exactly_has_arrived():
    # d(t) = ½·½^t: at t = 1 it is ¼, but for rounding.
    assert mixing_time(two_state(0.25, 0.25)).steps == 1
    assert mixing_time(Chain(np.ones((1, 1)), np.zeros(1))).steps == 0
    assert mixing_time(Chain(np.full((5, 5), 0.2), np.zeros(5))).steps == 1


def test_transient_states_count_only_on_request():
    # From state 0 it takes about 1/0.001 steps to get to where the chain stays, and forgets at once.
    P = np.array([[0.999, 0.001, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]])
    chain = Chain(P, np.zeros(3))
    assert mixing_time(chain).steps == 1
    assert mixing_time(chain, starts="all").steps == math.ceil(math.log(0.25) / math.log(0.999))


def test_a_periodic_chain_never_mixes_and_says_why():
    found = mixing_time(alternating(5))
    assert found.steps == math.inf and found.period == 10
    assert "inf (the chain has period 10)" in str(found)
    assert_allclose(tv_curve(alternating(5), [0, 1, 10, 1000]), 0.9)


def test_the_definition_is_printed_with_the_number():
    text = str(mixing_time(two_state()))
    assert text.startswith(
        "t_mix(0.25) = 3 steps, the first t at which P^t(s,·) is within 0.25 of μ in total variation"
    )
    assert "from every start s of the closed class" in text and "relaxation time 3.33333 steps" in text


def test_relaxation_times_bound_mixing_times():
    assert_allclose(relaxation_time(two_state(0.1, 0.2)), 1 / 0.3)
    for n in (8, 16, 32):
        assert_allclose(relaxation_time(lazy_cycle(n)), 1 / (0.5 - 0.5 * math.cos(2 * math.pi / n)), rtol=1e-9)
    assert relaxation_time(alternating(4)) == 1
    rng = np.random.default_rng(1)
    chains = [random_unichain(rng, 8) for _ in range(60)]
    chains = [chain for chain in chains if structure(chain.P).periods == (1,)]
    assert len(chains) > 30
    for chain in [*chains, lazy_cycle(16), noisy_cycle(20)]:
        for eps in (0.01, 0.1, 0.25, 0.45):
            found = mixing_time(chain, eps)
            assert (found.relaxation - 1) * math.log(1 / (2 * eps)) <= found.steps + 1e-9


def test_nearly_periodic_chains_are_not_understated():
    # Eigenvalues near the unit circle: 0.999 advance on a cycle of 5.
    chain = noisy_cycle(5, advance=0.999)
    assert mixing_time(chain).steps == np.flatnonzero(by_powers(chain, 2000) <= 0.25)[0]


def test_very_slow_chains_keep_their_digits():
    p = 2.0**-30
    exact = math.ceil(math.log(0.5) / math.log1p(-2 * p))
    assert_allclose(mixing_time(two_state(p, p)).steps, exact, rtol=1e-6)
    with pytest.raises(BadInput, match="float64 ends here"):
        mixing_time(two_state(1e-13, 1e-13))
    with pytest.raises(BadInput, match="hang together only by probabilities below rounding"):
        mixing_time(two_state(1e-17, 1e-17))


def test_a_batch_of_chains():
    one, other, third = two_state(0.1, 0.2), two_state(0.25, 0.25), two_state(1.0, 1.0)
    batch = Chain(np.stack([one.P, other.P, third.P])[None], np.zeros((1, 3, 2)))
    assert mixing_times(batch).tolist() == [[3, 1, math.inf]]


@pytest.mark.parametrize("eps", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_epsilon_outside_its_range_is_refused(eps):
    with pytest.raises(BadInput, match=r"eps = .*: must be in \(0, 1\)"):
        mixing_time(two_state(), eps)


def test_bad_times_and_starts_are_refused():
    with pytest.raises(BadInput, match="ts"):
        tv_curve(two_state(), [1, -1])
    with pytest.raises(BadInput, match="did you mean 'closed'"):
        mixing_time(two_state(), starts="close")
