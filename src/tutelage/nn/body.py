"""Bodies: what carries memory from step to step between the encoder and the heads."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
from jaxtyping import Array, Bool, Float, Key, PyTree

from tutelage.lab.errors import BadInput, nearest
from tutelage.nn.config import NetworkConfig
from tutelage.nn.gru import gru
from tutelage.nn.lstm import lstm
from tutelage.nn.s5 import s5

Carry = PyTree


@runtime_checkable
class Body(Protocol):
    """A batched recurrent map. `size` is the width of its output; the initial carry is zero, and so is a restart."""

    @property
    def size(self) -> int: ...

    def initial_carry(self, num_envs: int) -> Any: ...

    def step(self, carry: Any, x: Float[Array, "N F"], first: Bool[Array, "N"]) -> tuple[Any, Float[Array, "N H"]]: ...

    def unroll(
        self, carry: Any, x: Float[Array, "T N F"], first: Bool[Array, "T N"]
    ) -> tuple[Any, Float[Array, "T N H"]]: ...


class NoMemory(eqx.Module):
    """Passes its input on: a reactive policy."""

    size: int = eqx.field(static=True)

    def initial_carry(self, num_envs: int) -> tuple[()]:
        return ()

    def step(
        self, carry: tuple[()], x: Float[Array, "N F"], first: Bool[Array, "N"]
    ) -> tuple[tuple[()], Float[Array, "N F"]]:
        return carry, x

    def unroll(
        self, carry: tuple[()], x: Float[Array, "T N F"], first: Bool[Array, "T N"]
    ) -> tuple[tuple[()], Float[Array, "T N F"]]:
        return carry, x


def body(key: Key[Array, ""], config: NetworkConfig, size_in: int) -> Body:
    """The body that `config.body` names, for inputs of width `size_in`. Raises `BadInput` for an unknown name."""
    makers = {
        "lstm": lambda: lstm(key, size_in, config.hidden),
        "gru": lambda: gru(key, size_in, config.hidden),
        "s5": lambda: s5(key, size_in, config.hidden, config.s5_layers, config.s5_blocks),
        "none": lambda: NoMemory(size_in),
    }
    if config.body not in makers:
        raise BadInput(f"body={config.body!r} is not one of {', '.join(makers)}{nearest(config.body, makers)}")
    return makers[config.body]()
