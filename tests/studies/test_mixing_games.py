"""The arms with games, on worlds whose rewards are known: closed forms, forgetting by hand, pictures and refusals."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage import studies
from tutelage.continual.deep.sweep import SweepPoint, reward_stream
from tutelage.envs.adapters import minatar
from tutelage.envs.environment import Discrete, Environment, TimeStep
from tutelage.lab import configuration
from tutelage.lab.errors import BadInput
from tutelage.lab.study import RunResult
from tutelage.measures.claims import judge_all
from tutelage.measures.mixing import return_mixing_estimate
from tutelage.studies.loading import LoadedRun
from tutelage.studies.mixing import config as mixing_config
from tutelage.studies.mixing import game_figures, games

study = studies.load("mixing")
RATES = {"Asterix": 1.0, "Breakout": 3.0}
TINY = {
    "games.names": tuple(RATES),
    "games.training.num_envs": 2,
    "games.training.num_steps": 3,
    "games.training.num_updates": 4,
    "games.training.updates_per_task": 1,
    "games.training.width": 4,
    "games.training.ppo.num_epochs": 1,
    "games.training.ppo.num_minibatches": 1,
    "games.episodes": 2,
    "games.sweep.switch_every": (10, 20, 40),
    "games.sweep.num_tasks": (1, 2),
    "games.sweep.num_rollouts": 4,
    "games.sweep.num_steps": 2000,
    "games.sweep.burn_in": 2,
    "games.sweep.eps": 0.05,
    "schedule.num_updates": 4,
    "schedule.log_every": 2,
    "schedule.evaluate_every": 0,
}


def paying(name: str) -> Environment:
    """Every step of an episode of three pays the game's rate, whatever is done."""

    def reset(key, task):
        return jnp.int32(0), jnp.zeros(2)

    def step(key, state, action):
        over = state + 1 >= 3
        return state + 1, TimeStep(jnp.zeros(2), jnp.float32(RATES[name]), 1 - over.astype(jnp.float32), over)

    return Environment(f"gymnax/{name}-MinAtar", Discrete(2), 3, reset, step, lambda key: jnp.int32(0))


def configured(arm: str, preset: str = "quick", **changes):
    config, _ = configuration.configure(study, arm, preset, changes)
    return config


def finished(arm: str):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(games, "minatar_games", lambda names: tuple(paying(name) for name in names))
        config = configured(arm, **TINY)
        program = study.program(config, [5])
        half, metrics = program.update(program.init(), 2)
        saved = program.save(half)
        state, _ = program.update(half, 2)
        exhibits = {exhibit.name: exhibit for exhibit in study.exhibits_of(config, program, state)}
        return config, program, saved, state, metrics()[0], program.evaluate(state, 4, final=True)[0], exhibits


@pytest.fixture(scope="module")
def swept():
    return finished("minatar_sweep")


@pytest.fixture(scope="module")
def switching():
    return finished("minatar_switching")


def test_times_of_games_in_turns_are_those_of_the_closed_form(swept):
    """Rates 1 and 3 within 5 % of 2 are rates 0 and 1 within 0.05: 91 steps at τ = 10, and linear in τ."""
    *_, metrics, figures, _ = swept
    for game, rate in RATES.items():
        assert figures[f"reward_rate/{game}"] == metrics[f"reward/{game}"] == rate
        assert figures[f"t_ret/{game}"] == 1
    assert metrics["steps"] == 2 * 2 * 3
    assert figures["reward_rate"] == 2
    assert [figures[f"t_ret/Asterix+Breakout@{every}"] for every in (10, 20, 40)] == [91, 182, 364]
    assert figures["t_ret@2,10"] == pytest.approx(91)
    assert figures["t_ret@1"] == figures["reached"] == 1
    assert figures["switching_exponent"] == figures["switching_exponent@2"] == pytest.approx(1)
    assert not any(name.startswith("tasks_exponent") for name in figures)  # of one |Z| there is no slope


def test_a_run_of_games_shows_how_times_grow(swept):
    config, *_, shown = swept
    assert shown.keys() == {"growth-in-switching", "choices"}
    assert "Fitted power: 1.00." in shown["growth-in-switching"].caption
    assert ("Asterix, Breakout", "91", "182", "364") in shown["choices"].rows
    assert study.work(config) == ("steps", 12)


