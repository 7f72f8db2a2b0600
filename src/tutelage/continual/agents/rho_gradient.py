"""ρ policy gradient (Riemer et al., arXiv 2112.07066, version 1): a softmax policy climbs its model's gain.

States are drawn from the policy's stationary law and an action from the policy at each; its score is the gain of the
policy that takes this action there for certain, less the policy's own gain (`baseline`); REINFORCE climbs the scores'
sum. All scores come from one inverse by the row-perturbation identity. Any number of actions (the official code has 4).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.continual.agents.agent import Agent, Hyper, draw, epsilon_greedy
from tutelage.continual.agents.config import ModelConfig, RhoGradientConfig
from tutelage.continual.agents.policy_chain import PolicyChain, refreshed, unknown_chain, with_row
from tutelage.continual.agents.tabular_model import (
    TabularModel,
    empty_model,
    observed,
    rewards,
    successor_law,
    successors,
)
from tutelage.continual.deviations import law_of, row_deviations_of


class RhoGradientState(NamedTuple):
    """A model, the logits of a softmax policy [S, A], and the chain that they make."""

    model: TabularModel
    logits: Float[Array, "S A"]
    chain: PolicyChain
    hyper: Hyper


def rho_gradient(num_states: int, num_actions: int, config: RhoGradientConfig, model: ModelConfig) -> Agent:
    """The agent; `hyper` has epsilon, learning_rate and temperature."""

    def init(key: Key[Array, ""], hyper: Hyper) -> RhoGradientState:
        counted = empty_model(num_states, num_actions, model)
        logits = jax.random.normal(key, (num_states, num_actions), counted.prior.dtype)
        return RhoGradientState(counted, logits, unknown_chain(num_states), hyper)

    def act(key: Key[Array, ""], state: RhoGradientState, s: Int[Array, ""]) -> Int[Array, ""]:
        policy_key, explore_key = jax.random.split(key)
        chosen = jax.random.categorical(policy_key, state.logits[s] / state.hyper["temperature"])
        return epsilon_greedy(explore_key, state.hyper["epsilon"], chosen, num_actions)

    def update(key: Key[Array, ""], state: RhoGradientState, s: Any, a: Any, reward: Any, successor: Any):
        temperature = state.hyper["temperature"]
        counted = observed(state.model, s, a, reward, successor)
        chain = _exchanged(state.chain, counted, state.logits, temperature, s)
        state_key, action_key = jax.random.split(key)
        at = draw(state_key, jnp.asarray(law_of(chain.inverse)), (config.steps,))
        policy = jax.nn.softmax(state.logits[at] / temperature)
        chosen = jax.random.categorical(action_key, state.logits[at] / temperature)

        def score(s: Int[Array, ""], a: Int[Array, ""]) -> Float[Array, ""]:
            row, paid = successor_law(counted, s, a)[None], rewards(counted, s)[a][None]
            return row_deviations_of(chain.inverse, chain.r, row, paid, s).gain[0]

        scores = jax.vmap(score)(at, chosen)
        if config.baseline:
            scores = scores - law_of(chain.inverse) @ chain.r
        # A deviation without a gain (a second closed class, an inverse that is none until corrected) moves nothing.
        scores = jnp.where(jnp.isfinite(scores), scores, 0)
        climb = scores[:, None] * (jax.nn.one_hot(chosen, num_actions, dtype=policy.dtype) - policy) / temperature
        logits = state.logits.at[at].add(state.hyper["learning_rate"] * climb)

        def exchange(chain: PolicyChain, s: Int[Array, ""]) -> tuple[PolicyChain, None]:
            return _exchanged(chain, counted, logits, temperature, s), None

        chain, _ = jax.lax.scan(exchange, chain, at)
        return RhoGradientState(counted, logits, refreshed(chain, successor, config.inverse), state.hyper)

    numbers = {name: getattr(config, name) for name in ("epsilon", "learning_rate", "temperature")}
    return Agent("rho_gradient", init, act, update, numbers)


def _exchanged(chain: PolicyChain, model: TabularModel, logits: Array, temperature: Array, s: Any) -> PolicyChain:
    """The chain with the row that policy and model now have in s."""
    policy = jax.nn.softmax(logits[s] / temperature)
    return with_row(chain, s, policy @ successors(model, s), policy @ rewards(model, s))
