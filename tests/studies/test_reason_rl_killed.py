"""The study, killed again and again in three arms: weights, pools and metrics end bit for bit the same."""

import pytest
from killing import assert_same_run, command, run_to_end, run_with_kills

from tutelage.lm.pools import Pool


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("arm", ["ei", "ppo", "rcrl"])
def test_kills_change_nothing(arm, tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    overrides = {"schedule.checkpoint_every": 2, "schedule.evaluate_every": 2}
    words = [
        command("studies.tiny_reason_rl", arm, "killed", [0], tmp_path / name, overrides)
        for name in ("undisturbed", "killed")
    ]
    run_to_end(words[0])
    run_with_kills(words[1], tmp_path / "killed", kills=6, seed=len(arm), longest=1.0)
    assert_same_run(tmp_path / "undisturbed", tmp_path / "killed")
    for pool in ("train", "test", "greedy"):
        once, again = ([*Pool(tmp_path / name / "rollouts" / pool)] for name in ("undisturbed", "killed"))
        assert [each.id for each in again] == [each.id for each in once]  # nothing is drawn twice, nothing is missing
        assert [each.text for each in again] == [each.text for each in once]
