from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.gflownets.active import gaussian_process as gp
from tutelage.gflownets.active.config import EncoderConfig, SurrogateConfig
from tutelage.gflownets.active.sequence_encoder import sequence_encoder
from tutelage.gflownets.active.surrogate import (
    compiled_fit,
    initial_surrogate,
    masked_language_model_loss,
    masked_letters,
)
from tutelage.lab.errors import BadInput

V, L, N = 4, 8, 48
CONFIG = SurrogateConfig(encoder=EncoderConfig(embed=16, latent=4, kernel=3, blocks=1), steps=60, patience=20)


@pytest.fixture(scope="module")
def data():
    """Counts of two letters in sequences of 5 to 8 letters; one more than is there is garbage."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, V, (N, L)).astype(np.int32)
    tokens[np.arange(L) >= rng.integers(5, L + 1, N)[:, None]] = -1
    rewards = np.stack([(tokens == 0).sum(1), (tokens == 1).sum(1)], axis=1).astype(np.float32)
    return tokens, rewards


@pytest.fixture(scope="module")
def fitted(data):
    tokens, rewards = data
    surrogate = initial_surrogate(jax.random.key(0), V, L, 2, CONFIG)
    count = 40
    hidden = rewards.copy()
    hidden[count:] = 1e6  # beyond the count
    fit = compiled_fit(CONFIG)
    arguments = (surrogate, jnp.asarray(tokens), jnp.asarray(hidden), jnp.asarray(count, jnp.int32), jax.random.key(1))
    return fit, arguments, fit(*arguments)


def test_it_predicts_sequences_that_it_has_not_seen(data, fitted):
    tokens, rewards = data
    _, _, found = fitted
    mean, covariance = gp.predict(found.posterior, found.surrogate.encoder(jnp.asarray(tokens[40:])))
    predicted = np.asarray(mean) * np.asarray(found.scaling.deviation) + np.asarray(found.scaling.mean)
    residual = predicted - rewards[40:]
    assert np.sqrt((residual**2).mean()) < 0.6 * rewards[40:].std()
    assert (np.asarray(jnp.diagonal(covariance, axis1=1, axis2=2)) > 0).all()
    assert np.corrcoef(predicted.ravel(), rewards[40:].ravel())[0, 1] > 0.75  # maximised: the sign stays


def test_it_is_compiled_once_for_all_counts_and_stays_in_single_precision(fitted):
    fit, arguments, found = fitted
    assert all(leaf.dtype in (jnp.float32, jnp.bool_) for leaf in jax.tree.leaves((found.surrogate, found.posterior)))
    again = fit(*arguments[:3], jnp.asarray(30, jnp.int32), arguments[4])
    assert int(again.posterior.mask.sum()) == 30
    assert jax.tree.structure(again) == jax.tree.structure(found)


def test_the_same_fit_twice_is_the_same_to_the_bit(fitted):
    fit, arguments, found = fitted
    for once, twice in zip(jax.tree.leaves(found), jax.tree.leaves(fit(*arguments)), strict=True):
        assert np.array_equal(np.asarray(once), np.asarray(twice))


def test_the_fit_teaches_the_process_and_the_language_model(data, fitted):
    tokens, _ = data
    _, (before, *_), found = fitted
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, found.surrogate)
    assert all(jax.tree.leaves(moved._replace(encoder=moved.encoder)))
    masked = masked_letters(jax.random.key(2), jnp.asarray(tokens), 0.3)
    first = masked_language_model_loss(before.encoder, jnp.asarray(tokens), masked)
    last = masked_language_model_loss(found.surrogate.encoder, jnp.asarray(tokens), masked)
    assert last < first and 0 < int(found.steps) <= CONFIG.steps


def test_every_sequence_has_a_masked_letter_and_padding_has_none(data):
    tokens, _ = data
    masked = np.asarray(masked_letters(jax.random.key(0), jnp.asarray(tokens), 0.01))
    assert masked.any(axis=1).all() and not masked[tokens < 0].any()


def test_padding_changes_nothing(data):
    tokens, _ = data
    encoder = sequence_encoder(jax.random.key(0), V, L + 3, CONFIG.encoder)
    longer = np.pad(tokens, ((0, 0), (0, 3)), constant_values=-1)
    shorter = sequence_encoder(jax.random.key(0), V, L + 3, CONFIG.encoder)
    shorter = jax.tree.map(lambda leaf: leaf[:L] if leaf.shape[:1] == (L + 3,) else leaf, shorter)
    np.testing.assert_allclose(encoder(jnp.asarray(longer)), shorter(jnp.asarray(tokens)), atol=1e-5)


def test_an_even_kernel_is_refused():
    with pytest.raises(BadInput, match=r"encoder.kernel = 4"):
        sequence_encoder(jax.random.key(0), V, L, EncoderConfig(kernel=4))
