import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curricula.number_world import by_number, number_world, outcomes_of, teach

from tutelage.curricula.accel import accel
from tutelage.curricula.config import EditConfig, ReplayConfig, SFLConfig
from tutelage.curricula.domain_randomization import dr
from tutelage.curricula.plr import NEW, REPLAY, plr
from tutelage.curricula.sfl import sfl
from tutelage.lab.errors import BadInput

N = 4
CONFIG = ReplayConfig(buffer_size=32, probability=0.3, staleness=0.3)
ENV = number_world()
ROBUST = plr(CONFIG, ENV, N)
NUM_CYCLES = 200


def test_replay_is_decided_with_its_probability_and_not_before_there_is_enough():
    teacher = ROBUST
    state = teacher.init(jax.random.key(0))
    assert not teacher.ready(state)
    keys = jax.random.split(jax.random.key(1), 10_000)
    ready = np.asarray(jax.vmap(lambda key: teacher.decide(state, key, jnp.bool_(True)))(keys))
    assert abs((ready == REPLAY).mean() - 0.3) < 3 * np.sqrt(0.3 * 0.7 / 10_000)
    unready = jax.vmap(lambda key: teacher.decide(state, key, jnp.bool_(False)))(jax.random.clone(keys))
    assert (np.asarray(unready) == NEW).all()


def test_gradient_updates_per_cycle_once_the_buffer_is_half_full():
    warm_up, counts = 4, []
    for seed in range(10):
        _, (phase, learns, *_) = teach(ROBUST, jax.random.key(seed), NUM_CYCLES)
        assert (np.asarray(phase)[:warm_up] == NEW).all()
        np.testing.assert_array_equal(learns, np.asarray(phase) == REPLAY)
        counts.append(np.asarray(learns)[warm_up:])
    assert abs(np.mean(counts) - 0.3) < 3 * np.sqrt(0.3 * 0.7 / np.size(counts))


def test_parallel_learns_every_cycle_once_warm_and_never_before():
    config = dataclasses.replace(CONFIG, parallel=True)
    _, (phase, learns, tasks, tickets, *_) = teach(plr(config, ENV, N), jax.random.key(0), 40)
    assert tasks.number.shape == (40, 2 * N)
    # Two parts of new levels a cycle fill 16 of 32 slots in two cycles.
    np.testing.assert_array_equal(learns, [False] * 2 + [True] * 38)
    np.testing.assert_array_equal(phase, [NEW] * 2 + [REPLAY] * 38)
    # The rows to learn from are the replayed ones; the rest is new.
    slot = np.asarray(tickets.slot)
    assert (slot[2:, :N] >= 0).all()
    assert (slot[2:, N:] == -1).all()
    assert (slot[:2] == -1).all()


def test_parallel_that_is_not_robust_learns_from_new_levels_while_it_warms_up():
    config = dataclasses.replace(CONFIG, parallel=True, robust=False)
    _, (_, learns, *_) = teach(plr(config, ENV, N), jax.random.key(0), 5)
    assert np.asarray(learns).all()


def test_plain_plr_always_learns_and_says_so():
    teacher = plr(dataclasses.replace(CONFIG, robust=False), ENV, N)
    _, (phase, learns, *_) = teach(teacher, jax.random.key(0), 60)
    assert np.asarray(learns).all()
    assert teacher.always_learns
    assert {NEW, REPLAY} == set(np.asarray(phase).tolist())
    assert not plr(CONFIG, ENV, N).always_learns


def test_replayed_levels_are_those_of_their_slots_and_known_returns_are_theirs():
    teacher = ROBUST
    state, _ = teach(teacher, jax.random.key(0), NUM_CYCLES)
    tasks, tickets = teacher.propose(state, jax.random.key(5), jnp.int32(REPLAY))
    slot = np.asarray(tickets.slot)
    np.testing.assert_array_equal(tasks.number, np.asarray(state.buffer.level.number)[slot])
    known = teacher.known_max_return(state, tickets)
    np.testing.assert_array_equal(known, np.asarray(state.buffer.max_return)[slot])
    _, fresh = teacher.propose(state, jax.random.key(5), jnp.int32(NEW))
    np.testing.assert_array_equal(teacher.known_max_return(state, fresh), np.full(N, -np.inf))


