"""One's own objectives: a direction and bounds for each, said explicitly."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from tutelage.gflownets.baselines.config import RandomSearchConfig
from tutelage.gflownets.baselines.random_search import random_search
from tutelage.gflownets.condition import condition
from tutelage.gflownets.config import GFlowNetConfig
from tutelage.gflownets.method import hosted_update
from tutelage.gflownets.objectives import check_rewards
from tutelage.gflownets.oracles.oracle import Oracle, OracleError
from tutelage.gflownets.oracles.own import entries_that_differ, one_by_one, own_objectives, own_problem
from tutelage.gflownets.worlds.sequences import sequence_environment, text_of
from tutelage.lab.errors import BadInput

_ROWS = np.array([[0, 1, 2], [3, 3, 3]], np.int32)


def _word(row: np.ndarray) -> str:
    return "".join("ACGT"[number] for number in row)


def test_functions_see_rendered_objects_and_directions_are_turned():
    objectives = own_objectives(
        {"gc": lambda words: [sum(map(word.count, "GC")) for word in words], "ts": one_by_one(lambda w: w.count("T"))},
        maximise={"gc": (0, 3)},
        minimise={"ts": (-1, 3)},
        render=_word,
    )
    assert objectives.names == ("gc", "ts") and objectives.on_host and objectives.render(_ROWS[0]) == "ACG"
    expected = [[2 / 3, 0.75], [0.0, 0.0]]
    np.testing.assert_allclose(Oracle(objectives)(_ROWS), expected, rtol=1e-6)
    # Without an oracle the same, though nothing is kept there.
    np.testing.assert_allclose(check_rewards(objectives.rewards(_ROWS), objectives, _ROWS), expected, rtol=1e-6)
    np.testing.assert_allclose(objectives.rewards.in_units(np.array(expected)), [[2, 0], [0, 3]])


def test_one_function_for_all_says_the_order_of_its_columns():
    def both(rows: list) -> np.ndarray:
        return np.array([[row.sum(), row.max()] for row in rows])

    objectives = own_objectives(both, names=("sum", "max"), maximise={"max": (0, 3)}, minimise={"sum": (0, 9)})
    np.testing.assert_allclose(Oracle(objectives)(_ROWS), [[1 - 3 / 9, 2 / 3], [0, 1]], rtol=1e-6)
    with pytest.raises(BadInput, match="names must say the order"):
        own_objectives(both, maximise={"max": (0, 3)}, minimise={"sum": (0, 9)})


def test_an_objective_without_a_direction_is_refused():
    functions = {"energy": len, "pins": len}
    with pytest.raises(BadInput, match="'energy' is in neither of maximise= and minimise=: a Pareto front needs"):
        own_objectives(functions, maximise={"pins": (0, 1)})
    with pytest.raises(BadInput, match="'pins' is in both"):
        own_objectives(functions, maximise={"pins": (0, 1)}, minimise={"pins": (0, 1), "energy": (0, 1)})
    with pytest.raises(BadInput, match="maximise: there is no objective 'pin'; did you mean 'pins'"):
        own_objectives(functions, maximise={"pin": (0, 1)}, minimise={"energy": (0, 1)})
    with pytest.raises(BadInput, match="names = pins, energy, but the functions are of energy, pins"):
        own_objectives(functions, names=("pins", "energy"), maximise={"pins": (0, 1), "energy": (0, 1)})


@pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_bounds_must_be_a_range(bounds: tuple[float, float]):
    with pytest.raises(BadInput, match="objective 'a': bounds"):
        own_objectives({"a": len}, maximise={"a": bounds})


def test_rounding_at_a_bound_is_forgiven_and_more_is_not():
    def objectives(value: float):
        return own_objectives({"a": lambda rows: np.full(len(rows), value)}, maximise={"a": (0.3, 0.7)})

    assert Oracle(objectives(float(np.float32(0.7))))(_ROWS).max() == 1.0
    for beyond in (0.701, 0.299):
        with pytest.raises(BadInput, match=r"2 of 2 values are outside \[0.3, 0.7\]"):
            Oracle(objectives(beyond))(_ROWS)


def test_a_function_of_wrong_length_is_named():
    objectives = own_objectives(
        {"a": lambda rows: [0.5], "b": lambda rows: [0.5, 0.5, 0.5]}, maximise={"a": (0, 1), "b": (0, 1)}
    )
    with pytest.raises(OracleError, match=r"objective 'b' gave an array of shape \(3,\) for 1 objects; must be \(1,\)"):
        Oracle(objectives)(_ROWS)


def test_a_problem_has_a_distance_of_its_own():
    problem = own_problem(sequence_environment(4, 3, 3), {"a": len}, maximise={"a": (0, 1)})
    np.testing.assert_array_equal(problem.distances(_ROWS, _ROWS[:1]), [[0.0], [3.0]])
    assert entries_that_differ(_ROWS[:0], _ROWS).shape == (0, 2)


def test_a_method_learns_from_ones_own_objectives_and_no_object_is_asked_for_twice():
    asked: list[str] = []

    def gc(words: list) -> list[int]:
        asked.extend(words)
        return [sum(map(word.count, "GC")) for word in words]

    problem = own_problem(
        sequence_environment(4, 2, 3),
        {"gc": gc, "length": one_by_one(len)},
        maximise={"gc": (0, 3)},
        minimise={"length": (0, 3)},
        render=lambda row: text_of(row, "ACGT"),
    )
    method = random_search(problem, GFlowNetConfig(batch_size=16), RandomSearchConfig())
    oracle = Oracle(problem.objectives)
    update = hosted_update(method, oracle)
    state = jax.jit(method.init)(jax.random.key(0))
    for _ in range(20):
        state, _ = update(state)
    assert len(asked) == len(set(asked)) <= 16 + 64
    assert oracle.counts.asked == 320 and oracle.counts.hits == 320 - len(asked) and len(asked) > 60
    found = method.sample(state, jax.random.key(1), condition([0.9, 0.1], 8.0, 2))
    assert set(text_of(np.asarray(found)[0], "ACGT")) <= {"G", "C"}
