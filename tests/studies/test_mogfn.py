"""The composition of the study: its map, arms, presets, refusals, every arm run, and that every field is read."""

import dataclasses
import functools
import importlib
import importlib.util
import math
import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from studies.tiny_mogfn import TINY, tiny
from studies.tiny_mogfn import study as tiny_study

from tutelage import studies
from tutelage.cli import main
from tutelage.cli.runs import driving
from tutelage.gflownets.condition import Condition
from tutelage.gflownets.config import RewardConfig
from tutelage.gflownets.worlds import aptamers
from tutelage.gflownets.worlds.aptamers_config import MEASURES
from tutelage.gflownets.worlds.molecules import toolkit
from tutelage.lab import driver
from tutelage.lab.configuration import fields, override, validate
from tutelage.lab.errors import BadInput
from tutelage.lab.study import RunResult
from tutelage.measures.claims import judge_all
from tutelage.studies import load
from tutelage.studies.mogfn.arms import least_reward
from tutelage.studies.mogfn.build import RunState, system
from tutelage.studies.mogfn.evaluation import at_the_floor, collector, exactness, measurer

study = load("mogfn")
# A handful of samples of a sampler that has learnt nothing may all be worth nothing.
pytestmark = [
    pytest.mark.filterwarnings("ignore:reward floor", "ignore:the reference point"),
    pytest.mark.timeout(1800),
]
FAST = ("grid", "nsga2", "random")
"""Arms of each kind of program (compiled, on the host, without a network) that run in every suite; others are slow."""
LEARN_EVERYTHING = ("mogfn", "grid_subtb", "grid_db", "raw_preferences", "replay")


@pytest.mark.parametrize("place", study.map.values(), ids=study.map.keys())
def test_every_symbol_of_the_map_exists(place):
    module, _, name = place.partition(":")
    assert getattr(importlib.import_module(module), name).__doc__


@pytest.mark.parametrize("preset", tiny_study.presets)
@pytest.mark.parametrize("arm", study.arms)
def test_every_arm_at_every_scale_is_a_legal_configuration(arm, preset):
    config = tiny_study.presets[preset].configure(study.arms[arm].configure(study.config()))
    validate(config)
    assert study.check(config) == []
    driver.chunk_size(config.schedule)


@pytest.mark.parametrize("preset", study.presets)
def test_no_two_arms_of_a_preset_are_the_same(preset):
    """What an arm sets must survive the preset, or an ablation is the arm it ablates under another name."""
    configs = {name: study.presets[preset].configure(arm.configure(study.config())) for name, arm in study.arms.items()}
    names = list(configs)
    assert [(a, b) for i, a in enumerate(names) for b in names[:i] if configs[a] == configs[b]] == []


@pytest.mark.parametrize("preset", study.presets)
def test_baselines_have_the_task_batch_and_updates_of_what_they_are_compared_with(preset):
    def settings(arm):
        config = study.presets[preset].configure(study.arms[arm].configure(study.config()))
        task = (config.problem, config.ngrams, config.evaluation, config.schedule)
        if config.method == "active":
            active = config.active
            return *task, active.rounds, active.queries, active.initial
        return *task, config.gflownet.batch_size

    for arm, about in study.arms.items():
        if about.role == "baseline":
            assert settings(arm) == settings("al" if arm.startswith("al_") else "mogfn"), arm


