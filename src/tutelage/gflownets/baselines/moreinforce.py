"""MOReinforce: REINFORCE on trajectories that are conditioned on a preference.

It maximises the mean of R(x | w), so that it tends to one best object for each preference where a GFlowNet samples all
good ones.

References: Lin, Yang & Zhang (2022), Pareto Set Learning for Neural Multi-Objective Combinatorial Optimization,
arXiv 2203.15386; as used in Jain et al. (2023), Multi-Objective GFlowNets, arXiv 2210.12765.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tutelage.gflownets.baselines.config import MOReinforceConfig
from tutelage.gflownets.condition import Condition
from tutelage.gflownets.config import GFlowNetConfig, RewardConfig
from tutelage.gflownets.learning.learner import learner, read
from tutelage.gflownets.method import Method
from tutelage.gflownets.objectives import log_scalar, tempered
from tutelage.gflownets.policy import Policy
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.trajectories import Trajectories


def moreinforce(problem: Problem, shared: GFlowNetConfig, config: MOReinforceConfig, num_updates: int) -> Method:
    """On-policy, without exploration, as published.

    Metrics beside those of `learner`: entropy, mean of −log π over trajectories.
    """

    def loss(
        policy: Policy, target: Policy | None, trajectories: Trajectories, encoded: Array, rewards: Array
    ) -> tuple[Array, dict[str, Array]]:
        del target
        readings = read(policy, problem.environment, trajectories, encoded)
        log_prob = jnp.where(trajectories.valid, readings.chosen - readings.log_total, 0.0).sum(axis=1)
        returns = trajectory_return(rewards, trajectories.condition, shared.reward, config.reward)
        return reinforce(log_prob, returns), {"entropy": -log_prob.mean()}

    return learner(problem, shared, num_updates, loss, tempered=config.reward == "power")


def reinforce(log_prob: Float[Array, "B"], returns: Float[Array, "B"]) -> Float[Array, ""]:
    """−mean (R − R̄) log π with R̄ the mean over the batch.

    A trajectory is part of its own baseline, so the expected gradient is (1 − 1/B) times that of −E[R].
    """
    return -jnp.mean(jax.lax.stop_gradient(returns - returns.mean()) * log_prob)


def trajectory_return(
    rewards: Float[Array, "B M"], condition: Condition, reward: RewardConfig, kind: str
) -> Float[Array, "B"]:
    """R(x | w) ('linear') or exp ℓ(x), its floored power β ('power')."""
    log_r = log_scalar(rewards, condition.preference, reward.scalarisation)
    return jnp.exp(log_r if kind == "linear" else tempered(log_r, condition.beta, reward.floor))
