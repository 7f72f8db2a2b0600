"""What a forward and backward pass holds at once: no fused way ever has A."""

from __future__ import annotations

import subprocess
import sys

import pytest

PASS = """
import sys
from pathlib import Path
import torch
from tutelage.attention.compositional.layer import CompositionalAttention

def status(name):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return 1024 * int(line.split()[1])

backend, tokens = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
layer = CompositionalAttention(32, 4, 4, d_search=32, d_value=32, backend=backend)
layer(torch.randn(1, 8, 32)).sum().backward()  # what libraries load when they are first called
x = torch.randn(1, tokens, 32, requires_grad=True)
held = status("VmRSS")
layer(x, is_causal=sys.argv[3] == "causal").sum().backward()
print(status("VmHWM") - held)
"""


def peak(backend: str, tokens: int, limit: str = "free") -> int:
    """Bytes above what was held before, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PASS, backend, str(tokens), limit], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_pass_over_2048_tokens_never_holds_all_of_a():
    assert peak("stacked", 2048, "causal") < 4 * 4 * 2048**2


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_at_4096_tokens_fused_ways_hold_less_than_a_quarter_of_the_literal_one():
    literal = peak("literal", 4096)
    assert literal > 4 * 4 * 4096**2
    for backend in ("stacked", "expanded"):
        assert peak(backend, 4096) < literal / 4
