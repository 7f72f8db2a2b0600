"""NSGA-II through pymoo: its tournaments and its survival, with children made by `Problem.variation`.

References: Deb, Pratap, Agarwal & Meyarivan (2002), A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II;
Blank & Deb (2020), pymoo: Multi-Objective Optimization in Python.
"""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tutelage.gflownets.baselines.config import NSGA2Config
from tutelage.gflownets.baselines.population import best_members, first_of_equals, uniform_objects
from tutelage.gflownets.condition import Condition
from tutelage.gflownets.config import GFlowNetConfig
from tutelage.gflownets.environment import Objects
from tutelage.gflownets.method import Draft, Method, Metrics
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.rollout import where_rows
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Sum


class Generation(NamedTuple):
    """B members as survival left them.

    Attributes:
        objects: [B, …].
        rewards: f32 [B, M].
        crowding: distance to the neighbours on the member's front, when it survived, f32 [B].
        key: never changes; each update folds its number into it.
        num_updates: how many there were; before the first, members have no rewards yet.
    """

    key: Key[Array, ""]
    objects: Objects
    rewards: Float[Array, "B M"]
    crowding: Float[Array, "B"]
    num_updates: Int[Array, ""]


def nsga2(problem: Problem, shared: GFlowNetConfig, config: NSGA2Config) -> Method:
    """NSGA-II with a population of `batch_size` and as many children in every update; on the host.

    A child that equals a member or an earlier child is made again, of other parents (`attempts`), and if it still
    does, survives only where there are fewer different objects than places. A sample is as `best_members` says. The
    first update scores the population itself.

    Raises:
        BadInput: without pymoo, or if the problem has no `variation`.
    """
    check_installed()
    if problem.variation is None:
        raise BadInput("nsga2: the problem has no variation, which makes children of parents")
    variation = jax.jit(problem.variation)
    number, num_objectives = shared.batch_size, problem.objectives.num_objectives

    def init(key: Key[Array, ""]) -> Generation:
        key, k_objects = jax.random.split(key)
        objects = uniform_objects(k_objects, problem.environment, number)
        rewards = jnp.zeros((number, num_objectives))
        return Generation(key, objects, rewards, jnp.zeros(number), jnp.zeros((), jnp.int32))

    def propose(state: Generation) -> Draft:
        k_mate, k_survival = jax.random.split(jax.random.fold_in(state.key, state.num_updates))
        if int(state.num_updates) == 0:
            return Draft(state.objects, k_survival)
        members, crowding = np.asarray(state.rewards), np.asarray(state.crowding)
        names = set(_names(state.objects))
        children: Objects = None
        missing = np.ones(number, bool)
        for k_attempt in jax.random.split(k_mate, config.attempts):
            k_select, k_vary = jax.random.split(k_attempt)
            parents = tournament(members, crowding, number, _generator(k_select))
            mothers, fathers = (jax.tree.map(lambda leaf, row=row: leaf[row], state.objects) for row in parents.T)
            born = variation(k_vary, mothers, fathers)
            children = born if children is None else where_rows(jnp.asarray(missing), born, children)
            seen = set(names)
            for row, name in enumerate(_names(children)):
                missing[row] = name in seen
                seen.add(name)
            if not missing.any():
                break
        return Draft(children, k_survival)

    def learn(state: Generation, draft: Draft, rewards: Float[Array, "B M"]) -> tuple[Generation, Metrics]:
        objects, both = draft.objects, np.asarray(rewards, np.float32)
        if int(state.num_updates) > 0:
            objects = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), state.objects, objects)
            both = np.concatenate([np.asarray(state.rewards), both])
        new = np.asarray(first_of_equals(objects))
        candidates = np.flatnonzero(new)
        if len(candidates) < number:
            candidates = np.concatenate([candidates, np.flatnonzero(~new)[: number - len(candidates)]])
        kept, crowding = survivors(both[candidates], number, _generator(draft.memory))
        order = candidates[kept]
        after = Generation(
            key=state.key,
            objects=jax.tree.map(lambda leaf: leaf[order], objects),
            rewards=jnp.asarray(both[order]),
            crowding=jnp.asarray(crowding, jnp.float32),
            num_updates=state.num_updates + jnp.int32(1),
        )
        metrics = {
            "reward": float(np.mean(rewards)),
            "different": float(new[order].mean()),
            "evaluations": Sum(float(number)),
        }
        return after, metrics

    def sample(state: Generation, key: Key[Array, ""], condition: Condition) -> Objects:
        del key
        usable = first_of_equals(state.objects)
        chosen = best_members(state.rewards, usable, condition.preference, shared.reward.scalarisation)
        return jax.tree.map(lambda leaf: leaf[chosen], state.objects)

    return Method(init, propose, learn, sample, on_host=True)


def check_installed() -> None:
    """Raises `BadInput` without pymoo."""
    if importlib.util.find_spec("pymoo") is None:
        raise BadInput("nsga2 needs the package pymoo: pip install 'tutelage[mo]'")


def survivors(
    rewards: Float[np.ndarray, "K M"], number: int, rng: np.random.Generator
) -> tuple[Int[np.ndarray, "B"], Float[np.ndarray, "B"]]:
    """The `number` rows that pymoo's rank-and-crowding survival keeps, in its order, and their crowding distances."""
    from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

    population = _population(rewards, None)
    left = RankAndCrowding().do(_UNCONSTRAINED, population, n_survive=number, random_state=rng)
    return left.get("row").astype(np.int64), left.get("crowding").astype(np.float64)


def tournament(
    rewards: Float[np.ndarray, "B M"], crowding: Float[np.ndarray, "B"], number: int, rng: np.random.Generator
) -> Int[np.ndarray, "number 2"]:
    """Two parents for each child, each the winner of pymoo's binary tournament by domination, then crowding."""
    from pymoo.algorithms.moo.nsga2 import binary_tournament
    from pymoo.operators.selection.tournament import TournamentSelection

    by_domination = SimpleNamespace(tournament_type="comp_by_dom_and_crowding", random_state=rng)
    return TournamentSelection(func_comp=binary_tournament).do(
        _UNCONSTRAINED, _population(rewards, crowding), number, 2, to_pop=False, algorithm=by_domination,
        random_state=rng,
    )  # fmt: skip


_UNCONSTRAINED = SimpleNamespace(has_constraints=lambda: False)
"""All that pymoo's operators ask of its `Problem`."""


def _population(rewards: np.ndarray, crowding: np.ndarray | None) -> Any:
    from pymoo.core.population import Population

    population = Population.new(F=-np.asarray(rewards, np.float64))
    population.set(row=np.arange(len(rewards)), rank=np.zeros(len(rewards), int))
    if crowding is not None:
        population.set(crowding=np.asarray(crowding, np.float64))
    return population


def _generator(key: Key[Array, ""]) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _names(objects: Objects) -> list[bytes]:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(objects)]
    return [b"".join(leaf[row].tobytes() for leaf in leaves) for row in range(len(leaves[0]))]
