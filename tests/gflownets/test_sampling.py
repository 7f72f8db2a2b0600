"""What a sampler may be asked for is what its training had."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from tiny_grid import tiny_grid

from tutelage.gflownets.baselines.a2c import a2c
from tutelage.gflownets.baselines.config import A2CConfig, BaselinesConfig, RandomSearchConfig
from tutelage.gflownets.baselines.envelope_q import envelope_q
from tutelage.gflownets.baselines.genetic import genetic
from tutelage.gflownets.baselines.random_search import random_search
from tutelage.gflownets.baselines.soft_q import soft_q
from tutelage.gflownets.condition import condition
from tutelage.gflownets.config import BetaConfig, GFlowNetConfig, NetworkConfig, PreferenceConfig
from tutelage.gflownets.learning.gflownet import gflownet
from tutelage.gflownets.sampling import sampler
from tutelage.lab.errors import BadInput

PROBLEM = tiny_grid(4)
CONSTANT = GFlowNetConfig(batch_size=4, network=NetworkConfig(width=4, layers=1), preference=PreferenceConfig(bins=2))
DRAWN = replace(CONSTANT, beta=BetaConfig(kind="loguniform", low=1.0, high=16.0, bins=2))
OWN = BaselinesConfig()


@pytest.mark.parametrize(
    ("method", "exponents"),
    [
        (gflownet(PROBLEM, CONSTANT, 1), (16, 16)),
        (gflownet(PROBLEM, DRAWN, 1), (1, 16)),
        (soft_q(PROBLEM, CONSTANT, OWN.soft_q, 1), (16, 16)),
        (a2c(PROBLEM, CONSTANT, A2CConfig(reward="power"), 1), (16, 16)),
        (a2c(PROBLEM, CONSTANT, A2CConfig(reward="linear"), 1), None),
        (a2c(PROBLEM, DRAWN, A2CConfig(reward="linear"), 1), (1, 16)),  # its network has read them
        (envelope_q(PROBLEM, CONSTANT, OWN.envelope_q, 1), None),
        (genetic(PROBLEM, CONSTANT, OWN.genetic), None),
    ],
)
def test_an_exponent_that_training_did_not_have_is_refused(method, exponents):
    assert method.exponents == exponents and method.answers_preferences
    known, message = exponents or (), "must be left out"
    if exponents is not None:
        low, high = exponents
        message = (
            f"must be {low}, the one that training had" if low == high else r"must be in \[1, 16\], as in training"
        )
    for beta in known:
        sampler(method, None, PROBLEM.objectives, beta=float(beta))
    for beta in (0.5, 1000.0):
        with pytest.raises(BadInput, match=f"beta = {beta:g}: .*{message}"):
            sampler(method, None, PROBLEM.objectives, beta=float(beta))


def test_what_is_not_asked_for_is_the_largest_exponent():
    method = gflownet(PROBLEM, DRAWN, 1)
    state, asked = method.init(jax.random.key(0)), condition([[0.3, 0.7]] * 9, 16.0, 2)
    objects = sampler(method, state, PROBLEM.objectives)([0.3, 0.7], 9, jax.random.key(1))
    assert np.array_equal(objects, jax.jit(method.sample)(state, jax.random.key(1), asked))


def test_who_answers_no_preference_is_asked_for_none():
    method = random_search(PROBLEM, CONSTANT, RandomSearchConfig(answer="uniform"))
    draw = sampler(method, method.init(jax.random.key(0)), PROBLEM.objectives)
    assert draw(None, 3, jax.random.key(1)).shape == (3, 2)
    with pytest.raises(BadInput, match="preference: this method samples the same whatever is preferred; must be None"):
        draw([0.5, 0.5], 3, jax.random.key(1))
    assert random_search(PROBLEM, CONSTANT, RandomSearchConfig(answer="archive")).answers_preferences
