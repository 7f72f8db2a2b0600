"""The battery passes our environments and reports every fault planted in a toy."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array

from tutelage.envs.classic.acrobot import make_acrobot
from tutelage.envs.classic.cartpole import make_cartpole
from tutelage.envs.classic.config import AcrobotConfig, CartPoleConfig, PendulumConfig
from tutelage.envs.classic.pendulum import make_pendulum
from tutelage.envs.config import EditorConfig, MazeConfig
from tutelage.envs.conformance import check_environment
from tutelage.envs.environment import Box, Discrete, Environment, TimeStep
from tutelage.envs.maze import make_editor, make_maze

HORIZON = 6


class Corridor(NamedTuple):
    """Walk right for `length` steps to be paid `prize`."""

    length: Array
    prize: Array


class CorridorState(NamedTuple):
    place: Array
    time: Array
    task: Corridor


def corridor() -> Environment:
    """A toy without a fault, which has every operator."""

    def reset(key, task):
        del key
        return CorridorState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), task), jnp.zeros(1)

    def step(key, state, action):
        del key
        place, time = state.place + action.astype(jnp.int32), state.time + 1
        reached = place >= state.task.length
        out = TimeStep(
            obs=place[None].astype(jnp.float32),
            reward=jnp.where(reached, state.task.prize, 0),
            discount=1 - reached.astype(jnp.float32),
            last=reached | (time >= HORIZON),
        )
        return CorridorState(place, time, state.task), out

    def sample_task(key):
        k_length, k_prize = jax.random.split(key)
        return Corridor(jax.random.randint(k_length, (), 1, HORIZON), jax.random.uniform(k_prize))

    def mutate(key, task, num_edits):
        return task._replace(prize=task.prize + jax.random.uniform(key, (num_edits,)).sum())

    return Environment(
        name="corridor",
        actions=Discrete(2),
        horizon=HORIZON,
        reset=reset,
        step=step,
        sample_task=sample_task,
        truncates=True,
        mutate=mutate,
        equal=lambda a, b: (a.length == b.length) & (a.prize == b.prize),
        solve=lambda task: task.prize,
        measure=lambda task: {"length": task.length},
    )


def _changed_step(change) -> Environment:
    """The toy with `change(state, out) -> (state, out)` applied after every step."""
    good = corridor()
    return dataclasses.replace(good, step=lambda k, s, a: change(*good.step(k, s, a)))


def _out(**fields) -> Environment:
    return _changed_step(lambda state, out: (state, out._replace(**{n: f(state, out) for n, f in fields.items()})))


def _forced(**changes):
    """Fields of a wrong type, which the type checker of the tests would not let a constructor take."""
    env = _changed()
    for name, value in changes.items():
        object.__setattr__(env, name, value)
    return env


def _changed(**fields) -> Environment:
    return dataclasses.replace(corridor(), **fields)


def _continuous(clips: bool) -> Environment:
    good = corridor()

    def step(key, state, action):
        force = jnp.clip(action[0], 0, 1) if clips else action[0]
        state, out = good.step(key, state, jnp.ones((), jnp.int32))
        return state, out._replace(obs=out.obs + force)

    return dataclasses.replace(good, actions=Box(1, 0.0, 1.0), step=step)


def _hidden_state() -> Environment:
    good, resets = corridor(), []

    def reset(key, task):
        state, obs = good.reset(key, task)
        resets.append(None)
        return state, obs + len(resets)

    return dataclasses.replace(good, reset=reset)


def _uses_a_key_twice() -> Environment:
    good = corridor()

    def sample_task(key):
        return Corridor(jax.random.randint(key, (), 1, 4), jax.random.uniform(key))

    return dataclasses.replace(good, sample_task=sample_task)


def _weak_time() -> Environment:
    good = corridor()

    def reset(key, task):
        state, obs = good.reset(key, task)
        return state._replace(time=0), obs

    return dataclasses.replace(good, reset=reset)


def _needs_a_value() -> Environment:
    return _changed_step(lambda state, out: (state, out) if out.last else (state, None))


FAULTS = {
    "no horizon": (lambda: _changed(horizon=0), "horizon = 0: must be a positive Python int"),
    "no actions": (lambda: _changed(actions=Discrete(0)), "n must be at least 1"),
    "reversed box": (lambda: _changed(actions=Box(1, 1.0, -1.0)), "low less than high"),
    "foreign actions": (lambda: _forced(actions=3), "must be Discrete or Box"),
    "not traceable": (_needs_a_value, "interface: raised TracerBoolConversionError"),
    "empty task": (lambda: _forced(sample_task=lambda key: {}, reset=None), "interface: raised"),
    "weak state": (_weak_time, "reset: state.time is weakly typed (int32)"),
    "weak reward": (lambda: _out(reward=lambda s, o: 0.0), "step: time step.reward is weakly typed"),
    "state changes type": (
        lambda: _changed_step(lambda s, o: (s._replace(place=s.place.astype(jnp.float32)), o)),
        "step: state.place is float32[], reset's is int32[]",
    ),
    "obs changes shape": (
        lambda: _out(obs=lambda s, o: jnp.zeros(2)),
        "step: obs is float32[2], reset's is float32[1]",
    ),
    "obs changes structure": (lambda: _out(obs=lambda s, o: (o.obs, o.obs)), "step: obs has another structure"),
    "reward of a batch": (lambda: _out(reward=lambda s, o: jnp.zeros(1)), "step: reward is float32[1]"),
    "discount is a flag": (lambda: _out(discount=lambda s, o: ~o.last), "step: discount is bool[]"),
    "last is a number": (lambda: _out(last=lambda s, o: o.discount), "step: last is float32[]"),
    "nan observation": (
        lambda: _out(obs=lambda s, o: jnp.where(s.time == 2, jnp.nan, o.obs)),
        "play: an observation is not finite",
    ),
    "infinite reward": (lambda: _out(reward=lambda s, o: o.reward / 0), "play: a reward is not finite"),
    "discount above 1": (lambda: _out(discount=lambda s, o: 2 * o.discount), "a discount lies outside [0, 1]"),
    "never last at a termination": (
        lambda: _out(last=lambda s, o: s.time >= HORIZON),
        "the discount is 0 but `last` is false",
    ),
    "never ends": (lambda: _out(last=lambda s, o: o.discount == 0), "not over after the horizon of 6 steps"),
    "hidden truncation": (lambda: _changed(truncates=False), "although `truncates` is false"),
    "unclipped action": (lambda: _continuous(clips=False), "step: the action 2.0 is not clipped to 1.0"),
    "hidden state": (_hidden_state, "purity: the same key gives another result"),
    "key used twice": (_uses_a_key_twice, "raised KeyReuseError"),
    "mutate changes type": (
        lambda: _changed(mutate=lambda key, task, n: task._replace(prize=task.length)),
        "mutate: task.prize is int32[], sample_task's is float32[]",
    ),
    "0 edits edit": (
        lambda: _changed(mutate=lambda key, task, n: task._replace(prize=task.prize + 1)),
        "mutate: 0 edits change the task",
    ),
    "edited tasks break": (
        lambda: _changed(mutate=lambda key, task, n: task._replace(prize=task.prize + (jnp.inf if n else 0))),
        "play after mutate: a reward is not finite",
    ),
    "never equal": (lambda: _changed(equal=lambda a, b: a.prize < b.prize), "equal: a task does not equal itself"),
    "one-sided equality": (lambda: _changed(equal=lambda a, b: a.prize <= b.prize), "equal: is not symmetric"),
    "always equal": (lambda: _changed(equal=lambda a, b: a.prize == a.prize), "equal: holds for all sampled tasks"),
    "unsolvable is -inf": (lambda: _changed(solve=lambda task: task.prize - jnp.inf), "solve: the best return is not"),
    "solve too low": (lambda: _changed(solve=lambda task: task.prize - 0.5), "where random actions returned"),
    "measure of a vector": (
        lambda: _changed(measure=lambda task: {"both": jnp.stack((task.prize, task.prize))}),
        "measure: both is float32[2]: must be a scalar number or bool",
    ),
    "measure not finite": (
        lambda: _changed(measure=lambda task: {"ratio": task.prize / 0}),
        "measure: ratio is not finite",
    ),
}


@pytest.mark.parametrize("make", [corridor, lambda: _continuous(clips=True)], ids=["corridor", "continuous"])
def test_faultless_toy_passes(make):
    assert check_environment(make(), jax.random.key(0)) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_reported(fault):
    make, message = FAULTS[fault]
    problems = check_environment(make(), jax.random.key(0))
    assert any(message in problem for problem in problems), problems


def test_key_reuse_is_tolerated_on_request():
    assert check_environment(_uses_a_key_twice(), jax.random.key(0), check_key_reuse=False) == []


MAZE = MazeConfig(height=5, width=6, num_walls=8, max_steps=20)


@pytest.mark.parametrize(
    "env",
    [
        make_cartpole(CartPoleConfig(horizon=30)),
        make_pendulum(PendulumConfig(horizon=30)),
        make_acrobot(AcrobotConfig(horizon=30)),
        make_maze(MAZE),
        make_editor(MAZE, EditorConfig(num_walls=5, noise=3)),
    ],
    ids=lambda env: env.name,
)
def test_our_environments_conform(env):
    assert check_environment(env, jax.random.key(0)) == []
