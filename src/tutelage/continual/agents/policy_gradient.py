"""Tabular policy gradient with a Q-learning critic: logits(s) += α_π · k · Q(s,a) ∇ log π(a|s), the official code's."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.continual.agents.agent import Agent, Hyper, epsilon_greedy
from tutelage.continual.agents.config import PolicyGradientConfig
from tutelage.continual.agents.q_learning import q_step


class PolicyGradientState(NamedTuple):
    """Action values and logits, [S, A] both."""

    Q: Float[Array, "S A"]
    logits: Float[Array, "S A"]
    hyper: Hyper


def policy_gradient(num_states: int, num_actions: int, config: PolicyGradientConfig) -> Agent:
    """The agent; `hyper` has epsilon, learning_rate, policy_learning_rate and discount."""

    def init(key: Key[Array, ""], hyper: Hyper) -> PolicyGradientState:
        logits = jax.random.normal(key, (num_states, num_actions))
        return PolicyGradientState(jnp.zeros_like(logits), logits, hyper)

    def act(key: Key[Array, ""], state: PolicyGradientState, s: Int[Array, ""]) -> Int[Array, ""]:
        policy_key, explore_key = jax.random.split(key)
        chosen = jax.random.categorical(policy_key, state.logits[s])
        return epsilon_greedy(explore_key, state.hyper["epsilon"], chosen, num_actions)

    def update(key: Any, state: PolicyGradientState, s: Any, a: Any, reward: Any, successor: Any):
        Q = q_step(state.Q, state.hyper, s, a, reward, successor)
        score = jax.nn.one_hot(a, num_actions, dtype=Q.dtype) - jax.nn.softmax(state.logits[s])
        climb = state.hyper["policy_learning_rate"] * config.steps * Q[s, a] * score
        return PolicyGradientState(Q, state.logits.at[s].add(climb), state.hyper)

    names = ("epsilon", "learning_rate", "policy_learning_rate", "discount")
    return Agent("policy_gradient", init, act, update, {name: getattr(config, name) for name in names})
