import dataclasses

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curricula.number_world import Number, number_world

from tutelage.curricula import replay
from tutelage.curricula.config import ReplayConfig, TeacherConfig, check, check_replay
from tutelage.curricula.replay import Batch, Buffer
from tutelage.lab.errors import BadInput

ENV = number_world()
EXAMPLE = Number(jnp.int32(0), jnp.int32(0))


def buffer_of(score, age=None, *, num_slots=None, number=None, max_return=None, pedigree=0) -> Buffer:
    """A buffer whose first slots hold levels with these scores."""
    score = np.asarray(score, np.float32)
    size, num_slots = len(score), num_slots or len(score)

    def fill(values, default, dtype):
        return jnp.asarray(np.concatenate([np.asarray(values), np.full(num_slots - size, default)]).astype(dtype))

    empty = replay.empty(EXAMPLE, num_slots, pedigree=pedigree)
    return empty._replace(
        level=Number(fill(np.arange(size) if number is None else number, 0, np.int32), jnp.zeros(num_slots, jnp.int32)),
        score=fill(score, -np.inf, np.float32),
        max_return=fill(score if max_return is None else max_return, -np.inf, np.float32),
        age=fill(np.zeros(size) if age is None else age, 0, np.int32),
        size=jnp.int32(size),
        lineage=empty.lineage._replace(
            id=fill(np.arange(size), -1, np.int32),
            parent=fill(np.full(size, -1), -1, np.int32),
            generation=fill(np.zeros(size), -1, np.int32),
            born=fill(np.zeros(size), -1, np.int32),
            next_id=jnp.int32(size),
        ),
    )


def batch_of(number, score, max_return=None, parent=None) -> Batch:
    size = len(number)
    return Batch(
        level=Number(jnp.asarray(number, jnp.int32), jnp.zeros(size, jnp.int32)),
        score=jnp.asarray(score, jnp.float32),
        max_return=jnp.asarray(score if max_return is None else max_return, jnp.float32),
        parent=jnp.full(size, -1, jnp.int32) if parent is None else jnp.asarray(parent, jnp.int32),
    )


def insert(buffer, batch, config=None, *, equal=ENV.equal, born=0):
    return replay.insert(buffer, batch, config or ReplayConfig(), equal=equal, born=jnp.int32(born))


# The replay distribution


def test_weights_of_the_worked_example():
    buffer = buffer_of([0.3, 0.9, 0.1, 0.5], [2, 0, 5, 1])
    found = replay.weights(buffer, ReplayConfig(temperature=0.3, staleness=0.5))
    np.testing.assert_allclose(found, [0.136315, 0.440631, 0.316837, 0.106216], atol=1e-6)


def test_best_rank_is_one_and_temperature_is_a_power():
    # Ranks from 0 would divide by 0, and score / β would not depend on β at all once normalised.
    buffer = buffer_of([3.0, 1.0, 2.0])
    cold = replay.weights(buffer, ReplayConfig(temperature=0.5, staleness=0.0))
    np.testing.assert_allclose(cold, np.array([1, 1 / 9, 1 / 4]) / (1 + 1 / 9 + 1 / 4), rtol=1e-6)
    warm = replay.weights(buffer, ReplayConfig(temperature=1.0, staleness=0.0))
    np.testing.assert_allclose(warm, np.array([6, 2, 3]) / 11, rtol=1e-6)


def test_weights_are_zero_in_empty_slots_and_sum_to_one():
    for prioritisation in ("rank", "proportional", "uniform"):
        config = ReplayConfig(prioritisation=prioritisation, score="true_regret")
        buffer = buffer_of([0.2, 0.0, 0.7], [1, 4, 0], num_slots=7)
        found = np.asarray(replay.weights(buffer, config))
        assert (found[3:] == 0).all()
        assert (found[:3] > 0).all() or prioritisation == "proportional"
        np.testing.assert_allclose(found.sum(), 1, rtol=1e-6)
        assert (np.asarray(replay.weights(replay.empty(EXAMPLE, 7), config)) == 0).all()