@pytest.mark.parametrize("arm", ["swept", "switching"])
def test_a_saved_run_of_games_goes_on_to_the_same_bits_and_evaluation_changes_nothing(arm, request):
    _, program, saved, state, *_ = request.getfixturevalue(arm)
    half = program.load(saved)
    program.evaluate(half, 2, final=True)
    again, _ = program.update(half, 2)
    first, second = program.save(state), program.save(again)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize("arm", ["swept", "switching"])
def test_policies_of_a_run_play(arm, request):
    config, program, _, state, *_ = request.getfixturevalue(arm)
    policies = games.policies_of(LoadedRun(study, config, program, state, 4, []))
    assert list(policies) == list(RATES)
    stream = reward_stream(jax.random.key(0), paying("Breakout"), policies["Breakout"], 2, 5)
    np.testing.assert_array_equal(stream, 3)
    with pytest.raises(BadInput, match=r"index = 1: the run has 1 seeds; must be in \[0, 0\]"):
        games.policies_of(LoadedRun(study, config, program, state, 4, []), index=1)
    with pytest.raises(BadInput, match="this run has no games"):
        games.policies_of(LoadedRun(study, study.config(), program, state, 4, []))


def test_returns_are_measured_after_each_turn(switching):
    _, program, saved, state, metrics, figures, shown = switching
    of_seed = program.seed_state(state, 0)
    np.testing.assert_array_equal(of_seed.table, [[3, 9]] * 4)
    [before] = [table for name, table in saved.items() if "table" in name]
    np.testing.assert_array_equal(before[0], [[3, 9]] * 2 + [[0, 0]] * 2)
    assert figures["steps"] == 4 * 2 * 3 and figures["forgotten"] == 0
    assert {name for name in metrics if name.startswith("reward/")} == {"reward/Asterix", "reward/Breakout"}
    assert list(shown) == ["turns"] and "<svg" in shown["turns"].svg


def test_what_is_forgotten_is_a_share_of_the_best_return_of_the_games_not_learnt_last():
    table = [[4.0, 0.0, 2.0], [2.0, 8.0, 2.0], [1.0, 6.0, 9.0]]
    figures = game_figures.of_turns(("a", "b", "c"), table)
    assert [figures[f"forgetting/{game}"] for game in "abc"] == [3, 2, -7]
    assert figures["forgotten"] == pytest.approx((3 / 4 + 2 / 8) / 2)
    assert figures["average_return"] == pytest.approx(16 / 3)
    assert game_figures.of_turns(("a", "b"), np.zeros((0, 2))) == {}
    assert game_figures.of_turns(("a", "b"), [[1.0, 2.0]]) == {"return/a": 1, "return/b": 2, "average_return": 1.5}
    assert "forgotten" not in game_figures.of_turns(("a", "b"), np.zeros((3, 2)))  # nothing was ever learnt


def test_exponents_leave_out_what_was_not_reached_whole():
    def point(tasks: str, every: int, steps: float) -> SweepPoint:
        known = return_mixing_estimate(np.ones((2, 10)), 0.1)
        return SweepPoint(tuple(tasks), every, known._replace(steps=steps))

    points = [point(choice, every, every) for choice in ("ab", "ac", "bc") for every in (10, 20, 40)]
    points += [point("abc", 10, 15.0), point("abc", 20, 30.0), point("abc", 40, math.inf)]
    assert not any(name.startswith("tasks_exponent") for name in game_figures.of_points(points))  # two |Z| are no fit
    points += [point("abcd", every, 2 * every) for every in (10, 20, 40)]
    figures = game_figures.of_points(points)
    assert figures["reached"] == pytest.approx(14 / 15)
    assert figures["switching_exponent"] == pytest.approx(1)
    assert "switching_exponent@3" not in figures and "t_ret@3,40" not in figures
    assert "tasks_exponent@40" not in figures
    assert figures["tasks_exponent"] == pytest.approx(1)


def test_growth_from_the_fewest_games_to_the_most_is_their_ratio_where_both_are_known():
    def point(tasks: str, every: int, steps: float) -> SweepPoint:
        known = return_mixing_estimate(np.ones((2, 10)), 0.1)
        return SweepPoint(tuple(tasks), every, known._replace(steps=steps))

    points = [point("a", 10, 1.0)]
    points += [point(choice, every, every * size) for every in (10, 20) for choice, size in (("ab", 2), ("ac", 8))]
    points += [point("abc", 10, 50.0), point("abc", 20, 100.0), point("ab", 40, 60.0), point("ac", 40, 240.0)]
    points += [point("abc", 40, math.inf)]
    figures = game_figures.of_points(points)
    assert figures["tasks_ratio"] == pytest.approx(5 / 4)  # 50 to √(20·80); of τ = 40 only the one is known
    assert figures["tasks_power"] == pytest.approx(math.log(5 / 4) / math.log(3 / 2))
    assert "tasks_ratio" not in game_figures.of_points(points[:3])


