"""Domain randomisation: every batch is new random levels (Tobin et al. 2017, arXiv 1703.06907).

The teacher keeps nothing and learns nothing. That an ended episode goes on in a *new* level is the rollout's business
(`on_end="sample"`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from tutelage.curricula.teacher import Outcomes, Phase, Teacher
from tutelage.envs.environment import Environment, Task


def dr(env: Environment, num_tasks: int) -> Teacher:
    """N = `num_tasks` levels by `env.sample_task`, every time."""

    def init(key: Key[Array, ""]) -> tuple[()]:
        del key
        return ()

    def ready(state: tuple[()]) -> Bool[Array, ""]:
        del state
        return jnp.ones((), jnp.bool_)

    def decide(state: tuple[()], key: Key[Array, ""], is_ready: Bool[Array, ""]) -> Phase:
        del state, key, is_ready
        return jnp.zeros((), jnp.int32)

    def propose(state: tuple[()], key: Key[Array, ""], phase: Phase) -> tuple[Task, tuple[()]]:
        del state, phase
        return jax.vmap(env.sample_task)(jax.random.split(key, num_tasks)), ()

    def observe(
        state: tuple[()], key: Key[Array, ""], phase: Phase, tasks: Task, tickets: tuple[()], outcomes: Outcomes
    ) -> tuple[tuple[()], dict[str, Array]]:
        del key, phase, tasks, tickets, outcomes
        return state, {}

    def learns(phase: Phase) -> Bool[Array, ""]:
        del phase
        return jnp.ones((), jnp.bool_)

    def known_max_return(state: tuple[()], tickets: tuple[()]) -> Float[Array, "N"]:
        del state, tickets
        return jnp.full(num_tasks, -jnp.inf, jnp.float32)

    return Teacher(
        init=init,
        decide=decide,
        ready=ready,
        propose=propose,
        observe=observe,
        learns=learns,
        num_tasks=num_tasks,
        num_learn=num_tasks,
        known_max_return=known_max_return,
        always_learns=True,
    )