def test_published_settings_are_those_of_the_page():
    paper = {name: study.presets["paper"].configure(arm.configure(study.config())) for name, arm in study.arms.items()}
    config = paper["mogfn"]
    shared, words = config.gflownet, config.ngrams
    assert (words.min_len, words.max_len, words.scale, len(words.alphabet)) == (33, 36, 18.0, 20)
    assert (shared.network.layers, shared.network.width, shared.network.heads) == (3, 64, 8)
    assert (shared.batch_size, config.schedule.num_updates) == (128, 10_000)
    assert (shared.optimizer.learning_rate, shared.optimizer.z_learning_rate) == (1e-4, 1e-3)
    assert (shared.beta.kind, shared.beta.value) == ("constant", 96.0)
    assert (shared.preference.alpha, shared.preference.bins) == (1.0, 50)
    assert (shared.exploration.epsilon, shared.optimizer.max_grad_norm) == (0.01, 10.0)
    evaluation = config.evaluation
    assert (evaluation.bins, evaluation.final_bins, evaluation.num_samples, evaluation.top_k) == (10, 50, 128, 10)
    grid = paper["grid"].gflownet
    assert (grid.beta.kind, grid.beta.shape, grid.beta.scale, grid.preference.alpha) == ("gamma", 2.0, 1.0, 1.5)
    assert (grid.network.width, grid.network.layers, paper["grid"].hypergrid.side) == (64, 3, 32)
    assert paper["aptamers"].gflownet.beta.value == 80.0
    active = paper["al"].active
    inner = active.gflownet
    assert (active.rounds, active.queries, active.opt_steps, active.eval_samples) == (64, 16, 1500, 50)
    assert (inner.network.layers, inner.network.width, inner.network.heads, inner.batch_size) == (3, 128, 8, 16)
    assert (inner.beta.value, inner.exploration.epsilon, inner.optimizer.max_grad_norm) == (32.0, 0.05, 10.0)
    assert (inner.optimizer.learning_rate, inner.optimizer.z_learning_rate) == (1e-4, 1e-3)


@pytest.mark.parametrize("preset", study.presets)
def test_the_least_positive_reward_of_sequences_is_above_the_floor(preset):
    """Otherwise nothing tells the first objects that are worth something from those that are worth nothing."""
    for name, arm in study.arms.items():
        config = study.presets[preset].configure(arm.configure(study.config()))
        reward, beta = config.gflownet.reward, config.gflownet.beta.value
        if config.method != "active" and config.problem in ("ngrams", "ehrlich", "aptamers"):
            assert beta * math.log(least_reward(config)) >= reward.floor + 50, name


