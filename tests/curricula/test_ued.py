"""The cycle and the update of unsupervised environment design, on a real maze of 5×5 with a tiny student."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from studies.tiny_minimax import tiny

from tutelage.backends.jax_program import jax_program
from tutelage.curricula.plr import NEW
from tutelage.studies.minimax.build import system


def leaves(tree):
    def data(leaf):
        return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)

    return [data(leaf) for leaf in jax.tree.leaves(tree)]


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


@pytest.fixture(scope="module")
def robust():
    return system(tiny("plr_robust"))


def run(ued, num_updates, seed=0):
    state = jax.jit(ued.init)(jax.random.key(seed))
    update = jax.jit(lambda state: jax.lax.scan(lambda s, _: ued.update(s), state, length=num_updates))
    return update(state)


def test_a_cycle_that_is_not_learnt_from_leaves_students_untouched_and_the_buffer_fuller(robust):
    state = jax.jit(robust.init)(jax.random.key(0))
    after, cycle = jax.jit(robust.cycle)(state)
    assert not cycle.learns  # an empty buffer has nothing to replay
    assert same(after.learners, state.learners)
    assert int(after.teacher.buffer.size[0]) > int(state.teacher.buffer.size[0])
    assert int(after.cycles) == 1 and int(after.updates) == 0


def test_an_update_is_one_gradient_step_however_many_cycles_it_takes(robust):
    state, _ = run(robust, 10)
    assert int(state.updates) == 10
    assert int(state.learners.num_updates[0]) == 10
    assert int(state.cycles) > 10  # at least the warm-up


def test_gradient_steps_per_cycle_follow_the_replay_probability(robust):
    """It works when (5): after warm-up the share of replay cycles is p = 0.5 within three standard deviations."""
    warm, _ = run(robust, 5)
    number = 200
    update = jax.jit(lambda state: jax.lax.scan(lambda s, _: robust.update(s), state, length=number))
    state, _ = update(warm)
    cycles = int(state.cycles - warm.cycles)
    assert abs(number / cycles - 0.5) < 3 * np.sqrt(0.5 * 0.5 / cycles)


@pytest.mark.parametrize(
    "arm", ["plr_parallel", *(pytest.param(arm, marks=pytest.mark.slow) for arm in ("accel_parallel", "plr", "dr"))]
)
def test_every_cycle_of_these_arms_is_learnt_from_once_warm(arm):
    ued = system(tiny(arm))
    warm, _ = run(ued, 5)
    update = jax.jit(lambda state: jax.lax.scan(lambda s, _: ued.update(s), state, length=10))
    state, metrics = update(warm)
    assert int(state.cycles - warm.cycles) == 10
    assert np.isfinite(metrics["ppo/loss"]).all()


def test_parallel_replay_learns_from_the_replayed_rows_only():
    """N' = 2N levels are rolled out, the learner sees the first N."""
    ued = system(tiny("plr_parallel"))
    state, _ = run(ued, 3)
    _, cycle = jax.jit(ued.cycle)(state)
    assert cycle.learns
    assert cycle.outcomes.score.shape == (1, 8)
    assert cycle.advantage.shape == (1, 8, 4)  # A, T, N
    buffer = state.teacher.buffer
    in_buffer = (np.asarray(buffer.level.wall)[0][None] == np.asarray(cycle.tasks.wall)[0][:, None]).all((2, 3)).any(1)
    assert in_buffer.all()


def test_accel_follows_each_replay_by_a_cycle_of_children():
    """Sequential ACCEL with p = 0.8: at least two cycles an update, and generations grow."""
    ued = system(tiny("accel"))
    warm, _ = run(ued, 3)
    update = jax.jit(lambda state: jax.lax.scan(lambda s, _: ued.update(s), state, length=20))
    state, _ = update(warm)
    assert int(state.cycles - warm.cycles) >= 2 * 20 - 1
    assert int(state.teacher.buffer.lineage.generation.max()) >= 2


@pytest.mark.parametrize("arm", ["plr_robust", pytest.param("accel_parallel", marks=pytest.mark.slow)])
def test_populations_of_replay_students_have_buffers_of_their_own(arm):
    """Pitfall 4: the reference crashes here."""
    ued = system(tiny(arm, rollout__num_students=2))
    state, metrics = run(ued, 4)
    walls = np.asarray(state.teacher.buffer.level.wall)
    assert not np.array_equal(walls[0], walls[1])
    weights = np.asarray(state.learners.net.hidden.weight)
    assert not np.array_equal(weights[0], weights[1])
    assert np.isfinite(metrics["ppo/loss"]).all()


