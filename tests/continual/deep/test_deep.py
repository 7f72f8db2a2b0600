"""Switched streams of rewards against loops and closed forms; training in turns on rules that contradict each other."""

from __future__ import annotations

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_worlds import counting

from tutelage.continual.deep.config import GamePPOConfig, SweepConfig, TrainingConfig
from tutelage.continual.deep.sweep import Policy, growth, reward_stream, sampled, sweep, switched, task_order
from tutelage.continual.deep.task_training import average_returns, task_training, train
from tutelage.envs.environment import Discrete, Environment, TimeStep
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Sometimes
from tutelage.measures.forgetting import average_performance, forgetting
from tutelage.measures.mixing import return_mixing_estimate, scaling_exponent

SMALL = TrainingConfig(
    num_envs=16,
    num_steps=8,
    num_updates=90,
    updates_per_task=45,
    width=8,
    ppo=GamePPOConfig(learning_rate=0.02, num_epochs=2, num_minibatches=1, entropy_coefficient=0.1, anneal=False),
)


def echo(name: str, *, reverse: bool = False, horizon: int = 4) -> Environment:
    """A bit is shown; naming it (or, reversed, the other one) pays 1. Nothing shown tells which rule holds."""

    def reset(key, task):
        bit = jax.random.bernoulli(key).astype(jnp.int32)
        return (bit, jnp.int32(0)), jax.nn.one_hot(bit, 2)

    def step(key, state, action):
        bit, time = state
        right = (action == bit) != reverse
        after = jax.random.bernoulli(key).astype(jnp.int32), time + 1
        over = time + 1 >= horizon
        return after, TimeStep(
            jax.nn.one_hot(after[0], 2), right.astype(jnp.float32), 1 - over.astype(jnp.float32), over
        )

    return Environment(name, Discrete(2), horizon, reset, step, lambda key: jnp.int32(0))


@pytest.fixture(scope="module")
def trained():
    """Two contradicting rules in turns; the table of returns after each turn."""
    envs = [echo("same"), echo("other", reverse=True)]
    training = task_training(envs, SMALL)
    update = jax.jit(training.update)
    measure = jax.jit(lambda key, net: average_returns(key, net, envs, 64))
    state = training.init(jax.random.key(0))
    states, metrics, table = [state], [], []
    for turn in range(2):
        for _ in range(SMALL.updates_per_task):
            state, found = update(state)
            metrics.append(found)
        states.append(state)
        table.append(np.asarray(measure(jax.random.key(turn), state.learner.net)))
    return envs, training, states, metrics, np.array(table)


# Streams.


@pytest.mark.parametrize("order", ["cycle", "random"])
def test_a_joint_process_goes_on_in_each_stream_where_it_was_left(order):
    streams = list(np.random.default_rng(0).normal(size=(3, 5, 40)))
    tasks = task_order(3, 7, 5, 120, order=order, seed=1)
    joint = switched(streams, tasks)
    for n in range(5):
        used = [0, 0, 0]
        for t in range(joint.shape[1]):
            task = tasks[n, t]
            assert joint[n, t] == streams[task][n, used[task]]
            used[task] += 1
    counts = [[np.sum(row == task) for task in range(3)] for row in tasks[:, : joint.shape[1] + 1]]
    assert joint.shape[1] == 120 or np.max(counts) == 41  # the next step is one too many


def test_tasks_take_turns_from_spread_beginnings():
    tasks = task_order(3, 2, 4, 7)
    np.testing.assert_array_equal(tasks[0], [0, 0, 1, 1, 2, 2, 0])
    np.testing.assert_array_equal(tasks[:, 0], [0, 1, 2, 0])
    random = task_order(3, 5, 200, 5000, order="random")
    np.testing.assert_array_equal(random[:, 0], np.arange(200) % 3)
    assert (random.reshape(200, 1000, 5) == random[:, ::5, None]).all()  # whole turns
    drawn = np.bincount(random[:, 5:].ravel(), minlength=3) / random[:, 5:].size
    np.testing.assert_allclose(drawn, 1 / 3, atol=0.01)
    np.testing.assert_array_equal(random, task_order(3, 5, 200, 5000, order="random"))


