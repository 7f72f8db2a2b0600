"""A preference-conditional GFlowNet as a method: conditions are drawn, trajectories rolled out, flows made to agree.

    method = gflownet(problem, GFlowNetConfig(), num_updates=5_000)
    state = method.init(jax.random.key(0))
    state, metrics = compiled_update(method, problem.objectives)(state)

`trainer` is the same without rewards: what it learns from is ℓ(x), so that an acquisition function can be one.

References: Jain et al. (2023), Multi-Objective GFlowNets, arXiv 2210.12765.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from tutelage.gflownets.condition import Condition, draw_conditions, encode, encoded_size
from tutelage.gflownets.config import GFlowNetConfig, OptimizerConfig, beta_range
from tutelage.gflownets.environment import Environment, Objects, State
from tutelage.gflownets.learning import replay_buffer
from tutelage.gflownets.learning.batch import check_batch, num_copies, num_replayed
from tutelage.gflownets.learning.losses import NEEDS_FLOWS, loss
from tutelage.gflownets.learning.replay_buffer import ReplayBuffer
from tutelage.gflownets.method import Draft, Method, Metrics
from tutelage.gflownets.networks import make_policy
from tutelage.gflownets.objectives import log_scalar, tempered
from tutelage.gflownets.policy import Policy
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.rollout import backward_rollout, rollout
from tutelage.gflownets.scoring import by_length, score
from tutelage.gflownets.trajectories import Trajectories
from tutelage.lab.program import Sum

Starts = Callable[[Key[Array, ""], int, Any], State]
"""`(key, number, context) -> states [number, …]` where trajectories begin."""


class GFlowNetState(NamedTuple):
    """Everything that training changes.

    Attributes:
        policy: the network that learns, its log Z within it.
        sampler: its slow copy that draws trajectories, where there is one.
        optimizer: both Adam states.
        replay: finished objects, where there is a buffer.
        context: what `Starts` reads (a pool of starts); the caller's to replace between updates.
        key: never changes; each update folds its number into it.
        num_updates: how many there were.
    """

    policy: Policy
    sampler: Policy | None
    optimizer: PyTree
    replay: ReplayBuffer | None
    context: PyTree
    key: Key[Array, ""]
    num_updates: Int[Array, ""]


class Trainer(NamedTuple):
    """A GFlowNet without a reward.

    Attributes:
        init: `key -> state`.
        propose: `state -> draft`, whose memory is `Trajectories`; the first `num_fresh` objects are new.
        train: `(state, trajectories, ℓ f32 [B]) -> (state, metrics)`: loss, log_z, length, grad_norm.
        sample: `(state, key, condition, start=None) -> objects`, without exploration.
        num_fresh: how many objects of a draft are new; the others come from the replay buffer.
    """

    init: Callable[[Key[Array, ""]], GFlowNetState]
    propose: Callable[[GFlowNetState], Draft]
    train: Callable[[GFlowNetState, Trajectories, Float[Array, "B"]], tuple[GFlowNetState, Metrics]]
    sample: Callable[..., Objects]
    num_fresh: int


def gflownet(problem: Problem, config: GFlowNetConfig, num_updates: int) -> Method:
    """Train P_θ(x | w, β) towards π(x | w, β) ∝ R(x | w)^β.

    Metrics: loss; log_z, mean of log Z_θ; reward, mean of R(x | w); reward_floor, share of the batch whose ℓ(x) is the
    floor; length, mean steps; grad_norm, before clipping; evaluations, new objects that were scored.

    Args:
        num_updates: length of the run, over which the policy's learning rate goes down its cosine.

    Raises:
        BadInput: a network that cannot read this environment, or copies that do not divide the batch.
    """
    num_objectives = problem.objectives.num_objectives
    inner = trainer(problem.environment, num_objectives, config, num_updates)

    def learn(state: GFlowNetState, draft: Draft, rewards: Float[Array, "B M"]) -> tuple[GFlowNetState, Metrics]:
        trajectories: Trajectories = draft.memory
        asked, floor = trajectories.condition, config.reward.floor
        log_r = log_scalar(rewards, asked.preference, config.reward.scalarisation)
        log_reward = tempered(log_r, asked.beta, floor)
        state, metrics = inner.train(state, trajectories, log_reward)
        if state.replay is not None:
            fresh = jax.tree.map(lambda leaf: leaf[: inner.num_fresh], (draft.objects, rewards))
            state = state._replace(replay=replay_buffer.insert(state.replay, *fresh))
        return state, {
            **metrics,
            "reward": jnp.exp(log_r).mean(),
            "reward_floor": jnp.mean(log_reward <= floor, dtype=jnp.float32),
            "evaluations": Sum(jnp.asarray(inner.num_fresh, jnp.float32)),
        }

    return Method(inner.init, inner.propose, learn, inner.sample, exponents=beta_range(config.beta))


def encoded(condition: Condition, config: GFlowNetConfig) -> Float[Array, "B C"]:
    """The condition as this sampler's networks read it, in training and ever after."""
    if not config.preference.use:
        uniform = jnp.full_like(condition.preference, 1 / condition.preference.shape[-1])
        condition = condition._replace(preference=uniform)
    return encode(condition, config.preference, config.beta)


