"""The study, killed again and again in four arms: agents, families and metrics end bit for bit the same."""

import pytest
from killing import assert_same_run, command, run_to_end, run_with_kills


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("arm", "every"), [("on_policy_rho", 20), ("replay", 20), ("psrl", 20), ("myopia", 1)])
def test_kills_change_nothing(arm, every, tmp_path):
    overrides = {"schedule.checkpoint_every": every, "schedule.log_every": every}
    words = [
        command("studies.tiny_mixing", arm, "killed", [0], tmp_path / name, overrides)
        for name in ("undisturbed", "killed")
    ]
    run_to_end(words[0])
    run_with_kills(words[1], tmp_path / "killed", kills=8, seed=len(arm), longest=0.3)
    assert_same_run(tmp_path / "undisturbed", tmp_path / "killed")
