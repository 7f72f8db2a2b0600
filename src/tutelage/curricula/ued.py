"""Unsupervised environment design as one compiled program: teacher, students and environments in one `update`.

One *cycle* is: the teacher decides and proposes N tasks, every student is rolled out on its tasks, the teacher observes
the outcomes. Robust methods learn only from some cycles. One *update* of the system runs cycles until one of them is to
be learnt from, then takes exactly one PPO step: a budget of updates is therefore a budget of gradient steps, the same
for every arm, as in the published training runs. The cycles without a gradient never touch the learner, and one
learner is compiled, behind the loop, whatever the number of phases.

Reference: Jiang, Dennis, Grefenstette & Rocktäschel (2023), minimax: Efficient Baselines for Autocurricula in JAX,
arXiv 2311.12716.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from tutelage.backends.jax_program import Metric
from tutelage.curricula.scores import outcomes
from tutelage.curricula.teacher import Outcomes, Teacher, TeacherState
from tutelage.envs.environment import Environment, Task
from tutelage.lab.program import Last, Sometimes
from tutelage.nn.actor_critic import ActorCritic
from tutelage.rl.ppo import PPO, Learner
from tutelage.rl.returns import gae
from tutelage.rl.rollout import rollout
from tutelage.rl.trajectory import Trajectory


class UEDState(NamedTuple):
    """Everything that survives a kill.

    Attributes:
        learners: every student's network and optimiser, leaves [A, ...].
        teacher: of one teacher (shared) or of one per student, leaves [A, ...].
        key: the stream from which each cycle draws.
        cycles: batches of rollouts so far.
        updates: gradient steps so far.
    """

    learners: Learner
    teacher: TeacherState
    key: Key[Array, ""]
    cycles: Int[Array, ""]
    updates: Int[Array, ""]


class Cycle(NamedTuple):
    """What one cycle leaves for the learner.

    Attributes:
        learns: whether the students take a gradient step on it.
        trajectory, advantage, target: of the rows to learn from, leaves [A, T, N·E, ...].
        tasks: those rows' tasks, leaves [A, N, ...].
        outcomes: on all proposed tasks, leaves [A, N'].
        teaching: the teacher's own metrics.
    """

    learns: Bool[Array, ""]
    trajectory: Trajectory
    advantage: Float[Array, "A T N"]
    target: Float[Array, "A T N"]
    tasks: Task
    outcomes: Outcomes
    teaching: dict[str, Array]


@dataclass(frozen=True)
class UED:
    """The parts of one system. All functions are pure; `init`, `update` are what a program is made of.

    Attributes:
        env: where students live; `teacher` chooses its tasks.
        make_net: `key -> ActorCritic`, called once per student.
        ppo: the students' learner.
        num_students: A. With a teacher that is not shared, each student has its own teacher and tasks.
        num_steps: T, steps of one rollout.
        num_copies: E, independent rollouts of each task, merged in its outcome.
        score: the name of the score (`tutelage.curricula.scores.SCORES`) that teachers see.
        fresh_tasks: an episode that ends is followed by a new random task instead of the same one (DR).
        num_probe_steps: steps of a probe, for teachers which roll the student out on their own (SFL).
        side_by_side: vmap over students (accelerators). On a CPU one after another is faster: batched small matrix
            products lose more than they gain, and branches are not both run.
        axis_name: of the map over devices inside which `update` runs (`tutelage.curricula.sharding`); `ppo` has the
            same. Devices then share every decision and every gradient, and draw tasks and actions of their own.
    """

    env: Environment
    teacher: Teacher
    make_net: Callable[[Key[Array, ""]], ActorCritic]
    ppo: PPO
    gamma: float
    gae_lambda: float
    num_students: int = 1
    num_steps: int = 256
    num_copies: int = 1
    score: str = "max_mc"
    fresh_tasks: bool = False
    num_probe_steps: int = 256
    side_by_side: bool = False
    axis_name: str | None = None

    def init(self, key: Key[Array, ""]) -> UEDState:
        """Independent students, a teacher that has seen nothing."""
        k_nets, k_teacher, k_run = jax.random.split(key, 3)
        learners = self.each(lambda k: self.ppo.init(self.make_net(k)), jax.random.split(k_nets, self.num_students))
        if self.teacher.shared:
            teacher = self.teacher.init(k_teacher)
        else:
            teacher = self.each(self.teacher.init, jax.random.split(k_teacher, self.num_students))
        return UEDState(learners, teacher, k_run, jnp.int32(0), jnp.int32(0))

    def update(self, state: UEDState) -> tuple[UEDState, dict[str, Metric]]:
        """Cycles until one is to be learnt from, then one PPO step of every student on it."""
        if self.teacher.always_learns:
            state, cycle = self.cycle(state)
        else:
            shapes = jax.eval_shape(self.cycle, state)[1]
            nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            state, cycle = jax.lax.while_loop(
                lambda carry: ~carry[1].learns, lambda carry: self.cycle(carry[0]), (state, nothing)
            )
        return self.learn(state, cycle)

    def cycle(self, state: UEDState) -> tuple[UEDState, Cycle]:
        """Propose, roll out, observe: the teacher moves on, the students stay as they are."""
        key, k_prepare, k_decide, k_propose, k_rollout, k_observe = jax.random.split(state.key, 6)
        k_prepare, k_propose, k_rollout, k_observe = map(self._own, (k_prepare, k_propose, k_rollout, k_observe))
        nets = state.learners.net
        teacher = self._prepare(state.teacher, k_prepare, nets)
        phase = self._decide(teacher, k_decide)
        tasks, tickets, known = self._propose(teacher, k_propose, phase)

        def play(k: Array, net: ActorCritic, tasks: Task, known: Array) -> tuple:
            return self._play(k, net, tasks, known, self.num_steps)

        trajectory, advantage, target, outcome = self.each(
            play, jax.random.split(k_rollout, self.num_students), nets, tasks, known
        )
        teacher, teaching = self._observe(teacher, k_observe, phase, tasks, tickets, outcome)
        rows = self.teacher.num_learn
        learnt = jax.tree.map(lambda leaf: leaf[:, :, : rows * self.num_copies], (trajectory, advantage, target))
        return (
            state._replace(teacher=teacher, key=key, cycles=state.cycles + 1),
            Cycle(
                jnp.bool_(True) if self.teacher.always_learns else self.teacher.learns(phase),
                *learnt,
                tasks=jax.tree.map(lambda leaf: leaf[:, :rows], tasks),
                outcomes=outcome,
                teaching=teaching,
            ),
        )

    def learn(self, state: UEDState, cycle: Cycle) -> tuple[UEDState, dict[str, Metric]]:
        """One PPO step of every student on its rows of the cycle."""
        key, k_learn = jax.random.split(state.key)
        learners, losses = self.each(
            self.ppo.update,
            state.learners,
            jax.random.split(k_learn, self.num_students),
            cycle.trajectory,
            cycle.advantage,
            cycle.target,
        )
        state = state._replace(learners=learners, key=key, updates=state.updates + 1)
        return state, self._metrics(state, cycle, losses)

    def each(self, function: Callable, *args: PyTree) -> PyTree:
        """Map over students: leaves [A, ...] in and out."""
        if self.num_students == 1:
            out = function(*jax.tree.map(lambda leaf: leaf[0], args))
            return jax.tree.map(lambda leaf: leaf[None], out)
        if self.side_by_side:
            return jax.vmap(function)(*args)
        return jax.lax.map(lambda rows: function(*rows), args)

    def _own(self, key: Key[Array, ""]) -> Key[Array, ""]:
        """A key of this device alone, of one that all devices share."""
        return key if self.axis_name is None else jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))

    def _play(self, key: Array, net: ActorCritic, tasks: Task, known: Array, num_steps: int) -> tuple:
        copies = jax.tree.map(lambda leaf: jnp.repeat(leaf, self.num_copies, axis=0), tasks)
        on_end = "sample" if self.fresh_tasks else "replay"
        trajectory = rollout(key, net, self.env, copies, num_steps, on_end=on_end).trajectory
        advantage, target = gae(
            trajectory.reward,
            trajectory.discount,
            trajectory.last,
            trajectory.value,
            trajectory.next_value,
            gamma=self.gamma,
            lam=self.gae_lambda,
        )
        best = jax.vmap(self.env.solve)(tasks) if self.score == "true_regret" and self.env.solve else None
        outcome = outcomes(trajectory, advantage, self.score, known, best, self.num_copies)
        return trajectory, advantage, target, outcome

    def _prepare(self, teacher: TeacherState, key: Array, nets: ActorCritic) -> TeacherState:
        prepare = self.teacher.prepare
        if prepare is None:
            return teacher

        def of_one(teacher: TeacherState, k: Array, net: ActorCritic) -> TeacherState:
            def probe(k: Array, tasks: Task) -> Outcomes:
                number = jax.tree.leaves(tasks)[0].shape[0]
                return self._play(k, net, tasks, jnp.full(number, -jnp.inf), self.num_probe_steps)[-1]

            return prepare(teacher, k, probe)

        return self.each(of_one, teacher, jax.random.split(key, self.num_students), nets)

    def _decide(self, teacher: TeacherState, key: Array) -> Array:
        # One decision for the whole population and all devices: they may differ in how full their buffers are, and a
        # replay phase needs all of them ready.
        is_shared = self.teacher.shared
        ready = self.teacher.ready(teacher) if is_shared else self.each(self.teacher.ready, teacher).all()
        if self.axis_name is not None:
            ready = jax.lax.pmin(ready.astype(jnp.int32), self.axis_name) > 0
        first = teacher if is_shared else jax.tree.map(lambda leaf: leaf[0], teacher)
        return self.teacher.decide(first, key, ready)

    def _propose(self, teacher: TeacherState, key: Array, phase: Array) -> tuple:
        if not self.teacher.shared:

            def of_one(teacher: TeacherState, k: Array) -> tuple:
                tasks, tickets = self.teacher.propose(teacher, k, phase)
                return tasks, tickets, self.teacher.known_max_return(teacher, tickets)

            return self.each(of_one, teacher, jax.random.split(key, self.num_students))
        tasks, tickets = self.teacher.propose(teacher, key, phase)
        known = self.teacher.known_max_return(teacher, tickets)
        everyone = jax.tree.map(lambda leaf: jnp.stack([leaf] * self.num_students), (tasks, known))
        return everyone[0], tickets, everyone[1]

    def _observe(
        self, teacher: TeacherState, key: Array, phase: Array, tasks: Task, tickets: Any, outcome: Outcomes
    ) -> tuple[TeacherState, dict[str, Array]]:
        if self.teacher.shared:
            tasks = jax.tree.map(lambda leaf: leaf[0], tasks)
            return self.teacher.observe(teacher, key, phase, tasks, tickets, outcome)

        def of_one(teacher: TeacherState, k: Array, tasks: Task, tickets: Any, outcome: Outcomes) -> tuple:
            return self.teacher.observe(teacher, k, phase, tasks, tickets, outcome)

        keys = jax.random.split(key, self.num_students)
        return self.each(of_one, teacher, keys, tasks, tickets, outcome)

    def _metrics(self, state: UEDState, cycle: Cycle, losses: dict[str, Array]) -> dict[str, Metric]:
        """Floats for the record; means over students. Levels are described by those that were learnt from."""
        seen = cycle.outcomes
        metrics = {
            "cycles": Last(state.cycles.astype(jnp.float32)),
            "return": Sometimes(masked_mean(seen.mean_return, seen.completed > 0)),
            "success_rate": Sometimes(masked_mean(seen.success_rate, seen.completed > 0)),
            **{f"ppo/{name}": value.mean() for name, value in losses.items()},
            **{f"teacher/{name}": value.mean() for name, value in cycle.teaching.items()},
        }
        if self.env.measure is not None:
            levels = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), cycle.tasks)
            measured = {name: value.astype(jnp.float32) for name, value in jax.vmap(self.env.measure)(levels).items()}
            solvable = measured.get("solvable", jnp.ones(jax.tree.leaves(levels)[0].shape[0]))
            for name, value in measured.items():
                # An unsolvable level has no shortest path: what describes levels is a mean over solvable ones.
                metrics[f"level/{name}"] = (
                    value.mean() if name == "solvable" else Sometimes(masked_mean(value, solvable > 0))
                )
        return metrics


def masked_mean(values: Float[Array, "*n"], mask: Bool[Array, "*n"]) -> Float[Array, ""]:
    """The mean where `mask` holds; NaN (no value) where it holds nowhere."""
    return jnp.where(mask, values, 0.0).sum() / jnp.where(mask.any(), mask.sum(), jnp.nan)
