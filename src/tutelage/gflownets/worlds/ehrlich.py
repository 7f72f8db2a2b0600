"""Ehrlich functions: closed-form stand-ins for the design of biological sequences (Stanton et al. 2024, 2407.00236).

Some transitions between letters are banned: a sequence which has one is infeasible and worth 0. Of a feasible one

    f(x) = Π_{i=1..c} q(h_i(x)),   h_i(x) = max_l (share of the elements j of motif i with x_{l + s_ij} = a_ij),

with q rounding down to multiples of 1/q. Every function reaches 1: motifs are walks along allowed transitions, any
letter may follow itself, so motifs can be written one after another with their gaps filled by repeats.

Here M of them, with motifs of their own over the same banned transitions, are the objectives. They conflict as soon as
a sequence is too short for the motifs of all.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.config import SYMBOLS, EhrlichConfig, check_ehrlich
from tutelage.gflownets.worlds.enumeration import front_of
from tutelage.gflownets.worlds.sequences import sequence_problem, text_of

FRONT_LIMIT = 2**23
"""Pairs of a text as long as the widest motif and of motif levels up to which a front is computed: half a gigabyte."""
ORDERS_UP_TO = 7
"""Motifs of which every order is tried when asking whether all of them fit."""


class Instance(NamedTuple):
    """What makes one function (or M) of the family.

    Attributes:
        allowed: which letter may follow which, [from, to].
        motifs: a, letters of the motifs of each objective.
        offsets: s, where their elements are relative to the first (0), increasing.
    """

    allowed: Bool[np.ndarray, "v v"]
    motifs: Int[np.ndarray, "M c k"]
    offsets: Int[np.ndarray, "M c k"]


def ehrlich(config: EhrlichConfig) -> Problem:
    """The problem of a configuration: sequences of `length` letters, objectives f1 … fM.

    The front is exact where it can be had: (1, …, 1) if all motifs fit into one sequence, else by `ehrlich_front`, if
    v^(widest span)·(q + 1)^(cM) is at most 2²³; other problems come without one.

    Raises:
        BadInput: what is wrong with the configuration.
    """
    check_ehrlich(config)
    instance = draw_instance(config)
    levels, length = config.quantization, config.length
    alphabet = SYMBOLS[: config.num_states]

    objectives = Objectives(
        tuple(f"f{i + 1}" for i in range(config.num_objectives)),
        lambda objects: ehrlich_values(objects, instance, levels),
        render=lambda tokens: text_of(tokens, alphabet),
    )
    return sequence_problem(alphabet, length, length, objectives, front=_front(instance, levels, length))


def draw_instance(config: EhrlichConfig) -> Instance:
    """The function that a seed stands for.

    Banned are ⌊v·banned_share⌋ followers of each letter (at most v − 2), never the letter itself nor its successor on a
    random cycle through all letters, so that every letter can be reached from every other. Motifs of an objective are
    the pieces of one walk without repeats of a letter in a row. Gaps share what is left of L // c by a uniform draw
    from the simplex, rounded down (holo-bench).
    """
    rng = np.random.default_rng(config.seed)
    v, c, k, m = config.num_states, config.num_motifs, config.motif_length, config.num_objectives
    cycle = rng.permutation(v)
    allowed = np.ones((v, v), bool)
    for letter, successor in zip(cycle, np.roll(cycle, -1), strict=True):
        others = np.setdiff1d(np.arange(v), [letter, successor])
        banned = rng.choice(others, min(int(v * config.banned_share), len(others)), replace=False)
        allowed[letter, banned] = False
    walks = np.empty((m, c * k), np.int64)
    for walk in walks:
        walk[0] = rng.integers(v)
        for step in range(1, c * k):
            followers = np.flatnonzero(allowed[walk[step - 1]])
            walk[step] = rng.choice(followers[followers != walk[step - 1]])
    slack = (config.max_span or config.length // c) - k
    offsets = np.zeros((m, c, k), np.int64)
    if k > 1:
        gaps = 1 + np.floor(slack * rng.dirichlet(np.ones(k - 1), (m, c))).astype(np.int64)
        offsets[..., 1:] = gaps.cumsum(axis=-1)
    return Instance(allowed, walks.reshape(m, c, k), offsets)


def ehrlich_values(objects: Int[Array, "n L"], instance: Instance, quantization: int) -> Float[Array, "n M"]:
    """f of sequences without padding; infeasible ones get 0 in every objective."""
    num_objectives, num_motifs, size = instance.motifs.shape
    length = objects.shape[1]
    offsets = instance.offsets.reshape(-1, 1, size)
    places = np.arange(length)[:, None] + offsets  # [motif, start, element]
    fits = places[..., -1] < length
    elements = objects[:, np.minimum(places, length - 1)] == instance.motifs.reshape(-1, 1, size)
    present = jnp.max(jnp.where(fits, elements.sum(axis=-1), 0), axis=-1)
    # By a table, because compiled divisions by a constant, multiplied, may make (3/3)·(3/3) greater than 1.
    table = jnp.asarray(np.float32(np.arange(quantization + 1) / quantization))
    shares = table[present * quantization // size]
    values = shares.reshape(-1, num_objectives, num_motifs).prod(axis=-1)
    feasible = jnp.asarray(instance.allowed)[objects[:, :-1], objects[:, 1:]].all(axis=-1)
    return jnp.where(feasible[:, None], values, 0.0)


def optimal_sequence(instance: Instance, objective: int, length: int) -> Int[np.ndarray, "L"]:
    """A feasible sequence of value 1: the objective's motifs one after another, gaps and the rest filled by repeats."""
    letters: list[int] = []
    for motif, offsets in zip(instance.motifs[objective], instance.offsets[objective], strict=True):
        for letter, repeats in zip(motif, [*np.diff(offsets), 1], strict=True):
            letters += [int(letter)] * int(repeats)
    return np.array(letters + letters[-1:] * (length - len(letters)), np.int32)


