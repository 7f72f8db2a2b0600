"""Prioritized Level Replay: new random levels, and replay of those that were worth learning from.

PLR (Jiang et al. 2021, arXiv 2010.03934), robust PLR⊥, which learns from replayed levels only (arXiv 2110.02439), and
parallel PLR, which rolls new and replayed levels out side by side (minimax, arXiv 2311.12716). With an `Editor` the
same teacher is ACCEL (`tutelage.curricula.accel`). Random replay is PLR with uniform prioritisation.

Rows of a parallel batch: N to learn from (replayed, or new ones before there is enough to replay), N new, and N edited
from the replayed ones if there is an editor (before that: new).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.curricula import replay
from tutelage.curricula.config import ReplayConfig, check_replay
from tutelage.curricula.replay import NOWHERE, Batch, Buffer
from tutelage.curricula.teacher import Outcomes, Phase, Teacher
from tutelage.envs.environment import Environment, Task

NEW, REPLAY, MUTATE = 0, 1, 2
"""The phases of a cycle: new random levels; levels from the buffer; children of the batch that was just replayed."""


class Tally(NamedTuple):
    """Counts over the batches between two gradient steps, so that those without one are seen in the metrics too."""

    batches: Float[Array, ""]
    offered: Float[Array, ""]
    inserted: Float[Array, ""]
    duplicates: Float[Array, ""]


class ReplayState(NamedTuple):
    """What the teacher remembers.

    Attributes:
        cycle: batches observed so far.
        parents: slots of the parents whose children are due in the next batch; all −1 when none are. Empty (no rows)
            where no phase of its own is spent on editing.
        tally: since the batch that students last learnt from.
    """

    buffer: Buffer
    cycle: Int[Array, ""]
    parents: Int[Array, "N"]
    tally: Tally


class ReplayTickets(NamedTuple):
    """Per row of a batch: the slot of a replayed level, and the slot of an edited level's parent (else −1)."""

    slot: Int[Array, "n"]
    parent: Int[Array, "n"]


@dataclass(frozen=True)
class Editor:
    """What makes ACCEL of PLR.

    Attributes:
        select: `(slots [N], outcomes [N]) -> parent slots [N]`, one for each child, from a batch just replayed.
        edit: `(key, levels [N]) -> children [N]`.
        pedigree: ancestors that the buffer keeps with each level.
    """

    select: Callable[[Int[Array, "N"], Outcomes], Int[Array, "N"]]
    edit: Callable[[Key[Array, ""], Task], Task]
    pedigree: int


def plr(config: ReplayConfig, env: Environment, num_tasks: int) -> Teacher:
    """PLR, PLR⊥ (`robust`) or parallel PLR (`parallel`) over the random levels of `env`, N = `num_tasks`.

    Raises:
        BadInput: a setting is out of range, or needs what the environment lacks.
    """
    check_replay(
        config,
        num_tasks=num_tasks,
        can_compare=env.equal is not None,
        can_solve=env.solve is not None,
    )
    return replay_teacher(config, env, num_tasks, None)


