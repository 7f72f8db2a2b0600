"""Envelope Q-learning: one network of vectors Q(s, a, w) for all preferences, which learn from each other's futures.

    T Q(s, a, w) = r + γ Q(s', a*, w*)   with (a*, w*) = argmax over legal a' and sampled w' of w · Q(s', a', w')

The reward vector comes with the last step. One set of preferences serves as w and as w' in an update. Acting is greedy
in w · Q: rewards are always summed by weight, whatever the GFlowNet's scalarisation.

The network is the GFlowNet's with M numbers for an action. It learns from whole trajectories drawn from a ring, whose
transitions are all learnt from at once, under all preferences of the update. What a network makes of a trajectory
before the preference enters is computed once for all of them.

What deviates from the published code (mo_gfn): that has no maximum over w', draws transitions by priority, and copies
the network that does not learn over the one that does every 100 updates, where the other way round is meant. Both
errors here are squared, as there; Yang et al. take the absolute value of the scalar one.

References: Yang, Sun & Narasimhan (2019), A Generalized Algorithm for Multi-Objective Reinforcement Learning and Policy
Adaptation, arXiv 1908.08342, equations 4 to 8.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from tutelage.gflownets.baselines.config import EnvelopeQConfig
from tutelage.gflownets.condition import Condition, draw_conditions
from tutelage.gflownets.config import GFlowNetConfig, read_exponents
from tutelage.gflownets.environment import Environment, Objects, Observation
from tutelage.gflownets.learning import replay_buffer
from tutelage.gflownets.learning.gflownet import encoded, policy_optimizer
from tutelage.gflownets.learning.learner import by_need, descend, last_steps, legal, policy_without_log_z, refreshed
from tutelage.gflownets.learning.replay_buffer import ReplayBuffer
from tutelage.gflownets.method import Draft, Method, Metrics
from tutelage.gflownets.objectives import log_scalar
from tutelage.gflownets.policy import Outputs, Policy
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.rollout import rollout
from tutelage.gflownets.scoring import replay
from tutelage.gflownets.trajectories import Trajectories
from tutelage.lab.program import Sum

GREEDY = 1e6
"""Times w · Q are the logits: a difference of 1e-5 decides, and equal actions are equally likely."""
HOMOTOPY_START = 0.01
HOMOTOPY_TAU = 1000.0
"""λ of update k is 0.01 + (1000 · 0.99)^(k / K) / 1000 (the published schedule): it rises late."""


class VectorQ(eqx.Module):
    """Q(s, a, w) in R^M; as a policy, greedy in w · Q.

    Attributes:
        net: the network, its logits those of A actions × M objectives.
        bins: of the thermometer of a weight; 0 where weights come as they are.
    """

    net: Policy
    num_objectives: int = eqx.field(static=True)
    bins: int = eqx.field(static=True)

    @property
    def memoryless(self) -> bool:
        return self.net.memoryless

    def start(self, condition: Float[Array, "B C"]) -> Any:
        return self.net.start(condition)

    def step(self, carry: Any, observation: Observation, condition: Float[Array, "B C"]) -> tuple[Any, Outputs]:
        carry, outputs = self.net.step(carry, observation, condition)
        return carry, self._greedy(self._vectors(outputs.logits), condition)

    def trajectory(self, observations: Observation, condition: Float[Array, "B C"]) -> Outputs:
        return self._greedy(self.values(observations, condition), condition)

    def log_z(self, observation: Observation, condition: Float[Array, "B C"]) -> Float[Array, "B"]:
        return jnp.zeros(condition.shape[:1])

    def values(self, observations: Observation, condition: Float[Array, "B C"]) -> Float[Array, "B T A M"]:
        """Q of all states of B trajectories, or of fewer that are read under several conditions each."""
        return self._vectors(self.net.trajectory(observations, condition).logits)

    def weights(self, condition: Float[Array, "B C"]) -> Float[Array, "B M"]:
        """The preference that an encoded condition holds: the sum of a thermometer is its value."""
        if not self.bins:
            return condition[:, : self.num_objectives]
        shape = (condition.shape[0], self.num_objectives, self.bins)
        return condition[:, : self.num_objectives * self.bins].reshape(shape).sum(axis=-1) / (self.bins - 1)

    def _vectors(self, logits: Float[Array, "B *T AM"]) -> Float[Array, "B *T A M"]:
        return logits.reshape(*logits.shape[:-1], -1, self.num_objectives)

    def _greedy(self, values: Float[Array, "B *T A M"], condition: Float[Array, "B C"]) -> Outputs:
        weights = self.weights(condition).reshape(-1, *[1] * (values.ndim - 2), self.num_objectives)
        logits = GREEDY * (values * weights).sum(axis=-1)
        return Outputs(logits, jnp.zeros(logits.shape[:-1]))


class EnvelopeState(NamedTuple):
    """Everything that training changes.

    Attributes:
        policy, target: the network that acts and learns, and that of the targets.
        optimizer: Adam's state.
        replay: `Trajectories` with their rewards.
        key: never changes; each update folds its number into it.
        num_updates: how many there were.
    """

    policy: VectorQ
    target: VectorQ
    optimizer: PyTree
    replay: ReplayBuffer
    key: Key[Array, ""]
    num_updates: Int[Array, ""]


def envelope_q(problem: Problem, shared: GFlowNetConfig, config: EnvelopeQConfig, num_updates: int) -> Method:
    """Each update adds `batch_size` trajectories to the ring and learns from `replay_batch` of it.

    Metrics: loss; reward, mean of w · R over the new trajectories; length; grad_norm; evaluations.
    """
    environment, num_objectives = problem.environment, problem.objectives.num_objectives
    optimizer = policy_optimizer(shared.optimizer, num_updates)
    bins = shared.preference.bins if shared.preference.encoding == "thermometer" else 0

    def act(policy: VectorQ, key: Key[Array, ""]) -> Trajectories:
        k_condition, k_rollout = jax.random.split(key)
        asked = draw_conditions(k_condition, shared.batch_size, num_objectives, shared.preference, shared.beta)
        return rollout(policy, environment, k_rollout, asked, encoded(asked, shared), epsilon=config.epsilon)

    def init(key: Key[Array, ""]) -> EnvelopeState:
        k_policy, k_training = jax.random.split(key)
        net = policy_without_log_z(k_policy, environment, num_objectives, shared, values=num_objectives)
        policy = VectorQ(net, num_objectives, bins)
        batch = jax.eval_shape(act, policy, k_training)
        example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)
        return EnvelopeState(
            policy,
            jax.tree.map(jnp.copy, policy),
            optimizer.init(eqx.filter(policy, eqx.is_inexact_array)),
            replay_buffer.empty_buffer(config.replay_size, example, num_objectives),
            k_training,
            jnp.zeros((), jnp.int32),
        )

    def propose(state: EnvelopeState) -> Draft:
        trajectories = act(state.policy, _keys(state)[0])
        return Draft(trajectories.objects, trajectories)

    def learn(state: EnvelopeState, draft: Draft, rewards: Float[Array, "B M"]) -> tuple[EnvelopeState, Metrics]:
        k_weights, k_draw = jax.random.split(_keys(state)[1])
        ring = replay_buffer.insert(state.replay, draft.memory, rewards)
        remembered, known = replay_buffer.draw(ring, k_draw, config.replay_batch)
        all_different = replace(shared.preference, prefs_per_batch=0)
        weights = draw_conditions(k_weights, config.num_weights, num_objectives, all_different, shared.beta)
        done = jnp.minimum(state.num_updates / max(num_updates, 1), 1.0)
        mixture = homotopy(done) if config.homotopy else jnp.zeros(())

        def gradient(given: Trajectories) -> tuple[Array, PyTree]:
            def of(policy: VectorQ) -> Array:
                return envelope_loss(
                    policy, state.target, environment, given, encoded(weights, shared), known, config.gamma, mixture
                )

            return eqx.filter_value_and_grad(of)(state.policy)

        value, grads = by_need(state.policy, environment, remembered, gradient)
        policy, moments, grad_norm = descend(optimizer, shared, state.policy, state.optimizer, grads)
        number = state.num_updates + jnp.int32(1)
        target = refreshed(state.target, policy, number % config.target_period == 0)
        asked = draft.memory.condition.preference
        return EnvelopeState(policy, target, moments, ring, state.key, number), {
            "loss": value,
            "reward": jnp.exp(log_scalar(rewards, asked, "weighted_sum")).mean(),
            "length": draft.memory.valid.sum(axis=1).mean(dtype=jnp.float32),
            "grad_norm": grad_norm,
            "evaluations": Sum(jnp.asarray(shared.batch_size, jnp.float32)),
        }

    def sample(state: EnvelopeState, key: Key[Array, ""], condition: Condition) -> Objects:
        asked = encoded(condition, shared)
        return rollout(state.policy, environment, key, condition, asked, epsilon=config.sample_epsilon).objects

    return Method(init, propose, learn, sample, exponents=read_exponents(shared.beta))


def _keys(state: EnvelopeState) -> tuple[Key[Array, ""], Key[Array, ""]]:
    """Of the new trajectories and of what is learnt from, at this update."""
    k_act, k_learn = jax.random.split(jax.random.fold_in(state.key, state.num_updates))
    return k_act, k_learn


def homotopy(done: Float[Array, ""]) -> Float[Array, ""]:
    """λ, the weight of the scalar error, of the share of the run that is over: 0.011 at first, 1 in the end."""
    return HOMOTOPY_START + jnp.exp(done * math.log(HOMOTOPY_TAU * (1 - HOMOTOPY_START))) / HOMOTOPY_TAU


def envelope(
    values: Float[Array, "W *B A M"], mask: Bool[Array, "*B A"], weights: Float[Array, "W M"]
) -> Float[Array, "W *B M"]:
    """For each w the vector Q(s, a', w') that is best by w over legal actions and all preferences w'."""

    def best(weight: Float[Array, "M"]) -> Float[Array, "*B M"]:
        score = jnp.where(mask, (values * weight).sum(axis=-1), -jnp.inf)
        actions = values.shape[-2]
        flat = jnp.moveaxis(score, 0, -2).reshape(*mask.shape[:-1], -1)
        chosen = jnp.argmax(flat, axis=-1)
        rows = jnp.moveaxis(values, 0, -3).reshape(*mask.shape[:-1], values.shape[0] * actions, -1)
        return jnp.take_along_axis(rows, chosen[..., None, None], axis=-2)[..., 0, :]

    return jax.lax.map(best, weights)


