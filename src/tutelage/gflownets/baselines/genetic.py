"""A genetic algorithm over objects without any model: truncation selection, `Problem.variation`, (μ + λ) survival.

One compiled program, for objectives in JAX and on the host alike. It differs from NSGA-II in having neither crowding
distances nor tournaments.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.baselines.config import GeneticConfig
from tutelage.gflownets.baselines.population import best_members, first_of_equals, pareto_rank, uniform_objects
from tutelage.gflownets.condition import Condition, simplex_grid
from tutelage.gflownets.config import GFlowNetConfig
from tutelage.gflownets.environment import Objects
from tutelage.gflownets.method import Draft, Method, Metrics
from tutelage.gflownets.objectives import log_scalar
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.rollout import where_rows
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Sum


class Population(NamedTuple):
    """B members, the fittest first.

    Attributes:
        objects: [B, …].
        rewards: f32 [B, M].
        key: never changes; each update folds its number into it.
        num_updates: how many there were; before the first, members have no rewards yet.
    """

    key: Key[Array, ""]
    objects: Objects
    rewards: Float[Array, "B M"]
    num_updates: Int[Array, ""]


def genetic(problem: Problem, shared: GFlowNetConfig, config: GeneticConfig) -> Method:
    """A population of `batch_size`, and as many children in every update.

    An object counts once: a child that is there already is evaluated, but survives only where there are fewer
    different objects than places. A sample is as `best_members` says. The first update scores the population itself.

    Raises:
        BadInput: if the problem has no `variation`.
    """
    if problem.variation is None:
        raise BadInput("genetic: the problem has no variation, which makes children of parents")
    variation = problem.variation
    number, num_objectives = shared.batch_size, problem.objectives.num_objectives
    num_parents = max(1, round(config.parent_share * number))
    grid = jnp.asarray(simplex_grid(num_objectives, config.grid_bins), jnp.float32)

    def init(key: Key[Array, ""]) -> Population:
        key, k_objects = jax.random.split(key)
        objects = uniform_objects(k_objects, problem.environment, number)
        return Population(key, objects, jnp.zeros((number, num_objectives)), jnp.zeros((), jnp.int32))

    def propose(state: Population) -> Draft:
        k_parents, k_vary, k_ties = jax.random.split(jax.random.fold_in(state.key, state.num_updates), 3)
        parents = jax.random.randint(k_parents, (2, number), 0, num_parents)
        mothers, fathers = (jax.tree.map(lambda leaf, row=row: leaf[row], state.objects) for row in parents)
        start = jnp.broadcast_to(state.num_updates == 0, (number,))
        children = variation(k_vary, mothers, fathers)
        return Draft(where_rows(start, state.objects, children), k_ties)

    def fitness(rewards: Float[Array, "K M"], usable: Bool[Array, "K"]) -> Int[Array, "K"]:
        if config.fitness == "pareto":
            return pareto_rank(rewards, usable)
        score = log_scalar(rewards[None], grid[:, None], shared.reward.scalarisation)
        best_first = jnp.argsort(jnp.where(usable, -score, jnp.inf), axis=1)
        place = jnp.argsort(best_first, axis=1).min(axis=0)
        return jnp.where(usable, place, len(usable)).astype(jnp.int32)

    def learn(state: Population, draft: Draft, rewards: Float[Array, "B M"]) -> tuple[Population, Metrics]:
        objects = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), state.objects, draft.objects)
        both = jnp.concatenate([state.rewards, rewards])
        # In the first update the members await the rewards that their copies among the children bring.
        scored = jnp.arange(2 * number) >= jnp.where(state.num_updates == 0, number, 0)
        new = first_of_equals(objects, scored)
        # Equal members are the last resort, those without rewards not even that.
        rank = jnp.where(scored, fitness(both, new), 2 * number + 1)
        order = jnp.lexsort((jax.random.uniform(draft.memory, rank.shape), rank))[:number]
        after = Population(
            key=state.key,
            objects=jax.tree.map(lambda leaf: leaf[order], objects),
            rewards=both[order],
            num_updates=state.num_updates + jnp.int32(1),
        )
        metrics = {
            "reward": rewards.mean(),
            "different": new[order].mean(dtype=jnp.float32),
            "evaluations": Sum(jnp.asarray(number, jnp.float32)),
        }
        return after, metrics

    def sample(state: Population, key: Key[Array, ""], condition: Condition) -> Objects:
        del key
        usable = first_of_equals(state.objects)
        chosen = best_members(state.rewards, usable, condition.preference, shared.reward.scalarisation)
        return jax.tree.map(lambda leaf: leaf[chosen], state.objects)

    return Method(init, propose, learn, sample)