@pytest.mark.parametrize("preset", study.presets)
def test_the_least_positive_reward_is_that_of_one_motif_under_the_even_preference(preset):
    config = study.presets[preset].configure(study.arms["mogfn"].configure(study.config()))
    problem, _ = system(config)
    words = np.full((1, config.ngrams.max_len), config.ngrams.alphabet.index("C"), np.int32)
    words[0, :2] = [config.ngrams.alphabet.index(letter) for letter in "AV"]
    words[0, 2] = config.ngrams.alphabet.index("A")  # not C, which would make a VC
    rewards = np.asarray(problem.objectives.rewards(jnp.asarray(words)))
    assert rewards.mean() == pytest.approx(least_reward(config))


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("mogfn", {"problem": "ngram"}, "problem = 'ngram': must be one of"),
        ("mogfn", {"gflownet.preference.alpha": 0.0}, "gflownet.preference.alpha = 0.0: must be in (0, inf)"),
        ("mogfn", {"gflownet.beta.value": 0.0}, "gflownet.beta.value = 0.0: must be in (0, inf)"),
        ("grid", {"gflownet.beta.scale": -1.0}, "gflownet.beta.scale = -1.0: must be in (0, inf)"),
        ("grid", {"gflownet.beta.kind": "uniform", "gflownet.beta.low": 16.0}, "gflownet.beta.low = 16: must be"),
        ("mogfn", {"evaluation.beta": -1.0}, "evaluation.beta = -1.0: must be in [0, inf)"),
        ("mogfn", {"evaluation.beta": 7.0}, "evaluation.beta = 7: must be in [32, 32], as training has, or 0"),
        ("grid", {"evaluation.exact_betas": (1.0, 0.0)}, "exact_betas = (1.0, 0.0): each must be in (0, inf)"),
        ("mogfn", {"ngrams.min_len": 5}, "ngrams.min_len = 5 and max_len = 4: must be"),
        ("aptamers", {"aptamers.min_len": 11}, "aptamers.min_len = 11 and max_len = 10: must be"),
        ("mogfn", {"ngrams.motifs": ("AV", "AV")}, "ngrams.motifs = ('AV', 'AV'): 'AV' is there twice"),
        ("mogfn", {"ngrams.motifs": ()}, "ngrams.motifs = (): there is none"),
        ("mogfn", {"ngrams.motifs": ("AX",)}, "ngrams.motifs: 'AX' has the letter 'X'"),
        ("grid", {"hypergrid.objectives": ("branin", "branin")}, "hypergrid.objectives = ('branin', 'branin'): "),
        ("grid", {"hypergrid.objectives": ("brannin",)}, "did you mean 'branin'?"),
        ("grid", {"hypergrid.objectives": ()}, "hypergrid.objectives = (): there is none"),
        ("grid", {"hypergrid.dimensions": 1}, "hypergrid.dimensions = 1: must be at least 2"),
        ("ehrlich", {"ehrlich.quantization": 3}, "ehrlich.quantization = 3: must be at most motif_length = 2"),
        ("aptamers", {"aptamers.objectives": ("pins", "pins")}, "aptamers.objectives = ('pins', 'pins'): "),
        ("fragments", {"fragments.objectives": ("qed", "qed")}, "fragments.objectives = ('qed', 'qed'): "),
        ("fragments", {"fragments.min_fragments": 3}, "fragments.min_fragments = 3: must be at most"),
        ("atoms", {"atoms.min_atoms": 4}, "atoms.min_atoms = 4: must be at most max_atoms = 3"),
        ("grid", {"gflownet.network.kind": "transformer"}, "gflownet.network.kind = 'transformer': must be 'mlp'"),
        ("mogfn", {"gflownet.network.kind": "mlp"}, "gflownet.network.kind = 'mlp': must be 'transformer'"),
        ("mogfn", {"gflownet.network.heads": 3}, "gflownet.network.heads = 3: must divide network.width = 8"),
        ("mogfn", {"evaluation.top_k": 5}, "evaluation.top_k = 5: must be at most evaluation.num_samples = 4"),
        ("al", {"problem": "hypergrid"}, "problem = 'hypergrid': method 'active' edits sequences"),
        ("al", {"schedule.num_updates": 5}, "schedule.num_updates = 5: must be at most active.rounds + 1 = 4"),
        ("al", {"active.pool": 7}, "active.pool = 7: must be at most initial = 6"),
        ("al", {"active.gflownet.beta.kind": "uniform"}, "active.gflownet.beta.kind = 'uniform': must be 'constant'"),
        ("al", {"active.gflownet.network.kind": "mlp"}, "active.gflownet.network.kind = 'mlp'"),
        ("al", {"active.gflownet.network.heads": 3}, "active.gflownet.network.heads = 3: must divide"),
        ("al", {"active.beta_floor": 0.0}, "active.beta_floor = 0.0: must be in (0, inf)"),
        ("al", {"active.min_edits": 7}, "active.min_edits = 7: must be at most 6"),
        ("al", {"ngrams.motifs": ("AV", "VC", "CA", "AA")}, "active.proposer = 'mogfn' with 4 objectives"),
        ("al", {"active.surrogate.encoder.kernel": 4}, "active.surrogate.encoder.kernel = 4: must be odd"),
        ("al", {"active.gflownet.exploration.replay_size": 9}, "active.gflownet.exploration.replay_size = 9: "),
        ("grid_vargrad", {"gflownet.loss.num_copies": 3}, "gflownet.loss.num_copies = 3: must divide batch_size = 8"),
        ("grid_vargrad", {"gflownet.preference.prefs_per_batch": 3}, "gflownet.preference.prefs_per_batch = 3: times"),
        ("replay", {"gflownet.exploration.replay_share": 1.0}, "gflownet.exploration.replay_share = 1: must leave"),
        ("replay", {"gflownet.loss.kind": "vargrad"}, "gflownet.exploration.hindsight_share = 0.5: must be 0 with"),
        ("fragments", {"gflownet.loss.kind": "fm"}, "gflownet.loss.kind = 'fm': must be one of tb, subtb, db, vargrad"),
        ("fragments", {"fragments.objectives": ("qed", "seh")}, "fragments.objectives: 'seh' needs a predictor"),
        ("fragments", {"fragments.blocks": "/no/such/file"}, "fragments.blocks: cannot read /no/such/file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_before_any_work(arm, changes, message):
    with pytest.raises(BadInput) as caught:
        config = override(tiny(arm), changes)
        validate(config)
        study.check(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_list_of_blocks_that_are_none_is_refused_before_any_work(tmp_path):
    pytest.importorskip("rdkit")
    path = tmp_path / "blocks.txt"
    path.write_text("C[*:1]\nCC\n")
    with pytest.raises(BadInput, match=r"^fragments\.blocks: line 2 of .*'CC': must have attachment points"):
        study.check(tiny("fragments", fragments__blocks=str(path)))


@pytest.mark.parametrize(
    ("arm", "changes"),
    [
        ("grid_vargrad", {"gflownet__loss__num_copies": 3}),
        ("al", {"active__surrogate__encoder__kernel": 4}),
        ("fragments", {"fragments__blocks": "/no/such/file"}),
    ],
)
def test_a_refused_run_leaves_nothing_behind(arm, changes, tmp_path):
    with pytest.raises(BadInput):
        driver.run(tiny_study, arm, "tiny", tiny(arm, **changes), [0], tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_checking_a_configuration_loads_no_framework():
    code = (
        "import sys; from tutelage.studies import load; study = load('mogfn'); "
        "quick = study.presets['quick'].configure; "
        "[study.check(quick(arm.configure(study.config()))) for arm in study.arms.values()]; "
        "print(sorted({'jax', 'torch', 'rdkit'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_settings_without_effect_are_warned_about():
    assert "a sequence has one, so it is 'db' here" in study.check(tiny("mogfn", gflownet__loss__kind="fm"))[0]
    idle = study.check(tiny("mogfn", gflownet__exploration__hindsight_share=0.5))
    assert "does nothing without a replay buffer" in idle[0]


@pytest.fixture
def without_packages(monkeypatch):
    """None of the extra's packages can be imported."""
    caches = (toolkit.toolkit, aptamers._parameters)
    for cache in caches:
        cache.cache_clear()
    for name in ("rdkit", "RNA", "pymoo"):
        monkeypatch.setitem(sys.modules, name, None)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pymoo" else found(name, *more)
    )
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("arm", ["nsga2", "aptamers", "fragments", "atoms"])
def test_a_missing_package_is_one_line_that_names_the_extra(arm, tmp_path, without_packages):
    with pytest.raises(BadInput, match=r"pip install 'tutelage\[mo\]'") as caught:
        driver.run(tiny_study, arm, "tiny", tiny(arm), [0], tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


# Runs. Everything below shares the compiled programs of the arms.


class Ran(NamedTuple):
    """An arm after two chunks: metrics of the second, figures of an evaluation while training and of the final one."""

    config: Any
    program: Any
    state: Any
    metrics: dict[str, float]
    evaluation: dict[str, float]
    final: dict[str, float]


@functools.cache
def ran(arm: str) -> Ran:
    config = tiny(arm)
    program, chunk = tiny_study.program(config, [0]), config.schedule.log_every
    state = program.init()
    for _ in range(2):
        state, fetch = program.update(state, chunk)
        metrics = fetch()
    during, final = program.evaluate(state, 2), program.evaluate(state, 4, final=True)
    return Ran(config, program, state, metrics[0], during[0], final[0])


def arms(*fast: str):
    return pytest.mark.parametrize(
        "arm", [arm if arm in fast else pytest.param(arm, marks=pytest.mark.slow) for arm in study.arms]
    )


@arms(*FAST)
def test_every_arm_learns_evaluates_and_draws(arm):
    if arm in ("fragments", "atoms"):
        pytest.importorskip("rdkit")
    if arm == "aptamers":
        pytest.importorskip("RNA")
    run = ran(arm)
    for figures in (run.metrics, run.evaluation, run.final):
        assert figures and all(math.isfinite(value) for value in figures.values()), figures
    evaluations = run.final["evaluations"]
    if run.config.method == "active":
        assert evaluations == run.config.active.initial + run.config.active.queries  # the design, and one round
        assert run.final["new"] == 1.0
    else:
        share = run.config.gflownet.exploration.replay_share if arm == "replay" else 0.0
        assert evaluations == 4 * 8 * (1 - share)
        assert 0 <= run.final["hypervolume"] <= 1.5 and run.final["topk_diversity"] >= 0
    shown = study.exhibits_of(run.config, run.program, run.state)
    assert shown
    for exhibit in shown:
        assert exhibit.title and exhibit.caption and (exhibit.svg or exhibit.rows)
        if exhibit.svg:
            assert ET.fromstring(exhibit.svg).tag.endswith("svg")
        assert len({len(row) for row in exhibit.rows or ()}) <= 1


def test_the_grid_is_compared_with_its_exact_law_at_the_end():
    run = ran("grid")
    laws = {f"{name}@{beta}" for name in ("l1", "l1_max", "kl", "log_z_error") for beta in (1, 4)}
    assert laws <= set(run.final) and not laws & set(run.evaluation)
    assert all(0 <= run.final[f"l1@{beta}"] <= run.final[f"l1_max@{beta}"] <= 2 for beta in (1, 4))
    assert {exhibit.name for exhibit in study.exhibits_of(run.config, run.program, run.state)} == {
        "front", "answers", "law-learned", "law-exact"
    }  # fmt: skip


@arms(*FAST)
def test_evaluation_changes_nothing_and_repeats_itself(arm):
    """With it off, or twice as often, training ends with the same bits."""
    run = ran(arm)
    program, chunk = run.program, run.config.schedule.log_every

    def trained(evaluations: int):
        state = program.init()
        for step in range(2):
            for _ in range(evaluations):
                if step or run.config.method != "active":
                    program.evaluate(state, step)
            state, _ = program.update(state, chunk)
        for _ in range(evaluations):
            program.evaluate(state, 2, final=True)
        return program.save(state)

    without = trained(0)
    assert without.keys() == program.save(run.state).keys()
    for saved in (trained(2), program.save(run.state)):
        assert all(np.array_equal(array, saved[name]) for name, array in without.items())
    assert program.evaluate(run.state, 2)[0] == run.evaluation


@arms(*FAST)
def test_a_loaded_state_goes_on_to_the_same_bits(arm):
    program, chunk = ran(arm).program, ran(arm).config.schedule.log_every
    saved = program.save(ran(arm).state)
    once, twice = (program.save(program.update(program.load(saved), chunk)[0]) for _ in range(2))
    assert all(np.array_equal(once[name], twice[name]) for name in once)
    assert any(not np.array_equal(once[name], saved[name]) for name in once)


@pytest.mark.parametrize("arm", ["grid", *(pytest.param(arm, marks=pytest.mark.slow) for arm in LEARN_EVERYTHING)])
def test_every_parameter_is_learnt(arm):
    """It works when (8): gradients reach everything, the embedding of the condition and log Z included."""
    run = ran(arm)
    before, after = run.program.save(run.program.init()), run.program.save(run.state)
    parameters = [
        name for name in before if name.startswith("method/policy/") and np.issubdtype(before[name].dtype, np.floating)
    ]
    assert len(parameters) >= 8
    assert [name for name in parameters if np.array_equal(before[name], after[name])] == []


def test_an_evaluation_before_the_first_update_is_possible():
    """`schedule.evaluate_first`."""
    program = ran("grid").program
    assert all(math.isfinite(value) for value in program.evaluate(program.init(), 0)[0].values())


@pytest.mark.parametrize("changes", [{}, {"active__queries": 1}, {"ngrams__scale": 1e9}], ids=["", "one", "worthless"])
def test_what_has_no_value_stops_no_run_of_active_learning(changes, tmp_path):
    """No hypervolume before the initial design or where nothing has any reward; no distance of one query to itself."""
    config = tiny("al_mutation", schedule__evaluate_first=True, active__acquisition__reference="zero", **changes)
    config = override(config, {"schedule.num_updates": 2})
    figures = driver.run(tiny_study, "al_mutation", "tiny", config, [0], tmp_path, quiet=True)[0].figures
    assert figures["new"] == 1.0 and figures["evaluations"] == 6 + config.active.queries
    assert ("diversity" in figures) == (config.active.queries > 1)
    assert math.isfinite(figures["hypervolume"])


def test_a_command_goes_on_with_an_unfinished_folder_and_says_when_it_is_finished(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(studies, "STUDIES", {"mogfn": "studies.tiny_mogfn"})
    monkeypatch.setattr(driving, "publish", lambda *_, **__: None)
    words = ["run", "mogfn/random", "--preset", "tiny", "--schedule.checkpoint-every", "2", "--out"]
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert main([*words, one]) == 0 and main([*words, two]) == 0
    capsys.readouterr()
    # As a kill between the last two checkpoints leaves it.
    (tmp_path / "two" / "result.json").unlink()
    max((tmp_path / "two" / "checkpoints").glob("step-*")).unlink()
    assert main([*words, two]) == 0
    said = capsys.readouterr()
    assert "going on after update 2" in said.out + said.err
    assert (tmp_path / "one" / "metrics.jsonl").read_bytes() == (tmp_path / "two" / "metrics.jsonl").read_bytes()
    assert main([*words, two]) == 0
    assert "already finished" in capsys.readouterr().out


# What the configuration is read by.


PARTLY = {
    "active.gflownet.beta": ("kind", "value"),  # constant: rounds lower it
    "active.gflownet.exploration": ("epsilon", "sampling_tau", "replay_size"),  # edits begin at given objects
    "active.gflownet.loss": ("kind", "num_copies", "subtb_lambda"),
    "active.gflownet.network": ("kind", "width", "layers", "heads", "z_layers", "z_width"),
}
"""Parts shared with the sampler of the other arms of which active learning has a use for these fields only."""
CHECKS = re.compile(r"dataclasses|tutelage\.lab\..*|studies\..*|test_.*|tutelage\.studies\.mogfn(\.checks)?|.*config")
"""Who reads every field whatever it means: copying, checking, recording."""


def parts(config: Any, path: str = ""):
    """Every part of a configuration under its path."""
    yield path, config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from parts(value, f"{path}{field.name}.")


class Watch:
    """Remembers which fields of some configurations are read by those who do something with them."""

    def __init__(self, monkeypatch):
        self.paths: dict[int, str] = {}
        self.alive: list[Any] = []
        self.read: set[str] = set()
        for kind in {type(part) for _, part in parts(study.config())}:
            monkeypatch.setattr(kind, "__getattribute__", self.watched(kind.__getattribute__))

    def watched(self, plain):
        def look(part, name):
            if id(part) in self.paths and not name.startswith("_"):
                caller = sys._getframe(1).f_globals.get("__name__", "")
                if not CHECKS.fullmatch(caller):
                    self.read.add(self.paths[id(part)] + name)
            return plain(part, name)

        return look

    def __call__(self, config):
        self.alive.append(config)
        self.paths |= {id(part): path for path, part in parts(config)}
        return config


def trace(config):
    """What a program of the study is made of, traced and not compiled; evaluations where there is an exact law."""
    problem, method = system(config)
    key = jax.random.key(0)
    state = jax.eval_shape(method.init, key)
    if not method.on_host:
        draft = jax.eval_shape(method.propose, state)
        number = jax.tree.leaves(draft.objects)[0].shape[0]
        rewards = jax.ShapeDtypeStruct((number, problem.objectives.num_objectives), jnp.float32)
        state, _ = jax.eval_shape(method.learn, state, draft, rewards)
    if config.method != "gflownet":
        asked = Condition(jax.ShapeDtypeStruct((3, 2), jnp.float32), jax.ShapeDtypeStruct((3,), jnp.float32))
        jax.eval_shape(method.sample, state, key, asked)
        return
    known = functools.cache(lambda: exactness(config, problem))
    whole = RunState(state, jax.ShapeDtypeStruct((), jnp.float32))
    for final in (False, True) if config.problem == "hypergrid" else ():
        collected = functools.partial(collector(config, method, problem, known), final=final)
        found = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(collected, whole, key))
        found |= {"final": np.bool_(final)}
        if problem.objectives.on_host:
            found["rewards"] = np.zeros((len(found["objects"]), problem.objectives.num_objectives))
        if "log_pf" in found:
            found["log_pf"] += np.log(1 / found["log_pf"].shape[-1])
        measurer(config, problem, known, None)(found)


def unread(watch, prefix: str) -> set[str]:
    every = {path for path in fields(study.config) if path.startswith(prefix)}
    for part, used in PARTLY.items():
        every -= {path for path in every if path.startswith(part + ".") and path.rpartition(".")[2] not in used}
    return every - watch.read - {path for path in every if path.startswith("schedule.")}  # the driver's own


TRACED = (
    ("grid", {}),
    ("grid_subtb", {"gflownet__beta__kind": "uniform", "hypergrid__objectives": ("corners", "branin")}),
    ("grid_vargrad", {"gflownet__beta__kind": "beta"}),
    ("mogfn", {"gflownet__exploration__sampling_tau": 0.5}),
    ("replay", {}),
    *((arm, {}) for arm in ("moreinforce", "a2c", "soft_q", "envelope_q", "mars", "genetic", "random", "ehrlich")),
)


@pytest.mark.slow
def test_every_field_of_samplers_is_read_by_something(monkeypatch):
    """By the methods themselves: reads by what copies, checks and records configurations do not count."""
    pytest.importorskip("rdkit")
    pytest.importorskip("RNA")
    watch = Watch(monkeypatch)
    for arm, changes in TRACED:
        trace(watch(tiny(arm, **changes)))
    for arm in ("aptamers", "fragments", "atoms", "nsga2"):
        system(watch(tiny(arm)))  # the worlds read their own when they are made
    aptamer_rewards(watch(tiny("aptamers", aptamers__objectives=MEASURES)))
    children(watch(tiny("nsga2")))
    monkeypatch.undo()
    assert {path for path in unread(watch, "") if not path.startswith("active.")} == set()


def aptamer_rewards(config):
    problem, _ = system(config)
    problem.objectives.rewards(np.zeros((1, config.aptamers.max_len), np.int32))


def children(config):
    program = tiny_study.program(config, [0])
    program.update(program.init(), 2)


@pytest.mark.slow
def test_every_field_of_active_learning_is_read_by_something(monkeypatch):
    watch = Watch(monkeypatch)
    for arm, changes in (
        ("al", {}),
        ("al_conditional", {"active__gflownet__loss__kind": "vargrad", "active__warm": False}),
        ("al_lambo", {"active__acquisition__kind": "qehvi"}),
        ("al_mutation", {}),
    ):
        config = watch(tiny(arm, **changes))
        program = tiny_study.program(config, [0])
        program.evaluate(program.update(program.init(), 2)[0], 2)
    monkeypatch.undo()
    assert unread(watch, "active.") == set()


def test_the_tiny_preset_has_only_fields_that_exist():
    assert set(TINY) <= set(fields(study.config))


# Rewards that teach nothing.


def test_preferences_whose_rewards_are_all_zero_are_warned_about_and_counted():
    weights = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    rewards = np.zeros((3, 200, 2), np.float32)
    rewards[:, :, 1] = 0.5
    with pytest.warns(UserWarning, match=r"reward floor: under 1 of 3 preferences, the first \(1, 0\)") as caught:
        figures = at_the_floor(rewards, weights, 2.0, RewardConfig())
    assert len(caught) == 1 and "\n" not in str(caught[0].message)
    assert figures == {"reward_floor": 1.0}
    rewards[0, :2, 0] = 0.5  # one in a hundred is enough to learn from
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert at_the_floor(rewards, weights, 2.0, RewardConfig()) == {"reward_floor": pytest.approx(0.99)}


def test_the_floor_is_that_of_the_tempered_reward():
    """max(β log R, ℓ_min): R = 0.1 is at a floor of −75 from β = 32.6 on."""
    rewards, weights = np.full((1, 8, 2), 0.1, np.float32), np.array([[0.5, 0.5]])
    assert at_the_floor(rewards, weights, 32.0, RewardConfig()) == {"reward_floor": 0.0}
    with pytest.warns(UserWarning, match="reward floor"):
        assert at_the_floor(rewards, weights, 33.0, RewardConfig()) == {"reward_floor": 1.0}


def test_a_run_without_any_reward_says_so():
    run = ran("grid")
    assert 0 <= run.final["reward_floor"] <= 0.99
    problem, _ = system(run.config)
    found = {
        "objects": np.zeros((3 * 4, 2), np.int32),
        "rewards": np.zeros((3 * 4, 2), np.float32),
        "final": np.bool_(False),
        "evaluations": np.float32(0),
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figures = measurer(run.config, problem, lambda: None, None)(found)
    assert figures["reward_floor"] == 1.0
    assert any("reward floor: under 3 of 3 preferences" in str(each.message) for each in caught)


# Claims and panels, of invented results.


def result(arm, seed, **figures):
    return RunResult(arm, seed, figures)


def test_claims_are_undecided_without_runs_and_decided_with_them():
    assert {judgement.verdict for _, judgement in judge_all(study.claims, [])} == {"undecided"}
    seeds = range(5)
    small = [0.001 * seed for seed in seeds]
    results = [result("grid", s, **{"l1@1": 0.1 + small[s], "l1@4": 0.2, "log_z_error@1": 0.1}) for s in seeds]
    results += [
        result(
            "mogfn", s, conditioning=0.97 + small[s], shuffle_loss=0.1, topk_diversity=6.0, hypervolume=0.5 + small[s]
        )
        for s in seeds
    ]
    results += [result("moreinforce", s, topk_diversity=1.0, hypervolume=0.505 + small[s]) for s in seeds]
    results += [result("a2c", s, topk_diversity=7.0, hypervolume=0.6) for s in seeds]
    results += [result("al", s, hypervolume_share=0.9 + small[s], new=1.0) for s in seeds]
    results += [result("al_mutation", s, hypervolume_share=0.5 + small[s]) for s in seeds]
    verdicts = {claim.name: judgement.verdict for claim, judgement in judge_all(study.claims, results)}
    holds = {
        "exact_law_1", "partition_function_1", "preferences_are_answered", "more_diverse_than_reinforce",
        "hypervolume_moreinforce", "active_learning_pays", "every_query_is_new",
    }  # fmt: skip
    fails = {"exact_law_4", "preferences_matter", "diversity_a2c", "hypervolume_a2c"}
    assert {name for name, verdict in verdicts.items() if verdict == "holds"} == holds
    assert {name for name, verdict in verdicts.items() if verdict == "fails"} == fails


def test_every_claim_names_arms_that_exist_and_figures_that_runs_give():
    """A misspelt figure would leave a claim undecided for ever."""
    grid = study.presets["quick"].configure(study.arms["grid"].configure(study.config()))
    laws = {f"{law}@{beta:g}" for law in ("l1", "l1_max", "kl", "log_z_error") for beta in grid.evaluation.exact_betas}
    # The figures of active learning are in tests of its own.
    names = set(ran("grid").final) | laws | {"relative_hypervolume", "new"}
    results = [RunResult(arm, seed, dict.fromkeys(names, 0.5)) for arm in study.arms for seed in range(5)]
    for claim, judgement in judge_all(study.claims, results):
        assert math.isfinite(judgement.estimate), (claim.name, judgement.reason)


def test_panels_show_samplers_laws_and_active_learning():
    steps = np.arange(1.0, 4.0)
    series = {("evaluation", name): (steps, steps) for name in ("hypervolume", "relative_hypervolume", "evaluations")}
    sampler = {"hypervolume": 0.5, "topk_diversity": 3.0, "topk_reward": 0.4, "evaluations": 900.0}
    active = {"relative_hypervolume": 1.5, "hypervolume": 0.5, "new": 1.0, "evaluations": 96.0}
    results = [
        *(RunResult(arm, seed, sampler, series) for arm in ("mogfn", "mars") for seed in range(2)),
        *(RunResult("grid", seed, sampler | {"l1@1": 0.1, "log_z_error@1": 0.2}) for seed in range(2)),
        *(RunResult("al", seed, active, series) for seed in range(2)),
    ]
    shown = {panel.name: panel for panel in study.panels_of(results)}
    assert list(shown) == [
        "evaluations-samplers", "plane", "table-samplers", "table-laws", "evaluations-active", "table-active"
    ]  # fmt: skip
    for panel in shown.values():
        assert panel.title and panel.caption
        assert ET.fromstring(panel.svg).tag.endswith("svg") if panel.svg else panel.rows
        assert len({len(row) for row in panel.rows or ()}) <= 1
    assert [row[0] for row in shown["table-samplers"].rows] == ["arm", "mogfn", "mars"]
    assert shown["table-laws"].rows[1][:3] == ("grid", "2", "0.1")
    assert study.panels_of([]) == []
