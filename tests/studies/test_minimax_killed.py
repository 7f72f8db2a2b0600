"""The study, killed twenty times in each of three arms: parameters, buffer and metrics end bit for bit the same."""

import pytest
from killing import assert_same_run, command, run_to_end, run_with_kills


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("arm", ["dr", "accel", "paired"])
def test_twenty_kills_change_nothing(arm, tmp_path):
    overrides = {"schedule.checkpoint_every": 4, "schedule.log_every": 4}
    words = [
        command("studies.tiny_minimax", arm, "killed", [0], tmp_path / name, overrides)
        for name in ("undisturbed", "killed")
    ]
    run_to_end(words[0])
    run_with_kills(words[1], tmp_path / "killed", kills=20, seed=len(arm), longest=0.3)
    assert_same_run(tmp_path / "undisturbed", tmp_path / "killed")
