"""One policy trained on one task for ever, or on several in turns: episodes end inside, the worlds never start anew.

One update is a rollout of N worlds that goes on where the last one of that task ended, and one PPO step on it. With
several tasks the next one's turn comes every so many updates, and the others' worlds wait as they are. What is learnt
on a task is forgotten or kept while the others have their turns: `average_returns` after each turn, and
`tutelage.measures.forgetting`, say which.

The policies have no memory: what they know is in the observation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from tutelage.continual.deep.config import TrainingConfig
from tutelage.envs.environment import Environment, EnvState
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Sometimes
from tutelage.nn.actor_critic import ActorCritic, actor_critic
from tutelage.nn.config import NetworkConfig
from tutelage.nn.encoders import vector_encoder
from tutelage.rl.evaluation import evaluate
from tutelage.rl.ppo import Learner, ppo
from tutelage.rl.returns import gae
from tutelage.rl.rollout import Rollout, rollout


class TrainingState(NamedTuple):
    """Everything that survives a kill.

    Attributes:
        learner: network and optimiser.
        worlds: for each task, states and observations of its N worlds (leaves [N, ...]).
        key: the stream from which each update draws.
        updates: so far, int32 [].
    """

    learner: Learner
    worlds: tuple[tuple[EnvState, PyTree], ...]
    key: Key[Array, ""]
    updates: Int[Array, ""]


@dataclass(frozen=True)
class Training:
    """`init(key) -> state`, `update(state) -> (state, metrics)`: pure, and alike for one task and for several.

    Metrics: `reward/TASK`, the mean reward per step of an update in which the task had its turn (`Sometimes`), and
    PPO's means.
    """

    init: Callable[[Key[Array, ""]], TrainingState]
    update: Callable[[TrainingState], tuple[TrainingState, dict[str, Any]]]


def task_training(envs: Sequence[Environment], config: TrainingConfig) -> Training:
    """Training on `envs` in turns, each `config.updates_per_task` updates long.

    Raises:
        BadInput: no environment, or some whose actions or observations differ (they are named).
    """
    alike(envs)
    learn = ppo(config.ppo, num_updates=config.num_updates)

    def init(key: Key[Array, ""]) -> TrainingState:
        k_net, k_worlds, k_run = jax.random.split(key, 3)

        def begin(env: Environment, key: Array) -> tuple[EnvState, PyTree]:
            k_task, k_reset = (jax.random.split(k, config.num_envs) for k in jax.random.split(key))
            return jax.vmap(env.reset)(k_reset, jax.vmap(env.sample_task)(k_task))

        worlds = tuple(begin(env, k) for env, k in zip(envs, jax.random.split(k_worlds, len(envs))))
        return TrainingState(learn.init(policy_network(k_net, envs[0], config)), worlds, k_run, jnp.int32(0))

    def update(state: TrainingState) -> tuple[TrainingState, dict[str, Any]]:
        key, k_play, k_learn = jax.random.split(state.key, 3)
        turn = (state.updates // config.updates_per_task) % len(envs)
        if len(envs) == 1:
            worlds, trajectory = _play(0, k_play, state)
        else:
            branches = [lambda k, s, i=i: _play(i, k, s) for i in range(len(envs))]
            worlds, trajectory = jax.lax.switch(turn, branches, k_play, state)
        advantage, target = gae(
            trajectory.reward,
            trajectory.discount,
            trajectory.last,
            trajectory.value,
            trajectory.next_value,
            gamma=config.ppo.discount,
            lam=config.ppo.gae_lambda,
        )
        learner, losses = learn.update(state.learner, k_learn, trajectory, advantage, target)
        reward = trajectory.reward.mean()
        metrics: dict[str, Any] = {
            f"reward/{env.name}": Sometimes(jnp.where(turn == i, reward, jnp.nan)) for i, env in enumerate(envs)
        }
        metrics |= {f"ppo/{name}": value for name, value in losses.items()}
        return TrainingState(learner, worlds, key, state.updates + 1), metrics

    def _play(index: int, key: Array, state: TrainingState) -> tuple[tuple, Any]:
        env = envs[index]
        k_tasks, k_rollout = jax.random.split(key)
        tasks = jax.vmap(env.sample_task)(jax.random.split(k_tasks, config.num_envs))
        played: Rollout = rollout(
            k_rollout,
            state.learner.net,
            env,
            tasks,
            config.num_steps,
            on_end="sample",
            start=state.worlds[index],
        )
        worlds = list(state.worlds)
        worlds[index] = (played.final_state, played.final_obs)
        return tuple(worlds), played.trajectory

    return Training(init, update)


def train(training: Training, key: Key[Array, ""], num_updates: int) -> tuple[TrainingState, dict[str, Array]]:
    """`num_updates` updates from the beginning as one scan; metrics [num_updates], NaN where a task had no turn."""

    def one(state: TrainingState, _: None) -> tuple[TrainingState, dict[str, Array]]:
        state, metrics = training.update(state)
        return state, {name: m.value if isinstance(m, Sometimes) else m for name, m in metrics.items()}

    return jax.lax.scan(one, training.init(key), None, length=num_updates)


def policy_network(key: Key[Array, ""], env: Environment, config: TrainingConfig) -> ActorCritic:
    """An untrained actor–critic for the observations of `env`: one hidden layer, and one more in each head."""
    k_encoder, k_net = jax.random.split(key)
    network = NetworkConfig(body="none", head_hidden=config.width, activation="relu")
    encoder = vector_encoder(k_encoder, network, _shapes(env), widths=(config.width,))
    return actor_critic(k_net, network, encoder, env.actions)


def average_returns(
    key: Key[Array, ""], net: ActorCritic, envs: Sequence[Environment], num_episodes: int
) -> Float[Array, "Z"]:
    """The mean return of whole episodes of each task, actions drawn from the policy."""
    means = []
    for env, k in zip(envs, jax.random.split(key, len(envs))):
        k_tasks, k_episodes = jax.random.split(k)
        tasks = jax.vmap(env.sample_task)(jax.random.split(k_tasks, num_episodes))
        means.append(evaluate(k_episodes, net, env, tasks, 1).returns.mean())
    return jnp.stack(means)


def alike(envs: Sequence[Environment]) -> None:
    """Refuse tasks that no one policy can be asked about.

    Raises:
        BadInput: no task, or some whose actions or observations differ from those of the first (they are named).
    """
    if not envs:
        raise BadInput("tasks: none are given; must be at least 1")
    for index, env in enumerate(envs):
        if env.actions != envs[0].actions:
            raise BadInput(
                f"tasks 0 and {index}: actions {envs[0].actions} of {envs[0].name}, {env.actions} of {env.name}"
            )
        first, other = _shapes(envs[0]), _shapes(env)
        if jax.tree.structure(first) != jax.tree.structure(other) or jax.tree.leaves(first) != jax.tree.leaves(other):
            raise BadInput(f"tasks 0 and {index}: observations {first} of {envs[0].name}, {other} of {env.name}")


def _shapes(env: Environment) -> PyTree:
    """The observation's shapes."""
    return jax.eval_shape(lambda key: env.reset(key, env.sample_task(key))[1], jax.random.key(0))
