"""Return mixing times of policies of many tasks, as the tasks grow in number |Z| and switch more slowly, every τ steps.

A task that has not its turn waits as it is, and goes on where it was left: the joint process is a Markov chain whose
state holds every task's. Since each task's policy sees that task alone, the rewards of the joint process are the tasks'
own streams of rewards, cut into turns of τ steps and laid one after the other (`switched`). So each task is played
once, for as long as its longest share, and every |Z|, τ and order is measured on the same steps: no policy is run
again. Streams may come from anywhere, a record of somebody else's agent on Atari included; `reward_stream` plays a
policy in an environment of this library.

What a policy with memory across tasks, or one that is told of the switch, would do is not of this kind: play it under
`tutelage.continual.deep.task_switching` and give its rewards to `tutelage.measures.mixing` as they are.

References: Riemer et al. (2022), Continual Learning In Environments With Polynomial Mixing Times, arXiv 2112.07066,
where the policies are pretrained ones of Atari games.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree
from numpy.typing import ArrayLike

from tutelage.continual.deep.config import SweepConfig
from tutelage.envs.environment import Environment, EnvState
from tutelage.lab.errors import BadInput
from tutelage.measures.mixing import ReturnMixingEstimate, ScalingFit, return_mixing_estimate, scaling_exponent
from tutelage.nn.actor_critic import ActorCritic

ORDERS = ("cycle", "random")


@runtime_checkable
class Policy(Protocol):
    """What acts in one task: one observation and a key to one action, pure (it is compiled and vmapped)."""

    def __call__(self, obs: PyTree, key: Key[Array, ""]) -> Array: ...


class SweepPoint(NamedTuple):
    """One measurement: these tasks, changing every `switch_every` steps."""

    tasks: tuple[str, ...]
    switch_every: int
    estimate: ReturnMixingEstimate

    @property
    def num_tasks(self) -> int:
        return len(self.tasks)


class Growth(NamedTuple):
    """How return mixing times grow: exponents in τ for each |Z| ≥ 2, and in |Z| ≥ 2 for each τ.

    A |Z| or τ of which fewer than two scales have a time that was reached has no exponent.
    """

    in_switch_every: dict[int, ScalingFit]
    in_num_tasks: dict[int, ScalingFit]


def sampled(net: ActorCritic) -> Policy:
    """A network without memory as a policy; actions are drawn."""

    def act(obs: PyTree, key: Key[Array, ""]) -> Array:
        one = jax.tree.map(lambda leaf: leaf[None], obs)
        _, distribution, _ = net.step(net.initial_carry(1), one, jnp.ones((1,), bool))
        return distribution.sample(key)[0]

    return act


def reward_stream(
    key: Key[Array, ""], env: Environment, policy: Policy, num_rollouts: int, num_steps: int, *, burn_in: int = 0
) -> Float[Array, "N T"]:
    """Rewards of each step of N rollouts of a policy. An episode that ends is followed by a new one on a new task.

    The `burn_in` steps before are left out.
    """
    k_task, k_reset, k_burn, k_steps = jax.random.split(key, 4)
    tasks = jax.vmap(env.sample_task)(jax.random.split(k_task, num_rollouts))
    begin = jax.vmap(env.reset)(jax.random.split(k_reset, num_rollouts), tasks)

    def restart(key: Array, world: tuple[EnvState, PyTree], last: Array) -> tuple[EnvState, PyTree]:
        k_task, k_reset = jax.random.split(key)
        tasks = jax.vmap(env.sample_task)(jax.random.split(k_task, num_rollouts))
        new = jax.vmap(env.reset)(jax.random.split(k_reset, num_rollouts), tasks)
        return jax.tree.map(lambda a, b: jnp.where(last.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, world)

    def step(world: tuple[EnvState, PyTree], key: Array) -> tuple[tuple[EnvState, PyTree], Array]:
        k_act, k_env, k_restart = jax.random.split(key, 3)
        action = jax.vmap(policy)(world[1], jax.random.split(k_act, num_rollouts))
        state, after = jax.vmap(env.step)(jax.random.split(k_env, num_rollouts), world[0], action)
        # In most steps no episode ends, and drawing and resetting cost as much as stepping.
        world = jax.lax.cond(
            after.last.any(), restart, lambda key, world, last: world, k_restart, (state, after.obs), after.last
        )
        return world, after.reward

    burnt = jax.lax.fori_loop(0, burn_in, lambda t, world: step(world, jax.random.fold_in(k_burn, t))[0], begin)
    _, rewards = jax.lax.scan(step, burnt, jax.random.split(k_steps, num_steps))
    return rewards.T


def task_order(
    num_tasks: int, switch_every: int, num_rollouts: int, num_steps: int, *, order: str = "cycle", seed: int = 0
) -> Int[np.ndarray, "N T"]:
    """Which task has its turn at each step of each rollout.

    Rollout n begins with task n mod |Z|, so that |Z| or more rollouts hold the worst beginning. Then the tasks follow
    in turn ("cycle"), or each is drawn from all of them, the last one included ("random").

    Raises:
        BadInput: no tasks, a switching time below 1, or an unknown order.
    """
    if num_tasks < 1 or switch_every < 1:
        raise BadInput(f"num_tasks, switch_every = {num_tasks}, {switch_every}: must be in [1, inf)")
    if order not in ORDERS:
        raise BadInput(f"order = {order!r}: must be one of {', '.join(ORDERS)}")
    turns = -(-num_steps // switch_every)
    first = np.arange(num_rollouts)[:, None] % num_tasks
    if order == "cycle":
        tasks = (first + np.arange(turns)) % num_tasks
    else:
        drawn = np.random.default_rng(seed).integers(num_tasks, size=(num_rollouts, max(turns - 1, 0)))
        tasks = np.concatenate([first, drawn], axis=1)
    return np.repeat(tasks, switch_every, axis=1)[:, :num_steps]


def switched(streams: Sequence[ArrayLike], tasks: Int[np.ndarray, "N T"]) -> Float[np.ndarray, "N T2"]:
    """Rewards of the joint process: the i-th step of a task is the i-th reward of its stream, each f64 [N, L].

    As long as no stream ends: cut before the first step, of any rollout, that has no reward left.

    Raises:
        BadInput: streams of differing shapes (the first is named), or another number of rollouts than `tasks` has.
    """
    shape = np.shape(streams[0])
    for index, stream in enumerate(streams):
        if np.shape(stream) != shape or len(shape) != 2 or shape[0] != len(tasks):
            raise BadInput(
                f"streams[{index}]: shape {np.shape(stream)}; must be ({len(tasks)}, steps), alike for all tasks"
            )
    joint = np.zeros(tasks.shape)
    end = tasks.shape[1]
    for task, stream in enumerate(streams):
        here = tasks == task
        clock = here.cumsum(axis=1)
        end = min(end, int((clock <= shape[1]).sum(axis=1).min()))
        rows = np.broadcast_to(np.arange(len(tasks))[:, None], tasks.shape)
        joint[here] = np.asarray(stream)[rows[here], np.minimum(clock[here], shape[1]) - 1]
    return joint[:, :end]


def sweep(
    streams: Mapping[str, ArrayLike], config: SweepConfig, *, seed: int = 0, leave_out_silent: bool = False
) -> list[SweepPoint]:
    """Return mixing times for every τ and every choice of |Z| of the tasks, from the tasks' own streams of rewards.

    Each stream is f64 [N, L]. A time is of all steps that the streams give: |Z|·L with a cycle. |Z| = 1 does not switch
    and is measured once.

    Args:
        leave_out_silent: leave out choices of tasks whose average reward is 0, which have no relative ε, instead of
            refusing them.

    Raises:
        BadInput: more tasks asked for than there are, streams too short for one turn, or as `return_mixing_estimate`
            (the tasks are named).
    """
    if max(config.num_tasks) > len(streams):
        raise BadInput(f"num_tasks = {max(config.num_tasks)}: there are {len(streams)} tasks")
    num_rollouts, length = np.shape(next(iter(streams.values())))
    if max(config.switch_every) > length:
        raise BadInput(f"switch_every = {max(config.switch_every)}: each task has only {length} steps")
    points = []
    for size in config.num_tasks:
        for names in itertools.combinations(streams, size):
            for switch_every in config.switch_every if size > 1 else config.switch_every[:1]:
                # Whole rounds only: ρ̂ is of the second half, and a task that has one turn more there would bend it.
                total = length // switch_every * switch_every * size if size > 1 else length
                tasks = task_order(size, switch_every, num_rollouts, total, order=config.order, seed=seed)
                rewards = switched([streams[name] for name in names], tasks)
                if leave_out_silent and rewards[:, rewards.shape[1] // 2 :].mean() == 0:
                    continue
                try:
                    estimate = return_mixing_estimate(rewards, config.eps, quantile=config.quantile, seed=seed)
                except BadInput as error:
                    raise BadInput(f"tasks {', '.join(names)}: {error}") from error
                points.append(SweepPoint(names, switch_every, estimate))
    return points


def growth(points: Sequence[SweepPoint]) -> Growth:
    """Exponents of the times that were reached, over τ and over |Z|, each choice of tasks a point of its own."""
    reached = [point for point in points if point.num_tasks > 1 and point.estimate.reached]

    def fits(fixed: str, scale: str) -> dict[int, ScalingFit]:
        found = {}
        for value in sorted({getattr(point, fixed) for point in reached}):
            pairs = [(getattr(p, scale), p.estimate.steps) for p in reached if getattr(p, fixed) == value]
            if len({x for x, _ in pairs}) > 1:
                found[value] = scaling_exponent(*zip(*pairs))
        return found

    return Growth(fits("num_tasks", "switch_every"), fits("switch_every", "num_tasks"))
