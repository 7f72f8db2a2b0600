"""Two processes over gloo against one process on the whole batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lm.training.two_processes import train

from tutelage.lab.errors import BadInput
from tutelage.lm.training.distributed import Processes

ROOT = Path(__file__).resolve().parents[3]


def launch(strategy: str, file: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    common = {"PYTHONPATH": path, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    common |= {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), strategy, str(file)]
    running = [
        subprocess.Popen(
            command,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in running:
            output, _ = process.communicate(timeout=100)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one_on_the_whole_batch(strategy: str, tmp_path: Path) -> None:
    """Ragged examples, several micro-batches in each process and not equally many; the shared-prefix update too."""
    launch(strategy, tmp_path / "found.json")
    two, one = json.loads((tmp_path / "found.json").read_text()), train(Processes())
    for first, second in zip(one["figures"], two["figures"], strict=True):
        assert second == pytest.approx(first, rel=1e-5)
    assert two["gradients"] == pytest.approx(one["gradients"], rel=1e-4, abs=1e-6)
    assert two["shared"] == pytest.approx(one["shared"], rel=1e-4, abs=1e-6)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    torch.testing.assert_close(torch.tensor(two["weights"]), torch.tensor(one["weights"]), rtol=0, atol=5e-5)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'fsdp'"):
        Processes.join("fsdp2")
