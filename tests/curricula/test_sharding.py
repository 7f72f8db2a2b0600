"""One system over two devices, which a process of its own simulates (`two_devices.py`); and what is refused."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from studies.tiny_minimax import tiny

from tutelage.backends.jax_program import jax_program
from tutelage.curricula.sharding import spread
from tutelage.lab.errors import BadInput
from tutelage.studies.minimax.build import system

TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def seen():
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)]),
    }
    script = [sys.executable, str(TESTS / "curricula" / "two_devices.py")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_one_update_of_two_devices_is_that_of_one_on_the_whole_batch(seen):
    """To 1e-5, of parameters that three epochs moved a thousand times as far; the metrics as well."""
    found = seen["one_update_of_two_devices_and_of_one"]
    assert found["moved"] > 1e-2
    assert found["apart"] < 1e-5
    assert max(found["metrics_apart"].values()) < 1e-5
    assert found["equal"]


def test_students_stay_identical_while_devices_keep_buffers_of_their_own(seen):
    found = seen["robust_replay"]
    assert found["equal"] and found["equal_after_resuming"]
    assert found["walls_shape"] == [2, 8, 5, 5]  # 16 slots in all
    assert found["sub_buffers_differ"]


def test_devices_agree_on_the_phase_of_every_cycle(seen):
    """A device counts the cycles of its own loop. None replays before the poorest buffer is full enough."""
    found = seen["robust_replay"]
    cycles, updates = found["counts"]
    assert found["teacher_cycles"] == [cycles, cycles]
    assert cycles > updates == 2
    poor_first, poor_second = found["uneven_cycles"]
    # From 1 of 8 slots by at most 2 a cycle to the half that replay needs: two cycles, then two of replay.
    assert poor_first == poor_second >= 4
    assert found["uneven_sizes"][1] >= 4


def test_a_run_goes_on_from_its_saved_state_bit_for_bit(seen):
    """By the executable compiled for states that were never saved: one trace for both."""
    found = seen["robust_replay"]
    assert found["saved_on_the_way"]
    assert found["resumed_is_the_same"]
    assert found["traces"] == [1, 1]


def test_record_evaluation_and_exhibits_know_of_the_devices(seen):
    found = seen["robust_replay"]
    assert found["figures"]["cycles"] >= 4
    assert set(found["evaluated"]) == {"held_out_return", "held_out_solved"}
    assert found["captions"] == ["Of 8 levels in the buffer of the first of 2 devices at the end."] * 2
    assert "2 visible, 2 used" in found["device"]


def test_one_adversary_learns_from_the_levels_of_all_devices(seen):
    found = seen["teacher_that_learns"]
    assert found["adversaries_equal"]
    assert found["adversary_updates"] == [2, 2]
    assert found["students_equal_on_both"] and found["students_are_two"]


def test_every_device_searches_and_keeps_levels_of_its_own(seen):
    found = seen["teacher_that_searches"]
    assert found["kept"] == [2, 3, 5, 5]  # 6 in all
    assert found["differ"] and found["equal"]


def test_metrics_are_means_over_the_devices_that_have_a_value(seen):
    assert seen["metrics_of_all"] == {"mean": 2.5, "sometimes": 2.5, "some": 4.0, "never": None, "last": 7.0}


def test_more_devices_than_there_are_and_a_system_without_an_axis_are_refused():
    ued = system(tiny("dr", rollout__num_devices=2))
    with pytest.raises(BadInput, match="num_devices = 64 is more than"):
        spread(ued, 64)
    with pytest.raises(BadInput, match="axis_name"):
        spread(dataclasses.replace(ued, axis_name=None), 1)


def test_a_placed_state_and_seeds_side_by_side_are_refused():
    def never(*_):
        raise AssertionError

    with pytest.raises(BadInput, match="'loop'"):
        jax_program(never, never, never, seeds=[0], mode="vmap", place=jax.device_put)