def envelope_loss(
    policy: VectorQ,
    target: VectorQ,
    environment: Environment,
    trajectories: Trajectories,
    encoded: Float[Array, "W C"],
    rewards: Float[Array, "B M"],
    gamma: float,
    mixture: Float[Array, ""],
) -> Float[Array, ""]:
    """(1 − λ) mean (y − Q)² over the entries of vectors + λ mean (w · (y − Q))², over all steps and preferences."""
    valid, batch = trajectories.valid, trajectories.valid.shape[0]
    before = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1)[:, :-1], replay(environment, trajectories))
    seen = jax.vmap(jax.vmap(environment.observe))(before)
    number, weights = encoded.shape[0], policy.weights(encoded)

    def under_all(network: VectorQ) -> Float[Array, "W B T A M"]:
        values = network.values(seen, jnp.tile(encoded, (batch, 1)))
        return jnp.swapaxes(values.reshape(batch, number, *values.shape[1:]), 0, 1)

    future = envelope(under_all(target), legal(environment, before), weights)
    following = jnp.pad(future[:, :, 1:], ((0, 0), (0, 0), (0, 1), (0, 0)))
    goal = jnp.where(last_steps(valid)[..., None], rewards[:, None], gamma * following)
    action = trajectories.action[None, :, :, None, None]
    chosen = jnp.take_along_axis(under_all(policy), action, axis=3)[:, :, :, 0]
    error = jnp.where(valid[..., None], chosen - jax.lax.stop_gradient(goal), 0.0)
    steps = number * jnp.maximum(valid.sum(), 1)
    of_vectors = jnp.square(error).mean(axis=-1).sum() / steps
    of_scalars = jnp.square((error * weights[:, None, None]).sum(axis=-1)).sum() / steps
    return (1 - mixture) * of_vectors + mixture * of_scalars