@pytest.mark.parametrize(("switch_every", "eps"), [(10, 0.05), (7, 0.1), (25, 0.03), (3, 0.2)])
def test_two_rates_have_the_return_mixing_time_of_the_closed_form(switch_every, eps):
    streams = [np.ones((2, 4000)), np.zeros((2, 4000))]
    total = 4000 // switch_every * switch_every * 2
    estimate = return_mixing_estimate(switched(streams, task_order(2, switch_every, 2, total)), eps, absolute=True)
    m = max(m for m in range(100) if 2 * m + 1 < 1 / (2 * eps))
    assert estimate.steps == math.ceil((m + 1) * switch_every / (0.5 + eps) - 1e-9)


def test_times_of_fixed_rates_grow_linearly_in_both_scales():
    """Rates 1 and 3 within 5 % of 2 are rates 0 and 1 within 0.05. Like tasks in a row are one longer task."""
    streams = {f"task {z}": np.full((8, 4000), 1.0 + 2 * (z % 2)) for z in range(4)}
    points = sweep(streams, SweepConfig(switch_every=(10, 20, 40, 80), num_tasks=(1, 2), eps=0.05))
    assert len(points) == 4 + 6 * 4
    assert all(p.estimate.steps == 1 for p in points if p.num_tasks == 1 or p.tasks == ("task 0", "task 2"))
    contrast = [p for p in points if p.tasks == ("task 0", "task 1")]
    assert [p.estimate.steps for p in contrast] == [91, 182, 364, 728]
    fits = growth(contrast)
    assert fits.in_switch_every[2].exponent == pytest.approx(1, abs=0.01)
    assert fits.in_num_tasks == {}  # one |Z| has no slope

    sizes, times = (2, 4, 8, 16), []
    for size in sizes:
        blocks = [np.full((size, 4000), float(z < size / 2)) for z in range(size)]
        times.append(return_mixing_estimate(switched(blocks, task_order(size, 20, size, 4000 * size)), 0.1).steps)
    fit = scaling_exponent(sizes, times)
    assert times[0] == 182
    assert fit.exponent == pytest.approx(1, abs=0.02)
    assert fit.low < 1.02 and fit.high > 0.98


def test_growth_is_fitted_over_every_choice_of_tasks():
    streams = {name: np.full((4, 2000), rate) for name, rate in {"a": 0.0, "b": 1.0, "c": 2.0}.items()}
    points = sweep(streams, SweepConfig(switch_every=(10, 20, 40), num_tasks=(2, 3), quantile=0.5))
    fits = growth(points)
    assert set(fits.in_switch_every) == {2, 3}
    assert set(fits.in_num_tasks) == {10, 20, 40}
    assert fits.in_switch_every[3].exponent == pytest.approx(1, abs=0.1)


# Playing.


def test_a_stream_holds_one_episode_after_another():
    env = counting()
    stream = jax.jit(lambda key: reward_stream(key, env, lambda obs, key: jnp.int32(0), 3, 50, burn_in=5))(
        jax.random.key(0)
    )
    assert stream.shape == (3, 50)
    for row in np.asarray(stream, int):
        for (n, t), (n_next, t_next) in pairwise([divmod(reward, 10) for reward in row]):
            assert (n_next, t_next) == (n, t + 1) if t + 1 < n else t_next == 0
    assert np.ptp(stream[:, 0]) > 0  # after the burn-in they are not all at a beginning


def test_somebody_elses_policy_is_a_function_of_observation_and_key():
    def right(obs, key):
        return jnp.argmax(obs)

    assert isinstance(right, Policy)
    streams = [
        np.asarray(jax.jit(lambda key, env=env: reward_stream(key, env, right, 4, 30))(jax.random.key(1)))
        for env in (echo("same"), echo("other", reverse=True))
    ]
    assert (streams[0] == 1).all() and (streams[1] == 0).all()
    points = sweep(dict(zip("ab", streams)), SweepConfig(switch_every=(3,), num_tasks=(2,)))
    assert points[0].estimate.steps == math.ceil(5 * 3 / 0.55)


