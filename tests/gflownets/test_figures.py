"""The figures of an evaluation against what each is defined as."""

from __future__ import annotations

import itertools

import moocore
import numpy as np
import pytest

from tutelage.gflownets.condition import simplex_grid
from tutelage.gflownets.figures import sample_figures
from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.worlds.config import HyperGridConfig
from tutelage.gflownets.worlds.hypergrid import hypergrid
from tutelage.gflownets.worlds.sequences import sequence_problem
from tutelage.lab.errors import BadInput
from tutelage.measures.pareto import hsri, pc_ent, r2


@pytest.fixture(scope="module")
def grid():
    return hypergrid(HyperGridConfig(side=8))


def draw(problem, number, seed=0):
    cells = np.random.default_rng(seed).integers(0, 8, (5, number, 2)).astype(np.int32)
    cells[0, 1] = cells[0, 0]
    rewards = np.asarray(problem.objectives.rewards(cells.reshape(-1, 2)), np.float64).reshape(5, number, 2)
    return rewards, cells, simplex_grid(2, 5)


def test_every_figure_is_its_definition(grid):
    rewards, cells, preferences = draw(grid, 12)
    values = sample_figures(rewards, cells, preferences, grid, k=4, with_hsri=True)
    points, front, ideal = rewards.reshape(-1, 2), grid.front(), np.array(grid.objectives.upper)
    best = points[moocore.is_nondominated(points, maximise=True)]
    scores = np.einsum("pnm,pm->pn", rewards, preferences)
    reward, diversity = [], []
    for row, score in zip(cells, scores):
        order = np.argsort(-score, kind="stable")[:4]
        reward.append(score[order].mean())
        diversity.append(np.mean([np.abs(row[a] - row[b]).sum() for a, b in itertools.combinations(order, 2)]))
    volume = moocore.hypervolume(points, ref=0, maximise=True)
    assert values == pytest.approx(
        {
            "hypervolume": volume,
            "hypervolume_share": volume / moocore.hypervolume(front, ref=0, maximise=True),
            "igd_plus": moocore.igd_plus(best, ref=front, maximise=True),
            "gd_plus": np.mean([np.linalg.norm(np.maximum(front - s, 0), axis=1).min() for s in best]),
            "r2": r2(points, preferences, ideal),
            "r2_mean": r2(points, preferences, ideal, normalise="mean"),
            "pc_ent": pc_ent(points),
            "hsri": hsri(points, 0, ideal, maximise=True).indicator,
            "topk_reward": np.mean(reward),
            "topk_diversity": np.mean(diversity),
            "num_distinct": len({tuple(cell) for cell in cells.reshape(-1, 2)}),
        }
    )
    assert all(type(value) is float for value in values.values())


def test_the_whole_world_has_the_whole_hypervolume(grid):
    cells = np.broadcast_to(grid.objects(), (3, 64, 2))
    rewards = np.asarray(grid.objectives.rewards(grid.objects()), np.float64)
    values = sample_figures(np.broadcast_to(rewards, (3, 64, 2)), cells, simplex_grid(2, 3), grid)
    assert values["hypervolume_share"] == pytest.approx(1, abs=1e-6)
    assert values["igd_plus"] == pytest.approx(0, abs=1e-6) and values["gd_plus"] == pytest.approx(0, abs=1e-6)
    assert values["num_distinct"] == 64


def test_top_k_reward_and_diversity_are_those_of_the_best_and_see_repeats(grid):
    cells = np.array([[[0, 0], [0, 0], [7, 7], [3, 0]]], np.int32)
    rewards = np.array([[(0.9, 0), (0.9, 0), (0.1, 1), (0.5, 0)]])
    values = sample_figures(rewards, cells, np.array([[1.0, 0.0]]), grid, k=2)
    assert values["topk_reward"] == pytest.approx(0.9) and values["topk_diversity"] == 0
    values = sample_figures(rewards, cells, np.array([[1.0, 0.0]]), grid, k=3)
    assert values["topk_diversity"] == pytest.approx((0 + 3 + 3) / 3)


def test_diversity_of_many_preferences_is_that_of_each_alone():
    rng = np.random.default_rng(1)
    problem = sequence_problem("ABC", 2, 6, Objectives(("a", "b"), lambda x: x))
    lengths, tokens = rng.integers(2, 7, (40, 5, 1)), rng.integers(0, 3, (40, 5, 6))
    words = np.where(np.arange(6) < lengths, tokens, -1).astype(np.int32)
    rewards, preferences = rng.uniform(size=(40, 5, 2)), rng.dirichlet((1, 1), 40)
    together = sample_figures(rewards, words, preferences, problem, k=3)
    alone = [sample_figures(r[None], w[None], p[None], problem, k=3) for r, w, p in zip(rewards, words, preferences)]
    for name in ("topk_reward", "topk_diversity"):
        assert together[name] == pytest.approx(np.mean([values[name] for values in alone]))
    assert "hypervolume_share" not in together and "igd_plus" not in together


def test_diversity_of_one_sample_is_nan_with_a_warning(grid):
    rewards, cells, preferences = draw(grid, 3)
    with pytest.warns(UserWarning, match="k = 1: the diversity of one item is undefined"):
        assert np.isnan(sample_figures(rewards, cells, preferences, grid, k=1)["topk_diversity"])


def test_samples_without_any_reward_have_no_hypervolume_and_a_warning(grid):
    _, cells, preferences = draw(grid, 3)
    with pytest.warns(UserWarning, match=r"reference point \(0, 0\) is dominated by none"):
        assert sample_figures(np.zeros((5, 3, 2)), cells, preferences, grid, k=2)["hypervolume"] == 0


def test_bad_requests_are_named(grid):
    rewards, cells, preferences = draw(grid, 3)
    with pytest.raises(BadInput, match=r"k = 4: must be in \[1, 3\]"):
        sample_figures(rewards, cells, preferences, grid, k=4)
    with pytest.raises(BadInput, match=r"objects \(5, 2, 2\)"):
        sample_figures(rewards, cells[:, :2], preferences, grid, k=2)
    with pytest.raises(BadInput, match=r"distances of \d+ objects: got shape \(1,\)"):
        odd = grid._replace(distances=lambda first, second: np.zeros(1))
        sample_figures(rewards, cells, preferences, odd, k=2)
