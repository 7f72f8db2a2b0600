"""The mixing study: every arm runs, its exact figures are the page's, evaluation changes nothing, claims are judged."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from tutelage import studies
from tutelage.continual.planning import solve_gain
from tutelage.continual.tabular import tabular_mdp
from tutelage.lab import configuration
from tutelage.lab.errors import BadInput
from tutelage.lab.study import RunResult
from tutelage.measures.claims import judge_all
from tutelage.studies.mixing.build import best_gain, measured, world_of

study = studies.load("mixing")
TINY = {"life.steps_per_update": 20, "schedule.num_updates": 2, "schedule.log_every": 1, "world.rooms": 2}
TASKS = {name: arm.configure(study.config()).task for name, arm in study.arms.items()}
LIVES = [name for name, task in TASKS.items() if task == "life"]
SWEEPS = [name for name, task in TASKS.items() if task in ("sweep", "myopia")]


def configured(arm: str, preset: str = "quick", **changes):
    config, _ = configuration.configure(study, arm, preset, changes)
    return config


def tiny(arm: str):
    return configured(arm, **TINY, **{"world.length": 3, "world.goals": ()})


@pytest.mark.parametrize("preset", study.presets)
@pytest.mark.parametrize("arm", study.arms)
def test_every_arm_is_complete_at_every_preset(arm: str, preset: str) -> None:
    assert study.check(configured(arm, preset)) == []


@pytest.mark.parametrize("arm", LIVES)
def test_every_agent_lives_and_has_finite_figures(arm: str) -> None:
    program = study.program(tiny(arm), [0, 1])
    state, metrics = program.update(program.init(), 2)
    figures = program.evaluate(state, 2, final=True)
    assert len(metrics()) == len(figures) == 2
    assert all(np.isfinite(value) for found in figures for value in found.values())
    assert figures[0]["steps"] == 40


def test_evaluation_changes_nothing_and_a_saved_life_goes_on_to_the_same_bits() -> None:
    program = study.program(tiny("on_policy_rho"), [3])
    half, _ = program.update(program.init(), 1)
    whole, _ = program.update(half, 1)
    half, _ = program.update(program.init(), 1)
    program.evaluate(half, 1)
    rest, _ = program.update(program.load(program.save(half)), 1)
    first, second = program.save(whole), program.save(rest)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize("arm", SWEEPS)
def test_every_family_is_measured(arm: str) -> None:
    config = configured(arm, **{"sweep.values": (3, 4, 5) if arm == "rooms" else (4, 5, 6), "schedule.num_updates": 3})
    program = study.program(config, [0])
    state, _ = program.update(program.init(), 3)
    [figures] = program.evaluate(state, 3, final=True)
    assert figures and all(np.isfinite(value) for value in figures.values())
    names = [exhibit.name for exhibit in study.exhibits_of(config, program, state)]
    assert names == (["thresholds"] if arm == "myopia" else ["scaling", "members"])


@pytest.mark.parametrize(("rooms", "expected"), [(2, (0.11994038, 183, 15.6221)), (4, (0.15858403, 335, 29.287))])
def test_members_have_the_figures_of_the_specification(rooms: int, expected: tuple[float, float, float]) -> None:
    config = configured("bottlenecks", **{"sweep.values": (rooms,), "schedule.num_updates": 1})
    gain, steps, diameter = measured(config, 0)
    assert gain == pytest.approx(expected[0], abs=1e-8)
    assert steps == expected[1]
    assert diameter == pytest.approx(expected[2], abs=1e-4)


@pytest.mark.parametrize("preset", study.presets)
def test_the_goals_of_a_preset_reach_its_world(preset: str) -> None:
    """Exact gains of the four rooms with these goals, which are not those that the rooms have of themselves."""
    config = configured("on_policy_rho", preset)
    assert config.world.goals == (3, 4, 0, 2, 4, 4, 4, 3)
    assert best_gain(config.world) == pytest.approx(0.27299556, abs=1e-8)
    mdp, epsilon = world_of(config.world).mdp, config.agent.on_policy_rho.epsilon
    P, R = (np.asarray(table, np.float64) for table in (mdp.P, mdp.R))
    mixed = [(1 - epsilon) * table + epsilon * table.mean(axis=1, keepdims=True) for table in (P, R)]
    assert solve_gain(tabular_mdp(*mixed)).rho == pytest.approx(0.24902, abs=5e-6)


def test_a_life_shows_how_its_world_forgets() -> None:
    config = tiny("q_learning")
    program = study.program(config, [0])
    shown = {exhibit.name: exhibit for exhibit in study.exhibits_of(config, program, program.init())}
    assert shown.keys() == {"forgetting", "numbers", "residence"}
    assert shown["residence"].svg.startswith("<svg") or "<svg" in shown["residence"].svg
    assert "total variation" in shown["forgetting"].caption


def test_panels_order_agents_by_regret() -> None:
    results = [
        RunResult(arm, seed, {"gain_regret": regret + seed, "last_rate": 0.2, "reward_rate": 0.2, "rho_star": 0.3})
        for arm, regret in (("q_learning", 900.0), ("on_policy_rho", 100.0))
        for seed in range(3)
    ]
    table = study.panels_of(results)[-1]
    assert [row[0] for row in table.rows[1:]] == ["on_policy_rho", "q_learning"]
    assert study.panels_of([RunResult("myopia", 0, {"flips": 1.0})]) == []


def test_claims_are_judged_from_figures() -> None:
    figures = {
        "on_policy_rho": {"last_rate": 0.247, "gain_regret": 600.0},
        "q_learning": {"gain_regret": 4000.0},
        "bottlenecks": {"t_mix_exponent": 1.91},
        "myopia": {"flips": 1.0, "scaled_gap": 1.2596},
    }
    results = [
        RunResult(
            arm, seed, {name: value * (1 + 0.001 * seed * (name == "gain_regret")) for name, value in found.items()}
        )
        for arm, found in figures.items()
        for seed in range(3)
    ]
    verdicts = {claim.name: judgement.verdict for claim, judgement in judge_all(study.claims, results)}
    assert verdicts["rho_learns"] == verdicts["half_the_regret_q_learning"] == "holds"
    assert verdicts["bottlenecks_polynomial_at_least"] == verdicts["bottlenecks_polynomial_at_most"] == "holds"
    assert verdicts["half_the_regret_dyna"] == verdicts["rooms_polynomial_at_least"] == "undecided"


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("q_learning", {"world.goals": (1, 2, 3)}, r"world.goals = \(1, 2, 3\): must be pairs"),
        ("rooms", {"schedule.num_updates": 2}, "schedule.num_updates = 2: must be the number of sweep.values, 5"),
        ("rooms", {"sweep.values": ()}, "sweep.values: there is none"),
    ],
)
def test_what_does_not_fit_together_is_refused(arm: str, changes: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        study.check(configured(arm, **changes))


def test_the_map_leads_to_symbols() -> None:
    for place in study.map.values():
        module, _, symbol = place.partition(":")
        assert hasattr(importlib.import_module(module), symbol), place


def test_arms_of_agents_differ_from_each_other() -> None:
    configs = {name: configured(name) for name in study.arms}
    for name, config in configs.items():
        twins = [other for other, found in configs.items() if found == config and other != name]
        assert not twins, name
