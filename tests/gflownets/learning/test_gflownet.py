"""The GFlowNet as a whole: everything learns, conditions are used, resumed is undisturbed, mistakes are named."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gflownets.small_grid import grid_problem

from tutelage.backends.jax_program import jax_program
from tutelage.gflownets.condition import Condition
from tutelage.gflownets.config import (
    BetaConfig,
    ExplorationConfig,
    GFlowNetConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    PreferenceConfig,
    RewardConfig,
)
from tutelage.gflownets.learning import replay_buffer
from tutelage.gflownets.learning.gflownet import encoded, gflownet, trainer
from tutelage.gflownets.method import compiled_update
from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.rollout import sources
from tutelage.gflownets.sampling import sampler
from tutelage.gflownets.worlds.sequences import sequence_environment
from tutelage.lab.errors import BadInput

PROBLEM = grid_problem(2, 4)
WORDS = Problem(
    sequence_environment(2, 1, 3),
    Objectives(("zeros", "ones"), lambda x: jnp.stack([(x == 0).mean(axis=-1), (x == 1).mean(axis=-1)], axis=-1)),
    lambda a, b: np.zeros((len(a), len(b))),
)
SMALL = GFlowNetConfig(
    batch_size=16,
    preference=PreferenceConfig(bins=5),
    beta=BetaConfig(kind="uniform", low=1.0, high=8.0, bins=5),
    network=NetworkConfig(width=16, layers=2, heads=2, z_width=8, z_layers=1),
    optimizer=OptimizerConfig(learning_rate=1e-3, final_learning_rate=1e-4),
)
REPLAYED = replace(
    SMALL,
    exploration=ExplorationConfig(sampling_tau=0.9, replay_size=24, replay_share=0.5, hindsight_share=0.5),
)
LEARNING = replace(
    SMALL,
    batch_size=64,
    beta=BetaConfig(value=8.0),
    network=NetworkConfig(width=32, layers=2, z_width=16, z_layers=1),
    optimizer=OptimizerConfig(learning_rate=5e-3, z_learning_rate=5e-2),
)


def _one_update(problem: Problem, config: GFlowNetConfig):
    method = gflownet(problem, config, 100)

    def run(key):
        before = method.init(key)
        return before, *compiled_update(method, problem.objectives)(before)

    return jax.jit(run)(jax.random.key(0))


@pytest.fixture(scope="module")
def replayed():
    return _one_update(PROBLEM, REPLAYED)


@pytest.mark.parametrize(
    ("problem", "kind", "loss"), [(PROBLEM, "mlp", "tb"), (WORDS, "transformer", "subtb"), (PROBLEM, "mlp", "fm")]
)
def test_every_parameter_is_updated_by_one_step(problem, kind, loss):
    network = replace(SMALL.network, kind=kind, width=8)
    # Weight decay off, noise off: what moves moves by its gradient.
    before, after, metrics = _one_update(problem, replace(SMALL, network=network, loss=LossConfig(kind=loss)))
    assert np.isfinite(float(metrics["loss"]))
    for (path, old), new in zip(jax.tree.leaves_with_path(before.policy), jax.tree.leaves(after.policy), strict=True):
        assert (np.asarray(old) != np.asarray(new)).any(), jax.tree_util.keystr(path)


def test_log_z_moves_at_its_own_rate(replayed):
    before, after, _ = replayed

    def largest(old, new):
        pairs = zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
        return max(float(jnp.abs(a - b).max()) for a, b in pairs)

    # The first step of Adam moves every weight by its rate.
    assert largest(before.policy.z, after.policy.z) == pytest.approx(1e-2, rel=1e-2)
    assert largest(before.policy.rest, after.policy.rest) == pytest.approx(1e-3, rel=1e-2)


def test_the_sampling_network_follows_slowly(replayed):
    before, after, _ = replayed
    for old, slow, new in zip(*map(jax.tree.leaves, (before.policy, after.sampler, after.policy)), strict=True):
        np.testing.assert_allclose(np.asarray(slow), 0.9 * np.asarray(old) + 0.1 * np.asarray(new), atol=1e-6)


def test_only_new_objects_are_kept_and_counted(replayed):
    _, after, metrics = replayed
    assert float(metrics["evaluations"].value) == 8
    assert int(after.replay.inserted) == 8 and int(after.replay.size) == 8
    np.testing.assert_allclose(
        np.asarray(after.replay.rewards[:8]),
        np.asarray(PROBLEM.objectives.rewards(after.replay.objects[:8])),
        atol=1e-6,
    )


def test_the_buffer_keeps_the_newest():
    buffer = replay_buffer.empty_buffer(5, jax.ShapeDtypeStruct((1,), jnp.int32), 1)
    for first in (0, 3, 6):
        rows = jnp.arange(first, first + 3)[:, None]
        buffer = replay_buffer.insert(buffer, rows, rows.astype(jnp.float32))
    assert sorted(np.asarray(buffer.objects)[:, 0]) == [4, 5, 6, 7, 8]
    many = jnp.arange(100, 112)[:, None]
    buffer = replay_buffer.insert(buffer, many, many.astype(jnp.float32))
    assert sorted(np.asarray(buffer.objects)[:, 0]) == [107, 108, 109, 110, 111]
    objects, rewards = replay_buffer.draw(buffer, jax.random.key(0), 64)
    np.testing.assert_array_equal(np.asarray(objects), np.asarray(rewards))
    assert len(np.unique(np.asarray(objects))) == 5


def test_hindsight_asks_for_what_the_object_is_good_at():
    preference = replay_buffer.hindsight_preference(jnp.array([[0.2, 0.6], [0.0, 0.0]]))
    np.testing.assert_allclose(np.asarray(preference), [[0.25, 0.75], [0.5, 0.5]])


def test_vargrad_shares_a_preference_and_a_start_within_a_group():
    config = replace(SMALL, loss=LossConfig(kind="vargrad", num_copies=4))
    places = jnp.array([[0, 0], [1, 2], [2, 2]])

    def starts(key, number, pool):
        state = sources(PROBLEM.environment, number)
        return state._replace(place=pool[jax.random.randint(key, (number,), 0, len(pool))])

    made = trainer(PROBLEM.environment, 2, config, 10, starts=starts, context=places)
    trajectories = jax.jit(lambda key: made.propose(made.init(key)).memory)(jax.random.key(3))
    for leaf in (trajectories.condition.preference, trajectories.condition.beta, trajectories.start.place):
        groups = np.asarray(leaf).reshape(4, 4, -1)
        assert (groups == groups[:, :1]).all()
    assert len(np.unique(np.asarray(trajectories.condition.beta))) == 4
    assert (np.asarray(trajectories.objects) >= np.asarray(trajectories.start.place)).all()


@pytest.mark.parametrize("floor", [-75.0, -1e-6])
def test_the_share_of_rewards_at_the_floor_is_told(floor):
    _, _, metrics = _one_update(PROBLEM, replace(SMALL, reward=RewardConfig(floor=floor)))
    assert float(metrics["reward_floor"]) == (1.0 if floor > -1 else 0.0)


@pytest.fixture(scope="module")
def program():
    method = gflownet(PROBLEM, REPLAYED, 4)
    return jax_program(method.init, compiled_update(method, PROBLEM.objectives), lambda state, key: {}, seeds=[0])


def test_a_resumed_run_ends_with_the_same_bits(program):
    undisturbed, _ = program.update(program.init(), 2)
    undisturbed, _ = program.update(undisturbed, 2)
    half, _ = program.update(program.init(), 2)
    resumed, _ = program.update(program.load(program.save(half)), 2)
    expected, found = program.save(undisturbed), program.save(resumed)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(expected[name], found[name], err_msg=name)


@pytest.fixture(scope="module")
def trained():
    method = gflownet(PROBLEM, LEARNING, 300)
    update = compiled_update(method, PROBLEM.objectives)

    def run(key):
        return jax.lax.scan(lambda state, _: update(state), method.init(key), None, length=300)

    state, metrics = jax.jit(run)(jax.random.key(0))
    return method, state, metrics


def test_another_preference_is_another_law(trained):
    method, state, metrics = trained
    assert float(metrics["loss"][-20:].mean()) < 0.1 * float(metrics["loss"][:20].mean())
    draw = sampler(method, state, PROBLEM.objectives, beta=8.0)
    shares = np.linspace(0, 1, 11)
    preference = np.repeat(np.stack([shares, 1 - shares], axis=1), 100, axis=0)
    rewards = np.asarray(PROBLEM.objectives.rewards(jnp.asarray(draw(preference, 1100, jax.random.key(1)))))
    means = rewards[:, 0].reshape(11, 100).mean(axis=1)
    assert np.corrcoef(shares, means)[0, 1] > 0.8
    assert means[-1] > means[0] + 0.4


def test_learnt_log_z_is_near_the_sum_of_rewards(trained):
    _, state, _ = trained
    shares = np.linspace(0, 1, 5, dtype=np.float32)
    asked = Condition(jnp.stack([shares, 1 - shares], axis=1), jnp.full(5, 8.0))
    cells = jnp.asarray(np.indices((4, 4)).reshape(2, -1).T)
    reward = np.asarray(PROBLEM.objectives.rewards(cells), np.float64) @ np.asarray(asked.preference, np.float64).T
    start = jax.vmap(PROBLEM.environment.observe)(sources(PROBLEM.environment, 5))
    found = np.asarray(state.policy.log_z(start, encoded(asked, LEARNING)))
    np.testing.assert_allclose(found, np.log((reward**8).sum(axis=0)), atol=0.5)


@pytest.mark.parametrize(
    ("preference", "number", "beta", "message"),
    [
        ([0.5, 0.6], 3, 8.0, r"preference row 0 = \(0.5, 0.6\) is not on the simplex"),
        ([0.2, 0.3, 0.5], 3, 8.0, "3 weights for 2 objectives"),
        ([[0.5, 0.5], [-0.5, 1.5]], 2, 8.0, "preference row 1"),
        (None, 3, 8.0, "preference = None: must have 2 weights"),
        ([0.5, 0.5], 3, 0.0, "beta = 0"),
        ([0.5, 0.5], 3, 7.9, "beta = 7.9: must be 8, the one that training had"),
        ([0.5, 0.5], 3, 1000.0, "beta = 1000: must be 8, the one that training had"),
        ([0.5, 0.5], 0, 8.0, "number = 0"),
        ([[0.5, 0.5]] * 2, 3, 8.0, "2 rows for 3 objects"),
    ],
)
def test_what_cannot_be_asked_is_named(trained, preference, number, beta, message):
    method, state, _ = trained
    with pytest.raises(BadInput, match=message):
        sampler(method, state, PROBLEM.objectives, beta=beta)(preference, number, jax.random.key(0))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            replace(SMALL, loss=LossConfig(kind="vargrad", num_copies=5)),
            "num_copies = 5: must divide batch_size = 16",
        ),
        (
            replace(SMALL, loss=LossConfig(kind="vargrad"), preference=PreferenceConfig(prefs_per_batch=4)),
            "it must divide batch_size",
        ),
        (
            replace(REPLAYED, loss=LossConfig(kind="vargrad", num_copies=4)),
            "exploration.hindsight_share = 0.5: must be 0 with loss.kind = 'vargrad'",
        ),
        (
            replace(SMALL, exploration=ExplorationConfig(replay_size=8, replay_share=1.0)),
            "replay_share = 1: must leave a new trajectory",
        ),
    ],
)
def test_what_does_not_go_together_is_named(config, message):
    with pytest.raises(BadInput, match=message):
        gflownet(PROBLEM, config, 10)


@pytest.mark.parametrize(
    ("kind", "problem", "message"),
    [
        ("mlp", WORDS, "'mlp' needs a vector of floats"),
        ("transformer", PROBLEM, "'transformer' needs an environment of sequences"),
        ("set_transformer", PROBLEM, "'set_transformer' needs"),
    ],
)
def test_a_network_that_cannot_read_the_environment_is_named(kind, problem, message):
    config = replace(SMALL, network=replace(SMALL.network, kind=kind))
    with pytest.raises(BadInput, match=message):
        gflownet(problem, config, 10).init(jax.random.key(0))


def test_replay_is_refused_where_trajectories_begin_elsewhere():
    with pytest.raises(BadInput, match="replay_size = 24: must be 0"):
        trainer(PROBLEM.environment, 2, REPLAYED, 10, starts=lambda key, number, context: context)


def test_a_sampler_without_preferences_reads_the_same_for_all():
    config = replace(SMALL, preference=PreferenceConfig(bins=5, use=False))
    asked = Condition(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.full(2, 3.0))
    rows = np.asarray(encoded(asked, config))
    np.testing.assert_array_equal(rows[0], rows[1])
