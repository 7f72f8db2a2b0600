"""From objectives to ℓ(x): scalarisations against their definition in float64, one logarithm, one floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.gflownets.objectives import SCALARISATIONS, Objectives, compiled_rewards, log_scalar, tempered
from tutelage.lab.errors import BadInput

DEFINITIONS = {
    "weighted_sum": lambda w, r: (w * r).sum(axis=-1),
    "weighted_log_sum": lambda w, r: np.prod(r**w, axis=-1),
    "tchebycheff": lambda w, r: 1 - (w * (1 - r)).max(axis=-1),
}
RNG = np.random.default_rng(0)
REWARDS = RNG.uniform(0.01, 1, (200, 3))
WEIGHTS = RNG.dirichlet(np.ones(3), 200)


@pytest.mark.parametrize("scalarisation", SCALARISATIONS)
def test_scalarisations_are_their_definitions(scalarisation):
    found = log_scalar(jnp.asarray(REWARDS, jnp.float32), jnp.asarray(WEIGHTS, jnp.float32), scalarisation)
    np.testing.assert_allclose(np.exp(found), DEFINITIONS[scalarisation](WEIGHTS, REWARDS), rtol=1e-5)


@pytest.mark.parametrize("scalarisation", SCALARISATIONS)
def test_better_objects_are_worth_more_and_the_ideal_is_worth_one(scalarisation):
    """The published Tchebycheff reward grows with the distance from the ideal."""
    weights = jnp.asarray(WEIGHTS, jnp.float32)
    worse, better = (
        np.asarray(log_scalar(jnp.asarray(rewards, jnp.float32), weights, scalarisation))
        for rewards in (REWARDS * 0.9, REWARDS)
    )
    assert (better >= worse).all() and better.mean() > worse.mean()
    np.testing.assert_allclose(log_scalar(jnp.ones((200, 3)), weights, scalarisation), 0, atol=1e-6)


@pytest.mark.parametrize("scalarisation", SCALARISATIONS)
def test_a_reward_of_nothing_is_finite_and_has_a_finite_gradient(scalarisation):
    """1e-80, as the published code has it, is 0 in float32, and its logarithm −∞."""
    rewards, weights = (
        jnp.zeros((4, 2)).at[1, 0].set(1e-38),
        jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]),
    )

    def total(rewards):
        return tempered(log_scalar(rewards, weights, scalarisation), jnp.full(4, 96.0), -75.0).sum()

    assert float(total(rewards)) >= -300.0
    assert np.isfinite(jax.grad(total)(rewards)).all()


def test_an_objective_of_weight_zero_counts_for_nothing_in_the_log_sum():
    found = log_scalar(jnp.asarray([0.0, 0.25]), jnp.asarray([0.0, 1.0]), "weighted_log_sum")
    assert float(found) == pytest.approx(np.log(0.25))


def test_the_floor_is_the_same_at_every_exponent_because_it_comes_last():
    log_r = jnp.log(jnp.asarray([1.0, 0.5, 1e-3, 1e-30]))
    for beta in (1.0, 16.0, 96.0):
        found = np.asarray(tempered(log_r, jnp.full(4, beta), -75.0))
        np.testing.assert_allclose(found, np.maximum(beta * np.asarray(log_r, np.float64), -75.0), rtol=1e-5)


def test_different_rewards_stay_different_after_everything():
    """One logarithm: two in a row made every reward the same (issue 113 of the fragment code)."""
    rewards = jnp.linspace(0.1, 1.0, 10)[:, None] * jnp.ones(2)
    for scalarisation in SCALARISATIONS:
        tilted = tempered(log_scalar(rewards, jnp.full((10, 2), 0.5), scalarisation), jnp.full(10, 4.0), -75.0)
        assert (np.diff(np.asarray(tilted)) > 0.01).all()
        assert float(tilted[-1]) == pytest.approx(0, abs=1e-5)


def test_names_must_differ_and_be_there():
    with pytest.raises(BadInput, match="objectives: the name 'a' is there twice"):
        Objectives(("a", "b", "a"), lambda objects: objects)
    with pytest.raises(BadInput, match="objectives: there is none"):
        Objectives((), lambda objects: objects)


def test_a_wrong_number_of_objectives_is_refused_with_both_numbers_when_compiled():
    three = Objectives(("a", "b"), lambda objects: jnp.zeros((objects.shape[0], 3)))
    with pytest.raises(BadInput, match=r"shape \(5, 3\) for 5 objects; must be \(5, 2\)"):
        compiled_rewards(three, jnp.zeros((5, 4), jnp.int32))


def test_an_unknown_scalarisation_is_named_with_those_there_are():
    with pytest.raises(BadInput, match="scalarisation = 'convex' is not one of weighted_sum"):
        log_scalar(jnp.ones(2), jnp.full(2, 0.5), "convex")