def test_weights_fall_back_where_there_is_nothing_to_tell_levels_apart():
    unaged = buffer_of([0.2, 0.9])
    only_score = replay.weights(unaged, ReplayConfig(staleness=0.0))
    np.testing.assert_array_equal(replay.weights(unaged, ReplayConfig(staleness=1.0)), only_score)
    config = ReplayConfig(prioritisation="proportional", score="true_regret", staleness=0.0)
    np.testing.assert_allclose(replay.weights(buffer_of([0.0, 0.0], num_slots=3), config), [0.5, 0.5, 0])
    # Rounding may leave a regret of −1e-8; a power of it would not be a number.
    np.testing.assert_allclose(replay.weights(buffer_of([-1e-8, 0.5]), config), [0, 1])


def test_old_ages_do_not_overflow():
    old = buffer_of(np.zeros(3000), np.full(3000, 2_000_000))
    np.testing.assert_allclose(replay.weights(old, ReplayConfig(staleness=1.0)), 1 / 3000, rtol=1e-5)


# Drawing


def test_draws_age_the_others_one_by_one():
    # ρ = 1: what has just been drawn has age 0 and cannot come again until the rest has been seen.
    buffer = buffer_of(np.zeros(5), [1, 1, 1, 1, 1], num_slots=8)
    config = ReplayConfig(staleness=1.0)
    for seed in range(20):
        slots = np.asarray(replay.sample(buffer, jax.random.key(seed), 2, config))
        assert slots[0] != slots[1]
        assert (slots < 5).all()


def test_frequencies_of_draws_follow_the_sequential_distribution():
    buffer = buffer_of([0.3, 0.9, 0.1], [2, 0, 5], num_slots=4)
    config = ReplayConfig(temperature=0.5, staleness=0.6)
    num_samples = 20_000
    keys = jax.random.split(jax.random.key(0), num_samples)
    pairs = np.asarray(jax.vmap(lambda key: replay.sample(buffer, key, 2, config))(keys))
    found = np.zeros((4, 4))
    np.add.at(found, (pairs[:, 0], pairs[:, 1]), 1 / num_samples)

    by_score = np.array([1 / 4, 1, 1 / 9, 0]) / (1 + 1 / 4 + 1 / 9)
    expected = np.zeros((4, 4))
    first = 0.4 * by_score + 0.6 * np.array([2, 0, 5, 0]) / 7
    for slot in range(3):
        age = np.array([3, 1, 6, 0])
        age[slot] = 0
        expected[slot] = first[slot] * (0.4 * by_score + 0.6 * age / age.sum())
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / num_samples))


@hypothesis.given(slots=st.lists(st.integers(0, 3), min_size=1, max_size=6), size=st.integers(4, 6))
@hypothesis.settings(deadline=None, max_examples=30)
def test_visit_is_one_draw_after_another(slots, size):
    buffer = buffer_of(np.zeros(size), np.arange(size), num_slots=6)
    age, replays = np.asarray(buffer.age).copy(), np.zeros(6, int)
    for slot in slots:
        age[:size] += 1
        age[slot] = 0
        replays[slot] += 1
    after = replay.visit(buffer, jnp.asarray(slots, jnp.int32))
    np.testing.assert_array_equal(after.age, age)
    np.testing.assert_array_equal(after.replays, replays)


def test_uniform_replay_is_uniform():
    config = ReplayConfig(prioritisation="uniform", staleness=0.7)
    buffer = buffer_of([5.0, 1.0, -3.0, 0.0, 2.0], [100, 0, 3, 0, 0], num_slots=9)
    keys = jax.random.split(jax.random.key(1), 500)
    slots = np.asarray(jax.vmap(lambda key: replay.sample(buffer, key, 20, config))(keys)).ravel()
    observed = np.bincount(slots, minlength=9)
    assert observed[5:].sum() == 0
    chi_square = ((observed[:5] - 2000) ** 2 / 2000).sum()
    assert chi_square < 18.47  # 0.999 quantile with 4 degrees of freedom


# Inserting and updating


