"""A finished run as a sampler: from its folder to objects in two lines."""

from __future__ import annotations

import jax
import numpy as np
import pytest

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
    with pytest.raises(BadInput, match="3 weights for 2 objectives"):
        sampler_of(run)([0.2, 0.3, 0.5], 1, jax.random.key(0))
    with pytest.raises(BadInput, match=r"row 0 = .* is not on the simplex"):
        sampler_of(run)([0.6, 0.6], 1, jax.random.key(0))
    with pytest.raises(BadInput, match="this run is of study 'minimax'; must be of 'mogfn'"):
        sampler_of(run.__class__(load("minimax"), run.config, run.program, run.state, run.step, run.notes))
