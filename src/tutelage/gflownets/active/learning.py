"""Active learning with a GFlowNet (MOGFN-AL), and what it is compared with: rounds of fitting, searching, evaluating.

    method = active_learning(problem, ActiveLearningConfig())
    state = method.init(jax.random.key(0))
    state, metrics = hosted_update(method, score)(state)     # the initial design; then a round each
    figures(state, problem)

The first update evaluates the initial design. Each later one fits the surrogate to everything evaluated, takes the
acquisition of the current front, searches (`proposers`), and asks for `queries` objects, none of which was evaluated
before: of the best new candidate of each start, and as many of the best others as make four times `queries`, those that
add most to the front together. 'mutation', 'genetic' and 'nsga2' do without a model.

Differences from the published code (mogfn-al): its exponent falls by 2 in every round, through 0 in round 16, and then
rewards bad objects; here it stays at `beta_floor`. It has one log Z for all starts; here log Z reads the start. It
draws the starts once a round; here for every update. It learns from its own samples alone, which was seen to end in a
few objects; here `elites` of each start are learnt from as well, where a preset asks for them. Its acquisition has 2
samples; here `num_samples`. It clamps a(x) at 1e-20; here a(x) is smooth and its logarithm finite (`acquisition`).

Reference: Jain et al. (2023), Multi-Objective GFlowNets, arXiv 2210.12765, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from tutelage.gflownets.active.acquisition import greedy_batch
from tutelage.gflownets.active.config import MODELLED, ActiveLearningConfig, check_active
from tutelage.gflownets.active.edits import edit_environment
from tutelage.gflownets.active.evaluated import (
    Evaluated,
    append,
    draw_pool,
    filled_up,
    front_rows,
    new_rows,
    nothing_evaluated,
    reference_point,
)
from tutelage.gflownets.active.proposers import Candidates, Situation, lambo, mogfn, pool_starts, substituted
from tutelage.gflownets.active.surrogate import Fitted, Surrogate, compiled_fit, initial_surrogate
from tutelage.gflownets.baselines.nsga2 import check_installed, survivors, tournament
from tutelage.gflownets.baselines.population import uniform_objects
from tutelage.gflownets.condition import Condition
from tutelage.gflownets.environment import Objects
from tutelage.gflownets.learning.gflownet import trainer
from tutelage.gflownets.method import Draft, Method, Metrics
from tutelage.gflownets.problem import Problem
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Last, Sum
from tutelage.measures import pareto
from tutelage.measures.top_k import mean_pairwise_distance

SHORTLIST = 4
"""Candidates from which a batch is chosen, for each query of it."""


class ActiveLearningState(NamedTuple):
    """Everything that a round changes.

    Attributes:
        evaluated: all objects and their rewards.
        reference: of every hypervolume, f32 [M]; set by the initial design.
        first_hypervolume: of the initial design.
        surrogate: the last fit (), where there is a model.
        sampler: the GFlowNet (), where there is one.
        repeated: queries that had been evaluated before; 0.
        key: never changes; each round folds its number into it.
        round: how many updates there were, the initial design included.
    """

    evaluated: Evaluated
    reference: Float[Array, "M"]
    first_hypervolume: Float[Array, ""]
    surrogate: PyTree
    sampler: PyTree
    repeated: Int[Array, ""]
    key: Key[Array, ""]
    round: Int[Array, ""]


class Memory(NamedTuple):
    """What a proposal has learnt on the way, and its figures."""

    surrogate: PyTree
    sampler: PyTree
    metrics: Metrics


def exponent(round_number: int, config: ActiveLearningConfig) -> float:
    """β of a round, the first after the initial design being 1: never below `beta_floor`."""
    falling = config.gflownet.beta.value - config.beta_decay * (round_number - 1)
    return max(falling, min(config.beta_floor, config.gflownet.beta.value))


def active_learning(
    problem: Problem, config: ActiveLearningConfig, initial: Int[np.ndarray, "n L"] | None = None
) -> Method:
    """The loop as a method on the host. `sample` gives the queries that a state would ask for next; the conditions only
    say how many.

    Args:
        problem: of sequences (`worlds.sequences`), two or three objectives; `mutate` for 'mutation', `variation` for
            'genetic' and 'nsga2'.
        initial: the initial design (known sequences), instead of `config.initial` random objects.

    Raises:
        BadInput: what cannot be done: see `_check`.
    """
    environment = problem.environment
    _check(problem, config, initial)
    num_letters, num_objectives = environment.num_actions - 1, problem.objectives.num_objectives
    length = environment.max_steps
    num_initial = config.initial if initial is None else len(initial)
    capacity = num_initial + config.rounds * config.queries
    with_model, with_sampler = config.proposer in MODELLED, config.proposer == "mogfn"
    pool_shape = jnp.zeros((config.pool, length), jnp.int32)
    edits = edit_environment(
        np.zeros(length, np.int32), num_letters, max_edits=config.max_edits, min_edits=config.min_edits
    )
    inner = trainer(
        edits, num_objectives, config.gflownet, config.opt_steps, starts=pool_starts, context=pool_shape
    )  # fmt: skip
    fit = compiled_fit(config.surrogate)
    train_and_sample = jax.jit(mogfn(inner, edits, num_letters, config))
    climb = jax.jit(lambo(num_letters, config))
    choose = jax.jit(_chooser(config))
    random_objects = jax.jit(uniform_objects, static_argnums=(1, 2))
    mutate = jax.jit(lambda key, objects: substituted(key, objects, num_letters))

    def untrained(key: Key[Array, ""]) -> Surrogate:
        return initial_surrogate(key, num_letters, length, num_objectives, config.surrogate)

    def init(key: Key[Array, ""]) -> ActiveLearningState:
        k_surrogate, k_sampler, k_rounds = jax.random.split(key, 3)
        return ActiveLearningState(
            nothing_evaluated(capacity, length, num_objectives),
            jnp.zeros(num_objectives, jnp.float32),
            jnp.zeros((), jnp.float32),
            untrained(k_surrogate) if with_model else (),
            inner.init(k_sampler) if with_sampler else (),
            jnp.zeros((), jnp.int32),
            k_rounds,
            jnp.zeros((), jnp.int32),
        )

    def renewed(state: ActiveLearningState, key: Key[Array, ""]) -> tuple[PyTree, PyTree]:
        """The surrogate and the sampler that a round begins with."""
        k_surrogate, k_sampler = jax.random.split(key)
        surrogate = untrained(k_surrogate) if with_model and not config.surrogate.warm else state.surrogate
        return surrogate, inner.init(k_sampler) if with_sampler and not config.warm else state.sampler

    def propose(state: ActiveLearningState) -> Draft:
        return proposed(state, jax.random.fold_in(state.key, state.round), config.queries)

    def proposed(state: ActiveLearningState, key: Key[Array, ""], number: int) -> Draft:
        k_renew, k_round, k_pool, k_mutate = jax.random.split(key, 4)
        objects, _, _ = state.evaluated.host()

        def mutants(attempt: int, given: np.ndarray) -> np.ndarray:
            return np.asarray(mutate(jax.random.fold_in(k_mutate, attempt), jnp.asarray(given)))

        if int(state.round) == 0:
            design = initial if initial is not None else np.asarray(random_objects(k_round, environment, num_initial))
            if initial is None:
                design = filled_up(design, objects, num_initial, mutants, design)
            return Draft(jnp.asarray(design, jnp.int32), Memory(state.surrogate, state.sampler, {}))
        rng = np.random.default_rng(np.asarray(jax.random.key_data(k_pool)))
        rows = draw_pool(rng, state.evaluated, config.pool, config.resampling)
        memory = Memory(state.surrogate, state.sampler, {})
        if with_model:
            surrogate, sampler = renewed(state, k_renew)
            found, memory = modelled(state, surrogate, sampler, objects[rows], k_round, number)
        elif config.proposer == "mutation":
            assert problem.mutate is not None
            parents = jnp.asarray(objects[rng.choice(rows, 4 * number)])
            found = np.asarray(problem.mutate(k_round, parents))
        else:
            assert problem.variation is not None
            if config.proposer == "genetic":
                first, second = (_tournament(rng, state.evaluated, 4 * number) for _ in range(2))
            else:
                _, rewards, _ = state.evaluated.host()
                kept, crowding = survivors(rewards, config.pool, rng)
                first, second = kept[tournament(rewards[kept], crowding, 4 * number, rng)].T
            found = np.asarray(problem.variation(k_round, jnp.asarray(objects[first]), jnp.asarray(objects[second])))
        queries = filled_up(found, objects, number, mutants, objects[rows])
        return Draft(jnp.asarray(queries, jnp.int32), memory)

    def modelled(
        state: ActiveLearningState,
        surrogate: Surrogate,
        sampler: PyTree,
        pool: Int[np.ndarray, "P L"],
        key: Key[Array, ""],
        number: int,
    ) -> tuple[np.ndarray, Memory]:
        k_fit, k_search, k_choose = jax.random.split(key, 3)
        evaluated = state.evaluated
        fitted = fit(surrogate, evaluated.objects, evaluated.rewards, evaluated.size, k_fit)
        beta = exponent(int(state.round), config)
        situation = _situation(evaluated, pool, state.reference, beta, config)
        metrics = {"held_out": float(fitted.held_out), "fit_steps": float(fitted.steps)}
        if with_sampler:
            sampler, candidates, found = train_and_sample(sampler, fitted, situation, k_search)
            metrics |= {name: float(value) for name, value in found.items()}
        else:
            candidates = climb(fitted, situation, k_search)
        known, _, _ = evaluated.host()
        shortlist = _shortlist(candidates, known, config)
        metrics["new_candidates"] = float(len(shortlist))
        if len(shortlist) > number:
            shape = (SHORTLIST * config.queries, length)
            room = np.zeros(shape, np.int32)
            room[: len(shortlist)] = shortlist
            allowed = jnp.arange(len(room)) < len(shortlist)
            order = choose(k_choose, fitted, situation, jnp.asarray(room), allowed)
            shortlist = shortlist[np.asarray(order)[:number]]
        return shortlist, Memory(fitted.surrogate, sampler, metrics)

    def learn(
        state: ActiveLearningState, draft: Draft, rewards: Float[Any, "q M"]
    ) -> tuple[ActiveLearningState, Metrics]:
        objects, rewards = np.asarray(draft.objects, np.int32), np.asarray(rewards, np.float32)
        known, _, _ = state.evaluated.host()
        repeated = len(objects) - len(new_rows(objects, known))
        evaluated = append(state.evaluated, objects, rewards)
        reference, first = np.asarray(state.reference), float(state.first_hypervolume)
        if int(state.round) == 0:
            reference = reference_point(rewards, config.acquisition.reference)
            first = pareto.hypervolume(rewards, reference, maximise=True)
            repeated = 0  # known sequences may be given twice
        memory: Memory = draft.memory
        after = ActiveLearningState(
            evaluated,
            jnp.asarray(reference, jnp.float32),
            jnp.asarray(first, jnp.float32),
            memory.surrogate,
            memory.sampler,
            state.repeated + jnp.int32(repeated),
            state.key,
            state.round + jnp.int32(1),
        )
        metrics = {**memory.metrics, "evaluations": Sum(float(len(rewards)))}
        reached = relative_hypervolume(after)
        return after, metrics if np.isnan(reached) else {**metrics, "relative_hypervolume": Last(reached)}

    def sample(state: ActiveLearningState, key: Key[Array, ""], condition: Condition) -> Objects:
        number = condition.beta.shape[0]
        if number > SHORTLIST * config.queries:
            raise BadInput(f"{number} samples: at most {SHORTLIST * config.queries}, {SHORTLIST} times queries")
        return proposed(state, key, number).objects

    return Method(init, propose, learn, sample, on_host=True, answers_preferences=False)


def relative_hypervolume(state: ActiveLearningState) -> float:
    """Of everything evaluated, in units of the initial design's; NaN where that has none."""
    _, rewards, _ = state.evaluated.host()
    now, first = pareto.hypervolume(rewards, np.asarray(state.reference), maximise=True), float(state.first_hypervolume)
    return now / first if first > 0 else float("nan")


