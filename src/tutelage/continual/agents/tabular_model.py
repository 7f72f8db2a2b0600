"""The model that planning agents count: p̂ and r̂ of each state and action."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tutelage.continual.agents.config import ModelConfig


class TabularModel(NamedTuple):
    """Counts of what followed each state and action.

    Attributes:
        counts: of each successor, with the prior's, [S, A, S].
        visits: of the state and action, without the prior's, [S, A].
        paid: sum of the rewards, with the prior's, [S, A].
        prior: the count of each successor, and of each of the rewards 0 and 1, before any step.
    """

    counts: Float[Array, "S A S"]
    visits: Float[Array, "S A"]
    paid: Float[Array, "S A"]
    prior: Float[Array, ""]


def empty_model(num_states: int, num_actions: int, config: ModelConfig) -> TabularModel:
    """A model that has seen nothing: all successors alike, and a reward of ½ everywhere."""
    prior = jnp.asarray(config.prior, jnp.result_type(float))
    shape = (num_states, num_actions)
    return TabularModel(
        jnp.full((*shape, num_states), prior), jnp.zeros(shape, prior.dtype), jnp.full(shape, prior), prior
    )


def observed(
    model: TabularModel, s: Int[Array, ""], a: Int[Array, ""], reward: Float[Array, ""], successor: Int[Array, ""]
) -> TabularModel:
    """The model after one more step."""
    return model._replace(
        counts=model.counts.at[s, a, successor].add(1),
        visits=model.visits.at[s, a].add(1),
        paid=model.paid.at[s, a].add(reward.astype(model.paid.dtype)),
    )


def successors(model: TabularModel, s: Int[Array, ""]) -> Float[Array, "A S"]:
    """p̂(s, ·, ·)."""
    return model.counts[s] / (model.visits[s] + model.counts.shape[-1] * model.prior)[:, None]


def successor_law(model: TabularModel, s: Int[Array, ""], a: Int[Array, ""]) -> Float[Array, "S"]:
    """p̂(s, a, ·)."""
    return model.counts[s, a] / (model.visits[s, a] + model.counts.shape[-1] * model.prior)


def rewards(model: TabularModel, s: Int[Array, ""]) -> Float[Array, "A"]:
    """r̂(s, ·)."""
    return model.paid[s] / (model.visits[s] + 2 * model.prior)