class Naive:
    """The buffer as the page describes it: one level after another, sorted anew for each."""

    def __init__(self, buffer: Buffer, config: ReplayConfig, dedupe: bool):
        self.config, self.dedupe, self.num_slots = config, dedupe, buffer.num_slots
        size = int(buffer.size)
        fields = (buffer.level.number, buffer.score, buffer.max_return, buffer.age, buffer.lineage.id)
        self.slots = [list(values) for values in zip(*(np.asarray(field)[:size].tolist() for field in fields))]
        self.next_id = size

    def weights(self):
        score, age = np.array([slot[1] for slot in self.slots]), np.array([slot[3] for slot in self.slots], float)
        if self.config.prioritisation == "rank":
            rank = np.empty(len(score))
            rank[np.argsort(-score, kind="stable")] = np.arange(1, len(score) + 1)
            strength = (1 / rank) ** (1 / self.config.temperature)
        else:
            strength = score ** (1 / self.config.temperature)
            strength = strength if strength.sum() > 0 else np.ones_like(strength)
        by_score = strength / strength.sum()
        by_age = age / age.sum() if age.sum() > 0 else by_score
        return (1 - self.config.staleness) * by_score + self.config.staleness * by_age

    def offer(self, number, score, max_return):
        if score == -np.inf:
            return
        found = [slot for slot in self.slots if self.dedupe and slot[0] == number]
        if found:
            found[0][1] = score
            found[0][2] = max(found[0][2], max_return)
            return
        if len(self.slots) < self.num_slots:
            self.slots.append([number, score, max_return, 0, self.next_id])
        elif self.config.prioritisation == "uniform":
            self.slots[min(range(self.num_slots), key=lambda i: self.slots[i][4])] = [
                number, score, max_return, 0, self.next_id,
            ]  # fmt: skip
        else:
            weights = self.weights()
            victim = int(np.argmin(weights))
            others = np.delete(weights, victim)
            # A tie up to rounding may be broken either way.
            exact = self.config.staleness == 1.0
            hypothesis.assume(exact or len(others) == 0 or others.min() - weights[victim] > 1e-5)
            if score < self.slots[victim][1]:
                return
            self.slots[victim] = [number, score, max_return, 0, self.next_id]
        self.next_id += 1


