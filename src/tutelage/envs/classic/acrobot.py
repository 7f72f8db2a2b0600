"""Acrobot with free physics.

At the default task and horizon these are the dynamics of Gymnasium's Acrobot-v1 (the equations of Sutton & Barto's
book, one Runge–Kutta step of 0.2 s).

Free parameters and ranges are jaxued's, with its simplifications kept: both links have one mass, their centres of mass
stay 0.5 m from the joint and their moments of inertia 1 kg·m² whatever the length. The second link's length appears
nowhere in the equations (the goal is a matter of angles alone), so it is no parameter here.

References: Sutton (1996), Generalization in reinforcement learning: successful examples using sparse coarse coding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.envs.classic.config import AcrobotConfig
from tutelage.envs.classic.parameters import ParameterSpace
from tutelage.envs.environment import Discrete, Environment, TimeStep

TIME_STEP = 0.2  # s
GRAVITY = 9.8  # m/s²
CENTRE = 0.5  # m, from the joint to the centre of mass of either link
INERTIA = 1.0  # kg·m², of either link
MAX_SPEED_1 = 4 * math.pi  # rad/s
MAX_SPEED_2 = 9 * math.pi


class AcrobotTask(NamedTuple):
    """Length of the first link [m], mass of either link [kg] and torque of one action [N·m]."""

    length: Float[Array, ""]
    mass: Float[Array, ""]
    torque: Float[Array, ""]


class AcrobotState(NamedTuple):
    """`motion` is (θ₁, θ₂, θ̇₁, θ̇₂) in rad and rad/s; θ₁ = 0 hangs down, θ₂ is relative to the first link."""

    motion: Float[Array, "4"]
    time: Int[Array, ""]
    task: AcrobotTask


def default_task() -> AcrobotTask:
    """The parameters of Acrobot-v1."""
    return AcrobotTask(*jnp.ones(3, jnp.float32))


def derivative(motion: Float[Array, "4"], torque: Float[Array, ""], task: AcrobotTask) -> Float[Array, "4"]:
    """d motion / dt."""
    theta_1, theta_2, speed_1, speed_2 = motion
    length, mass = task.length, task.mass
    sin, cos = jnp.sin(theta_2), jnp.cos(theta_2)
    coupling = length * CENTRE
    d_1 = mass * (CENTRE**2 + length**2 + CENTRE**2 + 2 * coupling * cos) + 2 * INERTIA
    d_2 = mass * (CENTRE**2 + coupling * cos) + INERTIA
    phi_2 = mass * CENTRE * GRAVITY * jnp.cos(theta_1 + theta_2 - math.pi / 2)
    phi_1 = (
        -mass * coupling * sin * (speed_2**2 + 2 * speed_2 * speed_1)
        + mass * (CENTRE + length) * GRAVITY * jnp.cos(theta_1 - math.pi / 2)
        + phi_2
    )
    acceleration_2 = (torque + d_2 / d_1 * phi_1 - mass * coupling * speed_1**2 * sin - phi_2) / (
        mass * CENTRE**2 + INERTIA - d_2**2 / d_1
    )
    acceleration_1 = -(d_2 * acceleration_2 + phi_1) / d_1
    return jnp.stack((speed_1, speed_2, acceleration_1, acceleration_2))


def advance(motion: Float[Array, "4"], action: Int[Array, ""], task: AcrobotTask) -> Float[Array, "4"]:
    """One step of fourth-order Runge–Kutta; angles are wrapped to [−π, π), speeds clipped. Actions −, 0, + torque."""
    torque = (action - 1) * task.torque
    k_1 = derivative(motion, torque, task)
    k_2 = derivative(motion + TIME_STEP / 2 * k_1, torque, task)
    k_3 = derivative(motion + TIME_STEP / 2 * k_2, torque, task)
    k_4 = derivative(motion + TIME_STEP * k_3, torque, task)
    motion = motion + TIME_STEP / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    angles = (motion[:2] + math.pi) % (2 * math.pi) - math.pi
    limits = jnp.asarray((MAX_SPEED_1, MAX_SPEED_2), jnp.float32)
    return jnp.concatenate((angles, jnp.clip(motion[2:], -limits, limits)))


def observe(motion: Float[Array, "4"]) -> Float[Array, "6"]:
    """(cos θ₁, sin θ₁, cos θ₂, sin θ₂, θ̇₁, θ̇₂)."""
    theta_1, theta_2, speed_1, speed_2 = motion
    return jnp.stack((jnp.cos(theta_1), jnp.sin(theta_1), jnp.cos(theta_2), jnp.sin(theta_2), speed_1, speed_2))


DEFAULT = AcrobotConfig()


def make_acrobot(config: AcrobotConfig = DEFAULT) -> Environment:
    """Acrobot whose tasks are drawn from the ranges of `config`.

    Observation: float32 [6], sines and cosines of both angles and both speeds. Actions: torque −, none, +. Reward −1
    per step, 0 for the one that reaches the goal. Terminates when −cos θ₁ − cos(θ₁ + θ₂) > 1; cut off (discount 1)
    after `horizon` steps.

    Raises `BadInput` for a reversed or non-positive range.
    """
    ranges = {name: getattr(config, name) for name in AcrobotTask._fields}
    space = ParameterSpace.of(AcrobotTask, ranges, config.mutation_scale)

    def reset(key: Key[Array, ""], task: AcrobotTask) -> tuple[AcrobotState, Array]:
        motion = jax.random.uniform(key, (4,), minval=-0.1, maxval=0.1)
        return AcrobotState(motion, jnp.zeros((), jnp.int32), task), observe(motion)

    def step(key: Key[Array, ""], state: AcrobotState, action: Array) -> tuple[AcrobotState, TimeStep]:
        del key  # the dynamics are deterministic
        motion, time = advance(state.motion, action, state.task), state.time + 1
        reached = -jnp.cos(motion[0]) - jnp.cos(motion[0] + motion[1]) > 1
        not_yet = 1 - reached.astype(jnp.float32)
        return AcrobotState(motion, time, state.task), TimeStep(
            obs=observe(motion), reward=-not_yet, discount=not_yet, last=reached | (time >= config.horizon)
        )

    return Environment(
        name="acrobot",
        actions=Discrete(3),
        horizon=config.horizon,
        reset=reset,
        step=step,
        sample_task=space.sample,
        truncates=True,
        mutate=space.mutate,
        equal=space.equal,
        measure=space.measure,
    )
