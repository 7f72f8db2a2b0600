import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.lab.errors import BadInput
from tutelage.lab.study import Claim, RunResult
from tutelage.lab.verdicts import read_claims, verdicts_of, write_claims
from tutelage.measures.claims import always, at_least, at_most, better, correlation, judge_all, not_worse, times


def runs(**arms):
    """Results with the figure "solved": one run per seed of each arm."""
    return [RunResult(arm, seed, {"solved": v}) for arm, values in arms.items() for seed, v in enumerate(values)]


@pytest.mark.parametrize(
    ("judge", "values", "verdict"),
    [
        (at_least("solved", "dr", 0.7), [0.8, 0.9, 0.85], "holds"),
        (at_least("solved", "dr", 0.7), [0.7, 0.7, 0.7], "holds"),
        (at_least("solved", "dr", 0.7), [0.6, 0.9, 0.85], "undecided"),
        (at_least("solved", "dr", 0.7), [0.6, 0.5, 0.65], "fails"),
        (at_most("solved", "dr", 0.7), [0.6, 0.5, 0.65], "holds"),
        (at_most("solved", "dr", 0.1), [0.1, 0.1, 0.1], "holds"),  # the mean of these is above 0.1 by rounding
        (at_most("solved", "dr", 0.7), [0.6, 0.9, 0.65], "undecided"),
        (at_most("solved", "dr", 0.7), [0.8, 0.9, 0.85], "fails"),
    ],
)
def test_threshold(judge, values, verdict):
    judgement = judge(runs(dr=values, other=[0.0] * 9))
    assert judgement.verdict == verdict
    assert judgement.estimate == pytest.approx(np.mean(values))
    assert judgement.low <= judgement.estimate <= judgement.high
    assert judgement.num_seeds == 3


def test_with_three_seeds_the_interval_is_their_range():
    judgement = at_least("solved", "dr", 0.7)(runs(dr=[0.6, 0.9, 0.75]))
    assert (judgement.low, judgement.high) == (0.6, 0.9)
    assert judgement.reason == "the 95 % interval over 3 seeds contains 0.7"


@pytest.mark.parametrize(
    ("ours", "theirs", "margin", "verdict"),
    [
        ([0.8, 0.9, 0.85], [0.5, 0.6, 0.55], 0.0, "holds"),
        ([0.8, 0.9, 0.85], [0.5, 0.6, 0.55], 0.35, "undecided"),
        ([0.8, 0.9, 0.85], [0.5, 0.6, 0.55], 0.5, "fails"),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 0.0, "fails"),
    ],
)
def test_better(ours, theirs, margin, verdict):
    judgement = better("solved", "accel", "dr", margin)(runs(accel=ours, dr=theirs))
    assert judgement.verdict == verdict
    assert judgement.estimate == pytest.approx(np.mean(ours) - np.mean(theirs))


def test_better_where_lower_is_better():
    results = runs(accel=[0.1, 0.2, 0.15], dr=[0.5, 0.6, 0.7])
    assert better("solved", "accel", "dr", higher=False)(results).verdict == "holds"
    assert better("solved", "accel", "dr")(results).verdict == "fails"
    assert not_worse("solved", "dr", "accel", 0.1, higher=False)(results).verdict == "fails"


@pytest.mark.parametrize(
    ("ours", "verdict"), [([0.5, 0.5, 0.5], "holds"), ([0.42, 0.46, 0.47], "holds"), ([0.2, 0.3, 0.3], "fails")]
)
def test_not_worse(ours, verdict):
    judgement = not_worse("solved", "plr", "dr", 0.1)(runs(plr=ours, dr=[0.5, 0.5, 0.5]))
    assert judgement.verdict == verdict
    assert judgement.threshold == -0.1


@pytest.mark.parametrize(
    ("ours", "theirs", "factor", "verdict"),
    [
        ([4.0, 4.2, 4.1], [2.0, 2.0, 1.9], 2.0, "holds"),
        ([4.0, 4.2, 3.9], [2.0, 2.0, 2.0], 2.0, "undecided"),
        ([3.0, 3.2, 3.1], [2.0, 2.0, 1.9], 2.0, "fails"),
        ([0.98, 0.99, 0.98], [1.0, 1.0, 1.0], 0.97, "holds"),  # at most 3 % lower
        ([0.1, 0.2, 0.1], [0.0, 0.0, 0.0], 2.0, "holds"),
    ],
)
def test_so_many_times_the_other(ours, theirs, factor, verdict):
    judgement = times("solved", "gfn", "rl", factor)(runs(gfn=ours, rl=theirs))
    assert judgement.verdict == verdict
    assert judgement.estimate == pytest.approx(np.mean(ours) - factor * np.mean(theirs))


def test_interquartile_mean_ignores_one_broken_seed():
    results = runs(dr=[0.8, 0.81, 0.82, 0.83, 0.0])
    assert at_least("solved", "dr", 0.5, centre="iqm")(results).estimate == pytest.approx(np.mean([0.8, 0.81, 0.82]))
    assert at_least("solved", "dr", 0.5)(results).estimate == pytest.approx(3.26 / 5)


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ([], "no run of dr"),
        (runs(dr=[0.9, 0.9]), "2 seeds of dr; the claim needs 3"),
        (runs(dr=[0.9]), "1 seed of dr; the claim needs 3"),
        (runs(dr=[0.9, 0.9, 0.9, math.nan]), "dr seed 3 has no finite solved"),
        ([*runs(dr=[0.9, 0.9, 0.9]), RunResult("dr", 3, {})], "dr seed 3 has no finite solved"),
        ([*runs(dr=[0.9, 0.9, 0.9]), RunResult("dr", 1, {"solved": 0.9})], "dr seed 1 is there twice"),
    ],
)
def test_too_little_is_undecided_with_the_reason(results, reason):
    for judge in (at_least("solved", "dr", 0.1), better("solved", "dr", "dr", -1), not_worse("solved", "dr", "dr", 1)):
        judgement = judge(results)
        assert judgement.verdict == "undecided"
        assert judgement.reason.startswith(reason)
        assert math.isnan(judgement.estimate)


