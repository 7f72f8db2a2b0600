"""A finished run as a sampler: from its folder to objects in two lines."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from tutelage.cli import main
from tutelage.lab import driver
from tutelage.lab.configuration import override
from tutelage.lab.errors import BadInput
from tutelage.studies import load
from tutelage.studies.loading import load_run
from tutelage.studies.mogfn.sampling import sampler_of

study = load("mogfn")
TINY = {
    "hypergrid.side": 4,
    "gflownet.batch_size": 4,
    "gflownet.network.width": 8,
    "gflownet.network.layers": 1,
    "gflownet.network.z_layers": 0,
    "evaluation.bins": 2,
    "evaluation.final_bins": 2,
    "evaluation.num_samples": 10,
    "evaluation.exact_bins": 0,
    "schedule.num_updates": 2,
    "schedule.log_every": 2,
    "schedule.evaluate_every": 0,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two seeds that has hardly learnt."""
    folder = tmp_path_factory.mktemp("runs") / "grid"
    config = override(study.arms["grid"].configure(study.config()), TINY)
    driver.run(study, "grid", "quick", config, [0, 1], folder, quiet=True)
    return folder


def test_a_run_answers_preferences_from_its_newest_checkpoint(folder):
    run = load_run(folder)
    draw = sampler_of(run)
    cells = draw([0.3, 0.7], 40, jax.random.key(0))
    assert cells.shape == (40, 2) and cells.min() >= 0 and cells.max() < 4
    assert np.array_equal(draw([0.3, 0.7], 40, jax.random.key(0)), cells)
    assert len(np.unique(cells, axis=0)) > 4
    # The other seed has other parameters.
    assert not np.array_equal(sampler_of(run, index=1)([0.3, 0.7], 40, jax.random.key(0)), cells)
    rows = draw(np.eye(2), 2, jax.random.key(1))
    assert rows.shape == (2, 2)


def test_what_cannot_be_drawn_is_refused(folder):
    run = load_run(folder)
    with pytest.raises(BadInput, match=r"index = 2: the run has 2 seeds; must be in \[0, 1\]"):
        sampler_of(run, index=2)
    with pytest.raises(BadInput, match="beta = 0: must be > 0"):
        sampler_of(run, beta=0.0)([0.5, 0.5], 1, jax.random.key(0))
    with pytest.raises(BadInput, match=r"beta = 1000: must be .*training"):
        sampler_of(run, beta=1000.0)
    with pytest.raises(BadInput, match="3 weights for 2 objectives"):
        sampler_of(run)([0.2, 0.3, 0.5], 1, jax.random.key(0))
    with pytest.raises(BadInput, match=r"row 0 = .* is not on the simplex"):
        sampler_of(run)([0.6, 0.6], 1, jax.random.key(0))
    with pytest.raises(BadInput, match="this run is of study 'minimax'; must be of 'mogfn'"):
        sampler_of(run.__class__(load("minimax"), run.config, run.program, run.state, run.step, run.notes))


def test_the_command_draws_what_the_library_draws(folder, tmp_path, capsys):
    line = ["mogfn", "sample", str(folder), "--preference", "0.3,0.7", "--number", "40"]
    assert main([*line, "--out", f"{tmp_path}/cells.jsonl"]) == 0
    shown = capsys.readouterr().out
    assert "The best 10 of 40 for branin 0.3, currin" in " ".join(shown.split()) and f"all 40: {tmp_path}" in shown
    rows = [json.loads(row) for row in (tmp_path / "cells.jsonl").read_text().splitlines()]
    cells = sampler_of(load_run(folder))([0.3, 0.7], 40, jax.random.key(0))
    assert [row["object"] for row in rows] == [str(tuple(cell)) for cell in cells.tolist()]
    for row in rows:
        assert row["weighted_sum"] == pytest.approx(0.3 * row["branin"] + 0.7 * row["currin"], abs=1e-6)
    assert main([*line, "--distinct", "--out", f"{tmp_path}/cells.csv"]) == 0
    head, *body = (tmp_path / "cells.csv").read_text().splitlines()
    assert head == "object,branin,currin,weighted_sum" and len(body) == len(np.unique(cells, axis=0))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("", "--preference is missing: Weight of each objective"),
        ("--preference 0.5,0.6", "preference row 0 = (0.5, 0.6) is not on the simplex"),
        ("--preference 1", "preference: 1 weights for 2 objectives"),
        ("--preference 0.5,0.5 --place 2", "index = 2: the run has 2 seeds"),
        ("--preference 0.5,0.5 --out cells.png", "cells.png: must end in .jsonl or .csv"),
        ("--preference 0.5,0.5 --number 0", "number = 0: must be in [1, 10000000]"),
    ],
)
def test_a_command_that_cannot_be_is_one_line(folder, capsys, arguments, line):
    assert main(["mogfn", "sample", str(folder), *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tutelage: {line}") and error.count("\n") == 1
