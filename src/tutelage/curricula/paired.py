"""PAIRED and its kin: an adversary which builds levels step by step and is paid by what the students do there.

Building a level is an episode of a *design environment*: any `Environment` whose state after `horizon` steps gives a
task (`task_of`; `tutelage.envs.maze.make_editor` and `level_of` for mazes). The adversary is a recurrent PPO agent of
its own. Its reward is 0 at every step but the last, where it is the objective of the finished level; the last step is
terminal, so nothing is bootstrapped from the state after it.

Objectives of a level, from the outcomes of A students on it:

- `relative_regret` (PAIRED, A = 2): max(0, best return of the antagonist − mean return of the protagonist);
- `mean_relative_regret` (A = 2): the antagonist's mean return in place of its best;
- `population_regret` (population PAIRED, A ≥ 2): best return of all students − mean over students;
- `neg_return` (the minimax adversary, A = 1): − mean return.

The protagonist is student 0, the antagonist student 1.

A level on which some student completed no episode has no known objective. It is left out of the adversary's loss: its
steps get the mean advantage of the others (0 once advantages are normalised) and its value targets are the values
themselves. minimax and jaxued take such a student's return to be 0, which is right only where returns cannot be
negative; with rollouts as long as the horizon the case does not arise.

References: Dennis et al. (2020), Emergent Complexity and Zero-shot Transfer via Unsupervised Environment Design,
arXiv 2012.02096.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from tutelage.curricula.config import AdversaryConfig
from tutelage.curricula.scores import REGRETS
from tutelage.curricula.teacher import Outcomes, Phase, Teacher
from tutelage.envs.environment import Environment, EnvState, Task, TimeStep
from tutelage.lab.errors import BadInput, nearest
from tutelage.nn.actor_critic import ActorCritic
from tutelage.rl.ppo import Learner, ppo
from tutelage.rl.returns import gae
from tutelage.rl.rollout import rollout
from tutelage.rl.trajectory import Trajectory


def neg_return(outcomes: Outcomes) -> Float[Array, "N"]:
    """− mean return of the only student; −∞ where it completed no episode."""
    return jnp.where(outcomes.completed[0] > 0, -outcomes.mean_return[0], -jnp.inf)


OBJECTIVES: dict[str, Callable[[Outcomes], Float[Array, "N"]]] = {**REGRETS, "neg_return": neg_return}
"""What a level is worth to the adversary; −∞ means "not known"."""

OBJECTIVE_OF = {"paired": "relative_regret", "population_paired": "population_regret", "minimax": "neg_return"}
"""The objective of each kind of teacher in `TeacherConfig.kind`."""


class PairedState(NamedTuple):
    """The adversary: its network, its optimiser's state and how often it was updated."""

    learner: Learner


def credit(trajectory: Trajectory, objective: Float[Array, "N"]) -> Trajectory:
    """The adversary's rollout with each level's objective as the reward of its last step, which is terminal."""
    is_final = jnp.arange(trajectory.reward.shape[0])[:, None] == trajectory.reward.shape[0] - 1
    is_final = jnp.broadcast_to(is_final, trajectory.reward.shape)
    return trajectory._replace(
        reward=jnp.where(is_final, objective, 0.0),
        discount=jnp.where(is_final, 0.0, jnp.ones_like(trajectory.discount)),
        last=is_final,
    )


