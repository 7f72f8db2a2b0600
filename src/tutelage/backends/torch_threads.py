"""How many threads PyTorch computes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def single_threaded(threads: int = 1) -> Iterator[None]:
    """Run tensor operations on so many threads, and go back to what it was.

    Small models gain nothing from more, and two pools that spin on one small machine slow each other down many times
    over. Processes started inside inherit it.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM")
    before, environment = torch.get_num_threads(), {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names[:2], str(threads)), TOKENIZERS_PARALLELISM="false")
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        for name, value in environment.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
