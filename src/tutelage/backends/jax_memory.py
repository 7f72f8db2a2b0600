"""What a traced function needs of memory at least, read from its jaxpr before anything is compiled.

Elementwise results may never exist, for compilers fuse them. Counted are results of operations that are kernels of
their own (loops with what they stack, products, sorts, scatters), each alone: a bound from below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from tutelage.backends.jax_state import Layout
from tutelage.lab.process.memory import Array, refuse_beyond, total_bytes

_KERNELS = frozenset({"scan", "while", "dot_general", "conv_general_dilated", "sort", "top_k"})


def refuse_large(what: str, traced: Any, layout: Layout, copies: int) -> None:
    """Refuse a traced verb that cannot fit beside the state.

    Args:
        copies: states that are kept at a time (seeds, one after another).

    Raises:
        TooLarge: naming the largest leaves of the state and results.
    """
    refuse_beyond(device_bytes(), what, leaves(layout, copies), kernels(traced.jaxpr.jaxpr))


def leaves(layout: Layout, copies: int) -> list[Array]:
    """The arrays of a state, that often."""
    return [_array(name, leaf, copies) for name, leaf in zip(layout.names, layout.data, strict=True)]


def device_bytes() -> int:
    """The memory of a device: its own, or this machine's."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return int(limit) if limit else total_bytes()


def kernels(jaxpr: Any) -> Iterator[Array]:
    """Results of the kernels in a jaxpr, those inside loops and calls included."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in _KERNELS or name.startswith("scatter"):
            yield from (_array(f"result of {name}", out.aval) for out in equation.outvars)
        for parameter in equation.params.values():
            for inner in parameter if isinstance(parameter, tuple | list) else (parameter,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from kernels(inner)


def _array(name: str, of: Any, copies: int = 1) -> Array:
    shape: Sequence[int] = getattr(of, "shape", ())
    kind = getattr(of, "dtype", None)
    size = kind.itemsize if isinstance(kind, np.dtype) else 8  # keys are two words
    return Array(name, tuple(shape), copies * math.prod(shape) * size)
