"""Inspection finds which search and which retrieval does what, in activations made by hand."""

import numpy as np
import pytest

from tutelage.attention.inspection import explain, search_mass, specialise
from tutelage.lab.errors import BadInput

B, N, TRUE, VALUES = 40, 6, 2, 2


def truth(values=VALUES):
    rng = np.random.default_rng(0)
    nearest = (np.arange(N)[:, None] + rng.integers(1, N, (B, N, TRUE))) % N
    return nearest, rng.integers(values, size=(B, N, TRUE))


def looks_at(target, sharpness=0.9):
    """A (B, N, N): `sharpness` on the target, the rest spread over all tokens."""
    return sharpness * np.eye(N)[target] + (1 - sharpness) / N


def test_a_solved_model_has_one_hot_tables_up_to_a_permutation_for_each_search():
    nearest, cues = truth()
    search = np.stack([looks_at(nearest[..., 1]), looks_at(nearest[..., 0])], 1)
    competition = np.stack([np.eye(2)[1 - cues[..., 1]], np.eye(2)[cues[..., 0]]], 2)
    found = explain(search, competition, nearest, cues, VALUES)
    assert found.true_search.tolist() == [1, 0]
    np.testing.assert_allclose(found.best_mass, 0.9 + 0.1 / N)
    np.testing.assert_allclose(found.tables, [[[0, 1], [1, 0]], [[1, 0], [0, 1]]])
    assert found.accuracy.tolist() == [1, 1] == found.split_accuracy.tolist()


def test_the_table_holds_means_of_the_competition_given_the_cue_of_the_matched_search():
    nearest, cues = truth()
    search = looks_at(nearest[..., 0])[:, None]
    soft = np.where(cues[..., 0, None] == 0, [0.7, 0.2, 0.1], [0.3, 0.3, 0.4])
    found = explain(search, soft[:, :, None], nearest, cues, VALUES)
    np.testing.assert_allclose(found.tables[0].T, [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
    assert found.accuracy.tolist() == [1]


def test_a_retrieval_which_ignores_the_cue_is_right_as_often_as_the_commonest_cue():
    nearest, cues = truth()
    search = looks_at(nearest[..., 0])[:, None]
    constant = np.broadcast_to([0.8, 0.2], (B, N, 1, 2))
    share = np.bincount(cues[..., 0].ravel()).max() / (B * N)
    found = explain(search, constant, nearest, cues, VALUES)
    assert found.accuracy[0] == pytest.approx(share)


def test_retrievals_that_share_a_value_count_as_split():
    nearest, cues = truth()
    third = np.random.default_rng(1).random((B, N)) < 0.5
    chosen = np.where((cues[..., 0] == 0) & third, 2, cues[..., 0])
    found = explain(looks_at(nearest[..., 0])[:, None], np.eye(3)[chosen][:, :, None], nearest, cues, VALUES)
    assert found.split_accuracy[0] == 1
    assert found.accuracy[0] == pytest.approx(1 - min((chosen == 2).mean(), (chosen == 0).mean()))


def test_a_value_without_a_retrieval_is_missed():
    nearest, cues = truth(3)
    found = explain(looks_at(nearest[..., 0])[:, None], np.ones((B, N, 1, 1)), nearest, cues, 3)
    assert found.accuracy[0] == pytest.approx(np.bincount(cues[..., 0].ravel()).max() / (B * N))


def test_mass_of_uniform_attention_is_one_over_its_tokens():
    nearest, _ = truth()
    np.testing.assert_allclose(search_mass(np.full((B, 3, N, N), 1 / N), nearest), np.full((3, TRUE), 1 / N))


def test_shapes_that_do_not_belong_together_are_refused():
    nearest, cues = truth()
    with pytest.raises(BadInput, match="must be"):
        explain(np.full((B, 2, N, N), 1 / N), np.ones((B, 2, N, 2)), nearest, cues, VALUES)


def test_specialisation_of_one_sharp_and_one_uniform_search():
    following = (np.arange(N) + 1) % N
    sharp = np.broadcast_to(np.eye(N)[following], (2, N, N))
    uniform = np.full((2, N, N), 1 / N)
    choice = np.eye(2)[np.arange(N) % 2]
    competition = np.broadcast_to(np.stack([choice, np.full((N, 2), 0.5)], 1), (2, N, 2, 2))
    found = specialise(np.stack([sharp, uniform], 1), competition)
    np.testing.assert_allclose(found.focus, [1, 0], atol=1e-12)
    np.testing.assert_allclose(found.reach[0], (5 * 1 + 5) / 6)
    np.testing.assert_allclose(found.overlap, [[1, 1 / N], [1 / N, 1]])
    np.testing.assert_allclose(found.usage, 0.5)
    np.testing.assert_allclose(found.information, [1, 0], atol=1e-12)


def test_specialisation_without_a_competition_has_no_usage():
    found = specialise(np.full((1, 2, 3, 3), 1 / 3))
    assert found.usage.shape == (2, 0) and found.information.tolist() == [0, 0]
