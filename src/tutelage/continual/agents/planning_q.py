"""Q-learning that uses a step more than once: replay, Dyna-Q, and n-step returns through a model.

The imagined reward of a state and action is the model's mean, where the official code draws it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.continual.agents.agent import Agent, Hyper, draw
from tutelage.continual.agents.config import DynaConfig, ModelConfig, NStepConfig, ReplayConfig
from tutelage.continual.agents.q_learning import greedy, q_step
from tutelage.continual.agents.tabular_model import TabularModel, empty_model, observed, rewards, successor_law

_NUMBERS = ("epsilon", "learning_rate", "discount")


class ReplayState(NamedTuple):
    """Action values, and the last `memory` steps: states, actions and successors int32 [n, 3], rewards [n].

    `written` counts all steps ever."""

    Q: Float[Array, "S A"]
    steps: Int[Array, "n 3"]
    rewards: Float[Array, "n"]
    written: Int[Array, ""]
    hyper: Hyper


class ModelState(NamedTuple):
    """Action values and a model; `visited` lists the states where an action was taken, in the order of their first
    visit, and `num_visited` says how many they are."""

    Q: Float[Array, "S A"]
    model: TabularModel
    visited: Int[Array, "S"]
    num_visited: Int[Array, ""]
    hyper: Hyper


def replay(num_states: int, num_actions: int, config: ReplayConfig) -> Agent:
    """Q-learning that repeats `steps` uniformly drawn past steps after each."""

    def init(key: Key[Array, ""], hyper: Hyper) -> ReplayState:
        Q = jnp.zeros((num_states, num_actions))
        steps = jnp.zeros((config.memory, 3), jnp.int32)
        return ReplayState(Q, steps, jnp.zeros(config.memory, Q.dtype), jnp.zeros((), jnp.int32), hyper)

    def act(key: Key[Array, ""], state: ReplayState, s: Int[Array, ""]) -> Int[Array, ""]:
        return greedy(key, state.Q, state.hyper, s)

    def update(key: Key[Array, ""], state: ReplayState, s: Any, a: Any, reward: Any, successor: Any) -> ReplayState:
        slot = state.written % config.memory
        steps = state.steps.at[slot].set(jnp.stack([s, a, successor]))
        paid = state.rewards.at[slot].set(reward.astype(state.rewards.dtype))
        written = state.written + 1
        chosen = jax.random.randint(key, (config.steps,), 0, jnp.minimum(written, config.memory), jnp.int32)

        def again(Q: Array, index: Array) -> tuple[Array, None]:
            then, action, after = steps[index]
            return q_step(Q, state.hyper, then, action, paid[index], after), None

        Q, _ = jax.lax.scan(again, q_step(state.Q, state.hyper, s, a, reward, successor), chosen)
        return ReplayState(Q, steps, paid, written, state.hyper)

    return Agent("replay", init, act, update, {name: getattr(config, name) for name in _NUMBERS})


def dyna(num_states: int, num_actions: int, config: DynaConfig, model: ModelConfig) -> Agent:
    """Q-learning that imagines `steps` steps after each, from a visited state by an action tried there."""

    def update(key: Key[Array, ""], state: ModelState, s: Any, a: Any, reward: Any, successor: Any) -> ModelState:
        state = _seen(state, s, a, reward, successor)

        def imagine(Q: Array, number: Array) -> tuple[Array, None]:
            state_key, action_key, successor_key = jax.random.split(jax.random.fold_in(key, number), 3)
            at = state.visited[jax.random.randint(state_key, (), 0, state.num_visited, jnp.int32)]
            tried = (state.model.visits[at] > 0).astype(Q.dtype)
            action = draw(action_key, tried)
            after = draw(successor_key, state.model.counts[at, action])
            return q_step(Q, state.hyper, at, action, rewards(state.model, at)[action], after), None

        Q, _ = jax.lax.scan(imagine, state.Q, jnp.arange(config.steps))
        return state._replace(Q=Q)

    return _agent("dyna", num_states, num_actions, config, model, update)


def n_step(num_states: int, num_actions: int, config: NStepConfig, model: ModelConfig) -> Agent:
    """Q-learning with a second target: the real reward, then `steps` greedy steps through the model, then max Q."""

    def update(key: Key[Array, ""], state: ModelState, s: Any, a: Any, reward: Any, successor: Any) -> ModelState:
        state = _seen(state, s, a, reward, successor)
        Q, discount = state.Q, state.hyper["discount"]

        def imagine(carry: tuple[Array, Array, Array], number: Array) -> tuple[tuple[Array, Array, Array], None]:
            at, total, weight = carry
            action = jnp.argmax(Q[at])
            total = total + weight * rewards(state.model, at)[action]
            drawn = draw(jax.random.fold_in(key, number), successor_law(state.model, at, action))
            return (drawn, total, weight * discount), None

        start = successor, reward.astype(Q.dtype), discount
        (last, total, weight), _ = jax.lax.scan(imagine, start, jnp.arange(config.steps))
        error = total + weight * Q[last].max() - Q[s, a]
        return state._replace(Q=Q.at[s, a].add(state.hyper["learning_rate"] * error))

    return _agent("n_step", num_states, num_actions, config, model, update)


def _seen(state: ModelState, s: Any, a: Any, reward: Any, successor: Any) -> ModelState:
    """After a step: the model counts it, and Q learns from it."""
    new = state.model.visits[s].sum() == 0
    visited = state.visited.at[jnp.where(new, state.num_visited, state.visited.shape[0])].set(s, mode="drop")
    Q = q_step(state.Q, state.hyper, s, a, reward, successor)
    model = observed(state.model, s, a, reward, successor)
    return ModelState(Q, model, visited, state.num_visited + new.astype(jnp.int32), state.hyper)


def _agent(name: str, num_states: int, num_actions: int, config: Any, model: ModelConfig, update: Any) -> Agent:
    def init(key: Key[Array, ""], hyper: Hyper) -> ModelState:
        counted = empty_model(num_states, num_actions, model)
        none = jnp.zeros(num_states, jnp.int32), jnp.zeros((), jnp.int32)
        return ModelState(jnp.zeros((num_states, num_actions)), counted, *none, hyper)

    def act(key: Key[Array, ""], state: ModelState, s: Int[Array, ""]) -> Int[Array, ""]:
        return greedy(key, state.Q, state.hyper, s)

    return Agent(name, init, act, update, {number: getattr(config, number) for number in _NUMBERS})
