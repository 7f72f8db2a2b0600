"""Advantage actor–critic (Mnih et al. 2016), conditioned on a preference; the network's second head is the critic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tutelage.gflownets.baselines.config import A2CConfig
from tutelage.gflownets.baselines.moreinforce import trajectory_return
from tutelage.gflownets.config import GFlowNetConfig
from tutelage.gflownets.learning.learner import following, last_steps, learner, mean_over_steps, read
from tutelage.gflownets.method import Method
from tutelage.gflownets.policy import Policy
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.trajectories import Trajectories
from tutelage.rl.returns import gae

EPSILON = 1e-5
"""Added to the standard deviation of advantages."""


def a2c(problem: Problem, shared: GFlowNetConfig, config: A2CConfig, num_updates: int) -> Method:
    """One gradient step for each on-policy batch.

    L = −E[Â log π(a | s, w)] + c_V ½ E[(V(s, w) − G)²] − c_H E[H(π(· | s, w))], means over all steps of the batch.

    Metrics beside those of `learner`: policy_loss, value_loss, entropy (of a step).
    """

    def loss(
        policy: Policy, target: Policy | None, trajectories: Trajectories, encoded: Array, rewards: Array
    ) -> tuple[Array, dict[str, Array]]:
        del target
        valid = trajectories.valid
        readings = read(policy, problem.environment, trajectories, encoded)
        returns = trajectory_return(rewards, trajectories.condition, shared.reward, config.reward)
        advantage, goal = jax.lax.stop_gradient(
            advantages(readings.value, valid, returns, gamma=config.gamma, lam=config.gae_lambda)
        )
        if config.normalise:
            centred = advantage - mean_over_steps(advantage, valid)
            advantage = centred / (jnp.sqrt(mean_over_steps(jnp.square(centred), valid)) + EPSILON)
        policy_loss = -mean_over_steps(advantage * (readings.chosen - readings.log_total), valid)
        value_loss = 0.5 * mean_over_steps(jnp.square(readings.value - goal), valid)
        likely = jnp.isfinite(readings.log_prob)
        log_prob = jnp.where(likely, readings.log_prob, 0.0)
        entropy = mean_over_steps(-jnp.sum(jnp.where(likely, jnp.exp(log_prob), 0.0) * log_prob, axis=-1), valid)
        total = policy_loss + config.value_share * value_loss - config.entropy_bonus * entropy
        return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

    return learner(problem, shared, num_updates, loss, value_head=True, tempered=config.reward == "power")


def advantages(
    value: Float[Array, "B T"], valid: Bool[Array, "B T"], returns: Float[Array, "B"], *, gamma: float, lam: float
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Generalised advantages and value targets, where the only reward comes with the last step; 0 after it."""
    value, last = jnp.where(valid, value, 0.0), last_steps(valid)
    advantage, goal = gae(
        jnp.where(last, returns[:, None], 0.0).T,
        (valid & ~last).astype(jnp.float32).T,
        last.T,
        value.T,
        following(value).T,
        gamma=gamma,
        lam=lam,
    )
    return jnp.where(valid, advantage.T, 0.0), jnp.where(valid, goal.T, 0.0)