def joint_length(instance: Instance) -> int:
    """Letters that surely suffice for a feasible sequence with all motifs of all objectives, one after another.

    Between two motifs stands the shortest allowed path; of all orders of the motifs the best, if they are few.
    """
    distance = _path_lengths(instance.allowed)
    motifs = instance.motifs.reshape(-1, instance.motifs.shape[-1])
    spans = int((instance.offsets[..., -1] + 1).sum())
    order = range(len(motifs))
    orders = permutations(order) if len(motifs) <= ORDERS_UP_TO else [order]
    links = min(sum(distance[motifs[i, -1], motifs[j, 0]] - 1 for i, j in pairwise(order)) for order in orders)
    return spans + int(links)


def _path_lengths(allowed: Bool[np.ndarray, "v v"]) -> Int[np.ndarray, "v v"]:
    """Steps of the shortest allowed path, at least 1 (a letter may follow itself)."""
    distance, reached = np.ones(allowed.shape, np.int64), allowed.copy()
    while not reached.all():
        distance += ~reached
        reached = (reached.astype(int) @ allowed.astype(int)) > 0
    return distance


def ehrlich_front(instance: Instance, quantization: int, length: int) -> Float[np.ndarray, "K M"]:
    """The exact front of sequences of a length, by dynamic programming over prefixes.

    Two things of a prefix matter to what can follow: its last w − 1 letters, w the widest span of a motif, and the
    level (0 … q) that each motif has reached. All reachable pairs of them are kept; none is dropped before the end, so
    time and memory grow as v^w·(q + 1)^(cM).
    """
    num_objectives, num_motifs, size = instance.motifs.shape
    v, window = len(instance.allowed), _window(instance)
    motifs, offsets = instance.motifs.reshape(-1, size), instance.offsets.reshape(-1, size)
    weights = (quantization + 1) ** np.arange(len(motifs), dtype=np.int64)
    num_levels, num_windows = int(weights[-1]) * (quantization + 1), v**window
    following = np.arange(v)
    reached = np.zeros(1, np.int64)  # window·num_levels + levels
    for written in range(length):
        ending, levels = (reached // num_levels)[:, None], (reached % num_levels)[:, None]
        may_follow = instance.allowed[(ending % v), following] if written else np.ones((1, v), bool)
        text = ending * v + following
        after = np.zeros_like(text)
        for motif, offset, weight in zip(motifs, offsets, weights, strict=True):
            level = levels // weight % (quantization + 1)
            if offset[-1] <= written:
                behind = v ** (offset[-1] - offset)
                found = sum((text // power % v == letter).astype(np.int64) for letter, power in zip(motif, behind))
                level = np.maximum(level, found * quantization // size)
            after = after + level * weight
        reached = np.unique(((text % num_windows) * num_levels + after)[may_follow])
    levels = np.unique(reached % num_levels)[:, None] // weights % (quantization + 1)
    return front_of((levels / quantization).reshape(-1, num_objectives, num_motifs).prod(axis=-1))


def _front(instance: Instance, quantization: int, length: int) -> Callable[[], np.ndarray] | None:
    num_objectives, num_motifs = instance.motifs.shape[:2]
    if joint_length(instance) <= length:
        return lambda: np.ones((1, num_objectives))
    pairs = len(instance.allowed) ** (_window(instance) + 1) * (quantization + 1) ** (num_objectives * num_motifs)
    return (lambda: ehrlich_front(instance, quantization, length)) if pairs <= FRONT_LIMIT else None


def _window(instance: Instance) -> int:
    """Letters of a prefix that a motif (or a banned transition) may still need."""
    return max(1, int(instance.offsets[..., -1].max()))
