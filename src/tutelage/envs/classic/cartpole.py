"""CartPole with free physics.

At the default task and horizon these are the dynamics of Gymnasium's CartPole-v1 (explicit Euler, 50 Hz).

References: Barto, Sutton & Anderson (1983), Neuronlike adaptive elements that can solve difficult learning control
problems; the corrected equations of Florian (2007). Free parameters and ranges: jaxued.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.envs.classic.config import CartPoleConfig
from tutelage.envs.classic.parameters import ParameterSpace
from tutelage.envs.environment import Discrete, Environment, TimeStep

TIME_STEP = 0.02  # s
MAX_POSITION = 2.4  # m
MAX_ANGLE = math.radians(12)


class CartPoleTask(NamedTuple):
    """Gravity [m/s²], masses [kg], half the pole's length [m] and the push of one action [N]."""

    gravity: Float[Array, ""]
    mass_cart: Float[Array, ""]
    mass_pole: Float[Array, ""]
    length: Float[Array, ""]
    force: Float[Array, ""]


class CartPoleState(NamedTuple):
    """`motion` is (x, ẋ, θ, θ̇) in m, m/s, rad, rad/s; θ = 0 is upright."""

    motion: Float[Array, "4"]
    time: Int[Array, ""]
    task: CartPoleTask


def default_task() -> CartPoleTask:
    """The parameters of CartPole-v1."""
    return CartPoleTask(*jnp.asarray((9.8, 1.0, 0.1, 0.5, 10.0), jnp.float32))


def advance(motion: Float[Array, "4"], action: Int[Array, ""], task: CartPoleTask) -> Float[Array, "4"]:
    """One Euler step. Action 1 pushes to the right, 0 to the left."""
    _, x_dot, theta, theta_dot = motion
    force = jnp.where(action == 1, task.force, -task.force)
    mass = task.mass_cart + task.mass_pole
    sin, cos = jnp.sin(theta), jnp.cos(theta)
    push = (force + task.mass_pole * task.length * theta_dot**2 * sin) / mass
    theta_acc = (task.gravity * sin - cos * push) / (task.length * (4 / 3 - task.mass_pole * cos**2 / mass))
    x_acc = push - task.mass_pole * task.length * theta_acc * cos / mass
    return motion + TIME_STEP * jnp.stack((x_dot, x_acc, theta_dot, theta_acc))


DEFAULT = CartPoleConfig()


def make_cartpole(config: CartPoleConfig = DEFAULT) -> Environment:
    """CartPole whose tasks are drawn from the ranges of `config`.

    Observation: float32 [4], the state. Actions: push left, push right. Reward 1 per step, the last one included.
    Terminates when the cart leaves ±2.4 m or the pole leaves ±12°; cut off (discount 1) after `horizon` steps.

    Raises `BadInput` for a reversed or non-positive range.
    """
    ranges = {name: getattr(config, name) for name in CartPoleTask._fields}
    space = ParameterSpace.of(CartPoleTask, ranges, config.mutation_scale)

    def reset(key: Key[Array, ""], task: CartPoleTask) -> tuple[CartPoleState, Array]:
        motion = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        return CartPoleState(motion, jnp.zeros((), jnp.int32), task), motion

    def step(key: Key[Array, ""], state: CartPoleState, action: Array) -> tuple[CartPoleState, TimeStep]:
        del key  # the dynamics are deterministic
        motion, time = advance(state.motion, action, state.task), state.time + 1
        fallen = (jnp.abs(motion[0]) > MAX_POSITION) | (jnp.abs(motion[2]) > MAX_ANGLE)
        return CartPoleState(motion, time, state.task), TimeStep(
            obs=motion,
            reward=jnp.ones(()),
            discount=1 - fallen.astype(jnp.float32),
            last=fallen | (time >= config.horizon),
        )

    return Environment(
        name="cartpole",
        actions=Discrete(2),
        horizon=config.horizon,
        reset=reset,
        step=step,
        sample_task=space.sample,
        truncates=True,
        mutate=space.mutate,
        equal=space.equal,
        measure=space.measure,
    )
