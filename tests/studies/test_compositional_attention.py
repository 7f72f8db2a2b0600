"""The study compositional_attention: arms run, show themselves, go on to the same bits, and are judged by figures."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from studies.tiny_compositional_attention import study

from tutelage.attention.tasks.checks import CHECKS
from tutelage.lab import configuration
from tutelage.lab.errors import BadInput
from tutelage.lab.study import RunResult
from tutelage.measures.claims import judge_all
from tutelage.studies.compositional_attention.arms import TASKS
from tutelage.studies.compositional_attention.config import TASKS as NAMES

PRESETS = ("quick", "standard", "paper")


def configured(arm: str, preset: str = "quick", **changes):
    config, _ = configuration.configure(study, arm, preset, changes)
    return config


@pytest.mark.parametrize("preset", PRESETS)
def test_every_arm_is_complete_at_every_preset(preset: str) -> None:
    said = {arm: study.check(configured(arm, preset)) for arm in study.arms}
    assert {arm for arm, warnings in said.items() if warnings} == {"retrieval_linear"}


def test_arms_differ_from_each_other_at_every_preset() -> None:
    for preset in PRESETS:
        # The quick preset's SCAN is that of the cutoff 26.
        arms = [arm for arm in study.arms if preset != "quick" or not arm.startswith("scan_26")]
        assert len({configured(arm, preset) for arm in arms}) == len(arms)


def test_quick_arms_are_arms_and_tasks_are_all_there() -> None:
    assert set(study.presets["quick"].arms) <= set(study.arms)
    assert {changes["task"] for _, changes in TASKS.values()} == set(NAMES)
    assert set(CHECKS) <= set(NAMES)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_is_tested_and_shown(task: str) -> None:
    config = configured(task, "tiny")
    program = study.program(config, [0])
    state, metrics = program.update(program.init(), 2)
    [figures] = program.evaluate(state, 2, final=True)
    assert len(metrics()) == 1
    assert all(np.isfinite(value) for value in figures.values())
    shown = study.exhibits_of(config, program, state)
    assert shown
    assert all(exhibit.svg or exhibit.rows for exhibit in shown)


@pytest.mark.filterwarnings("ignore:competition 'linear'")
@pytest.mark.parametrize("arm", [arm for arm in study.arms if arm.startswith("retrieval_")])
def test_every_arm_of_contextual_retrieval_trains(arm: str) -> None:
    program = study.program(configured(arm, "tiny"), [0])
    state, _ = program.update(program.init(), 1)
    [figures] = program.evaluate(state, 1)
    assert np.isfinite(figures["l1_iid"])


@pytest.mark.parametrize("arm", ["retrieval_gumbel", "recall", "images_mha"])
def test_evaluation_changes_nothing_and_a_saved_state_goes_on_to_the_same_bits(arm: str) -> None:
    program = study.program(configured(arm, "tiny"), [3])
    first, _ = program.update(program.init(), 2)
    whole = {name: array.copy() for name, array in program.save(first).items()}
    half, _ = program.update(program.init(), 1)
    program.evaluate(half, 1)
    saved = {name: array.copy() for name, array in program.save(half).items()}
    other = study.program(configured(arm, "tiny"), [3])
    rest, _ = other.update(other.load(saved), 1)
    ended = other.save(rest)
    assert whole.keys() == ended.keys()
    assert all(whole[name].tobytes() == ended[name].tobytes() for name in whole)


def test_a_baseline_of_equal_parameters_is_within_one_head_size() -> None:
    counts = {}
    for arm in ("retrieval", "retrieval_mha", "retrieval_mha_equal"):
        program = study.program(configured(arm, "quick", **{"contextual_retrieval.test_examples": 8}), [0])
        [figures] = program.evaluate(program.init(), 0)
        counts[arm] = figures["parameters"]
    assert (counts["retrieval_mha"], counts["retrieval"]) == (29_729, 34_945)
    assert abs(counts["retrieval_mha_equal"] / counts["retrieval"] - 1) < 0.02


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("retrieval", {"attention.searches": 3}, "network.width = 64: must be a multiple of searches = 3"),
        ("retrieval", {"attention.d_value": 33}, "attention.d_value = 33: must be a multiple of retrievals = 2"),
        ("retrieval", {"attention.top_k": 3}, "attention.top_k = 3: must be at most retrievals = 2"),
        ("retrieval", {"equal_parameters": True}, "equal_parameters = True with attention.kind = 'compositional'"),
        ("retrieval_gqa", {"attention.retrievals": 4}, "attention.retrievals = 4: must divide searches = 2"),
        ("triangles", {"triangles.patch": 5}, "triangles.patch = 5: must divide size"),
        ("language", {"byte_language.units": "words"}, "byte_language.units = 'words': must be 'bytes'"),
    ],
)
def test_what_does_not_fit_together_is_refused(arm: str, changes: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        study.check(configured(arm, **changes))


def test_claims_are_judged_from_figures() -> None:
    figures = {
        "retrieval": {"l1_iid": 0.31},
        "retrieval_mha": {"l1_iid": 0.36},
        "retrieval_withheld": {"l1_ood": 0.33},
        "retrieval_withheld_mha": {"l1_ood": 0.40},
        "scan": {"accuracy_ood": 0.2},
        "scan_mha": {"accuracy_ood": 0.3},
        "language": {"perplexity": 9.0},
        "language_mha": {"perplexity": 10.0},
    }
    results = [
        RunResult(arm, seed, {name: value * (1 + 0.001 * seed) for name, value in found.items()})
        for arm, found in figures.items()
        for seed in range(3)
    ]
    verdicts = {claim.name: judgement.verdict for claim, judgement in judge_all(study.claims, results)}
    held = ("retrieval_is_learnt", "retrieval_beats_mha", "retrieval_recombines", "language_beats_mha")
    assert {verdicts[name] for name in held} == {"holds"}
    assert verdicts["scan_beats_mha"] == "fails"
    assert verdicts["query_matters"] == verdicts["clevr_beats_mha"] == "undecided"


def test_panels_are_made_task_by_task() -> None:
    results = [
        RunResult(arm, seed, {"l1_iid": 0.3, "l1_ood": 0.4, "parameters": 100.0})
        for arm in ("retrieval", "retrieval_mha")
        for seed in range(2)
    ]
    results.append(RunResult("scan", 0, {"accuracy_ood": 0.5, "parameters": 10.0}))
    names = [exhibit.name for exhibit in study.panels_of(results)]
    assert names == ["retrieval-parameters", "retrieval-table", "scan-parameters", "scan-table"]


def test_the_map_leads_to_symbols() -> None:
    for place in study.map.values():
        module, _, symbol = place.partition(":")
        assert hasattr(importlib.import_module(module), symbol), place