def curve(seed, values, steps=None):
    steps = np.arange(len(values)) if steps is None else steps
    return RunResult("accel", seed, {}, {("metrics", "path"): (np.asarray(steps), np.asarray(values, dtype=float))})


def test_correlation_of_a_series_with_its_step():
    rising = [curve(0, [1, 2, 3, 4]), curve(1, [1, 3, 2, 4]), curve(2, [1, 2, 4, 3])]
    judgement = correlation(("metrics", "path"), "accel", 0.7)(rising)
    assert judgement.estimate == pytest.approx((1 + 0.8 + 0.8) / 3)
    assert judgement.verdict == "holds"
    falling = [curve(seed, [4, 3, 2, 1]) for seed in range(3)]
    assert correlation(("metrics", "path"), "accel", 0.7)(falling).verdict == "fails"


def test_correlation_leaves_out_what_is_not_finite_and_says_what_is_missing():
    results = [curve(seed, [math.nan, 1, 2, 3]) for seed in range(3)]
    assert correlation(("metrics", "path"), "accel", 0.7)(results).estimate == 1
    flat = [curve(seed, [1, 1, 1]) for seed in range(3)]
    assert "no finite series metrics/path" in correlation(("metrics", "path"), "accel", 0.7)(flat).reason
    assert "no finite series metrics/other" in correlation(("metrics", "other"), "accel", 0.7)(rising_three()).reason


def rising_three():
    return [curve(seed, [1, 2, 3]) for seed in range(3)]


def test_invariant():
    judge = always(lambda run: run.figures["solved"] == 1, "every level solved", arms=("dr", "plr"))
    good = runs(dr=[1, 1, 1], plr=[1, 1, 1], other=[0])
    assert judge(good).verdict == "holds"
    assert judge(good).num_seeds == 3
    assert judge(runs(dr=[1, 1, 1])).reason == "0 seeds of plr; the claim needs 3"
    assert judge(runs(dr=[1, 1, 1], plr=[1, 1])).verdict == "undecided"
    refuted = judge(runs(dr=[1, 0], plr=[1]))
    assert (refuted.verdict, refuted.reason) == ("fails", "not so in dr seed 1")
    assert refuted.estimate == pytest.approx(2 / 3)
    assert judge([*good, RunResult("dr", 3, {})]).reason == "a run lacks solved"
    assert judge([]).verdict == "undecided"


@given(st.lists(st.floats(0, 1), min_size=3, max_size=6), st.floats(0, 1), st.floats(0, 0.5))
def test_a_harder_claim_is_never_easier(values, threshold, step):
    rank = {"fails": 0, "undecided": 1, "holds": 2}
    easy, hard = (at_least("solved", "dr", t)(runs(dr=values)) for t in (threshold, threshold + step))
    assert rank[hard.verdict] <= rank[easy.verdict]
    assert at_least("solved", "dr", threshold)(list(reversed(runs(dr=values)))) == easy


def test_negative_margin_is_refused():
    with pytest.raises(BadInput, match="margin"):
        not_worse("solved", "a", "b", -0.1)


def broken(results):
    return at_least("solved", "dr", 1 / len(results[:0]))(results)


def test_judged_claims_return_from_json_as_they_went(tmp_path):
    claims = [
        Claim("solves", "DR <solves> mazes & more.", "§4", at_least("solved", "dr", 0.5)),
        Claim("few", "PLR too.", "§5", at_least("solved", "plr", 0.5)),
        Claim("broken", "Never judged.", "§6", broken),
    ]
    judged = judge_all(claims, runs(dr=[0.9, 0.8, 0.7]))
    assert [judgement.verdict for _, judgement in judged] == ["holds", "undecided", "undecided"]
    assert "ZeroDivisionError" in judged[2][1].reason
    path = tmp_path / "claims.json"
    write_claims(path, verdicts_of(judged))
    back = read_claims(path)
    assert [(v.name, v.sentence, v.source) for v in back] == [(c.name, c.sentence, c.source) for c in claims]
    assert back[0].judgement == judged[0][1]
    assert repr(back[1].judgement) == repr(judged[1][1])  # by its words: NaN is not equal to NaN
    assert [file.name for file in tmp_path.iterdir()] == ["claims.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "claims.json: not JSON"),
        ("[]", "claims.json: not a claims file of format 1"),
        ('{"format": 1, "claims": [3]}', "claim 1: not an object"),
        ('{"format": 1, "claims": [{"name": "a"}]}', "claim 1: sentence is missing"),
    ],
)
def test_foreign_claims_are_refused(tmp_path, text, message):
    path = tmp_path / "claims.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        read_claims(path)


def test_each_field_of_a_claim_is_checked(tmp_path):
    path = tmp_path / "claims.json"
    write_claims(
        path, verdicts_of(judge_all([Claim("a", "b", "c", at_least("solved", "dr", 0.5))], runs(dr=[1, 1, 1])))
    )
    good = path.read_text()
    changes = [
        ('"holds"', '"maybe"', "verdict is 'maybe'"),
        ('"above"', '"left"', "side is 'left'"),
        ('"num_seeds": 3', '"num_seeds": true', "num_seeds"),
        ('"threshold": 0.5', '"threshold": "0.5"', "threshold"),
    ]
    for old, new, message in changes:
        assert old in good
        path.write_text(good.replace(old, new))
        with pytest.raises(BadInput, match=message):
            read_claims(path)
