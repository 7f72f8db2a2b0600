"""Metropolis–Hastings over finished objects, annealed, with a chain for each preference: the MARS baseline.

Each update proposes one neighbour y of every chain's object x (`Problem.mutate`, one to `max_moves` times) and accepts
it with probability min(1, exp(β_t (log R(y | w) − log R(x | w)))), where β_t goes up to the chain's β. A symmetric
`mutate` makes R(x | w)^β the law that a chain tends to.

What deviates from MARS: there the proposal is a network over molecular fragments that is trained on the moves that
were accepted; here it is the problem's own local change, for any kind of object, and does not learn.

References: Xie et al. (2021), MARS: Markov Molecular Sampling for Multi-objective Drug Discovery, arXiv 2103.10432.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.baselines.config import MARSConfig
from tutelage.gflownets.baselines.population import uniform_objects
from tutelage.gflownets.condition import Condition, draw_betas, simplex_grid
from tutelage.gflownets.config import GFlowNetConfig, beta_range
from tutelage.gflownets.environment import Objects
from tutelage.gflownets.method import Draft, Method, Metrics
from tutelage.gflownets.objectives import LOWEST, log_scalar, tempered
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.rollout import where_rows
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Sum


class Chains(NamedTuple):
    """B chains.

    Attributes:
        objects: where they are, [B, …].
        log_reward: log R(x | w) there, before tempering, f32 [B].
        condition: what each samples, fixed for the run.
        key: never changes; each update folds its number into it.
        num_updates: how many there were.
        history: states that each has been in, [H, B, …].
    """

    key: Key[Array, ""]
    objects: Objects
    log_reward: Float[Array, "B"]
    condition: Condition
    num_updates: Int[Array, ""]
    history: Objects


def acceptance(
    log_reward: Float[Array, "*batch"],
    proposed: Float[Array, "*batch"],
    beta: Float[Array, "*batch"],
    floor: float,
) -> Float[Array, "*batch"]:
    """log min(1, exp(ℓ(y) − ℓ(x))) with ℓ = max(β log R, floor): in detailed balance with exp ℓ."""
    return jnp.minimum(tempered(proposed, beta, floor) - tempered(log_reward, beta, floor), 0.0)


def mars(problem: Problem, shared: GFlowNetConfig, config: MARSConfig) -> Method:
    """`batch_size` chains over the preferences of a regular grid, each preference as often as the others.

    A sample for a preference is one of the states that were kept of the chains at the nearest preference of the grid
    (of those, at the nearest β on a logarithmic scale). The first update scores where the chains start.

    Raises:
        BadInput: if the problem has no `mutate`.
    """
    if problem.mutate is None:
        raise BadInput("mars: the problem has no mutate, the local change that its chains are made of")
    mutate = problem.mutate
    grid = jnp.asarray(simplex_grid(problem.objectives.num_objectives, config.grid_bins), jnp.float32)
    number, scalarisation = shared.batch_size, shared.reward.scalarisation

    def init(key: Key[Array, ""]) -> Chains:
        key, k_objects, k_beta, k_order = jax.random.split(key, 4)
        objects = uniform_objects(k_objects, problem.environment, number)
        # In random order, so that a grid larger than the batch is covered evenly.
        preference = jnp.tile(jax.random.permutation(k_order, grid), (-(-number // len(grid)), 1))[:number]
        condition = Condition(preference, draw_betas(k_beta, number, shared.beta))
        history = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (config.history, *leaf.shape)), objects)
        return Chains(key, objects, jnp.full(number, LOWEST, jnp.float32), condition, jnp.zeros((), jnp.int32), history)

    def propose(state: Chains) -> Draft:
        key = jax.random.fold_in(state.key, state.num_updates)
        k_accept, k_count, *k_moves = jax.random.split(key, 2 + config.max_moves)
        count = jax.random.randint(k_count, (number,), 1, config.max_moves + 1)
        objects = state.objects
        for moves, k_move in enumerate(k_moves):
            # As many moves there as back: a mixture of powers of a symmetric kernel is symmetric.
            objects = where_rows(moves < count, mutate(k_move, objects), objects)
        start = jnp.broadcast_to(state.num_updates == 0, (number,))
        return Draft(where_rows(start, state.objects, objects), k_accept)

    def learn(state: Chains, draft: Draft, rewards: Float[Array, "B M"]) -> tuple[Chains, Metrics]:
        proposed = log_scalar(rewards, state.condition.preference, scalarisation)
        annealed = jnp.minimum(state.num_updates / config.anneal_updates, 1.0)
        beta = state.condition.beta * (config.hot_share + (1 - config.hot_share) * annealed)
        ratio = acceptance(state.log_reward, proposed, beta, shared.reward.floor)
        accepted = jnp.log(jax.random.uniform(draft.memory, (number,), minval=1e-38)) <= ratio
        accepted |= state.num_updates == 0
        objects = where_rows(accepted, draft.objects, state.objects)
        slot = (state.num_updates // config.thin) % config.history
        after = Chains(
            key=state.key,
            objects=objects,
            log_reward=jnp.where(accepted, proposed, state.log_reward),
            condition=state.condition,
            num_updates=state.num_updates + jnp.int32(1),
            history=jax.tree.map(lambda kept, now: kept.at[slot].set(now), state.history, objects),
        )
        metrics = {
            "reward": jnp.exp(proposed).mean(),
            "accepted": accepted.mean(dtype=jnp.float32),
            "evaluations": Sum(jnp.asarray(number, jnp.float32)),
        }
        return after, metrics

    def sample(state: Chains, key: Key[Array, ""], condition: Condition) -> Objects:
        k_chain, k_slot = jax.random.split(key)
        nearest = _nearest(condition, state.condition)
        chain = jax.random.categorical(k_chain, jnp.where(nearest, 0.0, -jnp.inf))
        kept = jnp.clip(-(-state.num_updates // config.thin), 1, config.history)
        slot = jax.random.randint(k_slot, chain.shape, 0, kept)
        return jax.tree.map(lambda leaf: leaf[slot, chain], state.history)

    return Method(init, propose, learn, sample, exponents=beta_range(shared.beta))


def _nearest(asked: Condition, chains: Condition) -> Bool[Array, "n B"]:
    """The chains at the least distance of each request, by preference first and then by log β."""
    by_preference = jnp.square(asked.preference[:, None] - chains.preference).sum(axis=-1)
    close = by_preference <= by_preference.min(axis=1, keepdims=True) + 1e-6
    by_beta = jnp.where(close, jnp.abs(jnp.log(asked.beta[:, None]) - jnp.log(chains.beta)), jnp.inf)
    return by_beta <= by_beta.min(axis=1, keepdims=True) + 1e-6