def replay_teacher(config: ReplayConfig, env: Environment, num_tasks: int, editor: Editor | None) -> Teacher:
    """The teacher of PLR and, with an editor, of ACCEL. Arguments must have passed `config.check`."""
    parts = (3 if editor else 2) if config.parallel else 1
    num_rows = parts * num_tasks
    has_mutate_phase = editor is not None and not config.parallel
    least_filled = math.ceil(config.buffer_size * config.min_fill - 1e-6)
    equal = env.equal if config.dedupe else None

    def new_levels(key: Key[Array, ""], num: int) -> Task:
        return jax.vmap(env.sample_task)(jax.random.split(key, num))

    def nowhere(num: int) -> Int[Array, "num"]:
        return jnp.full(num, NOWHERE, jnp.int32)

    def init(key: Key[Array, ""]) -> ReplayState:
        return ReplayState(
            buffer=replay.empty(
                jax.eval_shape(env.sample_task, key), config.buffer_size, pedigree=editor.pedigree if editor else 0
            ),
            cycle=jnp.zeros((), jnp.int32),
            parents=nowhere(num_tasks if has_mutate_phase else 0),
            tally=_tally(0, None),
        )

    def ready(state: ReplayState) -> Bool[Array, ""]:
        return state.buffer.size >= least_filled

    def decide(state: ReplayState, key: Key[Array, ""], is_ready: Bool[Array, ""]) -> Phase:
        probability = 1.0 if config.parallel else config.probability
        is_replay = is_ready & (jax.random.uniform(key) < probability)
        phase = jnp.where(is_replay, jnp.int32(REPLAY), jnp.int32(NEW))
        if has_mutate_phase:
            phase = jnp.where((state.parents >= 0).any(), jnp.int32(MUTATE), phase)
        return phase

    def propose_new(state: ReplayState, key: Key[Array, ""]) -> tuple[Task, ReplayTickets]:
        del state
        return new_levels(key, num_rows), ReplayTickets(nowhere(num_rows), nowhere(num_rows))

    def propose_replay(state: ReplayState, key: Key[Array, ""]) -> tuple[Task, ReplayTickets]:
        k_draw, k_new, k_edit = jax.random.split(key, 3)
        slots = replay.sample(state.buffer, k_draw, num_tasks, config)
        levels = [_take(state.buffer.level, slots)]
        parent = [nowhere(num_tasks)]
        if config.parallel:
            levels.append(new_levels(k_new, num_tasks))
            parent.append(nowhere(num_tasks))
        if config.parallel and editor is not None:
            levels.append(editor.edit(k_edit, levels[0]))
            parent.append(slots)
        return (
            jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *levels),
            ReplayTickets(jnp.concatenate([slots, nowhere(num_rows - num_tasks)]), jnp.concatenate(parent)),
        )

    def propose_children(state: ReplayState, key: Key[Array, ""]) -> tuple[Task, ReplayTickets]:
        assert editor is not None
        children = editor.edit(key, _take(state.buffer.level, state.parents))
        return children, ReplayTickets(nowhere(num_rows), state.parents)

    def propose(state: ReplayState, key: Key[Array, ""], phase: Phase) -> tuple[Task, ReplayTickets]:
        branches = [propose_new, propose_replay, *([propose_children] if has_mutate_phase else [])]
        return jax.lax.switch(phase, branches, state, key)

    def offer(buffer: Buffer, first: int, cycle, tasks, tickets, outcomes) -> tuple[Buffer, replay.Inserted]:
        """Offer the rows from `first` on to the buffer."""
        batch = Batch(tasks, outcomes.score, outcomes.max_return, tickets.parent)
        return replay.insert(buffer, jax.tree.map(lambda x: x[first:], batch), config, equal=equal, born=cycle)

    def observe_offered(state: ReplayState, tasks, tickets, outcomes) -> tuple[Buffer, Array, Tally]:
        """A batch of new levels (which age those in the buffer) or of children (which do not: nothing was drawn)."""
        is_new = ~(tickets.parent >= 0).any()
        aged = replay.grow_older(state.buffer, num_tasks * is_new)
        buffer, inserted = offer(aged, 0, state.cycle, tasks, tickets, outcomes)
        return buffer, jnp.full_like(state.parents, NOWHERE), _tally(1, inserted)

    def observe_replay(state: ReplayState, tasks, tickets, outcomes) -> tuple[Buffer, Array, Tally]:
        slots = tickets.slot[:num_tasks]
        replayed = jax.tree.map(lambda x: x[:num_tasks], outcomes)
        buffer = replay.update(replay.visit(state.buffer, slots), slots, replayed.score, replayed.max_return)
        inserted = None
        if config.parallel:
            buffer, inserted = offer(buffer, num_tasks, state.cycle, tasks, tickets, outcomes)
        parents = editor.select(slots, replayed) if editor is not None and has_mutate_phase else state.parents
        return buffer, parents, _tally(1, inserted)

    def observe(
        state: ReplayState,
        key: Key[Array, ""],
        phase: Phase,
        tasks: Task,
        tickets: ReplayTickets,
        outcomes: Outcomes,
    ) -> tuple[ReplayState, dict[str, Array]]:
        del key
        buffer, parents, counts = jax.lax.cond(
            phase == REPLAY, observe_replay, observe_offered, state, tasks, tickets, outcomes
        )
        tally = jax.tree.map(jnp.add, state.tally, counts)
        figures = _figures(buffer, config) | tally._asdict() | {"replay": (phase == REPLAY).astype(jnp.float32)}
        tally = jax.tree.map(lambda count: jnp.where(learns(phase), 0.0, count), tally)
        return ReplayState(buffer, state.cycle + 1, parents, tally), figures

    def learns(phase: Phase) -> Bool[Array, ""]:
        return phase == REPLAY if config.robust else phase != MUTATE

    def known_max_return(state: ReplayState, tickets: ReplayTickets) -> Float[Array, "n"]:
        return jnp.where(tickets.slot >= 0, state.buffer.max_return[tickets.slot], -jnp.inf)

    return Teacher(
        init=init,
        decide=decide,
        ready=ready,
        propose=propose,
        observe=observe,
        learns=learns,
        num_tasks=num_rows,
        num_learn=num_tasks,
        known_max_return=known_max_return,
        always_learns=not config.robust and not has_mutate_phase,
    )


def _take(levels: Task, slots: Int[Array, "n"]) -> Task:
    return jax.tree.map(lambda leaf: leaf[slots], levels)


def _tally(batches: int, inserted: replay.Inserted | None) -> Tally:
    if inserted is None:
        return Tally(jnp.float32(batches), jnp.float32(0), jnp.float32(0), jnp.float32(0))
    return Tally(
        batches=jnp.float32(batches),
        offered=jnp.float32(inserted.slot.shape[0]),
        inserted=((inserted.slot >= 0) & ~inserted.duplicate).sum(dtype=jnp.float32),
        duplicates=inserted.duplicate.sum(dtype=jnp.float32),
    )


def _figures(buffer: Buffer, config: ReplayConfig) -> dict[str, Float[Array, ""]]:
    """Means over filled slots, 0 while there are none: −∞ · 0 is not a number."""
    count = jnp.maximum(buffer.size, 1).astype(jnp.float32)
    score = jnp.where(buffer.filled, buffer.score, 0.0)
    return {
        "buffer_fill": buffer.size / jnp.float32(buffer.num_slots),
        "buffer_score_mean": score.sum() / count,
        "buffer_score_max": jnp.where(buffer.size > 0, buffer.score.max(), 0.0),
        "buffer_score_weighted": (score * replay.weights(buffer, config)).sum(),
        "buffer_age_mean": jnp.where(buffer.filled, buffer.age, 0).astype(jnp.float32).sum() / count,
        "buffer_generation_mean": jnp.where(buffer.filled, buffer.lineage.generation, 0).astype(jnp.float32).sum()
        / count,
    }