def figures(state: ActiveLearningState, problem: Problem, queries: int) -> dict[str, float]:
    """What the loop has reached: relative_hypervolume, hypervolume; evaluations; front, points on it; diversity, mean
    distance between the last `queries` objects; new, share of all queries that had not been evaluated before.

    With the exact front known: hypervolume_share, of its hypervolume above the same reference.
    """
    objects, rewards, _ = state.evaluated.host()
    reference = np.asarray(state.reference)
    hypervolume = pareto.hypervolume(rewards, reference, maximise=True)
    last = objects[-queries:]
    asked = max((int(state.round) - 1) * queries, 1)
    found = {
        "relative_hypervolume": relative_hypervolume(state),
        "hypervolume": hypervolume,
        "evaluations": float(len(objects)),
        "front": float(len(pareto.front(rewards, maximise=True))),
        "diversity": float(mean_pairwise_distance(problem.distances(last, last))) if len(last) > 1 else float("nan"),
        "new": 1.0 - float(state.repeated) / asked,
    }
    if problem.front is not None:
        found["hypervolume_share"] = hypervolume / pareto.hypervolume(problem.front(), reference, maximise=True)
    return found


def evaluation(problem: Problem, config: ActiveLearningConfig) -> Callable[..., Mapping[str, float]]:
    """`figures` in the form of `jax_host_program`'s evaluate, without those that have no value (yet)."""
    if problem.front is not None:
        problem = problem._replace(front=cache(problem.front))

    def evaluate(state: ActiveLearningState, key: Key[Array, ""], final: bool) -> Mapping[str, float]:
        found = figures(state, problem, config.queries)
        return {name: value for name, value in found.items() if not np.isnan(value)}

    return evaluate


