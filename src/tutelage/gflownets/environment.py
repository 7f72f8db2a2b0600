"""How objects are built step by step: a pointed directed acyclic graph of states, as pure functions of one state.

Every function here takes and gives a single state; callers map them over a batch with `jax.vmap`. A trajectory starts
at a source, takes legal actions until `done`, and then stands for the object `object_of(state)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int, Key

State = Any
"""A pytree of arrays: one state of the graph."""
Observation = Any
"""A pytree of arrays: what a policy network sees of a state."""
Objects = Any
"""Finished objects, one or many (then with leading axes): an integer array for every environment of this package."""


class Environment(NamedTuple):
    """A pointed DAG whose terminal states stand for objects.

    Attributes:
        num_actions: A, all actions; which of them are legal depends on the state.
        max_steps: T, actions of the longest trajectory, the stop action included.
        source: `() -> state`: where every trajectory starts (unless it is given a start of its own).
        mask: `state -> bool[A]`: the legal actions; at least one of them in a state that is not done.
        step: `(state, action) -> state` for a legal action in a state that is not done.
        done: `state -> bool[]`: the object is finished.
        log_pb: `(state, action, after) -> f32[]`: log P_B(state, action | after) of the backward policy, uniform over
            the parents unless the environment says otherwise.
        retrace: `(key, after) -> (state, action)`: one draw from that backward policy; `after` is not a source.
        observe: `state -> observation` of fixed shapes.
        object_of: `done state -> object`, an int32 array of a fixed shape (padded where lengths differ).
        terminal: `object -> done state`, the inverse of `object_of`.
        is_tree: each state has one parent (log P_B = 0), so the probability of an object is that of its one
            trajectory.
        is_sequence: the observation is a `Token` and the states are prefixes, so that a causal network may read a
            whole trajectory at once.
        parents: `state -> (states [K, …], actions int32 [K], exist bool[K])`: all its parents, where an environment
            that is no tree can name them (flow matching needs them).
        min_steps: actions of the shortest trajectory from the source, as far as is known: no loss is compiled for
            shorter ones.
        min_steps: actions of the shortest trajectory from the source, as far as is known: no loss is compiled for
            shorter ones.
    """

    num_actions: int
    max_steps: int
    source: Callable[[], State]
    mask: Callable[[State], Bool[Array, "A"]]
    step: Callable[[State, Int[Array, ""]], State]
    done: Callable[[State], Bool[Array, ""]]
    log_pb: Callable[[State, Int[Array, ""], State], Float[Array, ""]]
    retrace: Callable[[Key[Array, ""], State], tuple[State, Int[Array, ""]]]
    observe: Callable[[State], Observation]
    object_of: Callable[[State], Objects]
    terminal: Callable[[Objects], State]
    is_tree: bool = False
    is_sequence: bool = False
    parents: Callable[[State], tuple[State, Int[Array, "K"], Bool[Array, "K"]]] | None = None
    min_steps: int = 1
    min_steps: int = 1


class Token(NamedTuple):
    """Observation of an auto-regressive environment: the token that was written last, and how many there are.

    Attributes:
        last: int32, 0 for none yet (BOS), otherwise 1 + the token's index in the alphabet.
        position: int32, tokens written so far.
    """

    last: Int[Array, "*batch"]
    position: Int[Array, "*batch"]
