"""Runs that are killed at random moments, for any study.

    python tests/killing.py MODULE ARM PRESET SEEDS FOLDER [a.b=1 …]

A test starts the command, kills it with SIGKILL again and again, lets it end, and compares the folder with that of a
run which nobody disturbed.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def command(
    module: str, arm: str, preset: str, seeds: Sequence[int], folder: Path, overrides: Mapping[str, Any]
) -> list[str]:
    """What runs a study's arm in a process of its own. `module` has an attribute `study`."""
    texts = [f"{path}={json.dumps(value)}" for path, value in overrides.items()]
    words = [module, arm, preset, ",".join(map(str, seeds)), str(folder), *texts]
    return [sys.executable, str(HERE / "killing.py"), *words]


def environment() -> dict[str, str]:
    """This process's environment, with the package and the tests on the path."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent / "src"), str(HERE)])}


def run_to_end(words: Sequence[str]) -> None:
    """Run a command that must succeed."""
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run_with_kills(words: Sequence[str], folder: Path, *, kills: int, seed: int, longest: float) -> None:
    """Run a command, kill it `kills` times, and then let it end.

    Three kills of four come a uniform time in [0, longest] seconds after the process first changed its metrics, so that
    there is progress between kills; the fourth comes anywhere in its life, start-up included. A run that ends before it
    was killed so often fails the test: it must be long enough.
    """
    moments = random.Random(seed)
    metrics = folder / "metrics.jsonl"
    start_up = 0.0
    for kill in range(kills):
        before, born = _size(metrics), time.monotonic()
        process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            if kill % 4 < 3:
                while _size(metrics) == before and process.poll() is None:
                    time.sleep(0.002)
                start_up = time.monotonic() - born
                time.sleep(moments.uniform(0, longest))
            else:
                time.sleep(moments.uniform(0, start_up + longest))
        finally:
            process.send_signal(signal.SIGKILL)
            _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"ended before kill {kill + 1}: {errors.decode()}"
    run_to_end(words)


def assert_same_run(one: Path, other: Path) -> None:
    """Two finished runs left the same metrics, the same last checkpoint (byte for byte) and the same figures."""
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    newest = [max((folder / "checkpoints").glob("step-*")) for folder in (one, other)]
    assert newest[0].name == newest[1].name
    assert newest[0].read_bytes() == newest[1].read_bytes()
    figures = [json.loads((folder / "result.json").read_text())["figures"] for folder in (one, other)]
    assert figures[0] == figures[1]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main(module: str, arm: str, preset: str, seeds: str, folder: str, *overrides: str) -> None:
    from tutelage.lab import configuration, driver

    study = importlib.import_module(module).study
    changes = {path: json.loads(value) for path, _, value in (text.partition("=") for text in overrides)}
    config, _ = configuration.configure(study, arm, preset, changes)
    driver.run(study, arm, preset, config, [int(seed) for seed in seeds.split(",")], folder, overrides=changes)


if __name__ == "__main__":
    main(*sys.argv[1:])
