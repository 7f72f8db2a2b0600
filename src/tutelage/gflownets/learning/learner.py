"""What the reinforcement-learning baselines share with the GFlowNet and each other: all but the loss.

Conditions, trajectories, networks, optimiser and batch are the GFlowNet's; there is no log Z.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from tutelage.gflownets.condition import Condition, draw_conditions, encoded_size
from tutelage.gflownets.config import GFlowNetConfig, beta_range, read_exponents
from tutelage.gflownets.environment import Environment, Objects, Observation
from tutelage.gflownets.learning.gflownet import encoded, policy_optimizer
from tutelage.gflownets.method import Draft, Method, Metrics
from tutelage.gflownets.networks import make_policy
from tutelage.gflownets.objectives import log_scalar
from tutelage.gflownets.policy import Policy
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.rollout import rollout
from tutelage.gflownets.scoring import by_length, replay
from tutelage.gflownets.trajectories import Trajectories
from tutelage.lab.program import Sum

Result = TypeVar("Result")
Network = TypeVar("Network", bound=Policy)
Loss = Callable[[Policy, Policy | None, Trajectories, Array, Array], tuple[Array, dict[str, Array]]]
"""`(policy, target, trajectories, encoded [B, C], rewards [B, M]) -> loss, metrics`."""


class LearnerState(NamedTuple):
    """Everything that training changes.

    Attributes:
        policy: the network that acts and learns; its logits are those of its actions.
        target: an older copy of it, where the loss has one.
        optimizer: Adam's state.
        key: never changes; each update folds its number into it.
        num_updates: how many there were.
    """

    policy: Policy
    target: Policy | None
    optimizer: PyTree
    key: Key[Array, ""]
    num_updates: Int[Array, ""]


class NoLogZ(eqx.Module):
    """Stands where a GFlowNet has its log Z."""

    def __call__(self, observation: Observation, condition: Float[Array, "B C"]) -> Float[Array, "B"]:
        return jnp.zeros(condition.shape[:1])


class Readings(NamedTuple):
    """What a network says of the states of B trajectories, cut to T steps.

    Attributes:
        log_prob: log softmax of the legal logits, −∞ elsewhere, f32 [B, T, A].
        log_total: log Σ exp of the legal logits, f32 [B, T].
        chosen: the logit of the action that was taken, f32 [B, T].
        value: the network's other head (`Outputs.log_flow`), f32 [B, T].
    """

    log_prob: Float[Array, "B T A"]
    log_total: Float[Array, "B T"]
    chosen: Float[Array, "B T"]
    value: Float[Array, "B T"]


def learner(
    problem: Problem,
    shared: GFlowNetConfig,
    num_updates: int,
    loss: Loss,
    *,
    value_head: bool = False,
    epsilon: float = 0.0,
    target_period: int = 0,
    tempered: bool = True,
) -> Method:
    """A method that follows the gradient of `loss` on a fresh batch of trajectories at each update.

    Metrics: loss and those of `loss`; reward, mean of R(x | w); length, mean steps; grad_norm, before clipping;
    evaluations.

    Args:
        num_updates: length of the run, over which the learning rate goes down its cosine.
        value_head: the network also learns a number for each state (`Readings.value`).
        epsilon: share of uniform legal actions while training.
        target_period: updates between two copies of the network to the target; 0: there is none.
        tempered: the loss depends on β.
    """
    environment, num_objectives = problem.environment, problem.objectives.num_objectives
    optimizer = policy_optimizer(shared.optimizer, num_updates)

    def init(key: Key[Array, ""]) -> LearnerState:
        k_policy, k_training = jax.random.split(key)
        policy = policy_without_log_z(k_policy, environment, num_objectives, shared, value_head=value_head)
        return LearnerState(
            policy,
            jax.tree.map(jnp.copy, policy) if target_period else None,
            optimizer.init(eqx.filter(policy, eqx.is_inexact_array)),
            k_training,
            jnp.zeros((), jnp.int32),
        )

    def propose(state: LearnerState) -> Draft:
        k_condition, k_rollout = jax.random.split(jax.random.fold_in(state.key, state.num_updates))
        asked = draw_conditions(k_condition, shared.batch_size, num_objectives, shared.preference, shared.beta)
        trajectories = rollout(state.policy, environment, k_rollout, asked, encoded(asked, shared), epsilon=epsilon)
        return Draft(trajectories.objects, trajectories)

    def learn(state: LearnerState, draft: Draft, rewards: Float[Array, "B M"]) -> tuple[LearnerState, Metrics]:
        trajectories: Trajectories = draft.memory
        asked = encoded(trajectories.condition, shared)

        def gradient(given: Trajectories) -> tuple[tuple[Array, dict[str, Array]], PyTree]:
            def of(policy: Policy) -> tuple[Array, dict[str, Array]]:
                return loss(policy, state.target, given, asked, rewards)

            return eqx.filter_value_and_grad(of, has_aux=True)(state.policy)

        (value, parts), grads = by_need(state.policy, environment, trajectories, gradient)
        policy, moments, grad_norm = descend(optimizer, shared, state.policy, state.optimizer, grads)
        number = state.num_updates + jnp.int32(1)
        target = state.target
        if target is not None:
            target = refreshed(target, policy, number % target_period == 0)
        log_r = log_scalar(rewards, trajectories.condition.preference, shared.reward.scalarisation)
        return LearnerState(policy, target, moments, state.key, number), {
            "loss": value,
            **parts,
            "reward": jnp.exp(log_r).mean(),
            "length": trajectories.valid.sum(axis=1).mean(dtype=jnp.float32),
            "grad_norm": grad_norm,
            "evaluations": Sum(jnp.asarray(shared.batch_size, jnp.float32)),
        }

    def sample(state: LearnerState, key: Key[Array, ""], condition: Condition) -> Objects:
        return rollout(state.policy, environment, key, condition, encoded(condition, shared)).objects

    exponents = beta_range(shared.beta) if tempered else read_exponents(shared.beta)
    return Method(init, propose, learn, sample, exponents=exponents)


def policy_without_log_z(
    key: Key[Array, ""],
    environment: Environment,
    num_objectives: int,
    shared: GFlowNetConfig,
    *,
    value_head: bool = False,
    values: int = 1,
) -> Policy:
    """The GFlowNet's network but for its log Z.

    Args:
        value_head: also a number for each state.
        values: numbers for each action.

    Raises:
        BadInput: the kind of network cannot read what the environment shows.
    """
    size = encoded_size(num_objectives, shared.preference, shared.beta)
    policy = make_policy(key, environment, size, shared.network, flow_head=value_head, values=values)
    return eqx.tree_at(lambda policy: cast(Any, policy).z, policy, NoLogZ())


def read(policy: Policy, environment: Environment, trajectories: Trajectories, encoded: Array) -> Readings:
    """What a policy says along trajectories; differentiable in the policy, of no meaning after a trajectory's end."""
    before = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1)[:, :-1], replay(environment, trajectories))
    outputs = policy.trajectory(jax.vmap(jax.vmap(environment.observe))(before), encoded)
    mask = legal(environment, before)
    logits = jnp.where(mask, outputs.logits, -jnp.inf)
    total = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(outputs.logits, trajectories.action[..., None], axis=-1)[..., 0]
    return Readings(logits - total[..., None], total, chosen, outputs.log_flow)


