"""Comparisons of arms: which points are drawn, against sums by hand, and what missing runs and figures do to them."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.lab.bootstrap import bootstrap, mean
from tutelage.lab.drawing import comparisons, plots
from tutelage.lab.study import RunResult


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to the plots, in the place of drawing it."""
    found = {}

    def note(kind):
        def draw(things, **options):
            found[kind] = list(things)
            found["options"] = options
            return "svg"

        return draw

    monkeypatch.setattr(plots, "curves", note("curves"))
    monkeypatch.setattr(plots, "plane", note("plane"))
    return found


def run(arm, seed, evaluation=(), metrics=(), figures=None):
    """A run with series `{figure: {step: value}}`."""
    series = {}
    for kind, courses in (("evaluation", dict(evaluation)), ("metrics", dict(metrics))):
        for name, course in courses.items():
            series[kind, name] = (np.array(list(course)), np.array(list(course.values()), dtype=np.float64))
    return RunResult(arm, seed, figures or {}, series)


RUNS = [
    run("ei", 0, {"maj": {2: 0.2, 4: 0.4, 6: 0.9}}, {"rollouts": {1: 5, 2: 10, 3: 15, 4: 20}}),
    run("ei", 1, {"maj": {2: 0.4, 4: 0.6}}, {"rollouts": {2: 30, 4: 40}}),
    run("ppo", 0, {"maj": {2: np.nan, 4: 0.5}}, {"rollouts": {2: 1, 4: 2}}),
    run("sft", 0, {"maj": {2: 0.3}}),
]


def test_a_figure_against_another_is_the_mean_of_both_where_all_seeds_have_both(drawn):
    assert comparisons.against(RUNS, "maj", "rollouts", x_kind="metrics", band="range") == "svg"
    ei, ppo = drawn["curves"]
    assert (ei.label, ei.series, ppo.label, ppo.series) == ("ei", 0, "ppo", 1)
    np.testing.assert_allclose(ei.x, [20, 30])
    np.testing.assert_allclose([ei.y, ei.low, ei.high], [[0.3, 0.5], [0.2, 0.4], [0.4, 0.6]])
    np.testing.assert_allclose([ppo.x, ppo.y], [[2], [0.5]])  # a NaN is no point
    assert ppo.low is None
    assert drawn["options"]["title"] == "maj"
    assert drawn["options"]["x_label"] == "rollouts"


def test_the_band_is_the_bootstrap_interval_of_the_mean(drawn):
    comparisons.against(RUNS, "maj", "rollouts", x_kind="metrics", arms=["ei"])
    (ei,) = drawn["curves"]
    expected = bootstrap(mean, [[0.2, 0.4], [0.4, 0.6]], num_resamples=1000)
    np.testing.assert_array_equal([ei.low, ei.high], [expected.low, expected.high])


def test_a_choice_of_arms_keeps_their_colours(drawn):
    comparisons.against(RUNS, "maj", "rollouts", x_kind="metrics", arms=["ppo", "nobody"])
    assert [(curve.label, curve.series) for curve in drawn["curves"]] == [("ppo", 1)]


def test_a_plane_has_a_point_for_each_run_that_has_both_figures(drawn):
    runs = [
        run("ei", 0, figures={"maj": 0.5, "pass": 0.8}),
        run("ppo", 0, figures={"maj": 0.4}),
        run("ei", 1, figures={"maj": 0.7, "pass": 0.6}),
        run("sft", 3, figures={"maj": 0.3, "pass": 0.9}),
    ]
    comparisons.plane(runs, "maj", "pass")
    ei, sft = drawn["plane"]
    assert (ei.label, ei.series, sft.label, sft.series) == ("ei", 0, "sft", 2)
    np.testing.assert_array_equal([ei.x, ei.y], [[0.5, 0.7], [0.8, 0.6]])
    np.testing.assert_array_equal([sft.x, sft.y], [[0.3], [0.9]])


def test_curves_over_k_are_read_from_the_names_in_order_of_k(drawn):
    runs = [
        run("ei", 0, figures={"pass@10": 0.9, "pass@1": 0.2, "pass@2": 0.4, "best_pass@1": 1, "pass@": 0}),
        run("ei", 1, figures={"pass@1": 0.4, "pass@2": 0.6, "pass@4": 0.7, "pass@10": 0.7}),
        run("ppo", 0, figures={"maj@4": 0.3}),
    ]
    comparisons.over_k(runs, "pass", band="range")
    (ei,) = drawn["curves"]
    np.testing.assert_array_equal(ei.x, [1, 2, 10])
    np.testing.assert_allclose([ei.y, ei.low, ei.high], [[0.3, 0.5, 0.8], [0.2, 0.4, 0.7], [0.4, 0.6, 0.9]])
    assert drawn["options"]["scale"] == "log2"
    assert drawn["options"]["title"] == "pass@k"


def test_figures_that_nobody_has_are_an_empty_picture():
    for svg in (
        comparisons.against([], "a", "b"),
        comparisons.plane(RUNS, "a", "b"),
        comparisons.over_k(RUNS, "a"),
    ):
        assert svg.startswith("<svg")
