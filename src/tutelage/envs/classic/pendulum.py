"""Pendulum with free physics.

At the default task and horizon these are the dynamics of Gymnasium's Pendulum-v1 (semi-implicit Euler, 20 Hz). Free
parameters and ranges: jaxued.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.envs.classic.config import PendulumConfig
from tutelage.envs.classic.parameters import ParameterSpace
from tutelage.envs.environment import Box, Environment, TimeStep

TIME_STEP = 0.05  # s
MAX_SPEED = 8.0  # rad/s
MAX_TORQUE = 2.0  # N·m


class PendulumTask(NamedTuple):
    """Gravity [m/s²], mass [kg] and length [m] of the rod."""

    gravity: Float[Array, ""]
    mass: Float[Array, ""]
    length: Float[Array, ""]


class PendulumState(NamedTuple):
    """θ [rad], 0 upright and not wrapped, and θ̇ [rad/s]."""

    theta: Float[Array, ""]
    speed: Float[Array, ""]
    time: Int[Array, ""]
    task: PendulumTask


def default_task() -> PendulumTask:
    """The parameters of Pendulum-v1."""
    return PendulumTask(*jnp.asarray((10.0, 1.0, 1.0), jnp.float32))


def observe(state: PendulumState) -> Float[Array, "3"]:
    """(cos θ, sin θ, θ̇)."""
    return jnp.stack((jnp.cos(state.theta), jnp.sin(state.theta), state.speed))


DEFAULT = PendulumConfig()


def make_pendulum(config: PendulumConfig = DEFAULT) -> Environment:
    """Pendulum whose tasks are drawn from the ranges of `config`.

    Observation: float32 [3], (cos θ, sin θ, θ̇). Action: a torque in ±2 N·m, shape [1]. Reward −(θ² + 0.1 θ̇² +
    0.001 u²) of the state before the step, θ wrapped to [−π, π). Never terminates; cut off (discount 1) after
    `horizon` steps.

    Raises `BadInput` for a reversed or non-positive range.
    """
    ranges = {name: getattr(config, name) for name in PendulumTask._fields}
    space = ParameterSpace.of(PendulumTask, ranges, config.mutation_scale)

    def reset(key: Key[Array, ""], task: PendulumTask) -> tuple[PendulumState, Array]:
        high = jnp.asarray((math.pi, 1.0), jnp.float32)
        theta, speed = jax.random.uniform(key, (2,), minval=-high, maxval=high)
        state = PendulumState(theta, speed, jnp.zeros((), jnp.int32), task)
        return state, observe(state)

    def step(key: Key[Array, ""], state: PendulumState, action: Array) -> tuple[PendulumState, TimeStep]:
        del key  # the dynamics are deterministic
        theta, speed, time, task = state
        torque = jnp.clip(action[0], -MAX_TORQUE, MAX_TORQUE)
        angle = (theta + math.pi) % (2 * math.pi) - math.pi
        cost = angle**2 + 0.1 * speed**2 + 0.001 * torque**2
        acceleration = 1.5 * task.gravity / task.length * jnp.sin(theta) + 3 * torque / (task.mass * task.length**2)
        speed = jnp.clip(speed + acceleration * TIME_STEP, -MAX_SPEED, MAX_SPEED)
        state = PendulumState(theta + speed * TIME_STEP, speed, time + 1, task)
        return state, TimeStep(
            obs=observe(state), reward=-cost, discount=jnp.ones(()), last=state.time >= config.horizon
        )

    return Environment(
        name="pendulum",
        actions=Box(1, -MAX_TORQUE, MAX_TORQUE),
        horizon=config.horizon,
        reset=reset,
        step=step,
        sample_task=space.sample,
        truncates=True,
        mutate=space.mutate,
        equal=space.equal,
        measure=space.measure,
    )
