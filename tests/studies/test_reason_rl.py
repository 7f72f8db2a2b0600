"""The composition of the study: its map, arms, presets, refusals, every arm run, and that every field is read."""

import contextlib
import dataclasses
import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from studies.tiny_reason_rl import TINY, tiny
from studies.tiny_reason_rl import study as tiny_study

from tutelage.lab import driver
from tutelage.lab.configuration import fields, override, validate
from tutelage.lab.errors import BadInput
from tutelage.lab.study import RunResult
from tutelage.lm.pools import Pool, Rollout
from tutelage.measures.claims import judge_all
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.questions.tasks import TaskConfig, load_tasks
from tutelage.studies import load
from tutelage.studies.reason_rl import start as start_module
from tutelage.studies.reason_rl.build import OF_THE_POOL, System
from tutelage.studies.reason_rl.exhibits import _lines
from tutelage.studies.reason_rl.start import Start

study = load("reason_rl")
# A model of some thousand parameters rambles.
pytestmark = pytest.mark.filterwarnings("ignore:max_new_tokens")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory) -> Iterator[Path]:
    """A cache of this file's own: the base is made here, once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("TUTELAGE_CACHE", str(folder))
        yield folder


@pytest.mark.parametrize("place", study.map.values(), ids=study.map.keys())
def test_every_symbol_of_the_map_exists(place):
    module, _, name = place.partition(":")
    assert getattr(importlib.import_module(module), name).__doc__


@pytest.mark.parametrize("preset", study.presets)
@pytest.mark.parametrize("arm", study.arms)
def test_every_arm_at_every_scale_is_a_legal_configuration(arm, preset):
    config = study.presets[preset].configure(study.arms[arm].configure(study.config()))
    validate(config)
    assert study.check(config) == []
    driver.chunk_size(config.schedule)


@pytest.mark.parametrize("preset", study.presets)
def test_no_two_arms_of_a_preset_are_the_same(preset):
    """What an arm sets must survive the preset, or an ablation is the arm it ablates under another name."""
    configs = {name: study.presets[preset].configure(arm.configure(study.config())) for name, arm in study.arms.items()}
    names = list(configs)
    same = [(a, b) for i, a in enumerate(names) for b in names[:i] if configs[a] == configs[b]]
    assert same == []
    assert configs["ei_duplicates"].iteration.deduplicate == "none"


def test_presets_for_a_gpu_have_one_run_at_a_time():
    assert {name: preset.jobs for name, preset in study.presets.items()} == {"quick": None, "standard": 1, "paper": 1}


def test_published_settings_are_those_of_the_paper():
    paper = {name: study.presets["paper"].configure(arm.configure(study.config())) for name, arm in study.arms.items()}
    assert paper["ei"].iteration.num_samples == 96
    assert paper["ei"].iteration.cumulative and paper["ei"].iteration.refit == "base"
    assert paper["ei"].schedule.num_updates == 5
    ppo = paper["ppo"].online
    assert (ppo.kl, ppo.trace, ppo.clip, ppo.value_clip, ppo.num_epochs, ppo.discount) == (0.05, 0.95, 0.2, 0.2, 4, 1.0)
    assert {config.evaluation.num_samples for config in paper.values()} == {96}
    assert paper["ppo"].reward.kind == "sparse"


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("ei", {"task.source": "gsm8k"}, "base.name is empty and task.source = 'gsm8k'"),
        ("ei", {"base.template": "no place"}, "base.template = 'no place': must have {question} in it"),
        ("ei", {"task.num_demonstrations": 0}, "num_demonstrations = 0"),
        ("sft", {"task.num_demonstrations": 0}, "supervised fine-tuning needs at least 1"),
        ("ei_pretrained", {"task.num_demonstrations": 0}, "the outcome model of evaluation.rerank needs at least 1"),
        ("base", {"base.few_shot": 7}, "base.few_shot = 7: must be at most task.num_demonstrations = 6"),
        ("sft", {"schedule.num_updates": 4}, "schedule.num_updates = 4: an update is an epoch"),
        ("ppo", {"online.num_questions": 13}, "online.num_questions = 13: must be at most task.num_train = 12"),
        ("ei", {"evaluation.interim_samples": 8}, "evaluation.interim_samples = 8"),
        ("ei", {"evaluation.num_samples": 1}, "num_samples = 1: must be in [2, inf)"),
        ("grpo", {"online.num_samples": 1}, "online.num_samples = 1"),
        ("ppo", {"online.num_minibatches": 5}, "num_minibatches = 5: must be at most online.num_questions = 4"),
        ("ei", {"iteration.questions_per_round": 13}, "questions_per_round = 13: must be at most task.num_train = 12"),
        ("ei", {"algorithm": "expert"}, "algorithm = 'expert': must be one of"),
        ("ppo", {"reward.kind": "spares"}, "sparse"),
    ],
)
def test_bad_input_is_one_line_before_any_work(arm, changes, message):
    with pytest.raises(BadInput) as caught:
        config = override(tiny(arm), changes)
        validate(config)
        study.check(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def run(arm, folder, **changes):
    return driver.run(tiny_study, arm, "tiny", tiny(arm, **changes), [0], folder, quiet=True)[0]


def parts(config):
    """A configuration and all its nested parts."""
    yield config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from parts(value)


GENERIC = ("dataclasses", "tutelage.lab.", "studies.", "test_")
"""Who reads every field whatever it means: copying, checking, recording."""


@pytest.mark.slow
def test_every_field_is_read_by_something(tmp_path, monkeypatch):
    """By the methods themselves: reads by what copies, checks and records configurations do not count.

    It is the first test that runs anything: what lies in the cache is not made again, and reads nothing.
    """
    read: set[tuple[type, str]] = set()

    def watching(kind):
        plain = kind.__getattribute__

        def look(self, name):
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if not name.startswith("_") and not caller.startswith(GENERIC):
                read.add((kind, name))
            return plain(self, name)

        monkeypatch.setattr(kind, "__getattribute__", look)

    kinds = {type(part) for part in parts(study.config())}
    for kind in kinds:
        watching(kind)
    file = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {n} + {n}?", "answer": f"{n} + {n} = {2 * n}\n#### {2 * n}"} for n in range(1, 9)]
    file.write_text("\n".join(map(json.dumps, rows)))
    load_tasks(TaskConfig("file", str(file), num_train=4, num_test=2, num_demonstrations=1))
    with contextlib.suppress(BadInput):  # the package may not be there; the setting is read before that is known
        load_tasks(TaskConfig("reasoning_gym"))
    arms = ("ei", "ei_orm", "ppo", "grpo", "rcrl", "rcrl_step", "dpo", "sft", "ppo_dense", "ppo_sorm_dense", "base")
    for arm in arms:
        run(arm, tmp_path / arm)
    run("grpo", tmp_path / "loss", online__kl_in="loss")
    monkeypatch.undo()
    every = {(kind, field.name) for kind in kinds for field in dataclasses.fields(kind)}
    schedule = {(kind, name) for kind, name in every if kind.__name__ == "Schedule"}  # the driver's own
    assert every - read - schedule == set()


@pytest.mark.parametrize("arm", study.arms)
def test_every_arm_runs_and_its_figures_are_sound(arm, tmp_path):
    result = run(arm, tmp_path / "run")
    figures = result.figures
    assert all(math.isfinite(value) for value in figures.values())
    for name in ("maj@1", "correct", "pass@4", "maj@4", "rerank@4", "weighted@4", "outcome_model_auc"):
        assert 0 <= figures[name] <= 1, name
    assert figures["pass@4"] >= max(figures["maj@4"], figures["rerank@4"], figures["correct"]) - 1e-12
    assert figures["gain_maj@1"] == pytest.approx(figures["maj@1"] - figures["start_maj@1"])
    drawn = [*Pool(tmp_path / "run" / "rollouts" / "train")] if figures["rollouts"] else []
    assert len(drawn) == figures["rollouts"]  # all samples are on the disk
    assert len(Pool(tmp_path / "run" / "rollouts" / "test")) > 0
    assert [*(tmp_path / "run" / "figures").iterdir()]


def test_the_start_is_shared_by_arms_and_made_once(tmp_path, cache):
    run("ei", tmp_path / "one")
    made = {path: path.stat().st_mtime_ns for path in (cache / "reason_rl").rglob("made.json")}
    run("ppo", tmp_path / "two")
    run("ei", tmp_path / "three")
    again = {path: path.stat().st_mtime_ns for path in (cache / "reason_rl").rglob("made.json")}
    assert again == made


def test_what_other_answers_or_another_base_lead_to_is_not_taken_from_the_cache(tmp_path, monkeypatch):
    """Same questions, same names: neither a corrected answer nor a base trained anew may meet old figures."""
    asked: list[str] = []

    def made(kind, identity, make):
        asked.append(identity)
        return tmp_path

    monkeypatch.setattr(start_module, "_made", made)
    (tmp_path / "tested.json").write_text("{}")
    file, base = tmp_path / "questions.jsonl", tmp_path / "base"
    base.mkdir()

    def look(answer, weights):
        file.write_text("\n".join(json.dumps({"question": f"{n}?", "answer": answer}) for n in range(9)))
        (base / "model.safetensors").write_bytes(weights)
        changes = {"task__source": "file", "task__train": str(file), "task__num_train": 2, "task__num_test": 3}
        changes |= {"task__num_demonstrations": 0, "base__name": str(base)}
        Start(tiny("base", **changes), 0).tested()

    look("#### 1", b"old")
    look("#### 2", b"old")
    look("#### 2", b"other")
    assert len(set(asked)) == 3


def test_evaluating_more_often_changes_nothing(tmp_path):
    often, seldom = run("ppo", tmp_path / "often"), run("ppo", tmp_path / "seldom", schedule__evaluate_every=0)
    assert often.figures == seldom.figures


def test_a_curve_has_only_figures_that_do_not_depend_on_the_size_of_the_pool(tmp_path):
    series = run("base", tmp_path / "run", evaluation__num_samples=8).series
    lengths = {name: len(steps) for (kind, name), (steps, _) in series.items() if kind == "evaluation"}
    assert lengths["unique@2"] == lengths["pass@2"] > 1
    assert {lengths[name] for name in OF_THE_POOL} == {1}


def test_an_untrained_start_gains_nothing(tmp_path):
    figures = run("base", tmp_path / "run").figures
    assert figures["gain_maj@1"] == 0  # sampled figures differ by chance: samples follow from the step


def test_a_few_shot_start_is_asked_with_worked_examples(tmp_path):
    run("base", tmp_path / "run", base__few_shot=2)
    [_, *rows] = json.loads((tmp_path / "run" / "figures" / "solutions.json").read_bytes())
    assert all(before == after for _, before, after in rows)  # it has learnt nothing
    asked = {rollout.prompt.tobytes() for rollout in Pool(tmp_path / "run" / "rollouts" / "greedy")}
    plain = Start(tiny("base"), 0)
    policy = plain.load(plain.base)
    lengths = [len(policy.prompt(question)) for question in plain.tasks.test]
    assert len(asked) == len(lengths)
    assert min(len(np.frombuffer(each, np.int64)) for each in asked) > 2 * max(lengths)


@pytest.mark.parametrize("labels", ["answer", "outcome_model"])
@pytest.mark.parametrize("level", ["solution", "step"])
def test_every_kind_of_labels_goes_with_every_level_and_with_the_base(level, labels):
    changes = {"conditioned__level": level, "conditioned__labels": labels, "conditioned__refit": "base"}
    system = System(tiny("rcrl", **changes), 0, None)
    state, figures = system.update(system.init())
    assert state["step"] == 1 and math.isfinite(figures["loss"])


def test_a_line_with_a_wrong_step_is_marked_wrong():
    question = Question.of("?", "<<1+1=2>> #### 2")
    text = "<<1+1=3>> and <<3-1=2>>\n#### 2"
    tokens = np.ones(1, np.int64)
    shown = Rollout(question.id, tokens, tokens, np.zeros(1, np.float32), text, scores={"correct": 1.0})
    assert [line[0] for line in _lines(question, shown)] == ["✗", "✓"]


def test_claims_are_undecided_without_runs():
    assert {judgement.verdict for _, judgement in judge_all(study.claims, [])} == {"undecided"}


def test_every_claim_names_arms_and_figures_that_exist():
    """A misspelt figure would leave a claim undecided for ever."""
    names = ("maj@1", "pass@32", "maj@32", "rerank@32", "gain_maj@1", "gain_pass@32", "outcome_model_auc")
    figures = dict.fromkeys(names, 0.5)
    steps, values = np.arange(9), np.linspace(1, 0, 9)
    series = {("evaluation", name): (steps, values) for name in ("maj@1", "pass@16", "unique@16")}
    results = [RunResult(arm, seed, figures, series) for arm in study.arms for seed in range(5)]
    for claim, judgement in judge_all(study.claims, results):
        assert np.isfinite(judgement.estimate), (claim.name, judgement.reason)


def test_the_tiny_preset_has_only_fields_that_exist():
    assert set(TINY) <= set(fields(study.config))
