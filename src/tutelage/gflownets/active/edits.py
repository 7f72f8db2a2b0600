"""Substitutions in a given sequence: the graph that MOGFN-AL samples from.

A state is the sequence that the trajectory began with, what has become of it, and which places were written. Action
1 + p·V + v writes letter v, another one than stands there, at a place p that was not written yet; 0 stops. So the
places written are those where the object differs from its start, an object has one terminal state, and what may follow
a state does not depend on what stood at the places written: a network need not see it.

The backward policy is uniform over the |E| places written. The letter to restore is known, for the start is part of the
state; then trajectory balance samples P(x | start) ∝ R(x) over all objects within `max_edits` substitutions. The
published code (mogfn-al) instead divides by |E| − 1 places and by the size of the alphabet with a special token, as if
the letter before an edit were forgotten: exactly normalised, over V − 1 letters, that would be a law over starts as
well, and P(x | start) ∝ R(x)·(V − 1)^(−|E|), which prefers few edits. It also learns one log Z for all starts, which no
flow satisfies.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.environment import Environment
from tutelage.lab.errors import BadInput

STOP = 0


class Edit(NamedTuple):
    """One state.

    Attributes:
        start: letters of the sequence edited, int32 [L], then −1.
        tokens: letters now, int32 [L], then −1.
        edited: the places written, bool [L].
        over: the object is complete.
    """

    start: Int[Array, "L"]
    tokens: Int[Array, "L"]
    edited: Bool[Array, "L"]
    over: Bool[Array, ""]


def starting_at(tokens: Int[Array, "*b L"]) -> Edit:
    """The source of the trajectories that edit these sequences."""
    return Edit(tokens, tokens, jnp.zeros(tokens.shape, bool), jnp.zeros(tokens.shape[:-1], bool))


def edited_to(start: Int[Array, "*b L"], tokens: Int[Array, "*b L"]) -> Edit:
    """The terminal states of the objects `tokens` that come from those sequences."""
    return Edit(start, tokens, tokens != start, jnp.ones(tokens.shape[:-1], bool))


def edit_environment(
    start: Int[np.ndarray, "L"], num_letters: int, *, max_edits: int = 0, min_edits: int = 1
) -> Environment:
    """Edits of sequences of at most L letters; a sequence with fewer letters than `min_edits` has all of them edited.

    Args:
        start: where trajectories begin that are not told otherwise (`starting_at`), and which `terminal` supposes.
        max_edits: 0: all places. With so many edits an object is complete without a STOP.

    Raises:
        BadInput: min_edits > max_edits, or fewer than two letters.
    """
    length = len(start)
    limit = min(max_edits or length, length)
    if min_edits > limit:
        raise BadInput(f"min_edits = {min_edits} is more than max_edits = {limit}")
    if num_letters < 2:
        raise BadInput(f"num_letters = {num_letters}: an edit needs another letter, at least 2 are needed")
    origin = jnp.asarray(start, jnp.int32)
    letters = jnp.arange(num_letters, dtype=jnp.int32)

    def most(state: Edit) -> Int[Array, ""]:
        return jnp.minimum(limit, jnp.sum(state.start >= 0, dtype=jnp.int32))

    def count(state: Edit) -> Int[Array, ""]:
        return jnp.sum(state.edited, dtype=jnp.int32)

    def mask(state: Edit) -> Bool[Array, "A"]:
        open_places = (state.tokens >= 0) & ~state.edited
        writes = open_places[:, None] & (state.tokens[:, None] != letters)
        stop = count(state) >= jnp.minimum(min_edits, most(state))
        return jnp.append(stop, writes.reshape(-1) & (count(state) < most(state)))

    def step(state: Edit, action: Int[Array, ""]) -> Edit:
        stops = action == STOP
        here = (jnp.arange(length) == (action - 1) // num_letters) & ~stops
        tokens = jnp.where(here, ((action - 1) % num_letters).astype(jnp.int32), state.tokens)
        after = state._replace(tokens=tokens, edited=state.edited | here)
        return after._replace(over=stops | (count(after) >= most(after)))

    def stopped(after: Edit) -> Bool[Array, ""]:
        return after.over & (count(after) < most(after))

    def log_pb(state: Edit, action: Int[Array, ""], after: Edit) -> Float[Array, ""]:
        return jnp.where(stopped(after), 0.0, -jnp.log(jnp.maximum(count(after), 1).astype(jnp.float32)))

    def undone(after: Edit, place: Int[Array, ""]) -> tuple[Edit, Int[Array, ""]]:
        here = jnp.arange(length) == place
        tokens = jnp.where(here, after.start, after.tokens)
        action = 1 + place * num_letters + after.tokens[place]
        before = Edit(after.start, tokens, after.edited & ~here, jnp.zeros((), bool))
        return before, action.astype(jnp.int32)

    def unstopped(after: Edit) -> tuple[Edit, Int[Array, ""]]:
        return after._replace(over=jnp.zeros((), bool)), jnp.zeros((), jnp.int32)

    def retrace(key: Key[Array, ""], after: Edit) -> tuple[Edit, Int[Array, ""]]:
        place = jax.random.categorical(key, jnp.where(after.edited, 0.0, -jnp.inf))
        pairs = zip(jax.tree.leaves(unstopped(after)), jax.tree.leaves(undone(after, place)), strict=True)
        leaves = [jnp.where(stopped(after), yes, no) for yes, no in pairs]
        return jax.tree.unflatten(jax.tree.structure(unstopped(after)), leaves)

    def parents(state: Edit) -> tuple[Edit, Int[Array, "K"], Bool[Array, "K"]]:
        first = jax.tree.map(lambda leaf: leaf[None], unstopped(state))
        others = jax.vmap(undone, (None, 0))(state, jnp.arange(length, dtype=jnp.int32))
        states, actions = jax.tree.map(lambda one, more: jnp.concatenate([one, more]), first, others)
        return states, actions, jnp.append(stopped(state), state.edited & ~stopped(state))

    def terminal(tokens: Int[Array, "L"]) -> Edit:
        return edited_to(origin, tokens)

    return Environment(
        num_actions=1 + length * num_letters,
        max_steps=limit,
        source=lambda: starting_at(origin),
        mask=mask,
        step=step,
        done=lambda state: state.over,
        log_pb=log_pb,
        retrace=retrace,
        # 0 is what pads.
        observe=lambda state: (state.tokens + 1, state.edited),
        object_of=lambda state: state.tokens,
        terminal=terminal,
        parents=parents,
    )