def _situation(
    evaluated: Evaluated, pool: np.ndarray, reference: Array, beta: float, config: ActiveLearningConfig
) -> Situation:
    objects, rewards, _ = evaluated.host()
    most = config.acquisition.front
    rows = front_rows(rewards, most)
    # What is beyond the front's points is any object, masked out.
    padded = np.pad(rows, (0, most - len(rows)))
    return Situation(
        jnp.asarray(pool),
        jnp.asarray(objects[padded]),
        jnp.asarray(rewards[padded]),
        jnp.arange(most) < len(rows),
        evaluated.objects,
        evaluated.rewards,
        jnp.arange(evaluated.rewards.shape[0]) < evaluated.size,
        reference,
        jnp.asarray(beta, jnp.float32),
    )


def _shortlist(candidates: Candidates, known: np.ndarray, config: ActiveLearningConfig) -> np.ndarray:
    """The best new candidate of each start, then the best of the others."""
    objects, value = np.asarray(candidates.objects), np.asarray(candidates.value)
    start = np.arange(len(objects)) // (len(objects) // config.pool)
    order = np.argsort(-value, kind="stable")
    order = order[new_rows(objects[order], known)]
    _, first = np.unique(start[order], return_index=True)
    rest = np.setdiff1d(np.arange(len(order)), first)
    return objects[order[np.append(np.sort(first), rest)[: SHORTLIST * config.queries]]]


