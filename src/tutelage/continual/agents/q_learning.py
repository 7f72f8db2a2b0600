"""Q-learning and its average-reward kin: one step, one error, one table.

    discounted         δ = r + γ max Q(s',·) − Q(s,a)                    Watkins (1989)
    reward-centred     δ = r − r̄ + γ max Q(s',·) − Q(s,a),  r̄ += η α δ    Naik, Wan, Tomar & Sutton (2024)
    differential       the same with γ = 1                               Wan, Naik & Sutton (2021), algorithm 1
    RVI                δ = r − f(Q) + max Q(s',·) − Q(s,a)               Abounadi, Bertsekas & Borkar (2001)

and Q(s,a) += α δ in all. f(Q) is the mean of all action values. Of several greedy actions a
uniform one is taken; the official code takes the lowest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tutelage.continual.agents.agent import Agent, Hyper, epsilon_greedy
from tutelage.continual.agents.config import DifferentialQConfig, QLearningConfig, RewardCentredQConfig, RVIQConfig


class QState(NamedTuple):
    """Action values [S, A] and an estimate of the gain."""

    Q: Float[Array, "S A"]
    gain: Float[Array, ""]
    hyper: Hyper


def q_learning(num_states: int, num_actions: int, config: QLearningConfig) -> Agent:
    """Q-learning; `hyper` has epsilon, learning_rate and discount."""

    def update(key: Any, state: QState, s: Any, a: Any, reward: Any, successor: Any) -> QState:
        return state._replace(Q=q_step(state.Q, state.hyper, s, a, reward, successor))

    return _agent("q_learning", num_states, num_actions, ("epsilon", "learning_rate", "discount"), config, update)


def reward_centred_q(num_states: int, num_actions: int, config: RewardCentredQConfig) -> Agent:
    """Reward-centred Q-learning; `hyper` has epsilon, learning_rate, discount and gain_rate."""
    names = ("epsilon", "learning_rate", "discount", "gain_rate")
    return _agent("reward_centred_q", num_states, num_actions, names, config, _centred)


def differential_q(num_states: int, num_actions: int, config: DifferentialQConfig) -> Agent:
    """Differential Q-learning; `hyper` has epsilon, learning_rate and gain_rate."""
    names = ("epsilon", "learning_rate", "gain_rate")
    return _agent("differential_q", num_states, num_actions, names, config, _centred)


def rvi_q(num_states: int, num_actions: int, config: RVIQConfig) -> Agent:
    """RVI Q-learning; `hyper` has epsilon and learning_rate."""

    def update(key: Any, state: QState, s: Any, a: Any, reward: Any, successor: Any) -> QState:
        reference = state.Q.mean()
        error = reward - reference + state.Q[successor].max() - state.Q[s, a]
        return state._replace(Q=state.Q.at[s, a].add(state.hyper["learning_rate"] * error), gain=reference)

    return _agent("rvi_q", num_states, num_actions, ("epsilon", "learning_rate"), config, update)


def q_step(Q: Float[Array, "S A"], hyper: Hyper, s: Any, a: Any, reward: Any, successor: Any) -> Float[Array, "S A"]:
    """Q-learning's update after one step."""
    error = reward + hyper["discount"] * Q[successor].max() - Q[s, a]
    return Q.at[s, a].add(hyper["learning_rate"] * error)


def greedy(key: Key[Array, ""], Q: Float[Array, "S A"], hyper: Hyper, s: Int[Array, ""]) -> Int[Array, ""]:
    """ε-greedy for action values; of several best actions a uniform one."""
    tie_key, explore_key = jax.random.split(key)
    # All values are 0 at first: always the lowest action would walk into a wall and stay there.
    lot = jax.random.uniform(tie_key, Q.shape[1:], jnp.float32)
    best = jnp.argmax(jnp.where(Q[s] == Q[s].max(), lot, -1))
    return epsilon_greedy(explore_key, hyper["epsilon"], best, Q.shape[1])


def _centred(key: Any, state: QState, s: Any, a: Any, reward: Any, successor: Any) -> QState:
    hyper = state.hyper
    error = reward - state.gain + hyper.get("discount", 1) * state.Q[successor].max() - state.Q[s, a]
    step = hyper["learning_rate"] * error
    return state._replace(Q=state.Q.at[s, a].add(step), gain=state.gain + hyper["gain_rate"] * step)


def _agent(
    name: str, num_states: int, num_actions: int, names: tuple[str, ...], config: Any, update: Callable[..., QState]
) -> Agent:
    def init(key: Key[Array, ""], hyper: Hyper) -> QState:
        zeros = jnp.zeros((num_states, num_actions))
        return QState(zeros, jnp.zeros((), zeros.dtype), hyper)

    def act(key: Key[Array, ""], state: QState, s: Int[Array, ""]) -> Int[Array, ""]:
        return greedy(key, state.Q, state.hyper, s)

    return Agent(name, init, act, update, {of: getattr(config, of) for of in names})
