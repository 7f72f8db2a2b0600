"""Sampling For Learnability: search many random levels now and then for those solved half of the time.

Every k cycles the student is rolled out, without learning, on a pool of random levels, and the levels of greatest
p(1 − p) are kept (p: success rate). Half of each batch is drawn from them, the other half is random.

References: Rutherford et al. (2024), No Regrets: Investigating and Improving Regret Approximations for Curriculum
Discovery, arXiv 2408.15099.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.curricula.config import SFLConfig, check_sfl
from tutelage.curricula.teacher import Outcomes, Phase, Probe, Teacher
from tutelage.envs.environment import Environment, Task


class SFLState(NamedTuple):
    """The levels kept by the last search (leaves [keep, ...]), the most learnable first.

    Attributes:
        learnability: of each when it was found; −∞ before the first search.
        cycle: batches observed so far.
    """

    level: Task
    learnability: Float[Array, "keep"]
    cycle: Int[Array, ""]


def sfl(config: SFLConfig, env: Environment, num_tasks: int) -> Teacher:
    """SFL over the random levels of `env`, N = `num_tasks`, the first `share` · N rows from the kept levels.

    The rollouts of a search are the caller's (`Probe`; `config.rollout_steps` long). `prepare` decides inside whether
    a search is due, so under `vmap` (a population) every cycle pays for one: map over students with a loop instead.

    Raises:
        BadInput: a setting is out of range, or the share is not a whole number of levels.
    """
    check_sfl(config, num_tasks=num_tasks)
    num_kept = round(config.share * num_tasks)

    def new_levels(key: Key[Array, ""], num: int) -> Task:
        return jax.vmap(env.sample_task)(jax.random.split(key, num))

    def init(key: Key[Array, ""]) -> SFLState:
        example = jax.eval_shape(env.sample_task, key)
        return SFLState(
            level=jax.tree.map(lambda leaf: jnp.zeros((config.keep, *leaf.shape), leaf.dtype), example),
            learnability=jnp.full(config.keep, -jnp.inf, jnp.float32),
            cycle=jnp.zeros((), jnp.int32),
        )

    def search(state: SFLState, key: Key[Array, ""], probe: Probe) -> SFLState:
        def look(best: tuple[Task, Float[Array, "keep"]], key: Key[Array, ""]):
            k_level, k_probe = jax.random.split(key)
            level = new_levels(k_level, config.batch_size)
            outcomes = probe(k_probe, level)
            rate = outcomes.success_rate
            # A level on which nothing was completed is less known than one never solved, yet may fill a place.
            learnability = jnp.where(outcomes.completed > 0, rate * (1 - rate), -1.0)
            candidates = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), best, (level, learnability))
            learnability, rows = jax.lax.top_k(candidates[1], config.keep)
            return (jax.tree.map(lambda leaf: leaf[rows], candidates[0]), learnability), None

        # The student has changed: what was found before counts for nothing.
        nothing = (state.level, jnp.full_like(state.learnability, -jnp.inf))
        (level, learnability), _ = jax.lax.scan(look, nothing, jax.random.split(key, config.num_batches))
        return state._replace(level=level, learnability=learnability)

    def prepare(state: SFLState, key: Key[Array, ""], probe: Probe) -> SFLState:
        return jax.lax.cond(
            state.cycle % config.every == 0, lambda s, k: search(s, k, probe), lambda s, k: s, state, key
        )

    def ready(state: SFLState) -> Bool[Array, ""]:
        del state
        return jnp.ones((), jnp.bool_)

    def decide(state: SFLState, key: Key[Array, ""], is_ready: Bool[Array, ""]) -> Phase:
        del state, key, is_ready
        return jnp.zeros((), jnp.int32)

    def propose(state: SFLState, key: Key[Array, ""], phase: Phase) -> tuple[Task, tuple[()]]:
        del phase
        k_kept, k_new = jax.random.split(key)
        rows = jax.random.randint(k_kept, (num_kept,), 0, config.keep)
        kept = jax.tree.map(lambda leaf: leaf[rows], state.level)
        fresh = new_levels(k_new, num_tasks - num_kept)
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), kept, fresh), ()

    def observe(
        state: SFLState, key: Key[Array, ""], phase: Phase, tasks: Task, tickets: tuple[()], outcomes: Outcomes
    ) -> tuple[SFLState, dict[str, Array]]:
        del key, phase, tasks, tickets
        rate = outcomes.success_rate
        return state._replace(cycle=state.cycle + 1), {
            "kept_learnability_mean": jnp.maximum(state.learnability, 0.0).mean(),
            "kept_learnability_min": jnp.maximum(state.learnability, 0.0).min(),
            "batch_learnability_mean": (rate * (1 - rate)).mean(),
        }

    def learns(phase: Phase) -> Bool[Array, ""]:
        del phase
        return jnp.ones((), jnp.bool_)

    def known_max_return(state: SFLState, tickets: tuple[()]) -> Float[Array, "N"]:
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
        prepare=prepare,
    )
