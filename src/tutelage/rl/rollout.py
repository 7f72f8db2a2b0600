"""T steps of N environments under one recurrent policy, as one scan."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from tutelage.envs.environment import Environment, EnvState, Task
from tutelage.lab.errors import BadInput
from tutelage.nn.actor_critic import ActorCritic
from tutelage.rl.trajectory import Trajectory


class Rollout(NamedTuple):
    """`final_state`, `final_obs`: the N environments after the last step (where an episode ended there: restarted)."""

    trajectory: Trajectory
    final_state: EnvState
    final_obs: PyTree


class _Loop(NamedTuple):
    state: EnvState
    obs: PyTree
    first: Bool[Array, "N"]
    carry: Any
    task: Task


def rollout(
    key: Key[Array, ""],
    net: ActorCritic,
    env: Environment,
    tasks: Task,
    num_steps: int,
    *,
    on_end: str = "replay",
    start: tuple[EnvState, PyTree] | None = None,
) -> Rollout:
    """Reset N environments to `tasks` (leading axis N) and act for `num_steps` steps.

    An episode that ends restarts at once, on the same task ("replay", so that scores of a level rest on that level
    alone) or on a new one from `env.sample_task` ("sample", domain randomisation). Nothing continues across calls,
    unless `start`, the final state and observation of another rollout, is where this one begins; recurrent state is
    zeroed there all the same, as a learner does that unrolls each rollout by itself.

    Raises:
        BadInput: `on_end` is neither.
    """
    if on_end not in ("replay", "sample"):
        raise BadInput(f"on_end={on_end!r} is neither 'replay' nor 'sample'")
    num_envs = jax.tree.leaves(tasks)[0].shape[0]
    k_reset, k_steps = jax.random.split(key)
    state, obs = jax.vmap(env.reset)(jax.random.split(k_reset, num_envs), tasks) if start is None else start

    def restart(key: Array, state: EnvState, obs: PyTree, task: Task, last: Array):
        k_task, k_reset = jax.random.split(key)
        new_task = jax.vmap(env.sample_task)(jax.random.split(k_task, num_envs)) if on_end == "sample" else task
        new_state, new_obs = jax.vmap(env.reset)(jax.random.split(k_reset, num_envs), new_task)
        return _select(last, (new_state, new_obs, new_task), (state, obs, task))

    def step(loop: _Loop, key: Array):
        k_act, k_env, k_restart = jax.random.split(key, 3)
        carry, distribution, values = net.step(loop.carry, loop.obs, loop.first)
        action = distribution.sample(k_act)
        state, after = jax.vmap(env.step)(jax.random.split(k_env, num_envs), loop.state, action)
        # Sampling and resetting cost as much as stepping: skip them in the steps where no episode ends. (Under vmap
        # the condition becomes a selection and both are done.)
        state, obs, task = jax.lax.cond(
            jnp.any(after.last),
            restart,
            lambda key, state, obs, task, last: (state, obs, task),
            k_restart,
            state,
            after.obs,
            loop.task,
            after.last,
        )
        cut_value = _cut_value(net, carry, after.obs, after.last) if env.truncates else jnp.zeros_like(after.reward)
        record = (loop.obs, action, distribution.log_prob(action), values, after, loop.first, cut_value)
        return _Loop(state, obs, after.last, carry, task), record

    loop = _Loop(state, obs, jnp.ones((num_envs,), bool), net.initial_carry(num_envs), tasks)
    loop, (obs, action, log_prob, values, after, first, cut_value) = jax.lax.scan(
        step, loop, jax.random.split(k_steps, num_steps)
    )
    _, _, final_values = net.step(loop.carry, loop.obs, loop.first)
    shifted = jnp.concatenate([values[1:], final_values[None]]).mean(axis=-1)
    trajectory = Trajectory(
        obs=obs,
        action=action,
        log_prob=log_prob,
        values=values,
        next_value=jnp.where(after.last, cut_value, shifted),
        reward=after.reward,
        discount=after.discount,
        first=first,
        last=after.last,
    )
    return Rollout(trajectory, loop.state, loop.obs)


def _cut_value(net: ActorCritic, carry: Any, obs: PyTree, last: Bool[Array, "N"]) -> Float[Array, "N"]:
    """V of the true successors, computed only in steps where an episode ends."""

    def estimate() -> Array:
        return net.step(carry, obs, jnp.zeros_like(last))[2].mean(axis=-1)

    return jax.lax.cond(jnp.any(last), estimate, lambda: jnp.zeros(last.shape, jnp.float32))


def _select(choose: Bool[Array, "N"], yes: PyTree, no: PyTree) -> PyTree:
    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(choose.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(leaf, yes, no)