@pytest.mark.slow
def test_students_side_by_side_and_one_after_another_are_the_same_law():
    config = tiny("plr_robust", rollout__num_students=2)
    one = system(config)
    abreast = dataclasses.replace(one, side_by_side=True)
    first, _ = run(one, 3)
    # JAX's checker takes the selection that vmap makes of a conditional for a second use of the keys in its branches.
    with jax.debug_key_reuse(False):
        second, _ = run(abreast, 3)
    assert int(first.cycles) == int(second.cycles)
    for a, b in zip(leaves(first), leaves(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_paired_teaches_two_students_on_the_same_levels_and_learns_itself():
    ued = system(tiny("paired"))
    state = jax.jit(ued.init)(jax.random.key(0))
    after, cycle = jax.jit(ued.cycle)(state)
    tasks = np.asarray(cycle.tasks.wall)
    assert np.array_equal(tasks[0], tasks[1])
    assert not same(after.teacher.learner.net, state.teacher.learner.net)
    learnt, _ = jax.jit(ued.learn)(after, cycle)
    net = learnt.learners.net.hidden.weight
    assert not np.array_equal(net[0], net[1])
    assert not same(learnt.learners, state.learners)


def test_sfl_searches_on_schedule_and_takes_half_of_its_levels_from_what_it_kept():
    ued = system(tiny("sfl"))
    state, metrics = run(ued, 4)
    assert int(state.cycles) == 4
    assert np.isfinite(metrics["ppo/loss"]).all()


def test_copies_of_a_level_are_merged_into_one_outcome():
    ued = system(tiny("plr_robust", rollout__num_copies=3))
    state = jax.jit(ued.init)(jax.random.key(0))
    _, cycle = jax.jit(ued.cycle)(state)
    assert cycle.outcomes.score.shape == (1, 4)
    assert cycle.advantage.shape == (1, 8, 12)
    assert (np.asarray(cycle.outcomes.completed) >= 3).all()  # every copy of T = horizon steps completes an episode


def test_true_regret_scores_are_never_negative_and_zero_where_nothing_can_be_won():
    """It works when (9), on mean returns of rollouts: the solver's return bounds what any policy gets."""
    ued = system(tiny("score_true_regret", maze__num_walls=12))
    state = jax.jit(ued.init)(jax.random.key(0))
    for _ in range(3):
        state, cycle = jax.jit(ued.cycle)(state)
        score = np.asarray(cycle.outcomes.score)
        assert (score >= -1e-6).all()
        best = np.asarray(jax.vmap(ued.env.solve)(jax.tree.map(lambda leaf: leaf[0], cycle.tasks)))
        np.testing.assert_allclose(score[0][best == 0], 0.0, atol=1e-6)


def test_the_second_domain_trains_under_replay():
    ued = system(tiny("plr_robust", domain="cartpole", cartpole__horizon=8))
    state, metrics = run(ued, 3)
    assert int(state.updates) == 3
    assert np.isfinite(metrics["ppo/loss"]).all()


@pytest.mark.parametrize("arm", ["accel", pytest.param("paired", marks=pytest.mark.slow)])
def test_one_compilation_and_evaluation_never_changes_training(arm):
    ued = system(tiny(arm))

    def returns(state, key):
        return {"noise": jax.random.uniform(key), "updates": state.updates.astype(jnp.float32)}

    programs = [jax_program(ued.init, ued.update, returns, seeds=[7]) for _ in range(2)]
    states = [program.init() for program in programs]
    for step in range(4):
        for number, program in enumerate(programs):
            states[number], _ = program.update(states[number], 2)
            for _ in range(2 * number):
                program.evaluate(states[number], step)
    assert same(*states)
    assert all(program.traces["update"] == 1 for program in programs)


def test_phases_of_a_population_agree():
    """Both members replay, or neither does, although one buffer may be ready before the other."""
    ued = system(tiny("plr_robust", rollout__num_students=2))
    state = jax.jit(ued.init)(jax.random.key(1))
    fuller = state.teacher.buffer.size.at[0].set(16)
    state = state._replace(teacher=state.teacher._replace(buffer=state.teacher.buffer._replace(size=fuller)))
    phases = {int(jax.jit(ued._decide)(state.teacher, jax.random.key(seed))) for seed in range(8)}
    assert phases == {NEW}