def trainer(
    environment: Environment,
    num_objectives: int,
    config: GFlowNetConfig,
    num_updates: int,
    *,
    starts: Starts | None = None,
    context: PyTree = (),
) -> Trainer:
    """A GFlowNet for any ℓ(x).

    Args:
        starts: where trajectories begin, if not at the environment's source; log Z then reads the start as well, for
            no single number fits several. Replay is not possible with it.
        context: what `starts` reads; part of the state, to be replaced as it changes.
    """
    kind, explore = config.loss.kind, config.exploration
    check_batch(config, given_starts=starts is not None)
    copies, replays = num_copies(config), num_replayed(config)
    num_fresh = config.batch_size - replays
    optimizer = policy_optimizer(config.optimizer, num_updates)
    # Only trajectories that the policy drew as it is now tell what it says of them.
    reuses = explore.sampling_tau == 0 and not replays

    def init(key: Key[Array, ""]) -> GFlowNetState:
        k_policy, k_training = jax.random.split(key)
        size = encoded_size(num_objectives, config.preference, config.beta)
        policy = make_policy(
            k_policy,
            environment,
            size,
            config.network,
            flow_head=kind in NEEDS_FLOWS,
            z_reads_start=starts is not None,
        )
        buffer = None
        if replays:
            example = jax.eval_shape(lambda: environment.object_of(environment.source()))
            buffer = replay_buffer.empty_buffer(explore.replay_size, example, num_objectives)
        return GFlowNetState(
            policy,
            # A copy: two leaves in one buffer cannot be donated.
            jax.tree.map(jnp.copy, policy) if explore.sampling_tau > 0 else None,
            optimizer.init(eqx.filter(policy, eqx.is_inexact_array)),
            buffer,
            context,
            k_training,
            jnp.zeros((), jnp.int32),
        )

    def conditions(key: Key[Array, ""], number: int) -> Condition:
        law = config.preference
        if copies > 1:
            law = replace(law, prefs_per_batch=min(law.prefs_per_batch or number // copies, number // copies))
        return draw_conditions(key, number, num_objectives, law, config.beta)

    def begin(key: Key[Array, ""], number: int, context: PyTree, repeats: int) -> State | None:
        if starts is None:
            return None
        drawn = starts(key, number // repeats, context)
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, repeats, axis=0), drawn)

    def propose(state: GFlowNetState) -> Draft:
        key = jax.random.fold_in(state.key, state.num_updates)
        k_condition, k_start, k_rollout, k_replay = jax.random.split(key, 4)
        asked = conditions(k_condition, num_fresh)
        trajectories = rollout(
            state.policy if state.sampler is None else state.sampler,
            environment,
            k_rollout,
            asked,
            encoded(asked, config),
            epsilon=explore.epsilon,
            start=begin(k_start, num_fresh, state.context, copies),
            keep_outputs=reuses and state.policy.memoryless,
        )
        if replays:
            assert state.replay is not None
            old = replayed(k_replay, state.replay, trajectories.objects)
            trajectories = jax.tree.map(lambda new, old: jnp.concatenate([new, old]), trajectories, old)
        return Draft(trajectories.objects, trajectories)

    def replayed(key: Key[Array, ""], buffer: ReplayBuffer, fresh: Objects) -> Trajectories:
        k_condition, k_draw, k_hindsight, k_back = jax.random.split(key, 4)
        objects, rewards = replay_buffer.draw(buffer, k_draw, replays)
        # While there is nothing to replay, fresh objects are.
        row = jnp.arange(replays) % num_fresh
        objects = jax.tree.map(lambda old, new: jnp.where(buffer.size > 0, old, new[row]), objects, fresh)
        asked = conditions(k_condition, replays)
        if explore.hindsight_share > 0:
            chosen = jax.random.uniform(k_hindsight, (replays,)) < explore.hindsight_share
            own = replay_buffer.hindsight_preference(rewards)
            asked = asked._replace(preference=jnp.where((chosen & (buffer.size > 0))[:, None], own, asked.preference))
        return backward_rollout(environment, k_back, objects, asked)

    def train(
        state: GFlowNetState, trajectories: Trajectories, log_reward: Float[Array, "B"]
    ) -> tuple[GFlowNetState, Metrics]:
        arrays, static = eqx.partition(state.policy, eqx.is_inexact_array)
        asked = encoded(trajectories.condition, config)

        def of(arrays: PyTree, given: Trajectories) -> tuple[Array, Array]:
            policy = eqx.combine(arrays, static)
            steps = score(policy, environment, given, asked, log_reward, inflows=kind == "fm")
            return loss(steps, config.loss), steps.log_z.mean()

        def gradient(given: Trajectories) -> tuple[tuple[Array, Array], PyTree]:
            return jax.value_and_grad(of, has_aux=True)(arrays, given)

        if state.policy.memoryless:
            (value, log_z), grads = gradient(trajectories)
        else:
            (value, log_z), grads = by_length(trajectories, gradient, environment.min_steps)
        # A product with itself: the compiler leaves a sum of squares unvectorised on a CPU.
        grad_norm = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(grads)))
        if config.optimizer.max_grad_norm > 0:
            scale = jnp.minimum(1.0, config.optimizer.max_grad_norm / jnp.maximum(grad_norm, 1e-12))
            grads = jax.tree.map(lambda leaf: leaf * scale, grads)
        updates, moments = optimizer.update(grads, state.optimizer, arrays)
        policy = eqx.combine(optax.apply_updates(arrays, updates), static)
        sampler = state.sampler
        if sampler is not None:
            tau = explore.sampling_tau
            sampler = jax.tree.map(lambda slow, fast: tau * slow + (1 - tau) * fast, sampler, policy)
        length = trajectories.valid.sum(axis=1).mean(dtype=jnp.float32)
        metrics = {"loss": value, "log_z": log_z, "length": length, "grad_norm": grad_norm}
        after = state._replace(
            policy=policy, sampler=sampler, optimizer=moments, num_updates=state.num_updates + jnp.int32(1)
        )
        return after, metrics

    def sample(state: GFlowNetState, key: Key[Array, ""], condition: Condition, start: State | None = None) -> Objects:
        k_start, k_rollout = jax.random.split(key)
        number = condition.beta.shape[0]
        start = begin(k_start, number, state.context, 1) if start is None else start
        return rollout(state.policy, environment, k_rollout, condition, encoded(condition, config), start=start).objects

    return Trainer(init, propose, train, sample, num_fresh)


def policy_optimizer(config: OptimizerConfig, num_updates: int) -> optax.GradientTransformation:
    """Adam for the policy and another, faster, for log Z."""
    rate: Any = config.learning_rate
    if config.final_learning_rate > 0:
        share = config.final_learning_rate / config.learning_rate
        rate = optax.cosine_decay_schedule(config.learning_rate, max(num_updates, 1), share)

    def labels(params: PyTree) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda path, _: "z" if path[0].name == "z" else "policy", params)

    return optax.multi_transform(
        {"policy": optax.adamw(rate, weight_decay=config.weight_decay), "z": optax.adam(config.z_learning_rate)},
        labels,
    )
