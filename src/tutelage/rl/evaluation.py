"""How well a policy does on given tasks: whole episodes, no learning."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped

from tutelage.envs.environment import Environment, EnvState, Task
from tutelage.nn.actor_critic import ActorCritic
from tutelage.nn.distributions import Distribution


class Evaluation(NamedTuple):
    """M tasks × E episodes each: undiscounted returns, and lengths in steps."""

    returns: Float[Array, "M E"]
    lengths: Int[Array, "M E"]


class Episode(NamedTuple):
    """One episode as it went, padded to the horizon.

    Attributes:
        state, obs: before step t (leaves [T, ...], T the horizon); beyond `length` the world stands still.
        action, distribution, values: what the policy did at step t, out of what, and its K value estimates.
        reward: of step t, 0 beyond the end.
        length: steps until the episode ended.
        final_state: after the last step.
    """

    state: EnvState
    obs: PyTree
    action: Shaped[Array, "T ..."]
    distribution: Distribution
    values: Float[Array, "T K"]
    reward: Float[Array, "T"]
    length: Int[Array, ""]
    final_state: EnvState


class _Loop(NamedTuple):
    key: Key[Array, ""]
    time: Int[Array, ""]
    state: EnvState
    obs: PyTree
    carry: Any
    running: Bool[Array, "B"]
    returns: Float[Array, "B"]
    lengths: Int[Array, "B"]


def evaluate(
    key: Key[Array, ""],
    net: ActorCritic,
    env: Environment,
    tasks: Task,
    num_episodes: int,
    *,
    greedy: bool = False,
    horizon: int | None = None,
) -> Evaluation:
    """Play `num_episodes` episodes on each of M tasks (leading axis M), all side by side, until the last one ends.

    Actions are sampled, or the most probable ones if `greedy`. An episode longer than `horizon` (`env.horizon` if None)
    is cut there: tasks that carry a longer horizon of their own need theirs.
    """
    horizon = env.horizon if horizon is None else horizon
    num_tasks = jax.tree.leaves(tasks)[0].shape[0]
    size = num_tasks * num_episodes
    tasks = jax.tree.map(lambda leaf: jnp.repeat(leaf, num_episodes, axis=0), tasks)
    k_reset, key = jax.random.split(key)
    state, obs = jax.vmap(env.reset)(jax.random.split(k_reset, size), tasks)

    def step(loop: _Loop) -> _Loop:
        key, k_act, k_env = jax.random.split(loop.key, 3)
        first = jnp.broadcast_to(loop.time == 0, (size,))
        carry, distribution, _ = net.step(loop.carry, loop.obs, first)
        action = distribution.mode() if greedy else distribution.sample(k_act)
        state, after = jax.vmap(env.step)(jax.random.split(k_env, size), loop.state, action)
        return _Loop(
            key,
            loop.time + 1,
            state,
            after.obs,
            carry,
            loop.running & ~after.last,
            loop.returns + jnp.where(loop.running, after.reward, 0.0),
            loop.lengths + loop.running,
        )

    loop = _Loop(
        key,
        jnp.zeros((), jnp.int32),
        state,
        obs,
        net.initial_carry(size),
        jnp.ones((size,), bool),
        jnp.zeros((size,), jnp.float32),
        jnp.zeros((size,), jnp.int32),
    )
    loop = jax.lax.while_loop(lambda loop: jnp.any(loop.running) & (loop.time < horizon), step, loop)
    return Evaluation(loop.returns.reshape(num_tasks, num_episodes), loop.lengths.reshape(num_tasks, num_episodes))


def record(
    key: Key[Array, ""],
    net: ActorCritic,
    env: Environment,
    task: Task,
    *,
    greedy: bool = False,
    horizon: int | None = None,
) -> Episode:
    """Play one episode of one task and keep everything, for animations and inspection (arguments as in `evaluate`)."""
    k_reset, k_steps = jax.random.split(key)
    state, obs = env.reset(k_reset, task)

    def step(loop: tuple[EnvState, PyTree, Any, Array, Array], key: Array):
        state, obs, carry, first, running = loop
        k_act, k_env = jax.random.split(key)
        batched = jax.tree.map(lambda leaf: leaf[None], obs)
        new_carry, distribution, values = net.step(carry, batched, first[None])
        distribution, values = jax.tree.map(lambda leaf: leaf[0], (distribution, values))
        action = distribution.mode() if greedy else distribution.sample(k_act)
        new_state, after = env.step(k_env, state, action)
        reward = jnp.where(running, after.reward, 0.0)
        new_state, new_obs = jax.tree.map(
            lambda new, old: jnp.where(running, new, old), (new_state, after.obs), (state, obs)
        )
        row = (state, obs, action, distribution, values, reward, running)
        return (new_state, new_obs, new_carry, jnp.zeros_like(first), running & ~after.last), row

    loop = (state, obs, net.initial_carry(1), jnp.ones((), bool), jnp.ones((), bool))
    loop, (state, obs, action, distribution, values, reward, running) = jax.lax.scan(
        step, loop, jax.random.split(k_steps, env.horizon if horizon is None else horizon)
    )
    length = running.sum(dtype=jnp.int32)
    return Episode(state, obs, action, distribution, values, reward, length, loop[0])