def legal(environment: Environment, states: Any) -> Bool[Array, "B T A"]:
    """The legal actions of states [B, T, …]; all of them where an object is finished and none is."""
    mask = jax.vmap(jax.vmap(environment.mask))(states)
    return mask | ~mask.any(axis=-1, keepdims=True)


def by_need(
    policy: Policy, environment: Environment, trajectories: Trajectories, gradient: Callable[[Trajectories], Result]
) -> Result:
    """`gradient` of the trajectories: cut to what they need, where a network reads them whole.

    One that reads states costs little for states that are not there, and less than compiling for several lengths.
    """
    if policy.memoryless:
        return gradient(trajectories)
    return by_length(trajectories, gradient, environment.min_steps)


def last_steps(valid: Bool[Array, "B T"]) -> Bool[Array, "B T"]:
    """The step that finished each trajectory."""
    return valid & ~jnp.pad(valid[:, 1:], ((0, 0), (0, 1)))


def following(values: Float[Array, "B T"]) -> Float[Array, "B T"]:
    """Of each step, the value of the next one; 0 after the last."""
    return jnp.pad(values[:, 1:], ((0, 0), (0, 1)))


def mean_over_steps(values: Float[Array, "B T"], valid: Bool[Array, "B T"]) -> Float[Array, ""]:
    """The mean over the steps that were taken."""
    return jnp.sum(jnp.where(valid, values, 0.0)) / jnp.maximum(valid.sum(), 1)


def descend(
    optimizer: optax.GradientTransformation, shared: GFlowNetConfig, policy: Network, moments: PyTree, grads: PyTree
) -> tuple[Network, PyTree, Float[Array, ""]]:
    """One step of the optimiser, with gradients clipped as the GFlowNet's; and their norm before that."""
    grad_norm = optax.tree.norm(grads)
    if shared.optimizer.max_grad_norm > 0:
        scale = jnp.minimum(1.0, shared.optimizer.max_grad_norm / jnp.maximum(grad_norm, 1e-12))
        grads = jax.tree.map(lambda leaf: leaf * scale, grads)
    updates, moments = optimizer.update(grads, moments, eqx.filter(policy, eqx.is_inexact_array))
    return eqx.apply_updates(policy, updates), moments, grad_norm


def refreshed(target: Network, policy: Network, now: Bool[Array, ""]) -> Network:
    """The target network, which becomes the policy's copy `now`."""
    return jax.tree.map(lambda old, new: jnp.where(now, new, old), target, policy)