@pytest.mark.parametrize("prioritisation", ["rank", "proportional", "uniform"])
@pytest.mark.parametrize("dedupe", [True, False])
def test_insertion_equals_the_slow_sequential_procedure(prioritisation, dedupe):
    num_slots, num_rows = 6, 5
    scores = st.one_of(
        st.just(-np.inf), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 2, width=32, allow_subnormal=False)
    )
    rows = st.tuples(st.integers(0, 9), scores, st.floats(-3, 3, width=32, allow_subnormal=False))
    batches = st.lists(st.lists(rows, min_size=num_rows, max_size=num_rows), min_size=1, max_size=4)
    configs = {
        staleness: ReplayConfig(
            buffer_size=num_slots, prioritisation=prioritisation, score="true_regret", staleness=staleness
        )
        for staleness in (0.3, 1.0)
    }
    insertion = jax.jit(
        lambda buffer, batch, staleness: insert(buffer, batch, configs[staleness], equal=ENV.equal if dedupe else None),
        static_argnums=2,
    )

    @hypothesis.given(
        batches=batches,
        staleness=st.sampled_from(sorted(configs)),
        ages=st.lists(st.integers(0, 50), min_size=num_slots, max_size=num_slots),
    )
    @hypothesis.settings(deadline=None, max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
    def check_all(batches, staleness, ages):
        buffer = replay.empty(EXAMPLE, num_slots)
        naive = Naive(buffer, configs[staleness], dedupe)
        for batch in batches:
            number, score, max_return = (np.array(column) for column in zip(*batch))
            buffer, inserted = insertion(buffer, batch_of(number, score, max_return), staleness)
            for row in zip(number.tolist(), score.tolist(), max_return.tolist()):
                naive.offer(*row)
            buffer, inserted = jax.device_get((buffer, inserted))
            size = len(naive.slots)
            assert buffer.size == size
            held = np.array([slot[:4] for slot in naive.slots]).reshape(-1, 4)
            np.testing.assert_array_equal(buffer.level.number[:size], held[:, 0])
            np.testing.assert_array_equal(buffer.score[:size], held[:, 1].astype(np.float32))
            np.testing.assert_array_equal(buffer.max_return[:size], held[:, 2].astype(np.float32))
            np.testing.assert_array_equal(buffer.age[:size], held[:, 3])
            for row, slot in enumerate(inserted.slot):
                if slot >= 0 and not inserted.duplicate[row]:
                    assert buffer.level.number[slot] == number[row]
            # Some levels grow old between two batches.
            buffer = buffer._replace(age=np.where(buffer.filled, ages, 0).astype(np.int32))
            for place, slot in enumerate(naive.slots):
                slot[3] = ages[place]

    check_all()


def test_a_full_buffer_gives_up_its_smallest_weight_only_for_a_score_as_good():
    config = ReplayConfig(staleness=0.0)
    buffer = buffer_of([0.5, 0.2, 0.9], [3, 4, 5])
    worse, _ = insert(buffer, batch_of([10], [0.1]), config)
    np.testing.assert_array_equal(worse.level.number, [0, 1, 2])
    same, placed = insert(buffer, batch_of([10], [0.2]), config)
    np.testing.assert_array_equal(same.level.number, [0, 10, 2])
    np.testing.assert_array_equal(same.age, [3, 0, 5])
    np.testing.assert_array_equal(placed.slot, [1])


def test_an_unknown_score_is_neither_inserted_nor_an_update():
    buffer = buffer_of([0.5, 0.2], num_slots=4)
    after, placed = insert(buffer, batch_of([10, 0, 11], [-np.inf, -np.inf, 0.3]))
    assert int(after.size) == 3
    np.testing.assert_array_equal(after.level.number[:3], [0, 1, 11])
    np.testing.assert_array_equal(placed.slot, [-1, -1, 2])
    np.testing.assert_array_equal(placed.duplicate, [False, False, False])
    untouched = replay.update(buffer, jnp.array([0, 1]), jnp.array([-jnp.inf, 0.7]), jnp.array([-jnp.inf, 0.1]))
    np.testing.assert_array_equal(untouched.score[:2], np.float32([0.5, 0.7]))
    np.testing.assert_array_equal(untouched.max_return[:2], np.float32([0.5, 0.2]))


def test_duplicates_are_updated_in_place_and_keep_what_was_there_first():
    buffer = buffer_of([0.5, 0.2], [7, 8], num_slots=6)
    batch = batch_of([1, 20, 20, 0], [0.9, 0.3, 0.4, 0.1])
    batch = batch._replace(level=batch.level._replace(mark=jnp.array([3, 1, 2, 3], jnp.int32)))
    after, placed = insert(buffer, batch)
    assert int(after.size) == 3
    np.testing.assert_array_equal(after.level.number[:3], [0, 1, 20])
    np.testing.assert_array_equal(after.level.mark[:3], [0, 0, 1])
    np.testing.assert_array_equal(after.score[:3], np.float32([0.1, 0.9, 0.4]))
    np.testing.assert_array_equal(after.max_return[:3], np.float32([0.5, 0.9, 0.4]))
    np.testing.assert_array_equal(after.age[:3], [7, 8, 0])
    np.testing.assert_array_equal(placed.duplicate, [True, False, True, True])
    np.testing.assert_array_equal(placed.slot, [1, 2, 2, 0])


def test_the_largest_return_is_never_forgotten():
    buffer = buffer_of([0.5, 0.2], max_return=[-0.5, -2.0])
    after = replay.update(buffer, jnp.array([0, 1]), jnp.array([0.1, 0.1]), jnp.array([-0.9, -1.0]))
    np.testing.assert_array_equal(after.max_return, np.float32([-0.5, -1.0]))


def test_of_several_rows_for_one_slot_the_last_known_counts():
    buffer = buffer_of([0.5, 0.2])
    slots = jnp.array([1, 0, 1, 1], jnp.int32)
    after = replay.update(buffer, slots, jnp.array([0.6, 0.7, 0.8, -jnp.inf]), jnp.array([3.0, 1.0, 2.0, -jnp.inf]))
    np.testing.assert_array_equal(after.score, np.float32([0.7, 0.8]))
    np.testing.assert_array_equal(after.max_return, np.float32([1.0, 3.0]))


# Shapes, types, populations


def test_nothing_is_weakly_typed():
    config = ReplayConfig()
    buffer = replay.empty(EXAMPLE, 6, pedigree=3)

    def same(function):
        found = jax.eval_shape(function, buffer)
        expected = jax.eval_shape(lambda: buffer)
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
            assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, False)

    same(lambda b: insert(b, batch_of([1, 2], [0.1, 0.2]), config)[0])
    same(lambda b: replay.update(b, jnp.array([0, 1]), jnp.zeros(2), jnp.zeros(2)))
    same(lambda b: replay.visit(b, jnp.array([0, 1], jnp.int32)))
    same(lambda b: replay.grow_older(b, 3))


