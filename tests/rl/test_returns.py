import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.rl.returns import gae

T, N = 7, 3
estimate = jax.jit(gae)


def steps(seed):
    """Random steps with terminations (discount 0, last) and truncations (discount 1, last)."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, p=[0.5, 0.25, 0.25], size=(T, N))
    reward, value, next_value = rng.normal(size=(3, T, N)).astype(np.float32)
    # Where the episode goes on, the successor's value is the value at t + 1.
    next_value[:-1] = np.where(kind[:-1] == 0, value[1:], next_value[:-1])
    return reward, np.where(kind == 1, 0, 1).astype(np.float32), kind > 0, value, next_value


def brute_force(reward, discount, last, value, next_value, gamma, lam):
    """Â_t = Σ_k (γλ)^k δ_{t+k}, the sum written out and stopped at the end of the episode."""
    advantage = np.zeros((T, N))
    for n in range(N):
        for t in range(T):
            weight = 1.0
            for k in range(t, T):
                delta = reward[k, n] + gamma * discount[k, n] * next_value[k, n] - value[k, n]
                advantage[t, n] += weight * delta
                if last[k, n]:
                    break
                weight *= gamma * lam
    return advantage


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_equals_the_sum_written_out(seed, gamma, lam):
    data = steps(seed)
    advantage, target = estimate(*data, gamma=gamma, lam=lam)
    np.testing.assert_allclose(advantage, brute_force(*data, gamma, lam), atol=2e-5)
    np.testing.assert_allclose(target, advantage + data[3], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_lambda_zero_is_the_td_error(seed, gamma):
    reward, discount, last, value, next_value = steps(seed)
    advantage, _ = estimate(reward, discount, last, value, next_value, gamma=gamma, lam=0.0)
    np.testing.assert_allclose(advantage, reward + gamma * discount * next_value - value, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_lambda_one_is_the_discounted_return_to_the_end_with_its_bootstrap(seed, gamma):
    reward, discount, last, value, next_value = steps(seed)
    _, target = estimate(reward, discount, last, value, next_value, gamma=gamma, lam=1.0)
    for n in range(N):
        following = None
        for t in reversed(range(T)):
            if last[t, n] or following is None:
                following = discount[t, n] * next_value[t, n]
            following = reward[t, n] + gamma * following
            np.testing.assert_allclose(target[t, n], following, atol=2e-5)


@pytest.mark.parametrize(("discount", "expected"), [(0.0, 1.0 - 5.0), (1.0, 1.0 + 0.9 * 7.0 - 5.0)])
def test_truncation_bootstraps_and_termination_does_not(discount, expected):
    """One step with reward 1, V = 5, V' = 7, γ = 0.9; what follows (a new episode) must not leak in."""

    def column(*values):
        return jnp.asarray(values)[:, None]

    advantage, _ = gae(
        column(1.0, 100.0), column(discount, 1.0), column(True, False), column(5.0, 0.0), column(7.0, 50.0),
        gamma=0.9, lam=0.8,
    )  # fmt: skip
    np.testing.assert_allclose(advantage[0, 0], expected, rtol=1e-6)
