"""Updates with a host in between: one record per chunk, states that go on to the same bits, changes refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.backends.jax_host_program import JaxHostProgram, jax_host_program
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Last, Sometimes, Sum


def init(key: Any) -> dict[str, Any]:
    return {"key": key, "total": jnp.zeros(2), "activation": jax.nn.relu}


def update(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    key, draw = jax.random.split(state["key"])
    asked = np.asarray(jax.random.normal(draw, (2,)))  # what an oracle would be asked
    total = state["activation"](state["total"] + jnp.asarray(asked))
    metrics = {"mean": asked.sum(), "calls": Sum(1), "last": Last(total[0]), "never": Sometimes(np.nan)}
    return state | {"key": key, "total": total}, metrics


def evaluate(state: dict[str, Any], key: Any, final: bool) -> dict[str, Any]:
    return {"total": state["total"].sum(), "draw": jax.random.uniform(key), "final": final, "none": Sometimes(np.nan)}


def program(**changes: Any) -> JaxHostProgram:
    return jax_host_program(**({"init": init, "update": update, "evaluate": evaluate, "seeds": [1, 7]} | changes))


def test_a_chunk_is_its_updates_and_its_record_their_mean_sum_and_last() -> None:
    state, read = program().update(program().init(), 3)
    by_hand, rows = init(jax.random.key(7)), []
    for _ in range(3):
        by_hand, metrics = update(by_hand)
        rows.append(metrics)
    assert read()[1] == {
        "mean": pytest.approx(np.mean([row["mean"] for row in rows])),
        "calls": 3,
        "last": float(rows[-1]["last"].value),
    }
    assert (state[1]["total"] == by_hand["total"]).all()


def test_a_saved_state_goes_on_to_the_same_bits() -> None:
    whole, _ = program().update(program().init(), 6)
    half, _ = program().update(program().init(), 3)
    resumed, _ = program().update(program().load(program().save(half)), 3)
    first, second = program().save(whole), program().save(resumed)
    assert first.keys() == second.keys() == {"key#threefry2x32", "total"}
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_evaluation_depends_on_seed_and_step_alone() -> None:
    ours = program()
    state = ours.init()
    first, second = ours.evaluate(state, 4), ours.evaluate(state, 4, final=True)
    assert (
        [row["draw"] for row in first]
        == [row["draw"] for row in second]
        != [row["draw"] for row in ours.evaluate(state, 5)]
    )
    assert first[0]["final"] == 0 and second[0]["final"] == 1 and "none" not in first[0]


def test_a_changed_or_weak_or_foreign_state_is_refused_by_name() -> None:
    grown = program(update=lambda state: (state | {"total": jnp.zeros(3)}, {}))
    with pytest.raises(TypeError, match="'total' from"):
        grown.update(grown.init(), 1)
    with pytest.raises(TypeError, match="weakly typed"):
        program(init=lambda key: {"count": jnp.asarray(0)}).init()
    arrays = program().save(program().init())
    with pytest.raises(BadInput, match="'total' is missing"):
        program().load({name: array for name, array in arrays.items() if name != "total"})


def test_compile_time_is_counted_where_it_happens() -> None:
    ours = program(update=lambda state: (state | {"total": jax.jit(lambda x: jnp.sin(x) * 3)(state["total"])}, {}))
    state = ours.init()
    before = ours.compile_seconds
    ours.update(state, 1)
    assert before > 0 and ours.compile_seconds > before
