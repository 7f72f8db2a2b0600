import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from tutelage.nn.distributions import Categorical, DiagonalNormal

LOGITS = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32) * 2


def test_categorical_log_prob_and_entropy_equal_scipy():
    distribution = Categorical(jnp.asarray(LOGITS))
    log_probs = special.log_softmax(LOGITS.astype(np.float64), axis=-1)
    for action in range(5):
        got = distribution.log_prob(jnp.full((4, 3), action))
        np.testing.assert_allclose(got, log_probs[..., action], atol=1e-6)
    np.testing.assert_allclose(distribution.entropy(), stats.entropy(np.exp(log_probs), axis=-1), atol=1e-6)
    np.testing.assert_array_equal(distribution.mode(), LOGITS.argmax(axis=-1))


def test_categorical_frequencies_pass_a_chi_square_test():
    logits = jnp.asarray([0.0, 1.0, 2.0, -1.0])
    draws = Categorical(jnp.broadcast_to(logits, (20000, 4))).sample(jax.random.key(5))
    expected = np.asarray(jax.nn.softmax(logits), np.float64) * 20000
    assert stats.chisquare(np.bincount(draws, minlength=4), expected * 20000 / expected.sum()).pvalue > 1e-3


def test_forbidden_action_is_never_drawn_and_leaves_gradients_finite():
    logits = jnp.asarray([0.5, -jnp.inf, 0.1])
    draws = Categorical(jnp.broadcast_to(logits, (1000, 3))).sample(jax.random.key(2))
    assert set(np.unique(draws)) == {0, 2}
    np.testing.assert_allclose(Categorical(logits).entropy(), stats.entropy(special.softmax([0.5, 0.1])), rtol=1e-6)

    def objective(free):
        distribution = Categorical(free.at[1].set(-jnp.inf))
        return distribution.entropy() + distribution.log_prob(jnp.asarray(0))

    assert np.isfinite(jax.grad(objective)(jnp.asarray([0.5, 0.0, 0.1]))).all()


@pytest.mark.parametrize("shared_spread", [True, False])
def test_normal_equals_scipy(shared_spread):
    rng = np.random.default_rng(3)
    mean, action = rng.normal(size=(2, 6, 3)).astype(np.float32)
    log_std = rng.normal(size=(3,) if shared_spread else (6, 3)).astype(np.float32)
    distribution = DiagonalNormal(jnp.asarray(mean), jnp.asarray(log_std))
    reference = stats.norm(mean.astype(np.float64), np.exp(log_std.astype(np.float64)))
    np.testing.assert_allclose(
        distribution.log_prob(jnp.asarray(action)), reference.logpdf(action).sum(-1), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(distribution.entropy(), reference.entropy().sum(-1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(distribution.mode(), mean)


def test_normal_samples_pass_a_kolmogorov_test():
    distribution = DiagonalNormal(jnp.full((5000, 1), 2.0), jnp.log(jnp.asarray([0.5])))
    draws = np.asarray(distribution.sample(jax.random.key(4)))[:, 0]
    assert stats.kstest(draws, "norm", args=(2.0, 0.5)).pvalue > 1e-3
