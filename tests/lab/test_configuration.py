"""Configurations as flat lists of fields, against hand-written ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import toy_study
from lab.toy_study import BanditConfig, LearnerConfig

from tutelage.lab.configuration import (
    configure,
    differences,
    fields,
    flatten,
    from_json,
    nearest_field,
    override,
    perturbations,
    to_json,
    validate,
)
from tutelage.lab.errors import BadInput
from tutelage.lab.overrides import parse_flags, split_flags
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import setting


@dataclass(frozen=True)
class Lists:
    """Tuples of words and of numbers."""

    mazes: tuple[str, ...] = setting(("small",), "Mazes.", choices=("small", "large"))
    widths: tuple[int, ...] = setting((8, 16), "Widths.", interval="[1, inf)")
    gravity: tuple[float, float] = setting((9.8, 9.8), "Least and most.", interval="(0, inf)")


def test_flatten_lists_every_field_in_order():
    assert flatten(BanditConfig()) == {
        "num_levers": 4,
        "noise": 0.5,
        "inverted": False,
        "poison_at": 0,
        "learner.exploration": 0.1,
        "learner.optimism": 4.0,
        "learner.tie_break": "first",
        **{f"schedule.{entry.name}": entry.default for entry in dataclasses.fields(Schedule)},
    }


def test_fields_carry_type_and_metadata():
    field = fields(BanditConfig)["learner.exploration"]
    assert (field.kind, field.default, field.source) == (float, 0.1, "Sutton & Barto 2018, §2.2")
    assert field.allowed == "a number in [0, 1]"
    assert fields(Lists)["widths"].many


def test_fields_refuse_what_is_no_setting():
    bare = dataclasses.make_dataclass("Bare", [("x", int, 1)])
    with pytest.raises(TypeError, match=r"Bare\.x is made by neither"):
        fields(bare)
    mixed = dataclasses.make_dataclass("Mixed", [("x", tuple[int, str], setting((1, "a"), "Two kinds."))])
    with pytest.raises(TypeError, match=r"Mixed\.x is of type"):
        fields(mixed)
    odd = dataclasses.make_dataclass("Odd", [("x", dict, setting(None, "A dictionary."))])
    with pytest.raises(TypeError, match=r"Odd\.x is of type"):
        fields(odd)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"learner.exploration": 1.7}, "learner.exploration = 1.7: must be in [0, 1]"),
        ({"noise": float("nan")}, "noise = nan: must be finite"),
        ({"noise": float("inf")}, "noise = inf: must be finite"),
        ({"num_levers": 2.5}, "num_levers = 2.5: must be a whole number in [2, 100]"),
        ({"num_levers": True}, "num_levers = True: must be a whole number in [2, 100]"),
        ({"inverted": 1}, "inverted = 1: must be true or false"),
        (
            {"learner.tie_break": "frist"},
            "learner.tie_break = 'frist': must be one of 'first', 'last'; did you mean 'first'?",
        ),
        ({"learner.exploraton": 0.1}, "learner.exploraton: no such setting; did you mean 'learner.exploration'?"),
        (
            {"learner": 1},
            "learner: a part of the configuration, not a setting; it has learner.exploration, learner.optimism, "
            "learner.tie_break",
        ),
    ],
)
def test_override_refuses_in_one_line(changes, line):
    with pytest.raises(BadInput) as refusal:
        override(BanditConfig(), changes)
    assert str(refusal.value) == line


def test_override_changes_only_what_is_named():
    changed = override(BanditConfig(), {"learner.optimism": 5, "num_levers": 7})
    assert changed == BanditConfig(num_levers=7, learner=LearnerConfig(optimism=5.0))
    assert type(changed.learner.optimism) is float
    assert override(Lists(), {"mazes": ["large", "small"]}).mazes == ("large", "small")


def test_validate_names_all_problems():
    config = BanditConfig(num_levers=1, learner=LearnerConfig(exploration=-0.5, tie_break="none"))
    with pytest.raises(BadInput) as refusal:
        validate(config)
    assert str(refusal.value) == (
        "num_levers = 1: must be in [2, 100]; learner.exploration = -0.5: must be in [0, 1]; "
        "learner.tie_break = 'none': must be one of 'first', 'last'"
    )
    validate(BanditConfig(noise=1))
    with pytest.raises(BadInput, match=r"gravity = \(9.8,\): must be 2 values, each a number in \(0, inf\)"):
        validate(Lists(gravity=(9.8,)))  # type: ignore
    with pytest.raises(BadInput, match=r"widths = \(8, 0\): each must be in \[1, inf\)"):
        validate(Lists(widths=(8, 0)))


@given(
    st.integers(2, 100),
    st.floats(0, 1e300),
    st.booleans(),
    st.floats(0, 1),
    st.sampled_from(["first", "last"]),
)
def test_json_is_a_round_trip(num_levers, noise, inverted, exploration, tie_break):
    config = BanditConfig(num_levers, noise, inverted, 0, LearnerConfig(exploration, 0.0, tie_break))
    assert from_json(BanditConfig, to_json(config)) == config


def test_json_keeps_tuples():
    data = {"mazes": ["small"], "widths": [8, 16], "gravity": [9.8, 9.8]}
    assert to_json(Lists()) == data
    assert from_json(Lists, data) == Lists()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda data: data["learner"].update(explore=1), "learner.explore: no such setting"),
        (
            lambda data: data["learner"].update(exploraton=1),
            "learner.exploraton: no such setting; did you mean 'learner.exploration'?",
        ),
        (lambda data: data.update(levers=1), "levers: no such setting; did you mean 'num_levers'?"),
        (lambda data: data["learner"].pop("optimism"), "learner.optimism: missing"),
        (lambda data: data.update(noise="0.5"), "noise = '0.5': must be a number in [0, inf)"),
        (lambda data: data.update(num_levers=4.0), "num_levers = 4.0: must be a whole number in [2, 100]"),
        (lambda data: data.update(learner=3), "learner = 3: must be an object of fields"),
        (lambda data: data["schedule"].update(log_every=0), "schedule.log_every = 0: must be in [1, inf)"),
    ],
)
def test_json_is_strict(change, line):
    data = to_json(BanditConfig())
    change(data)
    with pytest.raises(BadInput) as refusal:
        from_json(BanditConfig, data)
    assert str(refusal.value).startswith(line)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--learner.exploration", "1e-3"], {"learner.exploration": 1e-3}),
        (["--learner.tie-break=last"], {"learner.tie_break": "last"}),
        (["--learner.tie_break", "last"], {"learner.tie_break": "last"}),
        (["--learner.optimism", "-0.5"], {"learner.optimism": -0.5}),
        (["--learner.optimism=-.5e1"], {"learner.optimism": -5.0}),
        (["--schedule.num-updates", "1e6"], {"schedule.num_updates": 1_000_000}),
        (["--schedule.num-updates", "1_000_000"], {"schedule.num_updates": 1_000_000}),
        (["--inverted", "on", "--noise", "1"], {"inverted": True, "noise": 1.0}),
        (["--inverted", "False"], {"inverted": False}),
        ([], {}),
    ],
)
def test_flags(argv, expected):
    overrides = parse_flags(argv, BanditConfig())
    assert overrides == expected
    assert {path: type(value) for path, value in overrides.items()} == {
        path: type(value) for path, value in expected.items()
    }


def test_flags_of_lists():
    assert parse_flags(["--mazes", "small,large", "--widths=4"], Lists()) == {
        "mazes": ("small", "large"),
        "widths": (4,),
    }


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["--learner.exploraton", "1"], "--learner.exploraton: no such setting; did you mean '--learner.exploration'?"),
        (["--exploration", "1"], "--exploration: no such setting; did you mean '--learner.exploration'?"),
        (["--nu", "1"], "--nu: no such setting; did you mean '--schedule.num-updates'?"),
        (["--zzz", "1"], "--zzz: no such setting"),
        (["--num-levers", "2.5"], "num_levers = '2.5': must be a whole number in [2, 100]"),
        (["--num-levers", "inf"], "num_levers = 'inf': must be a whole number in [2, 100]"),
        (["--num-levers", "1"], "num_levers = 1: must be in [2, 100]"),
        (["--noise", "loud"], "noise = 'loud': must be a number in [0, inf)"),
        (["--noise", "nan"], "noise = nan: must be finite"),
        (["--inverted", "maybe"], "inverted = 'maybe': must be true or false"),
        (["--inverted"], "--inverted: a value is missing"),
        (["--inverted", "--noise", "1"], "--inverted: a value is missing"),
        (["--noise", "1", "--noise=2"], "--noise: given twice"),
        (["noise", "1"], "'noise': unexpected; settings are written --name value"),
    ],
)
def test_flags_refuse_in_one_line(argv, line):
    with pytest.raises(BadInput) as refusal:
        parse_flags(argv, BanditConfig())
    assert str(refusal.value) == line


def test_split_flags_knows_switches():
    words, flags = split_flags(["bandit", "--quiet", "folder", "--seed", "-1"], switches={"quiet"})
    assert words == ["bandit", "folder"]
    assert flags == [("quiet", "true"), ("seed", "-1")]


def test_nearest_field_prefers_the_last_word():
    known = ["ppo.learning_rate", "teacher.learning_rate", "ppo.clip", "network.body"]
    assert nearest_field("learning_rate", known) == "ppo.learning_rate"
    assert nearest_field("teachr.learning_rate", known) == "teacher.learning_rate"
    assert nearest_field("lr", known) == "ppo.learning_rate"
    assert nearest_field("ppo.clp", known) == "ppo.clip"
    assert nearest_field("boddy", known) == "network.body"
    assert nearest_field("xyzzy", known) is None


def test_configure_applies_arm_then_preset_then_user():
    config, warnings = configure(toy_study.study, "uniform", "quick", {"schedule.num_updates": 7, "noise": 0.0})
    assert (config.learner.exploration, config.schedule.num_updates, config.schedule.log_every) == (1.0, 7, 10)
    assert warnings == ["noise = 0: every seed sees the same payments"]


@pytest.mark.parametrize(
    ("arm", "preset", "overrides", "line"),
    [
        ("gredy", "quick", {}, "arm 'gredy' of bandit is not one of greedy, uniform, poisoned; did you mean 'greedy'?"),
        ("greedy", "quik", {}, "preset 'quik' of bandit is not one of quick, paper; did you mean 'quick'?"),
        ("greedy", "quick", {"noise": -1.0}, "noise = -1.0: must be in [0, inf)"),
        ("greedy", "quick", {"poison_at": 41}, "poison_at = 41: must be at most schedule.num_updates"),
    ],
)
def test_configure_refuses_in_one_line(arm, preset, overrides, line):
    with pytest.raises(BadInput) as refusal:
        configure(toy_study.study, arm, preset, overrides)
    assert str(refusal.value) == line


@pytest.mark.parametrize("config", [BanditConfig(), BanditConfig(num_levers=100, noise=0.0), Lists()])
def test_perturbations_change_each_field_alone_and_legally(config):
    changed = dict(perturbations(config))
    assert list(changed) == list(flatten(config))
    for path, other in changed.items():
        validate(other)
        assert list(differences(flatten(config), flatten(other))) == [path]


def test_perturbations_heed_the_study():
    config = dataclasses.replace(BanditConfig(poison_at=20), schedule=Schedule(num_updates=30))
    changed = dict(perturbations(config, toy_study.check))
    assert changed["poison_at"].poison_at == 10
    assert changed["schedule.num_updates"].schedule.num_updates == 60
    single = dataclasses.make_dataclass(
        "Single", [("only", str, setting("a", "The one.", choices=("a",)))], frozen=True
    )
    with pytest.raises(ValueError, match="only = 'a': no other legal value"):
        list(perturbations(single()))


def test_every_field_of_the_toy_study_changes_something():
    """The check that every study gets: no field is unread."""
    reference = _outcome(BanditConfig(schedule=Schedule(num_updates=200)))
    base = BanditConfig(schedule=Schedule(num_updates=200))
    for path, changed in perturbations(base, toy_study.check):
        if path.startswith("schedule."):
            continue
        assert _outcome(changed) != reference, path


def _outcome(config: BanditConfig) -> str:
    program = toy_study.Bandit(config, [0])
    state, metrics = program.update(program.init(), 200)
    return repr((metrics(), program.evaluate(state, 200), {name: array.tolist() for name, array in state.items()}))
