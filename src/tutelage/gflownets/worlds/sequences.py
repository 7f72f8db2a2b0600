"""Auto-regressive sequences: letters are appended one by one until STOP, or until there are max_len of them.

The task of the published sequence code (mo_gfn), except for an off-by-one: there STOP is blocked while
t ≤ min_len, so that its shortest sequence has min_len + 1 letters. Here min_len and max_len mean what they say. As
there, a sequence of max_len letters is complete without a STOP action, and no probability is spent on one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.environment import Environment, Token
from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.config import check_alphabet, check_lengths
from tutelage.gflownets.worlds.edit_distance import edit_distances
from tutelage.lab.errors import BadInput

STOP = 0
"""The action that ends a sequence; action 1 + i appends letter i."""
PADDING = -1
"""What follows the last letter of an object."""


class Prefix(NamedTuple):
    """One state.

    Attributes:
        tokens: int32 [max_len], indices of letters, then −1.
        length: int32, letters so far.
        over: bool, the sequence is complete.
    """

    tokens: Int[Array, "L"]
    length: Int[Array, ""]
    over: Bool[Array, ""]


def sequence_problem(
    alphabet: str,
    min_len: int,
    max_len: int,
    objectives: Objectives,
    front: Callable[[], Float[np.ndarray, "K M"]] | None = None,
) -> Problem:
    """Sequences over an alphabet under any objectives (of int32 [n, max_len] indices of letters, padded with −1).

    Raises:
        BadInput: min_len > max_len, or an alphabet of fewer than two letters or with one of them twice.
    """
    check_lengths(min_len, max_len)
    check_alphabet(alphabet)
    size = len(alphabet)
    mutate = mutation(size, min_len)
    return Problem(
        environment=sequence_environment(size, min_len, max_len),
        objectives=objectives,
        distances=edit_distances,
        num_objects=sum(size**length for length in range(min_len, max_len + 1)),
        front=front,
        variation=lambda key, objects, partners: _variation(mutate, key, objects, partners),
        mutate=mutate,
        objects=lambda: all_sequences(size, min_len, max_len),
    )


def sequence_environment(num_letters: int, min_len: int, max_len: int) -> Environment:
    """Prefixes as states, min_len … max_len letters; objects are int32 [max_len], padded with −1."""
    places = np.arange(max_len, dtype=np.int32)

    def source() -> Prefix:
        return Prefix(jnp.full(max_len, PADDING, jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros((), bool))

    def mask(state: Prefix) -> Bool[Array, "A"]:
        return jnp.append(state.length >= min_len, jnp.broadcast_to(state.length < max_len, (num_letters,)))

    def step(state: Prefix, action: Int[Array, ""]) -> Prefix:
        stops = action == STOP
        tokens = jnp.where((places == state.length) & ~stops, action.astype(jnp.int32) - 1, state.tokens)
        length = state.length + ~stops
        return Prefix(tokens, length, stops | (length == max_len))

    def retrace(key: Key[Array, ""], after: Prefix) -> tuple[Prefix, Int[Array, ""]]:
        stopped = after.over & (after.length < max_len)
        length = after.length - ~stopped
        action = jnp.where(stopped, STOP, after.tokens[length] + 1).astype(jnp.int32)
        tokens = jnp.where(places < length, after.tokens, PADDING)
        return Prefix(tokens, length, jnp.zeros((), bool)), action

    def observe(state: Prefix) -> Token:
        last = jnp.where(state.length > 0, state.tokens[state.length - 1] + 1, 0)
        return Token(last.astype(jnp.int32), state.length)

    def terminal(tokens: Int[Array, "L"]) -> Prefix:
        return Prefix(tokens, (tokens >= 0).sum(dtype=jnp.int32), jnp.ones((), bool))

    return Environment(
        num_actions=num_letters + 1,
        max_steps=max_len,
        source=source,
        mask=mask,
        step=step,
        done=lambda state: state.over,
        log_pb=lambda state, action, after: jnp.zeros(()),
        retrace=retrace,
        observe=observe,
        object_of=lambda state: state.tokens,
        terminal=terminal,
        is_tree=True,
        is_sequence=True,
        min_steps=min_len,
    )


def mutation(num_letters: int, min_len: int) -> Callable[[Key[Array, ""], Array], Array]:
    """One random edit of each sequence: for half of them a letter is replaced by another one, for the others one is
    inserted or deleted (what would leave the allowed lengths stays).

    Symmetric, q(x → y) = q(y → x): an insertion into n letters has (n + 1)·A equally likely ways, the deletion that
    undoes it n + 1, so insertions are tried A times as often as deletions.
    """

    def mutate(key: Key[Array, ""], objects: Int[Array, "n L"]) -> Int[Array, "n L"]:
        number, max_len = objects.shape
        k_kind, k_insert, k_place, k_letter = jax.random.split(key, 4)
        length = (objects >= 0).sum(axis=-1)
        substitutes = jax.random.bernoulli(k_kind, shape=(number,)) | (min_len == max_len)
        inserts = jax.random.bernoulli(k_insert, num_letters / (num_letters + 1), (number,))
        ways = jnp.where(~substitutes & inserts, length + 1, length)
        place = jax.random.randint(k_place, (number,), 0, ways)
        shift = jax.random.randint(k_letter, (number,), 0, jnp.where(substitutes, num_letters - 1, num_letters))
        at = jnp.arange(max_len) == place[:, None]
        after = jnp.arange(max_len) > place[:, None]
        another = (objects + 1 + shift[:, None]) % num_letters
        before, behind = jnp.roll(objects, 1, axis=1), jnp.roll(objects, -1, axis=1).at[:, -1].set(PADDING)
        substituted = jnp.where(at, another, objects)
        inserted = jnp.where(at, shift[:, None], jnp.where(after, before, objects))
        inserted = jnp.where((length < max_len)[:, None], inserted, objects)
        deleted = jnp.where(at | after, behind, objects)
        deleted = jnp.where((length > min_len)[:, None], deleted, objects)
        resized = jnp.where(inserts[:, None], inserted, deleted)
        return jnp.where(substitutes[:, None], substituted, resized)

    return mutate


def _variation(
    mutate: Callable[[Key[Array, ""], Array], Array],
    key: Key[Array, ""],
    objects: Int[Array, "n L"],
    partners: Int[Array, "n L"],
) -> Int[Array, "n L"]:
    """The head of one sequence and the tail of the other, cut at the same place, then one mutation."""
    k_cut, k_mutate = jax.random.split(key)
    shorter = jnp.minimum((objects >= 0).sum(axis=-1), (partners >= 0).sum(axis=-1))
    cut = jax.random.randint(k_cut, shorter.shape, 0, shorter + 1)
    return mutate(k_mutate, jnp.where(jnp.arange(objects.shape[1]) < cut[:, None], objects, partners))


def all_sequences(num_letters: int, min_len: int, max_len: int) -> Int[np.ndarray, "X L"]:
    """Every object: the shortest first, those of one length in lexicographic order."""
    blocks = []
    for length in range(min_len, max_len + 1):
        words = np.indices((num_letters,) * length, dtype=np.int32).reshape(length, -1).T
        blocks.append(np.pad(words, ((0, 0), (0, max_len - length)), constant_values=PADDING))
    return np.concatenate(blocks)


def text_of(tokens: Int[np.ndarray, "L"], alphabet: str) -> str:
    """An object in letters."""
    return "".join(alphabet[token] for token in np.asarray(tokens) if token >= 0)


def tokens_of(text: str, alphabet: str, max_len: int) -> Int[np.ndarray, "L"]:
    """The object that a text stands for.

    Raises:
        BadInput: a letter that is not in the alphabet, or more than `max_len` of them.
    """
    if foreign := [letter for letter in text if letter not in alphabet]:
        raise BadInput(f"{text!r} has the letter {foreign[0]!r}, which is not in {alphabet!r}")
    if len(text) > max_len:
        raise BadInput(f"{text!r} has {len(text)} letters; at most {max_len} are allowed")
    tokens = [alphabet.index(letter) for letter in text]
    return np.array(tokens + [PADDING] * (max_len - len(text)), np.int32)
