"""The best k of many: their rewards and how different they are."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.lab.errors import BadInput
from tutelage.measures.top_k import mean_pairwise_distance, top_k, topk_diversity, topk_reward


def test_the_best_k_are_the_largest():
    scores = np.array([[0.1, 0.9, 0.5, 0.7], [4, 3, 2, 1]])
    assert top_k(scores, 2).tolist() == [[1, 3], [0, 1]]
    assert topk_reward(scores, 2).tolist() == pytest.approx([0.8, 3.5])
    assert topk_reward([1.0, 1.0, 0.0], 2) == 1.0


def test_diversity_is_the_mean_over_pairs_of_the_best():
    rng = np.random.default_rng(0)
    place, scores = rng.normal(size=9), rng.normal(size=9)
    distances = np.abs(place[:, None] - place[None])
    best = sorted(range(9), key=lambda i: -scores[i])[:4]
    pairs = [abs(place[a] - place[b]) for i, a in enumerate(best) for b in best[i + 1 :]]
    assert topk_diversity(scores, distances, 4) == pytest.approx(np.mean(pairs))
    assert mean_pairwise_distance(np.stack([distances, 2 * distances])).tolist() == pytest.approx(
        [np.mean(distances[np.triu_indices(9, 1)]), 2 * np.mean(distances[np.triu_indices(9, 1)])]
    )


def test_identical_items_have_no_diversity():
    assert topk_diversity([3, 2, 1], np.zeros((3, 3)), 3) == 0.0


def test_diversity_of_one_item_is_nan_with_a_warning():
    with pytest.warns(UserWarning, match="k = 1: the diversity of one item is undefined"):
        assert np.isnan(topk_diversity([3, 2, 1], np.zeros((3, 3)), 1))
    with pytest.warns(UserWarning, match="undefined"):
        assert np.isnan(mean_pairwise_distance([[[0.0]], [[0.0]]])).all()


def test_k_beyond_the_samples_is_refused():
    with pytest.raises(BadInput, match=r"k = 4: must be in \[1, 3\]"):
        topk_reward([1, 2, 3], 4)
    with pytest.raises(BadInput, match="1 of 3 are NaN"):
        topk_reward([1, 2, float("nan")], 2)
    with pytest.raises(BadInput, match=r"must be \[n\], \[n, n\]"):
        topk_diversity([1, 2, 3], np.zeros((2, 2)), 2)
