"""Zero-shot evaluation: solved rates on tasks that nobody trained on, and how bad the worst of them are."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tutelage.envs.environment import Environment, Task
from tutelage.nn.actor_critic import ActorCritic
from tutelage.rl.evaluation import evaluate


def solved_rates(
    key: Key[Array, ""], net: ActorCritic, env: Environment, tasks: Task, num_episodes: int
) -> Float[Array, "M"]:
    """Share of episodes with a positive return on each of M tasks, stochastic policy."""
    return (evaluate(key, net, env, tasks, num_episodes).returns > 0).mean(axis=1, dtype=jnp.float32)


def solvable_tasks(key: Key[Array, ""], env: Environment, num_tasks: int, *, excess: int = 4) -> Task:
    """Fresh random tasks which can be solved: the first `num_tasks` solvable ones of `excess` times as many draws.

    If too few of the draws are solvable, unsolvable ones fill the rest (with 60 walls in 13×13, where 85 % of random
    levels are solvable, this does not happen). Worlds without a solver take every task as solvable.
    """
    solve = env.solve
    if solve is None:
        return jax.vmap(env.sample_task)(jax.random.split(key, num_tasks))
    drawn = jax.vmap(env.sample_task)(jax.random.split(key, excess * num_tasks))
    order = jnp.argsort(~(jax.vmap(solve)(drawn) > 0), stable=True)[:num_tasks]
    return jax.tree.map(lambda leaf: leaf[order], drawn)


class Robustness(NamedTuple):
    """Solved rates of M fresh solvable tasks: `chosen` ranks them, `measured` is an independent second look."""

    chosen: Float[Array, "M"]
    measured: Float[Array, "M"]


def robustness(
    key: Key[Array, ""], net: ActorCritic, env: Environment, num_tasks: int, num_episodes: int
) -> Robustness:
    """Two independent measurements of the solved rate on fresh random solvable tasks.

    Choosing the worst tasks and measuring them on the same rollouts would count bad luck as badness.

    Reference: Rutherford et al. (2024), No Regrets, arXiv 2408.15099.
    """
    k_tasks, k_choose, k_measure = jax.random.split(key, 3)
    tasks = solvable_tasks(k_tasks, env, num_tasks)
    return Robustness(
        solved_rates(k_choose, net, env, tasks, num_episodes),
        solved_rates(k_measure, net, env, tasks, num_episodes),
    )


def worst_case_rate(robust: Robustness, alpha: Float[Array, ""] | float) -> Float[Array, ""]:
    """CVaR_α: the mean measured rate over the worst share α (in (0, 1]) of tasks, at least one task."""
    order = jnp.argsort(robust.chosen)
    number = order.shape[0]
    count = jnp.maximum(jnp.round(alpha * number), 1.0)
    worst = jnp.arange(number) < count
    return (robust.measured[order] * worst).sum() / count
