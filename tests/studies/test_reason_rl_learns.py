"""Learning checks of the page, at the quick preset: minutes each, after the base is made (some minutes, once)."""

import pytest

from tutelage.lab import configuration, driver
from tutelage.studies import load
from tutelage.studies.reason_rl.claims import interim

study = load("reason_rl")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTELAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run(arm, folder, **changes):
    config, _ = configuration.configure(study, arm, "quick", changes)
    return driver.run(study, arm, "quick", config, [0], folder, overrides=changes, quiet=True)[0]


def test_expert_iteration_gains_and_keeps_coverage_and_the_outcome_model_ranks(tmp_path):
    """It works when (7)."""
    figures = run("ei", tmp_path).figures
    assert figures["start_maj@1"] < figures["start_pass@32"] - 0.2  # strong in skills, weak in policy
    assert figures["gain_maj@1"] >= 0.05
    assert figures["gain_pass@32"] >= -0.02
    assert figures["outcome_model_auc"] >= 0.75


@pytest.mark.parametrize("arm", ["ppo", "rcrl"])
def test_ppo_and_return_conditioning_gain(arm, tmp_path):
    """It works when (7)."""
    assert run(arm, tmp_path, **{"evaluation.rerank": False}).figures["gain_maj@1"] > 0


def test_more_supervised_epochs_narrow_the_solutions(tmp_path):
    """It works when (6)."""
    result = run("sft", tmp_path, **{"evaluation.rerank": False})
    for name in ("pass", "unique"):
        values = result.series["evaluation", interim(name, result)][1]
        assert values[-1] < values[1]  # after the first epochs
    accuracy = result.series["evaluation", "maj@1"][1]
    assert accuracy[-1] >= accuracy[1] - 0.02
