"""Random search: uniform legal trajectories, and an archive of the best that they found for each preference.

The archive makes the comparison fair: after n evaluations every other method answers from what n evaluations have
taught it, so this one may answer with the best of them, not only with what it would draw next.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.baselines.config import RandomSearchConfig
from tutelage.gflownets.baselines.population import best_members, equal, first_of_equals, uniform_objects
from tutelage.gflownets.condition import Condition, simplex_grid
from tutelage.gflownets.config import GFlowNetConfig
from tutelage.gflownets.environment import Objects
from tutelage.gflownets.method import Draft, Method, Metrics
from tutelage.gflownets.objectives import log_scalar
from tutelage.gflownets.problem import Problem
from tutelage.lab.program import Sum


class SearchState(NamedTuple):
    """The best objects for each preference of a grid.

    Attributes:
        objects: [P, K, …]; of slots that are not filled any object.
        rewards: f32 [P, K, M].
        filled: bool [P, K].
        key: never changes; each update folds its number into it.
        num_updates: how many there were.
    """

    key: Key[Array, ""]
    objects: Objects
    rewards: Float[Array, "P K M"]
    filled: Bool[Array, "P K"]
    num_updates: Int[Array, ""]


def random_search(problem: Problem, shared: GFlowNetConfig, config: RandomSearchConfig) -> Method:
    """Random search. The archive of a preference never loses an object but to `elites` better ones."""
    num_objectives = problem.objectives.num_objectives
    grid = jnp.asarray(simplex_grid(num_objectives, config.grid_bins), jnp.float32)
    scalarisation = shared.reward.scalarisation

    def init(key: Key[Array, ""]) -> SearchState:
        key, k_objects = jax.random.split(key)
        one = uniform_objects(k_objects, problem.environment, 1)
        shape = (len(grid), config.elites)
        objects = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[0], shape + leaf.shape[1:]), one)
        return SearchState(
            key, objects, jnp.zeros((*shape, num_objectives)), jnp.zeros(shape, jnp.bool_), jnp.zeros((), jnp.int32)
        )

    def propose(state: SearchState) -> Draft:
        key = jax.random.fold_in(state.key, state.num_updates)
        return Draft(uniform_objects(key, problem.environment, shared.batch_size), ())

    def learn(state: SearchState, draft: Draft, rewards: Float[Array, "B M"]) -> tuple[SearchState, Metrics]:
        first = first_of_equals(draft.objects)

        def merge(weights: Array, objects: Objects, known: Array, filled: Array) -> tuple[Objects, Array, Array]:
            new = first & ~(equal(draft.objects, objects) & filled).any(axis=1)
            everyone = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), objects, draft.objects)
            both, usable = jnp.concatenate([known, rewards]), jnp.concatenate([filled, new])
            score = log_scalar(both, jnp.broadcast_to(weights, both.shape), scalarisation)
            kept = jnp.argsort(jnp.where(usable, -score, jnp.inf), stable=True)[: config.elites]
            return jax.tree.map(lambda leaf: leaf[kept], everyone), both[kept], usable[kept]

        archive = jax.vmap(merge)(grid, state.objects, state.rewards, state.filled)
        metrics = {"reward": rewards.mean(), "evaluations": Sum(jnp.asarray(rewards.shape[0], jnp.float32))}
        return SearchState(state.key, *archive, state.num_updates + jnp.int32(1)), metrics

    def sample(state: SearchState, key: Key[Array, ""], condition: Condition) -> Objects:
        if config.answer == "uniform":
            return uniform_objects(key, problem.environment, condition.beta.shape[0])
        objects, rewards, filled = jax.tree.map(
            lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (state.objects, state.rewards, state.filled)
        )
        chosen = best_members(rewards, first_of_equals(objects, filled), condition.preference, scalarisation)
        return jax.tree.map(lambda leaf: leaf[chosen], objects)

    return Method(init, propose, learn, sample, answers_preferences=config.answer == "archive")
