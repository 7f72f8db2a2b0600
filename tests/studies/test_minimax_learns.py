"""Learning checks of the page, at the quick preset: minutes each."""

import numpy as np
import pytest

from tutelage.lab import configuration, driver
from tutelage.measures.rank_correlation import spearman
from tutelage.studies import load

study = load("minimax")


def run(arm, seed, folder, **changes):
    config, _ = configuration.configure(study, arm, "quick", changes)
    return driver.run(study, arm, "quick", config, [seed], folder, overrides=changes, quiet=True)[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dr_solves_three_quarters_of_held_out_levels_and_an_untrained_student_does_not(seed, tmp_path):
    """It works when (6)."""
    assert run("dr", seed, tmp_path / "trained").figures["held_out_solved"] >= 0.75
    # One update of almost no step size: what an untrained student does.
    untrained = {"schedule.num_updates": 1, "schedule.log_every": 1, "ppo.learning_rate": 1e-12}
    assert run("dr", seed, tmp_path / "untrained", **untrained).figures["held_out_solved"] <= 0.25


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_accel_replays_ever_longer_levels(tmp_path):
    """It works when (8): from the empty room, Spearman ≥ 0.7 of the replayed levels' shortest path over training."""
    steps, lengths = run("accel", 0, tmp_path).series["metrics", "level/shortest_path"]
    assert spearman(np.asarray(steps, float), np.asarray(lengths)) >= 0.7
