import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from curricula.number_world import NUM_LEVELS, Number, by_number, number_world, outcomes_of, teach

from tutelage.curricula import replay
from tutelage.curricula.accel import accel, parent_rows
from tutelage.curricula.config import EditConfig, ReplayConfig, check_edit
from tutelage.curricula.lineage import descend, descent
from tutelage.curricula.plr import MUTATE, REPLAY
from tutelage.lab.errors import BadInput

N = 4
CONFIG = ReplayConfig(buffer_size=24, probability=0.6, staleness=0.3)
ENV = number_world()
SEQUENTIAL = accel(CONFIG, EditConfig(), ENV, N)


def better_with_edits(tasks: Number):
    """Every edit makes a level worth more, so that edited levels stay."""
    score = (tasks.number // NUM_LEVELS).astype(jnp.float32) + jnp.sin(tasks.number.astype(jnp.float32)) / 4
    return outcomes_of(score, mean_return=score / 2, max_return=score)


def test_every_replay_is_followed_by_its_children():
    _, (phase, learns, tasks, tickets, *_) = teach(SEQUENTIAL, jax.random.key(0), 200)
    phase, number = np.asarray(phase), np.asarray(tasks.number)
    replays = np.flatnonzero(phase[:-1] == REPLAY)
    assert len(replays) > 40
    np.testing.assert_array_equal(phase[replays + 1], MUTATE)
    np.testing.assert_array_equal(np.flatnonzero(phase == MUTATE), replays + 1)
    # Children of the replayed rows, row by row, and nobody learns from them.
    np.testing.assert_array_equal(number[replays + 1], number[replays] + NUM_LEVELS)
    np.testing.assert_array_equal(tickets.parent[replays + 1], tickets.slot[replays])
    np.testing.assert_array_equal(learns, phase == REPLAY)
    decisions = phase[6:][phase[6:] != MUTATE]
    assert abs((decisions == REPLAY).mean() - 0.6) < 3 * np.sqrt(0.6 * 0.4 / len(decisions))


def test_children_do_not_age_the_buffer():
    teacher = SEQUENTIAL
    state, _ = teach(teacher, jax.random.key(0), 200)
    tasks, tickets = teacher.propose(
        state._replace(parents=jnp.arange(N, dtype=jnp.int32)), jax.random.key(1), jnp.int32(MUTATE)
    )
    unknown = outcomes_of(np.full(N, -np.inf))
    after, _ = teacher.observe(state, jax.random.key(2), jnp.int32(MUTATE), tasks, tickets, unknown)
    np.testing.assert_array_equal(after.buffer.age, state.buffer.age)
    np.testing.assert_array_equal(after.parents, np.full(N, -1))


def test_parents_are_chosen_by_the_rows_of_the_batch():
    # Rows 1 and 3 are the easiest by return − score; the row without an episode is neither easy nor hard.
    outcomes = outcomes_of(
        [0.5, 0.1, 0.0, 0.2, 0.9, -np.inf], mean_return=[0.4, 0.9, 0.3, 0.8, 0.0, 0.0], completed=[1, 2, 1, 1, 1, 0]
    )
    rows = {name: parent_rows(outcomes, EditConfig(criterion=name, subsample=2)) for name in ("easy", "hard", "batch")}
    np.testing.assert_array_equal(rows["easy"], [1, 1, 1, 3, 3, 3])
    np.testing.assert_array_equal(rows["hard"], [4, 4, 4, 0, 0, 0])
    np.testing.assert_array_equal(rows["batch"], np.arange(6))


@pytest.mark.parametrize("criterion", ["easy", pytest.param("hard", marks=pytest.mark.slow)])
def test_selected_parents_are_levels_of_the_replayed_batch(criterion):
    # Indexing the buffer by a row, or the batch by a slot, would edit some other level (minimax, and dcd issue 11).
    edit = EditConfig(criterion=criterion, subsample=2)
    _, (phase, _, tasks, tickets, *_) = teach(accel(CONFIG, edit, ENV, N), jax.random.key(0), 200)
    number, slot = np.asarray(tasks.number), np.asarray(tickets.slot)
    seen = set()
    for cycle in np.flatnonzero(np.asarray(phase) == MUTATE):
        rows = np.asarray(parent_rows(by_number(jax.tree.map(lambda x, c=cycle: x[c - 1], tasks)), edit))
        np.testing.assert_array_equal(number[cycle], number[cycle - 1][rows] + NUM_LEVELS)
        np.testing.assert_array_equal(tickets.parent[cycle], slot[cycle - 1][rows])
        seen |= set(rows.tolist())
    assert seen == set(range(N))


def test_parallel_rolls_out_replayed_new_and_edited_levels_at_once():
    config = dataclasses.replace(CONFIG, parallel=True)
    _, (phase, learns, tasks, tickets, *_) = teach(accel(config, EditConfig(), ENV, N), jax.random.key(0), 30)
    # Three parts of new levels fill half of the buffer in one cycle.
    np.testing.assert_array_equal(learns, [False] + [True] * 29)
    np.testing.assert_array_equal(phase, [0] + [REPLAY] * 29)
    number, slot, parent = np.asarray(tasks.number)[1:], np.asarray(tickets.slot)[1:], np.asarray(tickets.parent)[1:]
    assert number.shape == (29, 3 * N)
    assert (slot[:, :N] >= 0).all()
    assert (slot[:, N:] == -1).all()
    assert (parent[:, : 2 * N] == -1).all()
    np.testing.assert_array_equal(parent[:, 2 * N :], slot[:, :N])
    np.testing.assert_array_equal(number[:, 2 * N :], number[:, :N] + NUM_LEVELS)
    assert (number[:, N : 2 * N] < NUM_LEVELS).all()


@pytest.mark.parametrize("parallel", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_lineage_walks_back_to_the_ancestor(parallel):
    config = dataclasses.replace(CONFIG, parallel=parallel)
    teacher = accel(config, EditConfig(pedigree=4), ENV, N)
    state, _ = teach(teacher, jax.random.key(0), 150, better_with_edits)
    buffer = state.buffer
    number = np.asarray(buffer.level.number)
    np.testing.assert_array_equal(buffer.lineage.generation, number // NUM_LEVELS)
    assert number.max() // NUM_LEVELS > 6
    for slot in range(CONFIG.buffer_size):
        line = descent(buffer.lineage, buffer.level, slot)
        generation = int(buffer.lineage.generation[slot])
        kept = [0, *range(max(generation - 3, 1), generation + 1)] if generation else [0]
        assert [ancestor.generation for ancestor in line] == kept
        # Each edit adds NUM_LEVELS, so every ancestor is known exactly, whether or not it is still in the buffer.
        root = number[slot] % NUM_LEVELS
        assert [int(ancestor.level.number) for ancestor in line] == [root + g * NUM_LEVELS for g in kept]
    # Where the parent is still there, its number is its child's less one edit.
    slot_of = {int(i): slot for slot, i in enumerate(np.asarray(buffer.lineage.id))}
    assert len(slot_of) == CONFIG.buffer_size
    children = [slot for slot in range(24) if int(buffer.lineage.parent[slot]) in slot_of]
    for slot in children:
        assert number[slot_of[int(buffer.lineage.parent[slot])]] == number[slot] - NUM_LEVELS
        assert buffer.lineage.born[slot_of[int(buffer.lineage.parent[slot])]] < buffer.lineage.born[slot]
    assert ((np.asarray(buffer.lineage.parent) == -1) == (number < NUM_LEVELS)).all()


@pytest.mark.parametrize("pedigree", [0, 1, 2])
def test_short_pedigrees(pedigree):
    buffer = replay.empty(Number(jnp.int32(0), jnp.int32(0)), 2, pedigree=pedigree)
    lineage, level = buffer.lineage, buffer.level

    def at(slot):
        return jnp.array([slot], jnp.int32)

    for generation in range(4):  # each in the slot that its parent does not hold
        slot, parent = generation % 2, (generation - 1) % 2 if generation else -1
        lineage = descend(lineage, level, at(slot), at(parent), jnp.int32(generation))
        level = level._replace(number=level.number.at[slot].set(100 + generation))
    line = descent(lineage, level, 1)
    expected = {0: [103], 1: [100, 103], 2: [100, 102, 103]}[pedigree]
    assert [int(ancestor.level.number) for ancestor in line] == expected
    assert [100 + ancestor.generation for ancestor in line] == expected
    assert (lineage.ancestors is None) == (pedigree == 0)


def test_bad_input_is_named():
    with pytest.raises(BadInput, match=r"subsample = 3 .*4 levels"):
        check_edit(EditConfig(criterion="easy", subsample=3), CONFIG, num_tasks=N)
    with pytest.raises(BadInput, match=r"criterion = 'hard'.*parallel"):
        check_edit(EditConfig(criterion="hard"), dataclasses.replace(CONFIG, parallel=True), num_tasks=N)
    with pytest.raises(BadInput, match="num_edits = 0"):
        check_edit(EditConfig(num_edits=0), CONFIG, num_tasks=N)