def test_observing_a_replay_updates_scores_ages_and_the_running_maximum():
    teacher = ROBUST
    state, _ = teach(teacher, jax.random.key(0), NUM_CYCLES)
    tasks, tickets = teacher.propose(state, jax.random.key(5), jnp.int32(REPLAY))
    worse = outcomes_of(np.full(N, 7.0), max_return=np.full(N, -9.0))
    after, _ = teacher.observe(state, jax.random.key(6), jnp.int32(REPLAY), tasks, tickets, worse)
    slot = np.asarray(tickets.slot)
    np.testing.assert_array_equal(np.asarray(after.buffer.score)[slot], 7.0)
    np.testing.assert_array_equal(after.buffer.max_return, state.buffer.max_return)
    np.testing.assert_array_equal(after.buffer.level.number, state.buffer.level.number)
    others = np.setdiff1d(np.arange(CONFIG.buffer_size), slot)
    filled = np.asarray(state.buffer.filled)[others]
    np.testing.assert_array_equal(
        np.asarray(after.buffer.age)[others], np.asarray(state.buffer.age)[others] + N * filled
    )
    assert np.asarray(after.buffer.age)[slot[-1]] == 0
    # New levels do not touch what is there, but age it.
    tasks, tickets = teacher.propose(state, jax.random.key(5), jnp.int32(NEW))
    ignored = outcomes_of(np.full(N, -np.inf), max_return=np.full(N, -np.inf))
    after, _ = teacher.observe(state, jax.random.key(6), jnp.int32(NEW), tasks, tickets, ignored)
    np.testing.assert_array_equal(after.buffer.score, state.buffer.score)
    np.testing.assert_array_equal(after.buffer.age, np.asarray(state.buffer.age) + N * np.asarray(state.buffer.filled))


def test_the_buffer_keeps_the_levels_of_greatest_score():
    # Without staleness the smallest weight is the smallest score, so the buffer ends with the best levels ever seen.
    config = dataclasses.replace(CONFIG, staleness=0.0)
    state, (_, _, tasks, tickets, *_) = teach(plr(config, ENV, N), jax.random.key(0), 200)
    new = np.asarray(tasks.number)[np.asarray(tickets.slot) == -1]
    best = np.sort(np.asarray(by_number(type(tasks)(jnp.asarray(new), jnp.asarray(new))).score))[-32:]
    np.testing.assert_allclose(np.sort(state.buffer.score), best)


def test_metrics_are_finite_from_the_first_cycle_on():
    _, (_, _, _, _, metrics, _) = teach(ROBUST, jax.random.key(0), NUM_CYCLES)
    for name, values in metrics.items():
        assert np.isfinite(values).all(), name
    nothing = lambda tasks: outcomes_of(jnp.full(tasks.number.shape, -jnp.inf))  # noqa: E731
    _, (_, _, _, _, metrics, _) = teach(ROBUST, jax.random.key(0), 3, nothing)
    for name, values in metrics.items():
        assert np.isfinite(values).all(), name
    np.testing.assert_array_equal(metrics["buffer_fill"], [0, 0, 0])


def test_tallies_cover_the_cycles_since_the_last_gradient():
    _, (phase, _, _, _, metrics, _) = teach(ROBUST, jax.random.key(0), NUM_CYCLES)
    phase, batches = np.asarray(phase), np.asarray(metrics["batches"])
    offered = np.asarray(metrics["offered"])
    since = 0
    for cycle in range(NUM_CYCLES):
        since += 1
        assert batches[cycle] == since
        assert offered[cycle] == N * (since - (phase[cycle] == REPLAY))
        if phase[cycle] == REPLAY:
            since = 0


def test_random_replay_keeps_the_newest_levels():
    config = dataclasses.replace(CONFIG, prioritisation="uniform")
    state, (_, _, tasks, tickets, *_) = teach(plr(config, ENV, N), jax.random.key(0), 60)
    new = np.asarray(tasks.number)[np.asarray(tickets.slot) == -1]
    assert set(np.asarray(state.buffer.level.number).tolist()) == set(new[-32:].tolist())


