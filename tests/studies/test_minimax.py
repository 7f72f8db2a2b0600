"""The composition of the study: its map, arms, presets, refusals, and that every field is read by something."""

import dataclasses
import functools
import importlib

import jax
import numpy as np
import pytest
from studies.tiny_minimax import tiny

from tutelage.lab.configuration import fields, override, perturbations, validate
from tutelage.lab.errors import BadInput
from tutelage.lab.study import RunResult
from tutelage.measures.claims import judge_all
from tutelage.studies import load
from tutelage.studies.minimax.build import environment, system
from tutelage.studies.minimax.evaluation import evaluators

study = load("minimax")


@pytest.mark.parametrize("place", study.map.values(), ids=study.map.keys())
def test_every_symbol_of_the_map_exists(place):
    module, _, name = place.partition(":")
    assert getattr(importlib.import_module(module), name).__doc__


@pytest.mark.parametrize("preset", study.presets)
@pytest.mark.parametrize("arm", study.arms)
def test_every_arm_at_every_scale_is_a_legal_configuration(arm, preset):
    config = study.presets[preset].configure(study.arms[arm].configure(study.config()))
    validate(config)
    # Rollouts at least as long as an episode, or nothing would ever be scored.
    assert study.check(config) == []


def test_published_settings_are_those_of_the_reference():
    """The page's table, row by row."""
    paper = {name: study.presets["paper"].configure(arm.configure(study.config())) for name, arm in study.arms.items()}

    def row(arm):
        config = paper[arm]
        replay, ppo = config.teacher.replay, config.ppo
        return (
            ppo.learning_rate, ppo.discount, ppo.entropy_coefficient, ppo.gae_lambda,
            replay.probability, replay.staleness, replay.temperature,
        )  # fmt: skip

    assert row("dr")[:4] == (1e-4, 0.995, 1e-3, 0.98)
    assert row("plr_robust") == (3e-4, 0.999, 0.0, 0.98, 0.5, 0.3, 0.3)
    assert row("plr_parallel") == (3e-4, 0.999, 0.0, 0.95, 1.0, 0.5, 0.3)
    assert row("accel") == (3e-4, 0.999, 0.0, 0.98, 0.8, 0.5, 0.3)
    assert row("accel_parallel") == (1e-4, 0.999, 1e-3, 0.98, 1.0, 0.5, 0.3)
    assert row("paired")[:4] == (1e-4, 0.995, 1e-3, 0.98)
    adversary = paper["paired"].teacher.adversary
    assert (adversary.ppo.entropy_coefficient, adversary.ppo.discount, adversary.ppo.gae_lambda) == (0.05, 0.995, 0.98)
    assert (adversary.net.num_filters, adversary.budget, adversary.noise) == (128, 60, 50)
    assert (paper["accel"].num_training_walls, paper["accel"].teacher.edit.num_edits) == (0, 20)
    common = paper["dr"]
    assert (common.schedule.num_updates, common.rollout.num_tasks, common.rollout.num_steps) == (30_000, 32, 256)
    assert (common.ppo.num_epochs, common.ppo.num_minibatches, common.ppo.clip) == (5, 1, 0.2)
    assert (common.network.body, common.network.hidden) == ("lstm", 256)


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("dr", {"maze.num_walls": 23}, "num_walls = 23 leaves no room for agent and goal"),
        ("accel", {"num_training_walls": 23}, "num_training_walls = 23 leaves no room for agent and goal"),
        ("paired", {"teacher.adversary.budget": 23}, "leaves no room for agent and goal"),
        ("plr_robust", {"teacher.replay.buffer_size": 3}, "buffer_size = 3 is less than the batch of 4"),
        ("plr_robust", {"teacher.replay.min_fill": 0.1}, "min_fill = 0.1"),
        ("plr_robust", {"teacher.replay.temperature": 0.0}, "temperature = 0.0: must be in (0, inf)"),
        ("plr_robust", {"teacher.replay.staleness": 1.5}, "staleness = 1.5: must be in [0, 1]"),
        ("plr_robust", {"teacher.replay.prioritisation": "proportional"}, "can be negative"),
        ("paired", {"rollout.num_students": 3}, "exactly 2"),
        ("accel", {"domain": "nowhere"}, "must be one of 'maze'"),
        ("paired", {"domain": "cartpole"}, "needs a world with an editor"),
        ("sfl", {"domain": "pendulum"}, "no notion of solving"),
        ("score_true_regret", {"domain": "acrobot"}, "needs an environment with an exact solver"),
        ("dr", {"ppo.num_minibatches": 3}, "num_minibatches = 3 does not divide the 4 environments"),
        ("dr", {"rollout.num_devices": 3}, "num_devices = 3 does not divide the 4 levels"),
        ("plr", {"rollout.num_devices": 2, "teacher.replay.buffer_size": 17}, "does not divide the 17 slots"),
        ("sfl", {"rollout.num_devices": 2, "teacher.sfl.keep": 5}, "does not divide the 5 levels that a search keeps"),
        (
            "sfl",
            {"rollout.num_devices": 4, "teacher.sfl.keep": 8},
            "on each of rollout.num_devices = 4 devices: teacher.sfl.share = 0.5",
        ),
        ("dr", {"rollout.num_devices": 2, "ppo.num_minibatches": 4}, "the 2 environments of a rollout on each device"),
        ("dr", {"maze.view": 4}, "view = 4"),
        ("dr", {"cartpole.gravity": (2.0, 1.0), "domain": "cartpole"}, "gravity"),
    ],
)
def test_bad_input_is_one_line_before_any_work(arm, changes, message):
    with pytest.raises(BadInput) as caught:
        config = override(tiny(arm), changes)
        validate(config)
        study.check(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_devices_than_there_are_are_refused_before_compilation():
    config = tiny("dr", rollout__num_devices=4)
    study.check(config)
    with pytest.raises(BadInput, match=r"num_devices = 4 is more than the devices that JAX sees here: \d"):
        study.program(config, [0])


def test_rollouts_shorter_than_an_episode_are_warned_about():
    assert "never completed" in study.check(tiny("plr_robust", rollout__num_steps=7))[0]
    assert study.check(tiny("dr", rollout__num_steps=7)) == []  # nothing is scored


ARM_OF = {
    "teacher.edit": ("accel", {"teacher__edit__criterion": "easy"}),
    "teacher.adversary.net.s5": ("paired", {"teacher__adversary__net__body": "s5"}),
    "teacher.adversary": ("paired", {}),
    "teacher.sfl": ("sfl", {}),
    "network.s5": ("dr", {"network__body": "s5"}),
    "cartpole": ("accel", {"domain": "cartpole"}),
    "pendulum": ("accel", {"domain": "pendulum"}),
    "acrobot": ("accel", {"domain": "acrobot"}),
    "ppo.anneal": ("dr", {}),
    "schedule.num_updates": ("dr", {"ppo__anneal": True}),
    "evaluation": ("dr", {"evaluation__suite": "fixed"}),
}
"""The arm (and settings) in which a field is read; elsewhere robust replay reads it."""


def reader(path):
    found = [prefix for prefix in ARM_OF if path.startswith(prefix)]
    return ARM_OF[max(found, key=len)] if found else ("plr_robust", {})


def is_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def program_text(config, part):
    """A part of what the configuration makes of the system, as text: a program and its constants."""
    ued, key = system(config), jax.random.key(0)
    state = jax.eval_shape(ued.init, key)
    if part == "init":
        traced = jax.make_jaxpr(ued.init)(key)
    elif part == "update":
        traced = jax.make_jaxpr(ued.update, axis_env=[("devices", config.rollout.num_devices)])(state)
    else:
        during, final = evaluators(config, environment(dataclasses.replace(config, num_training_walls=-1)))
        traced = jax.make_jaxpr(during if part == "during" else final)(state, key)
    return str(traced), [np.asarray(c).tobytes() for c in traced.consts if not is_key(c)]


@functools.cache
def unchanged(arm, changes, part):
    return program_text(tiny(arm, **dict(changes)), part)


SCHEDULE_OF_THE_DRIVER = {
    f"schedule.{name}"
    for name in ("log_every", "evaluate_every", "evaluate_first", "checkpoint_every", "checkpoint_seconds",
                 "keep_checkpoints", "best_figure")
}  # fmt: skip
"""Read by the driver, not by the system; its own tests see to them."""


@pytest.mark.parametrize("path", [path for path in fields(study.config) if path not in SCHEDULE_OF_THE_DRIVER])
def test_every_field_changes_the_program(path):
    arm, changes = reader(path)
    config = tiny(arm, **changes)

    def legal(candidate):
        validate(candidate)
        study.check(candidate)

    ((_, changed),) = perturbations(config, legal, [path])
    # The likeliest first, for tracing is what this costs.
    parts = (
        ("during", "final", "update", "init")
        if path.startswith("evaluation")
        else ("update", "during", "final", "init")
    )
    assert any(program_text(changed, part) != unchanged(arm, tuple(changes.items()), part) for part in parts)


def result(arm, seed, **figures):
    return RunResult(arm, seed, figures)


def test_claims_are_undecided_without_runs_and_decided_with_them():
    assert {judgement.verdict for _, judgement in judge_all(study.claims, [])} == {"undecided"}
    results = [result("dr", seed, held_out_solved=0.9 + 0.01 * seed, suite_solved=0.2) for seed in range(5)]
    results += [result("plr_robust", seed, suite_solved=0.5 + 0.01 * seed) for seed in range(5)]
    verdicts = {claim.name: judgement.verdict for claim, judgement in judge_all(study.claims, results)}
    assert verdicts["dr_learns"] == "holds"
    assert verdicts["replay_generalises"] == "holds"
    assert verdicts["dr_competitive"] == "fails"
    assert verdicts["accel_generalises"] == "undecided"


def test_every_claim_names_arms_and_figures_that_exist():
    """A misspelt figure would leave a claim undecided for ever."""
    figures = {"suite_solved": 0.5, "held_out_solved": 0.9, "robust_cvar": 0.1}
    series = {("metrics", "level/shortest_path"): (np.arange(9), np.arange(9.0))}
    results = [RunResult(arm, seed, figures, series) for arm in study.arms for seed in range(5)]
    for claim, judgement in judge_all(study.claims, results):
        assert "no " not in judgement.reason.split(":")[0], (claim.name, judgement.reason)
        assert np.isfinite(judgement.estimate), claim.name
