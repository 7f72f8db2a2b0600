"""Pure functions of JAX that cannot be one compiled program, because something between them lives on the host.

    init(key) -> state                          any pytree of arrays
    update(state) -> state, metrics             ordinary Python: compiled pieces, an oracle, a fit that stops early
    evaluate(state, key, final) -> figures

The state is kept and saved as that of `jax_program`: named arrays, from which a run goes on to the same bits. So all
that an update needs must be in it, random keys included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.monitoring
import numpy as np
from jaxtyping import Array, Key, PyTree

from tutelage.backends.jax_cache import enable_compilation_cache
from tutelage.backends.jax_memory import device_bytes, leaves
from tutelage.backends.jax_program import EVALUATION, device_in_words, peak_device_bytes
from tutelage.backends.jax_state import Layout, refuse_change, refuse_weak, split
from tutelage.lab.process.memory import refuse_beyond
from tutelage.lab.program import Figures
from tutelage.lab.reduction import number, reduced

Init = Callable[[Key[Array, ""]], PyTree]
Update = Callable[[PyTree], tuple[PyTree, Mapping[str, Any]]]
Evaluate = Callable[[PyTree, Key[Array, ""], bool], Mapping[str, Any]]


def jax_host_program(init: Init, update: Update, evaluate: Evaluate, *, seeds: Sequence[int]) -> JaxHostProgram:
    """A `Program` of functions that run in Python, one seed after another.

    Args:
        init: traced once for the names and types of the state, so it must be a pure JAX function.
        update: may not change the state's structure, shapes or types; a metric is a number, or one in `Last`, `Sum`,
            `Max` or `Sometimes`.
        seeds: whole numbers in [0, 2^32).
    """
    enable_compilation_cache()
    return JaxHostProgram(init, update, evaluate, tuple(seeds))


class JaxHostProgram:
    """What `jax_host_program` returns. Its states are tuples: one seed's pytree each, functions of modules included."""

    compiles = True

    def __init__(self, init: Init, update: Update, evaluate: Evaluate, seeds: tuple[int, ...]) -> None:
        self.seeds = seeds
        self.compile_seconds = 0.0
        self._init, self._update, self._evaluate = init, update, evaluate
        self._known: Layout | None = None
        jax.monitoring.register_event_duration_secs_listener(self._on_event)

    def attach(self, folder: Path) -> None:
        """Nothing is kept beside the run: the state is all there is."""

    # The three verbs.

    def init(self) -> tuple[PyTree, ...]:
        static = self._layout().static
        arrays = jax.jit(lambda key: split(self._init(key), "init")[0])
        return tuple(eqx.combine(arrays(jax.random.key(seed)), static) for seed in self.seeds)

    def update(
        self, state: tuple[PyTree, ...], num_updates: int
    ) -> tuple[tuple[PyTree, ...], Callable[[], list[Figures]]]:
        after, figures = [], []
        for of_seed in state:
            chunk = []
            before = split(of_seed, "update")
            for _ in range(num_updates):
                of_seed, metrics = self._update(of_seed)
                chunk.append({name: number(name, metric) for name, metric in jax.device_get(dict(metrics)).items()})
            refuse_change(before, split(of_seed, "update"))
            after.append(of_seed)
            figures.append(reduced(chunk))
        return tuple(after), lambda: figures

    def evaluate(self, state: tuple[PyTree, ...], step: int, *, final: bool = False) -> list[Figures]:
        figures = []
        for seed, of_seed in zip(self.seeds, state, strict=True):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), EVALUATION), step)
            found = jax.device_get(dict(self._evaluate(of_seed, key, final)))
            figures.append(reduced([{name: number(name, figure) for name, figure in found.items()}]))
        return figures

    # The state on disk.

    def save(self, state: tuple[PyTree, ...]) -> dict[str, np.ndarray]:
        """Named arrays with a leading seed axis, as those of `JaxProgram`."""
        layout = self._layout()
        columns = layout.to_host([split(of_seed, "update")[0] for of_seed in state])
        return {name: np.stack(leaves) for name, *leaves in zip(layout.names, *columns, strict=True)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> tuple[PyTree, ...]:
        layout = self._layout()
        layout.check(arrays, num_seeds=len(self.seeds))
        rows = range(len(self.seeds))
        states = [layout.to_device([arrays[name][row, ...] for name in layout.names]) for row in rows]
        return tuple(eqx.combine(of_seed, layout.static) for of_seed in states)

    def seed_state(self, state: tuple[PyTree, ...], index: int) -> PyTree:
        return state[index]

    # About the machine.

    def device(self) -> str:
        return device_in_words()

    def peak_device_bytes(self) -> int:
        return peak_device_bytes()

    def _layout(self) -> Layout:
        """What the state is made of, told by tracing `init`."""
        if self._known is None:
            about: list[Layout] = []

            def trace(key: Key[Array, ""]) -> PyTree:
                arrays, static = split(self._init(key), "init")
                refuse_weak(arrays, "init")
                about.append(Layout.of(arrays, static))
                return arrays

            jax.eval_shape(trace, jax.random.key(self.seeds[0]))
            self._known = about[0]
            refuse_beyond(device_bytes(), "the state", leaves(self._known, len(self.seeds)))
        return self._known

    def _on_event(self, event: str, duration_secs: float, **_: str | int) -> None:
        # The pieces compile when they are first called; JAX alone knows when and for how long.
        if event.startswith("/jax/core/compile/"):
            self.compile_seconds += duration_secs