@pytest.mark.parametrize("parallel", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_population_with_one_teacher_each(parallel):
    # minimax's PLR crashes with more than one student. The phase is decided once, for all of them.
    teacher = plr(dataclasses.replace(CONFIG, parallel=parallel), ENV, N)
    num_members, num_cycles = 3, 12

    def member_cycle(state, key, phase):
        k_propose, k_observe = jax.random.split(key)
        tasks, tickets = teacher.propose(state, k_propose, phase)
        return teacher.observe(state, k_observe, phase, tasks, tickets, by_number(tasks))[0]

    phases = jnp.array([NEW] * 4 + [REPLAY, NEW] * 4, jnp.int32)
    keys = jax.random.split(jax.random.key(3), (num_cycles, num_members))
    first = jax.vmap(teacher.init)(jax.random.split(jax.random.key(4), num_members))
    together, _ = jax.lax.scan(
        lambda state, x: (jax.vmap(member_cycle, in_axes=(0, 0, None))(state, *x), None), first, (keys, phases)
    )
    alone = jax.jit(lambda keys: jax.lax.scan(
        lambda state, x: (member_cycle(state, *x), None), teacher.init(jax.random.key(0)), (keys, phases)
    )[0])  # fmt: skip
    for member in range(num_members):
        expected = alone(jax.random.clone(keys)[:, member])
        found = jax.tree.map(lambda leaf, member=member: leaf[member], together)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
    assert (np.asarray(together.buffer.replays).sum(axis=1) > 0).all()


TEACHERS = {
    "dr": dr(ENV, N),
    "plr": ROBUST,
    "parallel plr": plr(dataclasses.replace(CONFIG, parallel=True), ENV, N),
    "random replay": plr(dataclasses.replace(CONFIG, prioritisation="uniform"), ENV, N),
    "proportional": plr(dataclasses.replace(CONFIG, prioritisation="proportional", score="true_regret"), ENV, N),
    "accel": accel(CONFIG, EditConfig(), ENV, N),
    "parallel accel": accel(dataclasses.replace(CONFIG, parallel=True), EditConfig(), ENV, N),
    "sfl": sfl(SFLConfig(batch_size=8, keep=6), ENV, N),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_states_keep_their_types_so_that_nothing_compiles_twice(name):
    teacher = TEACHERS[name]

    def cycle(state, key):
        if teacher.prepare is not None:
            state = teacher.prepare(state, key, lambda _, tasks: by_number(tasks))
        phase = teacher.decide(state, key, teacher.ready(state))
        tasks, tickets = teacher.propose(state, key, phase)
        assert jax.tree.leaves(tasks)[0].shape[0] == teacher.num_tasks
        assert teacher.known_max_return(state, tickets).shape == (teacher.num_tasks,)
        state, metrics = teacher.observe(state, key, phase, tasks, tickets, by_number(tasks))
        return state, (phase, teacher.learns(phase), teacher.ready(state), metrics)

    def types(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)

    with jax.debug_key_reuse(False):
        before = jax.eval_shape(teacher.init, jax.random.key(0))
        after, (phase, learns, ready, metrics) = jax.eval_shape(cycle, before, jax.random.key(0))
    assert types(before) == types(after)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(before))
    assert types(phase) == ((), jnp.int32, False)
    assert types((learns, ready)) == (((), jnp.bool_, False),) * 2
    assert all(types(value) == ((), jnp.float32, False) for value in metrics.values())


def test_domain_randomisation_is_new_levels_every_time():
    _, (_, learns, tasks, *_) = teach(TEACHERS["dr"], jax.random.key(0), 50)
    assert np.asarray(learns).all()
    assert len(np.unique(tasks.number)) > 195


def test_what_the_environment_lacks_is_refused():
    with pytest.raises(BadInput, match="dedupe"):
        plr(CONFIG, number_world(equal=None), N)
    plr(dataclasses.replace(CONFIG, dedupe=False), number_world(equal=None), N)
    with pytest.raises(BadInput, match="true_regret"):
        plr(dataclasses.replace(CONFIG, score="true_regret"), number_world(solve=None), N)
    with pytest.raises(BadInput, match="mutate"):
        accel(CONFIG, EditConfig(), number_world(mutate=None), N)
