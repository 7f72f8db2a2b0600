"""The state of a JAX program: what it may be made of, and its form as named arrays.

A state is any pytree of arrays, typed random keys and modules. Its functions (a module's activations) are the same for
ever; everything else must be an array of a definite type, so that it can be compiled for once and written to disk.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from tutelage.lab.errors import BadInput


class Layout(NamedTuple):
    """One seed's state without its numbers: what `init` fixes, and everything after it must keep.

    Attributes:
        names: path of each array leaf, `params/layers/0/weight`; `#impl` is appended to that of a typed key.
        impls: the implementation of each key, None for plain arrays.
        data: shape and type of each leaf on disk (of a key: its data).
    """

    structure: Any
    static: PyTree
    names: tuple[str, ...]
    impls: tuple[str | None, ...]
    data: tuple[jax.ShapeDtypeStruct, ...]

    @classmethod
    def of(cls, arrays: PyTree, static: PyTree) -> Layout:
        paths, structure = jax.tree.flatten_with_path(arrays)
        impls = tuple(str(jax.random.key_impl(leaf)) if _is_key(leaf) else None for _, leaf in paths)
        names = tuple(_name(path) + (f"#{impl}" if impl else "") for (path, _), impl in zip(paths, impls))
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise TypeError(f"two leaves of the state are both named {twice[0]!r}")
        data = tuple(jax.eval_shape(_data_of, leaf) for _, leaf in paths)
        return cls(structure, static, names, impls, data)

    def to_host(self, states: Sequence[PyTree]) -> list[list[np.ndarray]]:
        """The arrays of each state in the order of `names`."""
        return jax.device_get([[_data_of(leaf) for leaf in jax.tree.leaves(state)] for state in states])

    def check(self, arrays: Mapping[str, np.ndarray], *, num_seeds: int) -> None:
        """Raise `BadInput` naming the first array that is missing, extra or misshapen (leading axis: seeds)."""
        for name in self.names:
            if name not in arrays:
                raise BadInput(f"array {name!r} is missing")
        for name in arrays:
            if name not in self.names:
                raise BadInput(f"array {name!r} is not part of this program's state")
        for name, spec in zip(self.names, self.data, strict=True):
            shape, array = (num_seeds, *spec.shape), arrays[name]
            if array.shape != shape or array.dtype != spec.dtype:
                raise BadInput(f"array {name!r} is {array.dtype}{list(array.shape)}, must be {spec.dtype}{list(shape)}")

    def to_device(self, arrays: Sequence[np.ndarray]) -> PyTree:
        """The state of these arrays, which stand in the order of `names` (keys as their data)."""
        # Copies: JAX may otherwise borrow NumPy's memory, which must not be donated.
        leaves = [
            jnp.array(array) if impl is None else jax.random.wrap_key_data(jnp.array(array), impl=impl)
            for array, impl in zip(arrays, self.impls, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/") or "state"


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data_of(leaf: Array) -> Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def split(state: PyTree, verb: str) -> tuple[PyTree, PyTree]:
    """The arrays of a state, and its functions (activations of a module). Refuses all else by name."""

    def array(path: Any, leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray | np.generic):
            return jnp.asarray(leaf)
        if not isinstance(leaf, jax.Array):
            if callable(leaf):
                return leaf
            raise TypeError(
                f"state leaf {_name(path)!r} of {verb} is {leaf!r} ({type(leaf).__name__}): must be an array; "
                "give a number its type, e.g. jnp.int32(0), or make it a static field"
            )
        return leaf

    return eqx.partition(jax.tree_util.tree_map_with_path(array, state), eqx.is_array)


def refuse_weak(arrays: PyTree, verb: str) -> None:
    """Raise `TypeError` naming the first leaf whose type comes from a Python number.

    JAX would find such a leaf to be of another type once it went through `update`, and compile the whole program again.
    """
    for path, leaf in jax.tree.leaves_with_path(arrays):
        if jax.typeof(leaf).weak_type:
            raise TypeError(
                f"state leaf {_name(path)!r} of {verb} is weakly typed ({leaf.dtype.name} from a Python number), which "
                f"would compile the program twice: give it its type, e.g. jnp.{leaf.dtype.name}(...)"
            )


def refuse_change(before: tuple[PyTree, PyTree], after: tuple[PyTree, PyTree]) -> None:
    """Raise `TypeError` naming the first leaf that `update` does not give back as it got it."""
    (arrays, static), (arrays_after, static_after) = before, after
    old = {_name(path): jax.typeof(leaf) for path, leaf in jax.tree.leaves_with_path(arrays)}
    new = {_name(path): jax.typeof(leaf) for path, leaf in jax.tree.leaves_with_path(arrays_after)}
    for name in [*old, *(name for name in new if name not in old)]:
        was, became = old.get(name), new.get(name)
        if was is None or became is None:
            raise TypeError(f"update {'adds' if was is None else 'loses'} the state leaf {name!r}")
        if (was.shape, was.dtype) != (became.shape, became.dtype):
            raise TypeError(
                f"update changes the state leaf {name!r} from {was.str_short()} to {became.str_short()}; "
                "it must give back what it got"
            )
    refuse_weak(arrays_after, "update")
    if jax.tree.structure(arrays) != jax.tree.structure(arrays_after) or not eqx.tree_equal(static, static_after):
        raise TypeError("update changes the structure of the state, or a static part of it; it must give both back")
