"""Soft Q-learning, conditioned on a preference: maximum-entropy reinforcement learning with ℓ(x) as terminal reward.

The network's logits are Q / α, so that it acts and samples as every other policy here. At the optimum

    Q(s, a) = r(s, a) + V(s'),   V(s) = α log Σ_a exp(Q(s, a) / α),   V(x) = ℓ(x),

and an object has probability ∝ n(x) exp(ℓ(x) / α), where n(x) counts the trajectories that lead to it: this is the
baseline (r = 0). On a tree n(x) = 1, and at α = 1 that is the GFlowNet's law. With r = α log P_B(s, a | s')
(`backward_reward`) it is so on every graph.

What deviates from the published code: that takes the next state's value from the network that learns, and follows its
gradient too; here it comes from a target network.

References: Haarnoja et al. (2017), Reinforcement Learning with Deep Energy-Based Policies, arXiv 1702.08165; Tiapkin
et al. (2024), Generative Flow Networks as Entropy-Regularized RL, arXiv 2310.12934.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tutelage.gflownets.baselines.config import SoftQConfig
from tutelage.gflownets.config import GFlowNetConfig
from tutelage.gflownets.environment import Environment
from tutelage.gflownets.learning.learner import following, last_steps, learner, mean_over_steps, read
from tutelage.gflownets.method import Method
from tutelage.gflownets.objectives import log_scalar, tempered
from tutelage.gflownets.policy import Policy
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.scoring import replay
from tutelage.gflownets.trajectories import Trajectories


def soft_q(problem: Problem, shared: GFlowNetConfig, config: SoftQConfig, num_updates: int) -> Method:
    """The mean squared error of Q over all steps of a batch; explores as the GFlowNet does (`exploration.epsilon`)."""
    environment = problem.environment

    def loss(
        policy: Policy, target: Policy | None, trajectories: Trajectories, encoded: Array, rewards: Array
    ) -> tuple[Array, dict[str, Array]]:
        assert target is not None
        asked = trajectories.condition
        log_r = log_scalar(rewards, asked.preference, shared.reward.scalarisation)
        log_reward = tempered(log_r, asked.beta, shared.reward.floor)
        return soft_q_loss(policy, target, environment, trajectories, encoded, log_reward, config), {}

    return learner(
        problem, shared, num_updates, loss, epsilon=shared.exploration.epsilon, target_period=config.target_period
    )


def soft_q_loss(
    policy: Policy,
    target: Policy,
    environment: Environment,
    trajectories: Trajectories,
    encoded: Float[Array, "B C"],
    log_reward: Float[Array, "B"],
    config: SoftQConfig,
) -> Float[Array, ""]:
    """Mean over steps of (Q(s, a) − r(s, a) − V_target(s'))², ℓ(x) for V where s' is the object."""
    value = config.alpha * read(target, environment, trajectories, encoded).log_total
    goal = soft_backup(value, trajectories.valid, log_reward)
    if config.backward_reward and not environment.is_tree:
        goal = goal + config.alpha * _log_pb(environment, trajectories)
    # Where no step was taken the goal may be NaN, which a gradient would not survive.
    goal = jax.lax.stop_gradient(jnp.where(trajectories.valid, goal, 0.0))
    chosen = config.alpha * read(policy, environment, trajectories, encoded).chosen
    return mean_over_steps(jnp.square(chosen - goal), trajectories.valid)


def soft_backup(
    value: Float[Array, "B T"], valid: Bool[Array, "B T"], log_reward: Float[Array, "B"]
) -> Float[Array, "B T"]:
    """V of each step's next state: the value of the next step, ℓ(x) after the last."""
    return jnp.where(last_steps(valid), log_reward[:, None], following(value))


def _log_pb(environment: Environment, trajectories: Trajectories) -> Float[Array, "B T"]:
    states = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), replay(environment, trajectories))
    before = jax.tree.map(lambda leaf: leaf[:, :-1], states)
    after = jax.tree.map(lambda leaf: leaf[:, 1:], states)
    return jax.vmap(jax.vmap(environment.log_pb))(before, trajectories.action, after)