# Training.


def test_the_last_rule_is_learnt_and_the_first_forgotten(trained):
    *_, table = trained
    assert table[0, 0] > 3.5 and table[0, 1] < 0.5
    assert table[1, 1] > 3.5 and table[1, 0] < 0.5
    assert forgetting(table)[0] > 3
    assert forgetting(table)[1] < -3
    assert average_performance(table) == pytest.approx(table[1].mean())


def test_worlds_wait_while_others_have_their_turn(trained):
    _, _, states, metrics, _ = trained

    def same(a, b):
        return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y), a, b)))

    assert same(states[0].worlds[1], states[1].worlds[1]) and not same(states[0].worlds[0], states[1].worlds[0])
    assert same(states[1].worlds[0], states[2].worlds[0]) and not same(states[1].worlds[1], states[2].worlds[1])
    for index, found in enumerate(metrics):
        first, second = found["reward/same"], found["reward/other"]
        assert isinstance(first, Sometimes) and isinstance(second, Sometimes)
        assert np.isnan(second.value) == (index < 45) and np.isnan(first.value) == (index >= 45)


def test_a_scan_of_updates_is_the_updates(trained):
    envs, training, states, metrics, _ = trained

    @jax.jit
    def trained_and_played(key, playing):
        state, found = train(training, key, 90)
        return state, found, reward_stream(playing, envs[1], sampled(state.learner.net), 8, 20)

    state, found, stream = trained_and_played(jax.random.key(0), jax.random.key(3))
    assert int(state.updates) == int(states[2].updates) == 90
    np.testing.assert_allclose(found["reward/same"][:5], [m["reward/same"].value for m in metrics[:5]], atol=1e-6)
    assert stream.mean() > 0.85


# Refusals.


def test_bad_input_is_named():
    streams = {"a": np.ones((2, 30)), "b": np.zeros((2, 30))}
    with pytest.raises(BadInput, match=r"order = 'cycel': must be one of cycle, random"):
        task_order(2, 3, 1, 10, order="cycel")
    with pytest.raises(BadInput, match=r"num_tasks, switch_every = 2, 0: must be in \[1, inf\)"):
        task_order(2, 0, 1, 10)
    with pytest.raises(BadInput, match=r"streams\[1\]: shape \(2, 29\); must be \(2, steps\)"):
        switched([np.ones((2, 30)), np.ones((2, 29))], task_order(2, 3, 2, 10))
    with pytest.raises(BadInput, match=r"num_tasks = 3: there are 2 tasks"):
        sweep(streams, SweepConfig(num_tasks=(2, 3), switch_every=(3,)))
    with pytest.raises(BadInput, match=r"switch_every = 31: each task has only 30 steps"):
        sweep(streams, SweepConfig(num_tasks=(2,), switch_every=(31,)))
    with pytest.raises(BadInput, match=r"tasks b: eps: relative to an average reward of 0"):
        sweep(streams, SweepConfig(num_tasks=(1,), switch_every=(3,)))
    with pytest.raises(BadInput, match=r"tasks 0 and 1: actions Discrete\(n=2\) of same, Discrete\(n=3\) of counting"):
        task_training([echo("same"), counting()], SMALL)
    with pytest.raises(BadInput, match=r"tasks: none are given"):
        task_training([], SMALL)


def test_forgetting_is_from_the_best_before():
    table = [[3.0, 0.0], [5.0, 1.0], [2.0, 4.0]]
    np.testing.assert_array_equal(forgetting(table), [3, -3])
    assert average_performance(table) == 3
    with pytest.raises(BadInput, match=r"returns: shape \(1, 2\); must be \[evaluations, tasks\]"):
        forgetting(table[:1])
    with pytest.raises(BadInput, match=r"returns: evaluations \[1\] not finite"):
        forgetting([[1.0], [math.nan]])
