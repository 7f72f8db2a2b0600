"""What every attention layer does in the benchmark, in whatever environment it runs: one step, one decoded sequence.

All layers are without biases and without dropout, on one thread, in float32, with the same weights from the same seed;
value queries are as large as a head, since lucidrains' layer knows no other size.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stopwatch import Stopwatch, peak_memory, report
from torch import Tensor, nn

Decode = Callable[[Tensor], Tensor]
"""Tokens (B, N, D) to the causal outputs (B, N, D), found one token after another."""


def weights(work: Mapping[str, int], seed: int) -> dict[str, Tensor]:
    """Matrices (out, in) by name: query, key, value, value_query, value_key, output."""
    width, searches, retrievals = work["width"], work["searches"], work["retrievals"]
    size = width // searches
    shapes = {
        "query": (width, width),
        "key": (width, width),
        "value": (retrievals * size, width),
        "value_query": (width, width),
        "value_key": (size, size),
        "output": (width, width),
    }
    draw = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(draw.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[1])))
        for name, shape in shapes.items()
    }


def tokens(work: Mapping[str, int], seed: int) -> Tensor:
    """(B, N, D)."""
    draw = np.random.default_rng([seed, 1])
    return torch.from_numpy(draw.standard_normal((work["batch"], work["tokens"], work["width"]), dtype=np.float32))


def without_cache(layer: Callable[[Tensor], Tensor]) -> Decode:
    """For a layer that keeps nothing: every token's prefix is computed from its start."""

    def decode(x: Tensor) -> Tensor:
        return torch.cat([layer(x[:, : n + 1])[:, -1:] for n in range(x.shape[1])], 1)

    return decode


def steps(layer: nn.Module, x: Tensor, repeats: int) -> dict[str, Any]:
    """Forward and backward so often, after one that is not counted; memory above what was held before."""
    x, held = x.requires_grad_(), _resident()
    direction = torch.linspace(-1, 1, x.numel()).view_as(x)
    found: list[dict[str, Any]] = []
    for _ in range(repeats + 1):
        layer.zero_grad(set_to_none=True)
        x.grad = None
        out, forward = Stopwatch.time(layer, x)
        _, backward = Stopwatch.time(out.backward, direction)
        found.append({"forward": forward, "backward": backward})
    assert x.grad is not None
    mark = [float(tensor.detach().norm()) for tensor in (out, x.grad)] + out.flatten()[:4].tolist()
    return {"steps": found[1:], "memory": peak_memory() - held, "fingerprint": mark}


def decoding(decode: Decode, x: Tensor, repeats: int) -> dict[str, Any]:
    """The whole sequence, one token after another, so often."""
    found = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            out, seconds = Stopwatch.time(decode, x)
            found.append(seconds)
    return {"decodes": found[1:], "fingerprint": [float(out.norm()), *out.flatten()[:4].tolist()]}


def main(name: str, make: Callable[[Mapping[str, int], Mapping[str, Tensor], bool], tuple[nn.Module, Decode]]) -> None:
    """Command line of a driver; `make(work, weights, causal)` gives its layer and its way to decode."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=json.loads, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    work: dict[str, Any] = given.work
    x = tokens(work, given.seed)
    layer, decode = make(work, weights(work, given.seed), work["decode"])
    found = decoding(decode, x, work["repeats"]) if work["decode"] else steps(layer, x, work["repeats"])
    report(library=name, versions={"torch": torch.__version__, "python": sys.version.split()[0]}, **found)


def _resident() -> int:
    """Bytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