def test_panels_show_games_over_seeds_and_claims_are_judged():
    results = [
        RunResult(
            "minatar_sweep",
            seed,
            {f"t_ret@{z},{every}": (1 + 0.1 * seed) * z * every for z in (2, 3) for every in (10, 20)}
            | {"reached": 1.0, "switching_exponent": 1 + 0.01 * seed, "t_ret/a+b@10": 20.0}
            | {"tasks_ratio": 1.1, "tasks_power": 0.235},
        )
        for seed in range(3)
    ] + [
        RunResult(
            "minatar_switching",
            seed,
            {"forgotten": 0.5},
            {
                ("evaluation", "steps"): (np.array([1, 2]), np.array([10.0, 20.0])),
                ("evaluation", "return/a"): (np.array([1, 2]), np.array([1.0, 2.0 + seed])),
            },
        )
        for seed in range(3)
    ]
    shown = {exhibit.name: exhibit for exhibit in study.panels_of(results)}
    assert list(shown) == [
        "minatar-sweep-growth-in-switching",
        "minatar-sweep-growth-in-tasks",
        "minatar-sweep-choices",
        "minatar-switching-turns",
    ]
    assert "Fitted power: 1.01 [1.00, 1.02]." in shown["minatar-sweep-growth-in-switching"].caption
    assert "From the fewest games in turns to the most: 1.10 [1.10, 1.10] times as long." in (
        shown["minatar-sweep-growth-in-tasks"].caption
    )
    verdicts = {claim.name: judgement.verdict for claim, judgement in judge_all(study.claims, results)}
    assert verdicts["switching_linear_at_least"] == verdicts["switching_linear_at_most"] == "holds"
    assert verdicts["tasks_linear_at_least"] == "fails"
    assert verdicts["games_are_forgotten"] == "holds"


@pytest.mark.parametrize(
    ("arm", "changes", "message"),
    [
        ("minatar_sweep", {"games.names": ("Asterix", "Asterix")}, "games.names = .*: must be two games or more, all"),
        ("minatar_sweep", {"games.names": ("Asterix", "Brakout")}, "games.names = .*did you mean 'Breakout'"),
        ("minatar_sweep", {"schedule.num_updates": 7}, "schedule.num_updates = 7: must be games.training.num_updates"),
        ("minatar_sweep", {"games.training.num_envs": 3}, "games.training.num_envs = 3: must be a multiple of"),
        (
            "minatar_sweep",
            {"games.sweep.num_tasks": (2, 4)},
            r"games.sweep.num_tasks = \(2, 4\): must be some of 1 to 3",
        ),
        ("minatar_sweep", {"games.sweep.num_tasks": ()}, r"games.sweep.num_tasks = \(\): must be some of 1 to 3"),
        ("minatar_sweep", {"games.sweep.num_steps": 50}, "games.sweep.switch_every = .*: must be some of 1 to games"),
        (
            "minatar_switching",
            {"games.training.updates_per_task": 7},
            "games.training.num_updates = 150: must be a multiple of games.training.updates_per_task, 7",
        ),
    ],
)
def test_games_that_do_not_fit_together_are_refused(arm: str, changes: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        study.check(configured(arm, **changes))


def test_what_can_be_run_but_not_told_is_warned_of():
    assert (
        "fewer than 3 leave out a beginning"
        in study.check(configured("minatar_sweep", **{"games.sweep.num_rollouts": 2}))[0]
    )
    few = {"games.training.updates_per_task": 75}
    assert "2 turns are too few" in study.check(configured("minatar_switching", **few))[0]
    assert mixing_config.GAMES == minatar.GAMES


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["minatar_sweep", "minatar_switching"])
def test_minatar_itself_is_learnt_and_measured(arm: str) -> None:
    config = configured(arm, **TINY | {"games.names": ("Breakout", "SpaceInvaders"), "games.sweep.num_steps": 4000})
    program = study.program(config, [0])
    state, _ = program.update(program.init(), 4)
    [figures] = program.evaluate(state, 4, final=True)
    assert all(np.isfinite(value) for value in figures.values())
    name = "reward_rate/Breakout" if arm == "minatar_sweep" else "return/Breakout"
    assert figures[name] > 0
    assert study.exhibits_of(config, program, state)
