import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curricula.number_world import number_world, outcomes_of

from tutelage.curricula.config import SFLConfig
from tutelage.curricula.sfl import sfl
from tutelage.lab.errors import BadInput

N = 8
CONFIG = SFLConfig(every=3, num_batches=4, batch_size=64, keep=16, share=0.5)
ENV = number_world(num_levels=1000)


def probe(key, tasks):
    """Success falls from 1 to 0 as the number rises; every tenth level is never completed."""
    del key
    rate = 1 - tasks.number / 1000
    return outcomes_of(rate, success_rate=rate, completed=(tasks.number % 10 != 0) * 4)


def pool(key):
    """The numbers that a search with this key meets."""
    found = []
    for batch_key in jax.random.split(key, CONFIG.num_batches):
        k_level, _ = jax.random.split(batch_key)
        found.append(jax.vmap(ENV.sample_task)(jax.random.split(k_level, CONFIG.batch_size)).number)
    return np.concatenate(found)


def test_the_search_keeps_the_most_learnable_of_the_whole_pool():
    teacher = sfl(CONFIG, ENV, N)
    assert teacher.prepare is not None
    key = jax.random.key(1)
    state = teacher.prepare(teacher.init(jax.random.key(0)), jax.random.clone(key), probe)
    rate = 1 - (number := pool(key)) / 1000
    learnability = np.where(number % 10 != 0, rate * (1 - rate), -1)
    expected = np.sort(learnability)[::-1][: CONFIG.keep]
    np.testing.assert_allclose(state.learnability, expected, rtol=1e-5)
    kept = np.asarray(state.level.number)
    assert (np.abs(kept - 500) < 100).all()
    assert (kept % 10 != 0).all()


def test_a_search_is_made_every_k_cycles_and_forgets_the_last():
    teacher = sfl(CONFIG, ENV, N)
    assert teacher.prepare is not None
    prepare = jax.jit(lambda state, key: teacher.prepare(state, key, probe))  # type: ignore[misc]
    state = teacher.init(jax.random.key(0))
    kept = []
    for cycle in range(7):
        k_prepare, k_propose = jax.random.split(jax.random.fold_in(jax.random.key(2), cycle))
        state = prepare(state, k_prepare)
        kept.append(np.asarray(state.level.number))
        phase = teacher.decide(state, k_propose, teacher.ready(state))
        tasks, tickets = teacher.propose(state, jax.random.clone(k_propose), phase)
        state, metrics = teacher.observe(state, jax.random.key(0), phase, tasks, tickets, probe(None, tasks))
        assert float(metrics["kept_learnability_mean"]) > 0.24
    changes = [cycle for cycle in range(1, 7) if (kept[cycle] != kept[cycle - 1]).any()]
    assert changes == [3, 6]


def test_half_of_a_batch_is_kept_levels_and_half_is_random():
    teacher = sfl(CONFIG, ENV, N)
    assert teacher.prepare is not None
    state = teacher.prepare(teacher.init(jax.random.key(0)), jax.random.key(1), probe)
    keys = jax.random.split(jax.random.key(2), 200)
    numbers = np.asarray(jax.vmap(lambda key: teacher.propose(state, key, jnp.int32(0))[0].number)(keys))
    kept = np.asarray(state.level.number)
    assert np.isin(numbers[:, :4], kept).all()
    assert set(numbers[:, :4].ravel().tolist()) == set(kept.tolist())
    # 16 of 1000 levels are kept: random rows meet them about that often.
    assert np.isin(numbers[:, 4:], kept).mean() < 0.05
    assert abs(numbers[:, 4:].mean() - 499.5) < 4 * 289 / np.sqrt(800)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_batch_of_one_kind(share):
    teacher = sfl(dataclasses.replace(CONFIG, share=share), ENV, N)
    assert teacher.prepare is not None
    state = teacher.prepare(teacher.init(jax.random.key(0)), jax.random.key(1), probe)
    tasks, _ = teacher.propose(state, jax.random.key(2), jnp.int32(0))
    assert np.isin(tasks.number, state.level.number).all() == (share == 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": 300}, "keep = 300 .*256"),
        ({"share": 0.3}, "share = 0.3"),
        ({"share": 1.5}, "share = 1.5"),
        ({"every": 0}, "every = 0"),
    ],
)
def test_bad_settings_are_refused_by_name(change, message):
    with pytest.raises(BadInput, match=message):
        sfl(dataclasses.replace(CONFIG, **change), ENV, N)
