import re
from math import comb

import jax
import jax.numpy as jnp
import moocore
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tutelage.gflownets.objectives import check_rewards
from tutelage.gflownets.worlds.config import NGramConfig
from tutelage.gflownets.worlds.enumeration import enumerate_objects, front_of
from tutelage.gflownets.worlds.ngrams import most_occurrences, ngram_front, ngrams
from tutelage.gflownets.worlds.sequences import text_of
from tutelage.lab.errors import BadInput


def test_rewards_count_overlapping_occurrences_as_a_regex_does():
    config = NGramConfig(alphabet="AVC", motifs=("AV", "AA", "AVA", "C"), min_len=1, max_len=9)
    problem = ngrams(config)
    rng = np.random.default_rng(0)
    ends = rng.integers(1, 10, (400, 1))
    objects = np.where(np.arange(9) < ends, rng.integers(0, 3, (400, 9)), -1).astype(np.int32)
    texts = [text_of(tokens, config.alphabet) for tokens in objects]
    expected = [[len(re.findall(f"(?={motif})", text)) / 18 for motif in config.motifs] for text in texts]
    rewards = jax.jit(problem.objectives.rewards)(jnp.asarray(objects))
    assert_allclose(rewards, expected, rtol=1e-6)
    assert problem.objectives.render(objects[0]) == texts[0]


@pytest.mark.parametrize(("letters", "hypervolume"), [("AV", 0.472222), ("AVC", 0.139918), ("AVCW", 0.0291495)])
def test_unigram_front_has_the_hypervolume_of_the_closed_form(letters, hypervolume):
    problem = ngrams(NGramConfig(motifs=tuple(letters), min_len=17, max_len=18))
    assert problem.front is not None
    found = moocore.hypervolume(problem.front(), ref=[0.0] * len(letters), maximise=True)
    assert found == pytest.approx(comb(18, len(letters)) / 18 ** len(letters), rel=1e-12)
    assert found == pytest.approx(hypervolume, abs=5e-7)


@pytest.mark.parametrize(
    "motifs", [("AV", "VC"), ("AV", "VC", "CA"), ("AVA", "VAV", "AA"), ("A", "AV", "CCV", "x"), ("AVC", "CVA", "VV")]
)
def test_front_by_dynamic_programming_equals_enumeration(motifs):
    problem = ngrams(NGramConfig(alphabet="AVCx", motifs=motifs, min_len=3, max_len=7, scale=1.0))
    assert problem.front is not None
    rewards = np.asarray(jax.jit(problem.objectives.rewards)(jnp.asarray(enumerate_objects(problem))), np.float64)
    assert_array_equal(problem.front(), front_of(rewards))


def test_letters_outside_of_all_motifs_are_as_good_as_one():
    motifs = ("AV", "VC", "CA")
    assert_array_equal(ngram_front("ARNDCQEGHILKMFPSTWYV", motifs, 12), ngram_front("AVCx", motifs, 12))


def test_a_motif_that_overlaps_itself_declares_what_it_can_reach():
    config = NGramConfig(alphabet="AV", motifs=("AA", "AVA", "AVV"), min_len=9, max_len=9, scale=4.0)
    problem = ngrams(config)
    objects = enumerate_objects(problem)
    rewards = check_rewards(problem.objectives.rewards(jnp.asarray(objects)), problem.objectives, objects)
    assert problem.objectives.upper == (2.0, 1.0, 1.0)
    assert_array_equal(rewards.max(axis=0), [8 / 4, 4 / 4, 3 / 4])
    assert [most_occurrences(motif, 9) for motif in config.motifs] == [8, 4, 3]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NGramConfig(min_len=37), "min_len = 37 and max_len = 36: must be 1 ≤ min_len ≤ max_len"),
        (NGramConfig(motifs=("AV", "AB")), "'AB' has the letter 'B', which is not in 'ARND"),
        (NGramConfig(motifs=("AV", "AV")), "'AV' is there twice"),
        (NGramConfig(motifs=()), "there is none"),
        (NGramConfig(motifs=("AV", "")), "'' has 0 letters"),
        (NGramConfig(motifs=("AVA",), min_len=1, max_len=2), "'AVA' has 3 letters; must be 1 to max_len = 2"),
        (NGramConfig(alphabet="AVCA"), "alphabet = 'AVCA': 'A' is there twice"),
        (NGramConfig(scale=0.0), r"scale = 0.0: must be in \(0, inf\)"),
    ],
)
def test_bad_tasks_are_refused_in_one_line(config, message):
    with pytest.raises(BadInput, match=re.escape(message) if "(0" not in message else message):
        ngrams(config)
