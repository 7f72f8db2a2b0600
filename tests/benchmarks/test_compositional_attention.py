"""The benchmark of compositional attention: its tables, its check of agreement, and our side at a very small size."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from tutelage.cli.bench import find_script

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SMALL = {"batch": 2, "tokens": 5, "searches": 2, "retrievals": 2, "width": 8}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """Import a script of `benchmarks/` as a module, as scripts there import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_the_command_finds_the_script():
    assert find_script("compositional_attention") == BENCHMARKS / "compositional_attention.py"


@pytest.mark.parametrize("causal", [False, True])
def test_all_layers_of_ours_get_the_same_weights_and_find_the_same(module, causal: bool):
    work, drivers = module("attention_work"), module("ours_compositional_attention")
    x, weights = work.tokens(SMALL, 0), work.weights(SMALL, 0)
    layer, decode = drivers.ours(SMALL, weights, causal)
    naive, naive_decode = drivers.naive(SMALL, weights, causal)
    multihead, multihead_decode = drivers.multihead(SMALL, weights, causal)
    if not causal:
        one, other = work.steps(layer, x.clone(), 1), work.steps(naive, x.clone(), 1)
        assert one["fingerprint"] == pytest.approx(other["fingerprint"], rel=1e-4) and len(one["steps"]) == 1
        return
    with torch.no_grad():
        torch.testing.assert_close(decode(x), naive_decode(x))
        torch.testing.assert_close(multihead_decode(x), multihead(x))
    assert len(work.decoding(decode, x, 2)["decodes"]) == 2


def test_the_page_has_ratios_and_layers_that_disagree_stop_it(module):
    bench = module("compositional_attention")
    step = {"forward": {"cpu": 0.1, "wall": 0.2}, "backward": {"cpu": 0.3, "wall": 0.3}}
    record = {"steps": [step], "memory": 2_000_000, "fingerprint": [1.0], "library": "tutelage", "versions": {"t": "2"}}
    found = bench.figures(record, {"decode": False})
    assert found["step, CPU ms"] == pytest.approx(400) and found["memory of a step, MB"] == 2.0
    decoded = bench.figures({"decodes": [{"cpu": 0.5, "wall": 1.0}]}, {"decode": True, "tokens": 5})
    assert decoded == {"a token, CPU ms": pytest.approx(100), "a token, wall ms": pytest.approx(200)}
    slower = {figure: 3 * value for figure, value in found.items()}
    result = {"machine": {"cpu": "c", "cores": 2, "load_average": [0.5]}, "command": "x", "records": [record]}
    text = bench.page(result | {"figures": {"N = 256": {"tutelage": [found], "naive": [slower]}}})
    assert "| step, CPU ms         | 400 (400–400)    | 1200 (1200–1200) | 3.00         |" in text
    bench.agree("N = 256", {"tutelage": record, "multi-head": record | {"fingerprint": [9.0]}})
    with pytest.raises(bench.Disagreement, match="naive found"):
        bench.agree("N = 256", {"tutelage": record, "naive": record | {"fingerprint": [1.1]}})
