"""The JAX backend: a chunk is the same updates one by one, reduced by hand; what cannot be compiled once is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from backends.toy_jax_study import study
from killing import assert_same_run, command, run_to_end, run_with_kills

from tutelage.backends.jax_program import EVALUATION, JaxProgram, jax_program
from tutelage.lab import configuration, driver
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Last, Max, Sometimes, Sum
from tutelage.lab.storage.record import RunFolder

SCHEDULE = {
    "schedule.num_updates": 60,
    "schedule.log_every": 6,
    "schedule.evaluate_every": 18,
    "schedule.checkpoint_every": 12,
}


def fit(abreast: bool = False, seeds: tuple[int, ...] = (2, 9)) -> JaxProgram:
    config, _ = configuration.configure(study, "fit", "quick", {"abreast": abreast})
    return study.program(config, seeds)


def counter(update=None, init=None, evaluate=None, **options) -> JaxProgram:
    """A program whose state is a count and a key."""
    return jax_program(
        init or (lambda key: {"n": jnp.int32(0), "key": key}),
        update or (lambda state: (state | {"n": state["n"] + 1}, {})),
        evaluate or (lambda state, key: {"u": jax.random.uniform(key)}),
        **{"seeds": [0]} | options,
    )


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(one[name].tobytes() == other[name].tobytes() for name in one)


# The three verbs.


def test_metrics_of_a_chunk_by_hand() -> None:
    def update(state):
        n = state["n"] + 1  # 1, 2, 3, …
        odd = jnp.where(n % 2 == 1, n.astype(jnp.float32), jnp.nan)
        metrics = {"mean": n, "last": Last(n), "sum": Sum(n), "max": Max(-n), "odd": Sometimes(odd)}
        metrics |= {"never": Sometimes(jnp.nan), "broken": odd, "flag": n > 2}
        return state | {"n": n}, metrics

    program = counter(update)
    state, fetch = program.update(program.init(), 4)
    (figures,) = fetch()
    assert np.isnan(figures.pop("broken"))
    assert figures == {"mean": 2.5, "last": 4.0, "sum": 10.0, "max": -1.0, "odd": 2.0, "flag": 0.5}
    _, fetch = program.update(state, 4)
    assert fetch()[0]["sum"] == 5 + 6 + 7 + 8


@pytest.mark.parametrize("abreast", [False, True])
def test_chunks_are_the_same_updates_one_by_one_and_compile_once(abreast: bool) -> None:
    program = fit(abreast)
    state = program.init()
    for _ in range(5):
        state, fetch = program.update(state, 4)
        fetch()
        program.evaluate(state, 4)
    assert program.traces == {"init": 1, "update": 1, "evaluate": 1}
    single = fit(abreast)
    other = single.init()
    for _ in range(20):
        other, _ = single.update(other, 1)
    chunked, stepped = program.save(state), single.save(other)
    assert chunked.keys() == stepped.keys()
    for name in chunked:
        np.testing.assert_allclose(chunked[name].astype(float), stepped[name].astype(float), rtol=1e-5, atol=1e-6)


def test_seeds_in_a_row_are_runs_of_their_own_bit_for_bit() -> None:
    together = fit(seeds=(2, 9))
    state, fetch = together.update(together.init(), 6)
    both, figures = together.save(state), fetch()
    for row, seed in enumerate((2, 9)):
        alone = fit(seeds=(seed,))
        state, fetch = alone.update(alone.init(), 6)
        assert same(alone.save(state), {name: array[row : row + 1] for name, array in both.items()})
        assert fetch() == [figures[row]]


def test_seeds_abreast_agree_with_seeds_in_a_row() -> None:
    saved = []
    for abreast in (False, True):
        program = fit(abreast)
        state, _ = program.update(program.init(), 6)
        saved.append(program.save(state))
        assert [program.seed_state(state, row)["count"].tolist() for row in (0, 1)] == [6, 6]
    assert saved[0].keys() == saved[1].keys()
    for name in saved[0]:
        assert saved[0][name].dtype == saved[1][name].dtype
        np.testing.assert_allclose(saved[0][name].astype(float), saved[1][name].astype(float), rtol=1e-5, atol=1e-6)


def test_the_keys_are_those_of_the_documentation() -> None:
    for mode in ("loop", "vmap"):
        program = counter(seeds=[4, 2**32 - 1], mode=mode)
        state = program.init()
        for row, seed in enumerate(program.seeds):
            mine = program.seed_state(state, row)["key"]
            assert jax.random.key_data(mine).tolist() == [0, seed]
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(np.uint32(seed)), EVALUATION), 30)
            assert program.evaluate(state, 30)[row] == {"u": float(jax.random.uniform(key))}


def test_the_final_evaluation_may_be_another() -> None:
    program = counter(
        evaluate=lambda state, key: {"a": 1.0}, final=lambda state, key: {"b": Sometimes(jnp.nan), "c": 2}
    )
    state = program.init()
    assert program.evaluate(state, 1) == [{"a": 1.0}]
    assert program.evaluate(state, 2, final=True) == [{"c": 2.0}]
    same_at_the_end = counter(evaluate=lambda state, key: {"a": 1.0})
    same_at_the_end.evaluate(state, 1)
    assert same_at_the_end.evaluate(state, 2, final=True) == [{"a": 1.0}]
    assert same_at_the_end.traces["evaluate"] == 1


def test_the_old_state_is_donated_and_one_array_may_stand_twice_in_it() -> None:
    def init(key):
        params = jax.random.normal(key, (1000,))
        return {"online": params, "target": params}

    def update(state):
        online = state["online"] + 1
        return {"online": online, "target": online}, {"mean": online.mean()}

    program = counter(update, init)
    old = program.init()
    place = old[0]["online"].unsafe_buffer_pointer()
    new, fetch = program.update(old, 3)
    fetch()
    assert old[0]["online"].is_deleted()
    assert new[0]["online"].unsafe_buffer_pointer() == place
    assert new[0]["target"].unsafe_buffer_pointer() != place


# The state on disk.


@pytest.mark.parametrize("abreast", [False, True])
def test_save_and_load_are_inverse_and_names_are_paths(abreast: bool) -> None:
    program = fit(abreast)
    state, _ = program.update(program.init(), 6)
    arrays = program.save(state)
    assert {
        "count",
        "filled",
        "seen",
        "key#threefry2x32",
        "net/layers/0/weight",
        "optimizer/0/mu/layers/2/bias",
    } <= set(arrays)
    assert arrays["seen"].dtype == jnp.bfloat16
    assert arrays["key#threefry2x32"].shape == (2, 2)
    assert arrays["count"].tolist() == [6, 6]
    fresh = fit(abreast)
    loaded = fresh.load(arrays)
    assert same(fresh.save(loaded), arrays)
    (one, _), (other, _) = program.update(state, 6), fresh.update(loaded, 6)
    assert same(program.save(one), fresh.save(other))
    assert fresh.traces == {"init": 1, "update": 1}


def test_keys_of_another_implementation_come_back_as_such() -> None:
    program = counter(init=lambda key: {"n": jnp.int32(0), "key": jax.random.key(7, impl="rbg")})
    arrays = program.save(program.init())
    assert arrays["key#rbg"].shape == (1, 4)
    loaded = program.seed_state(program.load(arrays), 0)["key"]
    assert jax.random.key_impl(loaded) == "rbg"
    assert jax.random.key_data(loaded).tolist() == arrays["key#rbg"][0].tolist()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda arrays: arrays.pop("n"), "array 'n' is missing"),
        (lambda arrays: arrays.update(m=np.zeros(1)), "array 'm' is not part of this program's state"),
        (lambda arrays: arrays.update(n=np.zeros(2, np.int32)), r"array 'n' is int32\[2\], must be int32\[1\]"),
        (lambda arrays: arrays.update(n=np.zeros(1)), r"array 'n' is float64\[1\], must be int32\[1\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(change, complaint: str) -> None:
    program = counter()
    arrays = program.save(program.init())
    change(arrays)
    with pytest.raises(BadInput, match=complaint):
        program.load(arrays)


# What cannot be compiled once.


@pytest.mark.parametrize(
    ("leaf", "complaint"),
    [
        (lambda: 0, "state leaf 'part/x' of init is 0 .int.: must be an array"),
        (lambda: "name", "state leaf 'part/x' of init is 'name'"),
        (lambda: jnp.asarray(0.0), r"state leaf 'part/x' of init is weakly typed .*jnp\.float32"),
    ],
)
def test_states_of_indefinite_type_are_refused_by_name(leaf, complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        counter(init=lambda key: {"part": {"x": leaf()}}).init()


@pytest.mark.parametrize(
    ("update", "complaint"),
    [
        (lambda s: s | {"n": jnp.where(True, 1, 2)}, "state leaf 'n' of update is weakly typed"),
        (lambda s: s | {"n": s["n"] + 1.0}, r"update changes the state leaf 'n' from int32\[\] to float32\[\]"),
        (lambda s: s | {"n": jnp.zeros(2, jnp.int32)}, r"the state leaf 'n' from int32\[\] to int32\[2\]"),
        (lambda s: s | {"m": jnp.int32(0)}, "update adds the state leaf 'm'"),
        (lambda s: {"key": s["key"]}, "update loses the state leaf 'n'"),
        (lambda s: s | {"f": jnp.tanh}, "update changes the structure of the state"),
    ],
)
def test_updates_that_change_the_state_are_refused_by_leaf(update, complaint: str) -> None:
    program = counter(lambda state: (update(state), {}))
    with pytest.raises(TypeError, match=complaint):
        program.update(program.init(), 2)


def test_metrics_and_figures_must_be_scalars() -> None:
    program = counter(lambda state: (state, {"ok": 1.0, "returns": Last(jnp.zeros(3))}))
    with pytest.raises(TypeError, match=r"metric 'returns' has shape \(3,\): must be a scalar"):
        program.update(program.init(), 2)
    program = counter(evaluate=lambda state, key: {"returns": jnp.zeros((2, 3))})
    with pytest.raises(TypeError, match=r"figure 'returns' has shape \(2, 3\)"):
        program.evaluate(program.init(), 0)


def test_two_leaves_of_one_name_and_an_unknown_mode_are_refused() -> None:
    with pytest.raises(TypeError, match="two leaves of the state are both named 'a/b'"):
        counter(init=lambda key: {"a/b": jnp.zeros(1), "a": {"b": jnp.zeros(1)}}).init()
    with pytest.raises(BadInput, match="mode = 'pmap': must be 'loop' or 'vmap'"):
        counter(mode="pmap")


def test_modules_keep_their_functions() -> None:
    program = jax_program(
        lambda key: eqx.nn.MLP(2, 1, 4, 1, activation=jnp.sin, key=key),
        lambda net: (net, {"out": net(jnp.ones(2))[0]}),
        lambda net, key: {"out": net(jnp.ones(2))[0]},
        seeds=[0],
    )
    state, fetch = program.update(program.init(), 1)
    net = program.seed_state(state, 0)
    assert net.activation is jnp.sin
    assert fetch()[0]["out"] == pytest.approx(float(net(jnp.ones(2))[0]), rel=1e-6)


# Under the driver.


def crash_once(program: JaxProgram, call: int) -> JaxProgram:
    """The program, whose `call`-th update raises."""
    update, calls = program.update, iter(range(1000))

    def crashing(state, num_updates):
        if next(calls) == call:
            raise KeyboardInterrupt
        return update(state, num_updates)

    program.update = crashing  # type: ignore[method-assign]
    return program


@pytest.mark.parametrize("abreast", [False, True])
def test_a_crashed_run_goes_on_to_the_same_files(tmp_path: Path, abreast: bool) -> None:
    def go(folder: Path, crash: int = -1) -> None:
        config, _ = configuration.configure(study, "fit", "quick", SCHEDULE | {"abreast": abreast})
        of = dataclasses.replace(study, build=lambda *arguments: crash_once(study.program(*arguments), crash))
        driver.run(of, "fit", "quick", config, (2, 9), folder, quiet=True)

    go(tmp_path / "undisturbed")
    for crash in (1, 5):
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / str(crash), crash)
        go(tmp_path / str(crash))
        assert_same_run(tmp_path / str(crash), tmp_path / "undisturbed")
    result = RunFolder(tmp_path / "undisturbed").result()
    assert result["compile_seconds"] > 0
    assert result["device"].startswith("CPU")
    records = [record for record in RunFolder(tmp_path / "undisturbed").metrics() if record["kind"] == "metrics"]
    wrapped = [record["step"] for record in records if "loss_when_wrapping" in record]
    assert wrapped == [18, 18, 36, 36, 48, 48]  # the ring of 16 wraps in updates 16, 32 and 48


@pytest.mark.slow
def test_killed_twenty_times_and_resumed_is_identical(tmp_path: Path) -> None:
    changes = SCHEDULE | {"schedule.num_updates": 60_000, "schedule.evaluate_every": 600}
    words = [command("backends.toy_jax_study", "fit", "quick", [2, 9], tmp_path / name, changes) for name in "ab"]
    run_to_end(words[0])
    run_with_kills(words[1], tmp_path / "b", kills=20, seed=2, longest=0.5)
    assert_same_run(tmp_path / "a", tmp_path / "b")


# Figures made on the host.


@pytest.mark.parametrize("mode", ["loop", "vmap"])
def test_a_measure_makes_figures_of_the_arrays_of_each_seed(mode: str) -> None:
    def evaluate(state, key):
        return {"row": state["n"] + jnp.arange(3), "draws": jax.random.uniform(key, (2, 2))}

    def measure(found):
        assert all(isinstance(leaf, np.ndarray) for leaf in found.values())
        return {"sum": found["row"].sum(), "spread": np.ptp(found["draws"]), "none": np.nan}

    program = counter(evaluate=evaluate, measure=measure, seeds=[3, 4], mode=mode)
    state, _ = program.update(program.init(), 5)
    first, second = program.evaluate(state, 5)
    assert first["sum"] == second["sum"] == 18 and first.keys() == {"sum", "spread"}
    assert first["spread"] != second["spread"]
