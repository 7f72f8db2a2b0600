"""ACCEL: replay, then edit what was replayed, so that complexity grows from levels at the edge of ability.

A cycle that replays a batch is followed by one that rolls out the batch's children without learning from them and
offers them to the buffer. In parallel ACCEL the children of the replayed levels are a third part of the same batch.

The easiest levels are those of largest return − score: solved, and with little left to learn. Both are read at the row
of the batch, never at the slot of the buffer.

References: Parker-Holder et al. (2022), Evolving Curricula with Regret-Based Environment Design, arXiv 2203.01302;
minimax (2023), arXiv 2311.12716, for the parallel variant.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from tutelage.curricula.config import EditConfig, ReplayConfig, check_edit, check_replay
from tutelage.curricula.plr import Editor, replay_teacher
from tutelage.curricula.teacher import Outcomes, Teacher
from tutelage.envs.environment import Environment, Task
from tutelage.lab.errors import BadInput


def accel(config: ReplayConfig, edit: EditConfig, env: Environment, num_tasks: int) -> Teacher:
    """ACCEL or parallel ACCEL, N = `num_tasks`. `env.sample_task` should make easy levels (a maze without walls).

    Raises:
        BadInput: a setting is out of range, or needs what the environment lacks.
    """
    check_replay(
        config,
        num_tasks=num_tasks,
        can_compare=env.equal is not None,
        can_solve=env.solve is not None,
    )
    check_edit(edit, config, num_tasks=num_tasks, can_mutate=env.mutate is not None)
    mutate = env.mutate
    if mutate is None:
        raise BadInput(f"environment {env.name!r} has no `mutate`, which ACCEL needs")

    def edit_all(key: Key[Array, ""], levels: Task) -> Task:
        num_levels = jax.tree.leaves(levels)[0].shape[0]
        keys = jax.random.split(key, num_levels)
        return jax.vmap(lambda k, level: mutate(k, level, edit.num_edits))(keys, levels)

    def select(slots: Int[Array, "N"], outcomes: Outcomes) -> Int[Array, "N"]:
        return slots[parent_rows(outcomes, edit)]

    return replay_teacher(config, env, num_tasks, Editor(select=select, edit=edit_all, pedigree=edit.pedigree))


def parent_rows(outcomes: Outcomes, edit: EditConfig) -> Int[Array, "N"]:
    """The row of the parent of each of N children: every row once, or the k easiest or hardest N/k times each.

    A level without a completed episode (score −∞) is neither easy nor hard and comes last.
    """
    num_rows = outcomes.score.shape[0]
    if edit.criterion == "batch":
        return jnp.arange(num_rows, dtype=jnp.int32)
    ease = outcomes.mean_return - outcomes.score
    if edit.criterion == "hard":
        ease = -ease
    ease = jnp.where(outcomes.completed > 0, ease, -jnp.inf)
    _, rows = jax.lax.top_k(ease, edit.subsample)
    return jnp.repeat(rows.astype(jnp.int32), num_rows // edit.subsample)