def paired(
    config: AdversaryConfig,
    design: Environment,
    task_of: Callable[[EnvState], Task],
    make_net: Callable[[Key[Array, ""]], ActorCritic],
    num_tasks: int,
    *,
    num_students: int,
    num_updates: int,
    objective: str = "relative_regret",
    axis_name: str | None = None,
) -> Teacher:
    """The adversary as a teacher shared by all students: N = `num_tasks` levels a cycle, one PPO update after each.

    Args:
        config: the adversary's own PPO, step size and discount included; budget and noise belong to `design`.
        design: where levels are built; every design takes `design.horizon` steps, whatever `last` it reports.
        task_of: from the state after the last step of a design to the students' task.
        make_net: the adversary's untrained network.
        num_students: A, the leading axis of the outcomes.
        num_updates: length of the run, over which the step size anneals if it does.
        objective: a name in `OBJECTIVES`.
        axis_name: of the map over devices inside which the teacher runs; one adversary learns from all of them.

    Raises:
        BadInput: the objective is unknown or not defined for so many students.
    """
    _check(objective, num_students)
    endless = _without_end(design)
    learning = ppo(config.ppo, num_updates=num_updates, axis_name=axis_name)

    def init(key: Key[Array, ""]) -> PairedState:
        return PairedState(learning.init(make_net(key)))

    def ready(state: PairedState) -> Bool[Array, ""]:
        del state
        return jnp.ones((), jnp.bool_)

    def decide(state: PairedState, key: Key[Array, ""], is_ready: Bool[Array, ""]) -> Phase:
        del state, key, is_ready
        return jnp.zeros((), jnp.int32)

    def propose(state: PairedState, key: Key[Array, ""], phase: Phase) -> tuple[Task, Trajectory]:
        del phase
        k_briefs, k_build = jax.random.split(key)
        briefs = jax.vmap(design.sample_task)(jax.random.split(k_briefs, num_tasks))
        built = rollout(k_build, state.learner.net, endless, briefs, design.horizon)
        return jax.vmap(task_of)(built.final_state), built.trajectory

    def observe(
        state: PairedState, key: Key[Array, ""], phase: Phase, tasks: Task, tickets: Trajectory, outcomes: Outcomes
    ) -> tuple[PairedState, dict[str, Array]]:
        del phase, tasks
        if outcomes.completed.shape != (num_students, num_tasks):
            raise BadInput(
                f"outcomes are of shape {outcomes.completed.shape}: {num_students} students on {num_tasks} tasks needed"
            )
        worth = OBJECTIVES[objective](outcomes)
        known = jnp.isfinite(worth)
        trajectory = credit(tickets, jnp.where(known, worth, 0.0))
        advantage, target = gae(
            trajectory.reward,
            trajectory.discount,
            trajectory.last,
            trajectory.value,
            trajectory.next_value,
            gamma=config.ppo.discount,
            lam=config.ppo.gae_lambda,
        )
        neutral = _mean_where(known, advantage, axis_name)
        learner, losses = learning.update(
            state.learner,
            key,
            trajectory,
            jnp.where(known, advantage, neutral),
            jnp.where(known, target, trajectory.value),
        )
        metrics = {
            objective: _mean_where(known, worth, axis_name),
            "known": known.mean(dtype=jnp.float32),
            **{f"ppo/{name}": value for name, value in losses.items()},
        }
        return PairedState(learner), metrics

    def learns(phase: Phase) -> Bool[Array, ""]:
        del phase
        return jnp.ones((), jnp.bool_)

    def known_max_return(state: PairedState, tickets: Trajectory) -> Float[Array, "N"]:
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
        shared=True,
        always_learns=True,
    )


def _check(objective: str, num_students: int) -> None:
    if objective not in OBJECTIVES:
        raise BadInput(
            f"objective = {objective!r}: allowed are {', '.join(OBJECTIVES)}{nearest(objective, OBJECTIVES)}"
        )
    if objective == "population_regret":
        if num_students < 2:
            raise BadInput(f"num_students = {num_students}: population_regret needs at least 2")
        return
    needed = 1 if objective == "neg_return" else 2
    if num_students != needed:
        raise BadInput(f"num_students = {num_students}: {objective} is defined for exactly {needed}")


def _without_end(design: Environment) -> Environment:
    """The same world without the end of its episodes, or else the rollout would clear each design when it is done."""

    def step(key: Key[Array, ""], state: EnvState, action: Array) -> tuple[EnvState, TimeStep]:
        state, out = design.step(key, state, action)
        return state, out._replace(discount=jnp.ones_like(out.discount), last=jnp.zeros_like(out.last))

    return dataclasses.replace(design, step=step, truncates=False)


def _mean_where(
    known: Bool[Array, "N"], values: Float[Array, "*T N"], axis_name: str | None = None
) -> Float[Array, ""]:
    """The mean over known levels (of all devices); 0 if none is known."""
    total, count = jnp.where(known, values, 0.0).sum(), known.sum() * (values.size // known.size)
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1)