def _chooser(config: ActiveLearningConfig) -> Callable[..., Int[Array, "q"]]:
    settings = config.acquisition

    def choose(
        key: Key[Array, ""], fitted: Fitted, at: Situation, objects: Int[Array, "C L"], allowed: Array
    ) -> Int[Array, "q"]:
        encoder, scaling = fitted.surrogate.encoder, fitted.scaling
        return greedy_batch(
            key,
            fitted.posterior,
            encoder(at.front),
            scaling(at.front_rewards),
            at.front_mask,
            encoder(objects),
            allowed,
            scaling(at.reference),
            number=config.queries,
            num_samples=settings.num_samples,
            noisy=settings.kind == "nehvi",
            smoothing=settings.smoothing,
        )

    return choose


def _tournament(rng: np.random.Generator, evaluated: Evaluated, number: int) -> Int[np.ndarray, "number"]:
    """Of two random objects the one that fewer others dominate."""
    _, rewards, _ = evaluated.host()
    better = (rewards[:, None] >= rewards[None]).all(axis=2) & (rewards[:, None] > rewards[None]).any(axis=2)
    rank = better.sum(axis=0)
    pairs = rng.integers(len(rewards), size=(number, 2))
    return pairs[np.arange(number), np.argmin(rank[pairs], axis=1)]


def _check(problem: Problem, config: ActiveLearningConfig, initial: np.ndarray | None) -> None:
    environment, num_objectives = problem.environment, problem.objectives.num_objectives
    if not environment.is_sequence:
        raise BadInput("active learning edits sequences: this problem's environment does not build any")
    needs = {"mutation": problem.mutate, "genetic": problem.variation, "nsga2": problem.variation}
    if config.proposer in needs and needs[config.proposer] is None:
        what = "mutate" if config.proposer == "mutation" else "variation"
        raise BadInput(f"proposer = {config.proposer!r}: the problem has no {what}")
    if config.proposer == "nsga2":
        check_installed()
    if initial is not None:
        shape, length = np.shape(initial), environment.max_steps
        if len(shape) != 2 or shape[1] != length or shape[0] < 4:
            raise BadInput(f"initial of shape {shape}: must be [n ≥ 4, {length}]")
        letters = np.asarray(initial)
        if letters.min() < -1 or letters.max() >= environment.num_actions - 1:
            raise BadInput(
                f"initial has tokens from {letters.min()} to {letters.max()}: must be in "
                f"[-1, {environment.num_actions - 2}]"
            )
    number = config.initial if initial is None else len(initial)
    check_active(replace(config, initial=number), num_objectives, environment.max_steps)
