"""Contextual retrieval: the labels are right, the splits are the published ones, the model has the published size."""

import itertools

import numpy as np
import pytest

from tutelage.attention.tasks.contextual_retrieval import ContextualRetrieval, nearest_others, solve
from tutelage.attention.tasks.contextual_retrieval_config import (
    COEFFICIENTS,
    ContextualRetrievalConfig,
    combinations,
)
from tutelage.lab.errors import BadInput

SMALL = ContextualRetrievalConfig(test_examples=64)


def test_worked_example():
    searches = np.array([[[0.0], [0.5], [2.0]]])
    values = np.array([[[1.0, 2], [3, 4], [5, 6]]])
    cues = np.array([[[0], [1], [0]]])
    labels, nearest = solve(searches, values, cues, np.ones(1))
    assert nearest.tolist() == [[[1], [0], [1]]]
    assert labels.tolist() == [[3, 2, 3]]
    weighted, _ = solve(searches, values, cues, np.array(COEFFICIENTS[:1]))
    np.testing.assert_allclose(weighted, [[-2.14043256, -1.42695504, -2.14043256]], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("searches", "values", "coefficients"), [(1, 1, True), (2, 2, False), (3, 4, True)])
def test_labels_equal_a_search_token_by_token(searches, values, coefficients):
    config = ContextualRetrievalConfig(7, searches, values, coefficients, withhold=False)
    made = ContextualRetrieval(config, seed=3).examples(20, step=5)
    for inputs, labels, found in zip(made.inputs.astype(float), made.labels, made.nearest, strict=True):
        for token in range(7):
            total = 0.0
            for search in range(searches):
                others = [other for other in range(7) if other != token]
                best = min(others, key=lambda other: abs(inputs[token, search] - inputs[other, search]))
                at = searches + values + search * values
                cue = inputs[token, at : at + values]
                assert best == found[token, search]
                assert sorted(cue) == [0] * (values - 1) + [1]
                weight = COEFFICIENTS[search] if coefficients else 1.0
                total += weight * inputs[best, searches + int(cue.argmax())]
            assert labels[token] == pytest.approx(total, abs=1e-5)


def test_the_token_itself_is_never_its_nearest():
    same = np.zeros((1, 3, 1))
    assert nearest_others(same)[0, :, 0].tolist() == [1, 0, 0]


def test_with_two_searches_and_two_values_only_one_one_is_withheld():
    assert combinations(SMALL) == ([(0, 0), (1, 0), (0, 1)], [(1, 1)])


@pytest.mark.parametrize(("searches", "values"), [(1, 2), (1, 3), (2, 3), (3, 2), (2, 4), (4, 4)])
def test_splits_are_disjoint_and_whole_and_four_fifths_are_in_training(searches, values):
    seen, withheld = combinations(ContextualRetrievalConfig(searches=searches, values=values))
    every = list(itertools.product(range(values), repeat=searches))
    assert sorted(seen + withheld) == every
    assert len(seen) == max(int(0.8 * len(every)), (len(every) + 1) // 2)
    assert set(every[::2]) <= set(seen) and withheld


def test_training_never_shows_a_withheld_combination_and_the_test_shows_nothing_else():
    task = ContextualRetrieval(SMALL, seed=0)
    trained = {tuple(cue) for step in range(3) for cue in task.examples(50, step=step).cues.reshape(-1, 2).tolist()}
    tested = {tuple(cue) for cue in task.examples(50, withheld=True).cues.reshape(-1, 2).tolist()}
    assert trained == {(0, 0), (1, 0), (0, 1)} and tested == {(1, 1)}


def test_examples_follow_from_seed_and_step_alone():
    first, again = (ContextualRetrieval(SMALL, seed=4) for _ in range(2))
    first.batch(0, 8)
    assert np.array_equal(first.examples(8, step=7).inputs, again.examples(8, step=7).inputs)
    assert not np.array_equal(first.examples(8, step=7).inputs, again.examples(8, step=8).inputs)
    assert not np.array_equal(first.examples(8, step=0).inputs, again.examples(8).inputs)


def test_one_combination_of_cues_cannot_be_split():
    with pytest.raises(BadInput, match="values = 1 with searches = 2: 1 combinations"):
        ContextualRetrieval(ContextualRetrievalConfig(values=1), seed=0)
