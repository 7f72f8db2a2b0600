"""The doctor, on a machine made ill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tutelage.cli import doctor, main


def test_a_driver_that_hangs_does_not_hang_the_doctor():
    (finding,) = doctor.jax(timeout=0.2, program="import time; time.sleep(60)")
    assert finding.level == "fail"
    assert finding.found == "JAX found none within 0.2 s"


def test_a_broken_installation_is_said_with_its_last_line():
    (finding,) = doctor.jax(program="import sys; sys.exit('no such plugin')")
    assert (finding.level, finding.found) == ("fail", "no such plugin")


def test_devices_and_cache_come_from_one_answer(tmp_path):
    program = f"print('noise'); print('''{{\"devices\": [\"cpu: cpu\"], \"cache\": \"{tmp_path}\"}}''')"
    devices, cache = doctor.jax(program=program)
    assert (devices.level, devices.found) == ("ok", "cpu: cpu")
    assert (cache.level, cache.found) == ("ok", f"{tmp_path} can be written")


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path):
    assert doctor.compile_cache("").level == "warn"
    file = tmp_path / "file"
    file.write_text("")
    finding = doctor.compile_cache(str(file / "cache"))
    assert finding.level == "warn"
    assert "JAX_COMPILATION_CACHE_DIR" in finding.advice


@pytest.mark.parametrize(("gibibytes", "level"), [(0.1, "fail"), (1, "warn"), (50, "ok")])
def test_disk(monkeypatch, tmp_path, gibibytes, level):
    monkeypatch.chdir(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=int(gibibytes * 2**30))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert doctor.disk()[1].level == level


def test_browser_and_threads(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/" + name if name == "google-chrome" else None)
    assert doctor.browser()[0].found == "/usr/bin/google-chrome"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert doctor.browser()[0].level == "warn"
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS=1" in doctor.threads()[0].found
    assert f"{len(os.sched_getaffinity(0))} of" in doctor.threads()[0].found


def test_exit_code_is_the_worst_finding(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", (lambda: [doctor.Finding("warn", "moon", "full", "howl")],))
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "warn  moon            full (howl)\n"
    monkeypatch.setattr(doctor, "CHECKS", (lambda: [doctor.Finding("fail", "moon", "gone")],))
    assert main(["doctor"]) == 1


def test_deep_prints_one_line_for_each_comparison_and_all_agree(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", ())
    assert main(["doctor", "--deep"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 25
    assert all(line.startswith("ok    gradients       ") for line in lines)
    for name in ("PPO", "RLOO", "GRPO", "KL in the loss", "expert iteration", "samples"):
        assert any(name in line for line in lines)


def test_a_wrong_gradient_fails_with_its_numbers(monkeypatch, capsys):
    from tutelage.posttraining.policy_gradient import gradient_checks

    wrong = [gradient_checks.Comparison("tabular: PPO = exact gradient", 0.25, 1e-9)]
    monkeypatch.setattr(doctor, "CHECKS", ())
    monkeypatch.setattr(gradient_checks, "check_policy_gradients", lambda: wrong)
    assert main(["doctor", "--deep"]) == 1
    assert "fail  gradients       tabular: PPO = exact gradient: off by 0.25, at most 1e-09" in capsys.readouterr().out


def test_without_deep_no_framework_is_loaded():
    program = (
        "import sys; from tutelage.cli import doctor, main; doctor.CHECKS = (); code = main(['doctor']); "
        "sys.exit(code or 'torch' in sys.modules or 'jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], env=os.environ, check=False).returncode == 0


def test_deep_without_pytorch_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tutelage.posttraining.policy_gradient.gradient_checks", None)
    [finding] = doctor.policy_gradients()
    assert finding.level == "fail"
    assert "tutelage[lm]" in finding.advice