def test_a_population_of_buffers_under_vmap():
    config = ReplayConfig(buffer_size=3)
    buffers = [buffer_of([0.5, 0.2, 0.4], [1, 2, 3]), buffer_of([0.1, 0.9], [5, 0], num_slots=3)]
    batches = [batch_of([7, 8, 1], [0.6, 0.3, 0.1]), batch_of([9, 0, 7], [0.6, 0.3, 0.0])]

    def stack(values):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *values)

    together = jax.vmap(lambda buffer, batch: insert(buffer, batch, config))(stack(buffers), stack(batches))
    alone = stack([insert(buffer, batch, config) for buffer, batch in zip(buffers, batches)])
    jax.tree.map(np.testing.assert_array_equal, together, alone)


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"buffer_size": 16}, "buffer_size = 16"),
        ({"buffer_size": 48}, "min_fill = 0.5"),
        ({"temperature": 0.0}, "temperature = 0.0"),
        ({"temperature": -1.0}, "temperature = -1.0"),
        ({"staleness": 1.5}, "staleness = 1.5"),
        ({"staleness": -0.1}, "staleness = -0.1"),
        ({"probability": 2.0}, "probability = 2.0"),
        ({"prioritisation": "ranks"}, r"prioritisation = 'ranks'.*did you mean 'rank'"),
        ({"score": "maxmc"}, r"score = 'maxmc'.*did you mean 'max_mc'"),
        ({"prioritisation": "proportional"}, r"proportional.*max_mc.*negative"),
        ({"prioritisation": "proportional", "score": "neg_return"}, r"proportional.*neg_return.*negative"),
    ],
)
def test_bad_settings_are_refused_by_name(change, message):
    with pytest.raises(BadInput, match=message) as refusal:
        check_replay(dataclasses.replace(ReplayConfig(), **change), num_tasks=32)
    assert "\n" not in str(refusal.value)


def test_the_whole_configuration_is_checked():
    check(TeacherConfig("plr"), num_tasks=32)
    with pytest.raises(BadInput, match="value heads"):
        check(TeacherConfig("plr", ReplayConfig(score="value_disagreement")), num_tasks=32, num_value_heads=1)
    with pytest.raises(BadInput, match="true_regret"):
        check(TeacherConfig("plr", ReplayConfig(score="true_regret")), num_tasks=32, can_solve=False)
    with pytest.raises(BadInput, match="dedupe"):
        check(TeacherConfig("plr"), num_tasks=32, can_compare=False)
    with pytest.raises(BadInput, match="mutate"):
        check(TeacherConfig("accel"), num_tasks=32, can_mutate=False)
    with pytest.raises(BadInput, match="exactly 2"):
        check(TeacherConfig("paired"), num_tasks=32, num_students=3)
    with pytest.raises(BadInput, match="at least 2"):
        check(TeacherConfig("population_paired"), num_tasks=32, num_students=1)
    with pytest.raises(BadInput, match="exactly 1"):
        check(TeacherConfig("minimax"), num_tasks=32, num_students=2)
    with pytest.raises(BadInput, match=r"'accle'.*did you mean 'accel'"):
        check(TeacherConfig("accle"), num_tasks=32)
