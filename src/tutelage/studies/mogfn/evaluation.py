"""What a sampler is worth: samples for every preference of a grid, and where a space is small, exact laws.

`collected` is a pure function of the state which is compiled; `measured` makes figures of its arrays on the host.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tutelage.gflownets.baselines.population import uniform_objects
from tutelage.gflownets.condition import Condition, simplex_grid
from tutelage.gflownets.config import RewardConfig, beta_range
from tutelage.gflownets.exact import law as exact
from tutelage.gflownets.exact.enumeration import StateGraph, enumerate_states
from tutelage.gflownets.figures import sample_figures
from tutelage.gflownets.learning.gflownet import GFlowNetState, encoded
from tutelage.gflownets.method import Method
from tutelage.gflownets.objectives import check_rewards, compiled_rewards, log_scalar
from tutelage.gflownets.oracles.oracle import Oracle
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.scoring import log_prob
from tutelage.measures.rank_correlation import pearson, spearman
from tutelage.studies.mogfn.config import Config

ROWS_AT_ONCE = 2048
"""Conditions that are answered together."""
HELD_OUT_KEY = 0x6F7574
TEMPERED = ("gflownet", "soft_q", "mars")
"""Methods that learn from ℓ(x) = max(β log R, floor), to which all objects at the floor are the same."""


class Exactness(NamedTuple):
    """The exact laws that a learned one is compared with.

    Attributes:
        graph: all states.
        conditions: preferences × exponents, exponents outermost, n rows.
        target: the law asked for, f64 [n, X].
        log_z: log Z(w, β), f64 [n].
    """

    graph: StateGraph
    conditions: Condition
    target: Float[np.ndarray, "n X"]
    log_z: Float[np.ndarray, "n"]


def asked_beta(config: Config) -> float:
    """The exponent of an evaluation: the one set, or the largest that training knows."""
    return config.evaluation.beta or beta_range(config.gflownet.beta)[1]


def preferences(config: Config, num_objectives: int, final: bool) -> Float[np.ndarray, "P M"]:
    """The regular grid on the simplex."""
    chosen = config.evaluation
    return simplex_grid(num_objectives, chosen.final_bins if final else chosen.bins)


def scored(problem: Problem, objects: np.ndarray) -> np.ndarray:
    """Rewards [n, M] of objects, from the compiled objectives or from the host."""
    if problem.objectives.on_host:
        return Oracle(problem.objectives)(objects)
    return check_rewards(problem.objectives.rewards(jax.numpy.asarray(objects)), problem.objectives, objects)


def conditions(weights: Float[np.ndarray, "P M"], number: int, beta: float) -> Condition:
    """Each preference `number` times in a row."""
    rows = np.repeat(weights, number, axis=0)
    return Condition(jnp.asarray(rows, jnp.float32), jnp.full(len(rows), beta, jnp.float32))


def sampled(method: Method, state: Any, key: Key[Array, ""], asked: Condition) -> Array:
    """One object for each row of many conditions, in blocks that fit into memory: [n, …]."""
    number = len(asked.beta)
    blocks = -(-number // ROWS_AT_ONCE)
    size = -(-number // blocks)
    padded = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[: blocks * size - number]]), asked)
    rows = jax.tree.map(lambda leaf: leaf.reshape(blocks, size, *leaf.shape[1:]), padded)
    keys = jax.random.split(key, blocks)
    found = jax.lax.map(lambda row: method.sample(state, row[0], row[1]), (keys, rows))
    return found.reshape(blocks * size, *found.shape[2:])[:number]


def exactness(config: Config, problem: Problem) -> Exactness | None:
    """The exact laws, where the sampler has an explicit one and the space is small enough."""
    chosen = config.evaluation
    if config.method != "gflownet" or chosen.exact_bins == 0 or config.gflownet.network.kind != "mlp":
        return None
    if not 0 < problem.num_objects <= chosen.exact_limit or problem.objectives.on_host:
        return None
    graph = enumerate_states(problem.environment)
    weights = simplex_grid(problem.objectives.num_objectives, chosen.exact_bins)
    rows = np.tile(weights, (len(chosen.exact_betas), 1))
    betas = np.repeat(np.asarray(chosen.exact_betas), len(weights))
    rewards = np.asarray(problem.objectives.rewards(jnp.asarray(graph.objects)), np.float64)
    law = (rewards, rows, betas, config.gflownet.reward.scalarisation, config.gflownet.reward.floor)
    asked = Condition(jnp.asarray(rows, jnp.float32), jnp.asarray(betas, jnp.float32))
    return Exactness(graph, asked, exact.target_law(*law), exact.log_partition(*law))


def collector(
    config: Config, method: Method, problem: Problem, known: Callable[[], Exactness | None]
) -> Callable[[Any, Key[Array, ""], bool], dict[str, Any]]:
    """`(state, key, final) -> arrays` for `measurer`: objects, their rewards unless these live on the host, laws."""
    num_objectives = problem.objectives.num_objectives

    def collected(state: Any, key: Key[Array, ""], final: bool) -> dict[str, Any]:
        k_sample, k_held_out = jax.random.split(key)
        weights = preferences(config, num_objectives, final)
        asked = conditions(weights, config.evaluation.num_samples, asked_beta(config))
        objects = sampled(method, state.method, k_sample, asked)
        found = {"objects": objects, "final": jnp.bool_(final), "evaluations": state.evaluations}
        if not problem.objectives.on_host:
            found["rewards"] = compiled_rewards(problem.objectives, objects)
        if isinstance(state.method, GFlowNetState):
            found |= _law(state.method) if final else {}
            if final and config.evaluation.held_out:
                found |= held_out(state.method, k_held_out)
        return found

    def _law(state: GFlowNetState) -> dict[str, Array]:
        # When the evaluation is traced, not before the first update; as values all the same.
        with jax.ensure_compile_time_eval():
            laws = known()
        if laws is None:
            return {}
        rows = encoded(laws.conditions, config.gflownet)
        observed = problem.environment.observe(problem.environment.source())
        starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(rows), *leaf.shape)), observed)
        return {
            "log_pf": exact.forward_policy(laws.graph, state.policy, rows),
            "log_z": state.policy.log_z(starts, rows),
        }

    def held_out(state: GFlowNetState, key: Key[Array, ""]) -> dict[str, Array]:
        # The same objects in every evaluation of every run: uniform trajectories, which training does not resemble.
        objects = uniform_objects(jax.random.key(HELD_OUT_KEY), problem.environment, config.evaluation.held_out)
        weights = np.full((config.evaluation.held_out, num_objectives), 1 / num_objectives)
        asked = conditions(weights, 1, asked_beta(config))
        of_objects = log_prob(
            state.policy, problem.environment, key, objects, asked, encoded(asked, config.gflownet), num_draws=16
        )
        return {"held_out": objects, "held_out_log_prob": of_objects}

    return collected


def measurer(
    config: Config,
    problem: Problem,
    known: Callable[[], Exactness | None],
    score: Callable[[np.ndarray], np.ndarray] | None,
) -> Callable[[Mapping[str, np.ndarray]], dict[str, float]]:
    """`arrays -> figures`, with `score` for objectives that live on the host."""
    num_objectives, chosen = problem.objectives.num_objectives, config.evaluation
    scalarisation = config.gflownet.reward.scalarisation

    def rewards_of(objects: np.ndarray) -> np.ndarray:
        if score is not None:
            return score(objects)
        return check_rewards(problem.objectives.rewards(jnp.asarray(objects)), problem.objectives, objects)

    def measured(found: Mapping[str, np.ndarray]) -> dict[str, float]:
        weights = preferences(config, num_objectives, bool(found["final"]))
        objects = found["objects"].reshape(len(weights), chosen.num_samples, *found["objects"].shape[1:])
        flat = found["rewards"] if "rewards" in found else rewards_of(found["objects"])
        rewards = check_rewards(flat, problem.objectives, found["objects"]).reshape(*objects.shape[:2], -1)
        k = min(chosen.top_k, chosen.num_samples)
        figures = sample_figures(rewards, objects, weights, problem, k=k, scalarisation=scalarisation)
        figures |= use_of_the_condition(rewards, weights, scalarisation)
        if config.method in TEMPERED:
            figures |= at_the_floor(rewards, weights, asked_beta(config), config.gflownet.reward)
        figures["evaluations"] = float(found["evaluations"])
        laws = known() if "log_pf" in found else None
        if laws is not None:
            figures |= distances_to_exact(laws, found["log_pf"], found["log_z"], chosen.exact_betas)
        if "held_out" in found:
            figures |= agreement(found["held_out_log_prob"], rewards_of(found["held_out"]))
        return figures

    def agreement(log_probs: np.ndarray, rewards: np.ndarray) -> dict[str, float]:
        middle = np.full_like(rewards, 1 / num_objectives)
        log_r = np.asarray(log_scalar(jnp.asarray(rewards), jnp.asarray(middle), scalarisation), np.float64)
        usable = log_r > config.gflownet.reward.floor
        if usable.sum() < 3:
            return {}
        return {
            "held_out_pearson": float(pearson(log_probs[usable], log_r[usable])),
            "held_out_spearman": float(spearman(log_probs[usable], log_r[usable])),
        }

    return measured


def distances_to_exact(
    laws: Exactness, log_pf: np.ndarray, log_z: np.ndarray, betas: tuple[float, ...]
) -> dict[str, float]:
    """Per exponent over preferences: mean and largest L1 and the mean KL to the target law, and of log Z the error."""
    learned = exact.terminal_law(laws.graph, log_pf)
    away, divergence = exact.l1(learned, laws.target), exact.kl(learned, laws.target)
    error = np.abs(np.asarray(log_z, np.float64) - laws.log_z)
    figures = {}
    for beta, rows in zip(betas, np.split(np.arange(len(away)), len(betas)), strict=True):
        figures[f"l1@{beta:g}"] = float(away[rows].mean())
        figures[f"l1_max@{beta:g}"] = float(away[rows].max())
        figures[f"kl@{beta:g}"] = float(divergence[rows].mean())
        figures[f"log_z_error@{beta:g}"] = float(error[rows].max())
    return figures


def use_of_the_condition(
    rewards: Float[np.ndarray, "P n M"], weights: Float[np.ndarray, "P M"], scalarisation: str
) -> dict[str, float]:
    """Whether preferences matter.

    `conditioning`: the correlation of a weight with the mean reward of its objective over preferences, mean over
    objectives. `shuffle_loss`: the share of the mean scalar reward that is lost when every preference is answered by
    the samples of another one (all others, in the mean).
    """
    means = rewards.mean(axis=1)
    spread = (means.std(axis=0) > 0) & (weights.std(axis=0) > 0)
    correlations = [float(pearson(weights[:, i], means[:, i])) if spread[i] else 0.0 for i in range(weights.shape[1])]
    number = len(weights)
    table = np.empty((number, number))  # [asked, answered]
    flat = jnp.asarray(rewards.reshape(-1, rewards.shape[-1]))
    for row, weight in enumerate(weights):
        scores = _scores(flat, jnp.asarray(weight, flat.dtype), scalarisation)
        table[row] = np.asarray(scores, np.float64).reshape(number, -1).mean(axis=1)
    own = np.trace(table) / number
    others = (table.sum() - np.trace(table)) / (number * max(number - 1, 1))
    return {
        "conditioning": float(np.mean(correlations)),
        "mean_reward": float(own),
        "shuffle_loss": float(1 - others / own) if own > 0 else 0.0,
    }


def at_the_floor(
    rewards: Float[np.ndarray, "P n M"], weights: Float[np.ndarray, "P M"], beta: float, reward: RewardConfig
) -> dict[str, float]:
    """`reward_floor`: the share of a preference's samples whose ℓ(x) is the floor, the largest over preferences.

    Warns of preferences of whose samples more than 99 % are there: then nothing tells the sampler what is better.
    """
    log_r = np.asarray(_log_rewards(rewards, np.asarray(weights, rewards.dtype), reward.scalarisation), np.float64)
    share = (beta * log_r <= reward.floor).mean(axis=1)
    if len(lost := np.flatnonzero(share > 0.99)):
        first = ", ".join(f"{weight:g}" for weight in weights[lost[0]])
        warnings.warn(
            f"reward floor: under {len(lost)} of {len(weights)} preferences, the first ({first}), more than 99 % of "
            f"the samples have a reward of 0, or β log R at or below gflownet.reward.floor = {reward.floor:g} "
            f"(β = {beta:g}); the sampler cannot tell them apart",
            stacklevel=2,
        )
    return {"reward_floor": float(share.max())}


@functools.partial(jax.jit, static_argnums=2)
def _log_rewards(rewards: Array, weights: Array, scalarisation: str) -> Array:
    return log_scalar(rewards, jnp.broadcast_to(weights[:, None], rewards.shape), scalarisation)


@functools.partial(jax.jit, static_argnums=2)
def _scores(rewards: Array, weight: Array, scalarisation: str) -> Array:
    return jnp.exp(log_scalar(rewards, jnp.broadcast_to(weight, rewards.shape), scalarisation))
