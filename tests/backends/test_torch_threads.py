"""Threads of PyTorch: as many as asked for inside, and as before outside."""

from __future__ import annotations

import os

import torch

from tutelage.backends.torch_threads import single_threaded


def test_single_threaded_is_inherited_and_undone() -> None:
    torch.set_num_threads(2)
    before = os.environ.get("OMP_NUM_THREADS")
    try:
        with single_threaded():
            assert torch.get_num_threads() == 1
            assert os.environ["OMP_NUM_THREADS"] == "1"
        assert torch.get_num_threads() == 2
        assert os.environ.get("OMP_NUM_THREADS") == before
    finally:
        torch.set_num_threads(1)
