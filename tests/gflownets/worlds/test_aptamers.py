"""Aptamers: ViennaRNA's folds with DNA parameters, and what is counted of them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tutelage.gflownets.oracles.oracle import Oracle
from tutelage.gflownets.worlds import aptamers as world
from tutelage.gflownets.worlds.aptamers import aptamers, folder, folds, pins
from tutelage.gflownets.worlds.aptamers_config import AptamerConfig
from tutelage.gflownets.worlds.sequences import tokens_of
from tutelage.lab.errors import BadInput

RNA = pytest.importorskip("RNA")

_HAIRPIN = "GGCGCAAAAGCGCC"


@pytest.mark.parametrize(
    ("structure", "number"),
    [("....", 0), ("((..))", 1), ("(..)(..)", 2), ("((..)(..))", 1), (".((...))..((...)).(...)", 3), ("", 0)],
)
def test_pins_are_returns_to_the_open_chain(structure: str, number: int):
    assert pins(structure) == number


def test_folds_are_those_of_dna_and_the_default_parameters_stay():
    before = RNA.fold(_HAIRPIN)
    folded = folder()(_HAIRPIN)
    assert RNA.fold(_HAIRPIN) == before
    assert folded.structure == "(((((....)))))" == before[0]
    assert before[1] < folded.energy < 0  # RNA's helix is the stronger one
    RNA.params_load_DNA_Mathews2004()
    try:
        rng = np.random.default_rng(0)
        texts = ["".join(rng.choice(list("ACGT"), 40)) for _ in range(20)]
        for text, fold in zip(texts, folds(texts), strict=True):
            structure, energy = RNA.fold(text)
            assert fold.structure == structure and fold.energy == pytest.approx(energy, abs=1e-6)
    finally:
        RNA.params_load_RNA_Turner2004()


def test_a_warmer_fold_is_weaker():
    assert folder(60.0)(_HAIRPIN).energy > folder(37.0)(_HAIRPIN).energy > folder(10.0)(_HAIRPIN).energy


def test_rewards_are_the_published_counts_over_their_scales():
    config = AptamerConfig(min_len=14, max_len=30, objectives=("pins", "energy", "inverse_length", "pairs"))
    problem = aptamers(config)
    assert problem.objectives.on_host and problem.objectives.render(tokens_of(_HAIRPIN, "ACGT", 30)) == _HAIRPIN
    objects = np.stack([tokens_of(text, "ACGT", 30) for text in (_HAIRPIN, "A" * 20, _HAIRPIN + "AA" + _HAIRPIN)])
    rewards = Oracle(problem.objectives)(objects)
    energy = folder()(_HAIRPIN).energy
    np.testing.assert_allclose(rewards[0], [1 / 8, -energy / 60, 1 / 14, 5 / 16], rtol=1e-6)
    np.testing.assert_allclose(rewards[1], [0, 0, 1 / 20, 0], rtol=1e-6)
    np.testing.assert_allclose(rewards[2, [0, 3]], [2 / 8, 10 / 16], rtol=1e-6)


def test_long_aptamers_may_have_more_pairs_than_the_scale():
    problem = aptamers(AptamerConfig(max_len=60))
    stem = "GC" * 14
    text = stem + "AAAA" + stem
    rewards = Oracle(problem.objectives)(tokens_of(text, "ACGT", 60)[None])
    assert rewards[0, 2] > 1.0 and (rewards[0] <= problem.objectives.upper).all()


def test_no_fold_exceeds_the_declared_bounds():
    problem = aptamers(AptamerConfig(min_len=5, max_len=40))
    rng = np.random.default_rng(1)
    for length in (5, 12, 40):
        half = rng.choice(list("GC"), (30, length // 2))
        partner = {"G": "C", "C": "G"}
        texts = ["".join(row) + "".join(partner[base] for base in row[::-1]) for row in half]
        Oracle(problem.objectives)(np.stack([tokens_of(text, "ACGT", 40) for text in texts]))


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="min_len = 31 and max_len = 30"):
        aptamers(AptamerConfig(min_len=31))
    with pytest.raises(BadInput, match="'pins' is there twice"):
        aptamers(AptamerConfig(objectives=("pins", "pins")))


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    world._parameters.cache_clear()
    monkeypatch.setitem(sys.modules, "RNA", None)
    try:
        with pytest.raises(BadInput, match=r"aptamers need ViennaRNA.*pip install 'tutelage\[mo\]'"):
            aptamers(AptamerConfig())
    finally:
        world._parameters.cache_clear()
