"""Proximal policy optimisation of a recurrent actor–critic on one rollout.

Minibatches split the environments, never time: every one is unrolled from the zero carry with `first`, exactly as the
rollout was, so the probability ratio is 1 before the first gradient step.

References: Schulman et al. (2017), Proximal Policy Optimization Algorithms, arXiv 1707.06347, equation 7; the clipped
value loss and the normalisation of advantages per minibatch are those of OpenAI baselines, as in minimax and jaxued.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from tutelage.lab.errors import BadInput
from tutelage.nn.actor_critic import ActorCritic
from tutelage.rl.config import PPOConfig
from tutelage.rl.trajectory import Trajectory

ADVANTAGE_EPS = 1e-5
"""Added to the standard deviation of advantages (minimax, jaxued)."""

Metrics = dict[str, Float[Array, ""]]


class Learner(NamedTuple):
    """What training changes. `num_updates` counts calls of `update`, for annealing."""

    net: ActorCritic
    opt_state: optax.OptState
    num_updates: Int[Array, ""]


class Batch(NamedTuple):
    """A trajectory with what the loss compares it to; leaves [T, N, ...]."""

    trajectory: Trajectory
    advantage: Float[Array, "T N"]
    target: Float[Array, "T N"]


@dataclass(frozen=True)
class PPO:
    """`init(net) -> learner`; `update(learner, key, trajectory, advantage, target) -> (learner, metrics)`.

    Metrics are means over all minibatches of all epochs: loss, policy_loss, value_loss, entropy, approximate_kl
    (E[r − 1 − log r]), clip_fraction, grad_norm (before clipping).
    """

    init: Callable[[ActorCritic], Learner]
    update: Callable[
        [Learner, Key[Array, ""], Trajectory, Float[Array, "T N"], Float[Array, "T N"]], tuple[Learner, Metrics]
    ]


def ppo(config: PPOConfig, *, num_updates: int, axis_name: str | None = None) -> PPO:
    """A learner for rollouts. `num_updates` is the length of the run, over which the step size anneals if it does.

    With an `axis_name`, `update` runs inside a map over that axis (`jax.shard_map`, `jax.vmap`), each device on
    environments of its own, as many as every other. Advantages are normalised over all of them, gradients and metrics
    are means over devices: with one minibatch this is exactly the update of the whole batch, with several a minibatch
    is made of a part of every device. Learners that start equal stay equal.

    Raises:
        BadInput: at the first `update`, if the environments cannot be divided into `num_minibatches` equal parts.
    """
    optimiser = optax.chain(optax.clip_by_global_norm(config.max_grad_norm), optax.scale_by_adam(eps=config.adam_eps))

    def init(net: ActorCritic) -> Learner:
        return Learner(net, optimiser.init(eqx.filter(net, eqx.is_array)), jnp.zeros((), jnp.int32))

    def update(
        learner: Learner,
        key: Key[Array, ""],
        trajectory: Trajectory,
        advantage: Float[Array, "T N"],
        target: Float[Array, "T N"],
    ) -> tuple[Learner, Metrics]:
        batch = Batch(trajectory, advantage, target)
        num_envs = advantage.shape[1]
        if num_envs % config.num_minibatches != 0:
            raise BadInput(f"num_minibatches={config.num_minibatches} does not divide the {num_envs} environments")
        step_size = config.learning_rate * jnp.ones(())
        if config.anneal:
            step_size = step_size * (1 - learner.num_updates / num_updates)

        def gradient_step(state: tuple[ActorCritic, optax.OptState], envs: Array | None):
            net, opt_state = state
            part = batch if envs is None else jax.tree.map(lambda leaf: jnp.take(leaf, envs, axis=1), batch)
            grads, metrics = jax.grad(loss, has_aux=True)(net, part, config, axis_name)
            if axis_name is not None:
                grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
            metrics["grad_norm"] = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(grads)))
            directions, opt_state = optimiser.update(grads, opt_state)
            net = jax.tree.map(lambda p, d: p - step_size * d, net, directions)
            return (net, opt_state), metrics

        # One part means the whole batch in whatever order: no shuffle, no copies.
        envs = None if config.num_minibatches == 1 else _shuffles(key, config, num_envs)
        (net, opt_state), metrics = jax.lax.scan(
            gradient_step,
            (learner.net, learner.opt_state),
            envs,
            length=config.num_epochs * config.num_minibatches,
        )
        return Learner(net, opt_state, learner.num_updates + 1), jax.tree.map(jnp.mean, metrics)

    return PPO(init, update)


def _shuffles(key: Key[Array, ""], config: PPOConfig, num_envs: int) -> Int[Array, "steps part"]:
    """The environments of each minibatch: a fresh permutation every epoch."""
    keys = jax.random.split(key, config.num_epochs)
    order = jax.vmap(lambda k: jax.random.permutation(k, num_envs))(keys)
    return order.reshape(config.num_epochs * config.num_minibatches, num_envs // config.num_minibatches)


def loss(
    net: ActorCritic, batch: Batch, config: PPOConfig, axis_name: str | None = None
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of one minibatch and its parts; with an `axis_name`, of this device's part of the minibatch.

    L = −E[min(r Â, clip(r, 1−ε, 1+ε) Â)] + c_V · ½ E[max((V−G)², (V_clip−G)²)] − c_H E[H]

    with Â normalised over the minibatch and V_clip = V_old + clip(V − V_old, −ε, ε), for every value head.
    """
    trajectory = batch.trajectory
    carry = net.initial_carry(batch.advantage.shape[1])
    distribution, values = net.unroll(carry, trajectory.obs, trajectory.first)

    log_ratio = distribution.log_prob(trajectory.action) - trajectory.log_prob
    ratio = jnp.exp(log_ratio)
    advantage = normalised(batch.advantage, axis_name)
    clipped = jnp.clip(ratio, 1 - config.clip, 1 + config.clip)
    policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()

    target = batch.target[..., None]
    error = jnp.square(values - target)
    if config.clip_value:
        near = trajectory.values + jnp.clip(values - trajectory.values, -config.clip, config.clip)
        error = jnp.maximum(error, jnp.square(near - target))
    value_loss = 0.5 * error.mean()

    entropy = distribution.entropy().mean()
    total = policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy
    return total, {
        "loss": total,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approximate_kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": (jnp.abs(ratio - 1) > config.clip).mean(),
    }


def normalised(advantage: Float[Array, "T N"], axis_name: str | None = None) -> Float[Array, "T N"]:
    """Mean 0 and standard deviation 1, over the environments of all devices where there is an axis of them."""
    if axis_name is None:
        return (advantage - advantage.mean()) / (advantage.std() + ADVANTAGE_EPS)
    centred = advantage - jax.lax.pmean(advantage.mean(), axis_name)
    deviation = jnp.sqrt(jax.lax.pmean(jnp.square(centred).mean(), axis_name))
    return centred / (deviation + ADVANTAGE_EPS)
