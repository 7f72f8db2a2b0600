"""Learning checks of the page, at the quick preset: minutes each."""

import functools

import numpy as np
import pytest

from tutelage.lab import configuration, driver
from tutelage.studies import load

study = load("mogfn")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`(arm, seeds) -> the final figures of each seed`; an arm is run once, seed by seed."""
    folder = tmp_path_factory.mktemp("runs")

    @functools.cache
    def once(arm, seed):
        config, _ = configuration.configure(study, arm, "quick", {})
        return driver.run(study, arm, "quick", config, [seed], folder / f"{arm}-{seed}", quiet=True)[0].figures

    return lambda arm, seeds: [once(arm, seed) for seed in seeds]


def mean(results, figure):
    return np.mean([figures[figure] for figures in results])


@pytest.mark.parametrize("beta", [1, 4, 16])
def test_the_law_on_the_grid_is_the_exact_one(beta, run):
    """It works when (1)."""
    (figures,) = run("grid", (0,))
    assert figures[f"l1@{beta}"] <= 0.12
    assert figures[f"l1_max@{beta}"] <= 0.25


@pytest.mark.parametrize("beta", [1, 4, 16])
def test_log_z_of_a_condition_is_the_exact_one(beta, run):
    """It works when (2)."""
    (figures,) = run("grid", (0,))
    assert figures[f"log_z_error@{beta}"] <= 0.3


def test_preferences_are_answered_and_matter(run):
    """It works when (5)."""
    (figures,) = run("mogfn", (0,))
    assert figures["conditioning"] >= 0.9
    assert figures["shuffle_loss"] >= 0.2


def test_samples_are_more_diverse_than_those_of_reinforce_and_no_worse(run):
    """It works when (6), over three seeds."""
    ours, theirs = run("mogfn", SEEDS), run("moreinforce", SEEDS)
    assert ours[0]["evaluations"] == theirs[0]["evaluations"]
    assert mean(ours, "topk_diversity") >= 2 * mean(theirs, "topk_diversity")
    assert mean(ours, "hypervolume") >= 0.97 * mean(theirs, "hypervolume")


def test_active_learning_reaches_more_than_random_mutation_and_never_asks_twice(run):
    """It works when (7), over three seeds."""
    ours, theirs = run("al", SEEDS), run("al_mutation", SEEDS)
    assert ours[0]["evaluations"] == theirs[0]["evaluations"] == 16 + 8 * 8
    assert {figures["new"] for figures in ours} == {1.0}
    assert mean(ours, "hypervolume_share") >= 1.15 * mean(theirs, "hypervolume_share")
