"""ρ-learning (Riemer et al., arXiv 2112.07066, version 1): improve one state's action by the gain of the whole chain.

For a state s and each action a, the candidate is the policy with π(s) = a; its gain under the model comes from one
inverse by the row-perturbation identity (`deviations`), where the official code solves for each candidate's law.
π(s) becomes the action of the largest gain.

Deviations from the official code: it writes candidates into the live policy, and with `priority` goes on with the last
candidate's law; here neither happens. It improves only in steps that do not explore; here in all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.continual.agents.agent import Agent, Hyper, draw, epsilon_greedy
from tutelage.continual.agents.config import (
    IterativeRhoConfig,
    ModelConfig,
    OffPolicyRhoConfig,
    OnPolicyRhoConfig,
)
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


class RhoState(NamedTuple):
    """A model, a policy (an action for each state, int32 [S]), and the chain that they make."""

    model: TabularModel
    policy: Int[Array, "S"]
    chain: PolicyChain
    hyper: Hyper


class IterativeState(NamedTuple):
    """A model, a policy, the chain's P and r, and the law that is being refined, [S]."""

    model: TabularModel
    policy: Int[Array, "S"]
    P: Float[Array, "S S"]
    r: Float[Array, "S"]
    law: Float[Array, "S"]
    hyper: Hyper


def best_action(chain: PolicyChain, model: TabularModel, s: Int[Array, ""]) -> Int[Array, ""]:
    """The action whose adoption in s has the largest gain under the model; the lowest of several."""
    found = row_deviations_of(chain.inverse, chain.r, successors(model, s), rewards(model, s), s)
    return jnp.argmax(jnp.where(jnp.isnan(found.gain), -jnp.inf, found.gain)).astype(jnp.int32)


def improved(state: RhoState, s: Int[Array, ""]) -> RhoState:
    """The policy with the best action in s, and its chain."""
    action = best_action(state.chain, state.model, s)
    row, reward = successor_law(state.model, s, action), rewards(state.model, s)[action]
    return state._replace(policy=state.policy.at[s].set(action), chain=with_row(state.chain, s, row, reward))


def on_policy_rho(num_states: int, num_actions: int, config: OnPolicyRhoConfig, model: ModelConfig) -> Agent:
    """Improves the state that it is in."""

    def update(key: Key[Array, ""], state: RhoState, s: Any, a: Any, reward: Any, successor: Any) -> RhoState:
        state = improved(_seen(state, s, a, reward, successor), successor)
        return state._replace(chain=refreshed(state.chain, successor, config.inverse))

    return Agent("on_policy_rho", _init(num_states, num_actions, model), _act, update, {"epsilon": config.epsilon})


def off_policy_rho(num_states: int, num_actions: int, config: OffPolicyRhoConfig, model: ModelConfig) -> Agent:
    """Improves `steps` drawn states after each step: uniform ones, or (priority) from the policy's law."""

    def update(key: Key[Array, ""], state: RhoState, s: Any, a: Any, reward: Any, successor: Any) -> RhoState:
        state = _seen(state, s, a, reward, successor)
        if config.priority:
            chosen = draw(key, jnp.asarray(law_of(state.chain.inverse)), (config.steps,))
        else:
            chosen = jax.random.randint(key, (config.steps,), 0, num_states, jnp.int32)
        state, _ = jax.lax.scan(lambda state, at: (improved(state, at), None), state, chosen)
        return state._replace(chain=refreshed(state.chain, successor, config.inverse))

    return Agent("off_policy_rho", _init(num_states, num_actions, model), _act, update, {"epsilon": config.epsilon})


def iterative_rho(num_states: int, num_actions: int, config: IterativeRhoConfig, model: ModelConfig) -> Agent:
    """On-policy ρ-learning whose law of each candidate is `sweeps` sweeps μ ← μP from the last law, not a solution.

    Sweeps are of all states at once; the official code's are one state after another, in random order, of a law that
    the candidates share.
    """

    def init(key: Key[Array, ""], hyper: Hyper) -> IterativeState:
        start = _init(num_states, num_actions, model)(key, hyper)
        law = jnp.full_like(start.chain.r, 1 / num_states)
        return IterativeState(start.model, start.policy, start.chain.P, start.chain.r, law, hyper)

    def update(key: Key[Array, ""], state: IterativeState, s: Any, a: Any, reward: Any, successor: Any):
        after = observed(state.model, s, a, reward, successor)
        chosen = state.policy[s]
        P = state.P.at[s].set(successor_law(after, s, chosen))
        r = state.r.at[s].set(rewards(after, s)[chosen])
        rows, paid = successors(after, successor), rewards(after, successor)
        change = rows - P[successor]

        def sweep(_: Any, laws: Float[Array, "A S"]) -> Float[Array, "A S"]:
            laws = laws @ P + laws[:, successor, None] * change
            return laws / laws.sum(axis=1, keepdims=True)

        laws = jax.lax.fori_loop(0, config.sweeps, sweep, jnp.tile(state.law, (num_actions, 1)))
        best = jnp.argmax(laws @ r + laws[:, successor] * (paid - r[successor])).astype(jnp.int32)
        return IterativeState(
            after,
            state.policy.at[successor].set(best),
            P.at[successor].set(rows[best]),
            r.at[successor].set(paid[best]),
            laws[best],
            state.hyper,
        )

    return Agent("iterative_rho", init, _act, update, {"epsilon": config.epsilon})


def _init(num_states: int, num_actions: int, config: ModelConfig):
    def init(key: Key[Array, ""], hyper: Hyper) -> RhoState:
        model = empty_model(num_states, num_actions, config)
        policy = jax.random.randint(key, (num_states,), 0, num_actions, jnp.int32)
        return RhoState(model, policy, unknown_chain(num_states), hyper)

    return init


def _act(key: Key[Array, ""], state: RhoState | IterativeState, s: Int[Array, ""]) -> Int[Array, ""]:
    return epsilon_greedy(key, state.hyper["epsilon"], state.policy[s], state.model.visits.shape[1])


def _seen(state: RhoState, s: Any, a: Any, reward: Any, successor: Any) -> RhoState:
    """After a step: the model counts it, and the chain has the policy's new row in s."""
    model = observed(state.model, s, a, reward, successor)
    chosen = state.policy[s]
    chain = with_row(state.chain, s, successor_law(model, s, chosen), rewards(model, s)[chosen])
    return state._replace(model=model, chain=chain)
