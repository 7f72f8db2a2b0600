"""The study, killed again and again in three arms: weights, moments and metrics end bit for bit the same."""

import pytest
from killing import assert_same_run, command, run_to_end, run_with_kills


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("arm", ["retrieval", "scan", "recall_mha"])
def test_kills_change_nothing(arm, tmp_path):
    words = [
        command("studies.tiny_compositional_attention", arm, "killed", [0], tmp_path / name, {})
        for name in ("undisturbed", "killed")
    ]
    run_to_end(words[0])
    run_with_kills(words[1], tmp_path / "killed", kills=8, seed=len(arm), longest=1.0)
    assert_same_run(tmp_path / "undisturbed", tmp_path / "killed")
