"""What foreign states, observations and tasks need to fit our protocol."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from tutelage.envs.environment import Task

NUM_SEEDS = 2**31 - 1
"""Tasks that are seeds are drawn from [0, NUM_SEEDS)."""


def strong(tree: PyTree) -> PyTree:
    """The tree as arrays without weak types, which would have every step compiled twice."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, jnp.asarray(leaf).dtype), tree)


def cast_like(tree: PyTree, example: PyTree) -> PyTree:
    """The tree with the dtypes and shapes of `example`, strongly typed."""

    def cast(leaf: Any, like: jax.ShapeDtypeStruct) -> Array:
        leaf = jnp.asarray(leaf)
        return (leaf if leaf.dtype == like.dtype else leaf.astype(like.dtype)).reshape(like.shape)

    return strong(jax.tree.map(cast, tree, example))


def equal(one: Task, other: Task) -> Bool[Array, ""]:
    """Whether all leaves of two tasks agree exactly."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return jnp.stack([(a == b).all() for a, b in pairs]).all()
