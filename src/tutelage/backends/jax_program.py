"""From three pure JAX functions to a program for the driver: compiled once, chunked, seeds in a row or abreast.

    init(key) -> state                  any pytree: arrays, typed keys, Equinox modules
    update(state) -> state, metrics     one unit of work; metrics are scalars by name
    evaluate(state, key) -> figures     scalars by name; or arrays, of which `measure` makes figures on the host

A chunk is one compiled `lax.scan` over `update` whose state is donated, and whose metrics are reduced to one number
each before they leave the device. A metric is the mean over the chunk unless it says otherwise by its wrapper
(`tutelage.lab.program`):

    {"loss": loss, "steps": Sum(n), "filled": Last(share), "longest": Max(length), "replay_return": Sometimes(value)}

Everything here is deterministic in the seed: `init` gets `jax.random.key(seed)` and an evaluation gets
`fold_in(fold_in(key(seed), EVALUATION), step)`, so evaluating more often, or never, cannot change the training.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from tutelage.backends.jax_cache import enable_compilation_cache
from tutelage.backends.jax_memory import refuse_large
from tutelage.backends.jax_state import Layout, refuse_change, refuse_weak, split
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Figures, Last, Max, Sometimes, Sum

EVALUATION = 0x65766C
"""Folded into a seed's key for evaluations, so that they share no randomness with `init`."""


Metric = Array | Last | Sum | Max | Sometimes
Init = Callable[[Key[Array, ""]], PyTree]
Update = Callable[[PyTree], tuple[PyTree, Mapping[str, Metric]]]
Evaluate = Callable[[PyTree, Key[Array, ""]], Mapping[str, Array | Sometimes]]
Measure = Callable[[PyTree], Mapping[str, float]]
Place = Callable[[PyTree], PyTree]


def jax_program(
    init: Init,
    update: Update,
    evaluate: Evaluate,
    *,
    seeds: Sequence[int],
    mode: str = "loop",
    final: Evaluate | None = None,
    measure: Measure | None = None,
    place: Place | None = None,
    num_devices: int = 1,
) -> JaxProgram:
    """A `Program` of pure functions.

    Args:
        seeds: whole numbers in [0, 2^32).
        mode: "loop" runs the seeds one after another through one executable of one seed; "vmap" runs them side by
            side, in which `lax.cond` and `lax.switch` run all their branches.
        final: the evaluation after the last update, where it is to be more thorough than the others.
        measure: where figures need the host (a library of NumPy, say): `NumPy arrays of one seed -> figures`. Then
            `evaluate` and `final` may return any pytree of arrays. A figure that is NaN counts as "no value here".
        place: for a system over several devices, `state of one seed (arrays) -> the same, each array on the devices
            where it belongs`. Needs mode "loop".
        num_devices: how many devices such a system uses.

    Turns on the persistent compilation cache (`enable_compilation_cache`).

    Raises (at the first call, while tracing): `TypeError` naming the leaf, if the state has a leaf that is neither an
    array nor a function, or one of a weak type (`jnp.asarray(0)`: it would compile everything twice), if `update`
    changes a leaf's shape or type, or if a metric is no scalar.
    """
    if mode not in ("loop", "vmap"):
        raise BadInput(f"mode = {mode!r}: must be 'loop' or 'vmap'")
    if place is not None and mode != "loop":
        raise BadInput(f"mode = {mode!r}: a state that is placed by hand needs 'loop'")
    enable_compilation_cache()
    return JaxProgram(init, update, evaluate, final or evaluate, measure, tuple(seeds), mode, place, num_devices)


class JaxProgram:
    """What `jax_program` returns. Its states have a leading seed axis: a tuple ("loop") or an array axis ("vmap").

    Attributes:
        traces: how often each verb was traced; 1 each in a healthy run.
    """

    compiles = True

    def __init__(
        self,
        init: Init,
        update: Update,
        evaluate: Evaluate,
        final: Evaluate,
        measure: Measure | None,
        seeds: tuple[int, ...],
        mode: str,
        place: Place | None,
        num_devices: int,
    ) -> None:
        self.seeds = seeds
        self.num_devices = num_devices
        self.compile_seconds = 0.0
        self.traces: Counter[str] = Counter()
        self._init, self._update = init, update
        self._evaluate, self._final, self._measure = evaluate, final, measure
        self._abreast = mode == "vmap"
        self._place = place
        self._executables: dict[Any, Callable[..., Any]] = {}
        self._optional: dict[str, set[str]] = {}  # by verb: the names wrapped in Sometimes
        self._layout: Layout | None = None

    def attach(self, folder: Path) -> None:
        """Nothing is kept beside the run: pure functions have only their state."""

    # The three verbs.

    def init(self) -> Any:
        if "init" not in self._executables:
            traced, seconds = self._trace_init()
            self._executables["init"] = self._built("init", traced, seconds)
        return self._placed(self._each(self._executables["init"], self._seed_arguments()))

    def update(self, state: Any, num_updates: int) -> tuple[Any, Callable[[], list[Figures]]]:
        chunk = self._executable(("update", num_updates), self._chunk(num_updates), state, donate=True)
        if self._abreast:
            state, metrics = chunk(state)
            return state, lambda: self._figures("update", metrics)
        pairs = [chunk(of_seed) for of_seed in state]
        metrics = [figures for _, figures in pairs]
        return self._placed(tuple(of_seed for of_seed, _ in pairs)), lambda: self._figures("update", metrics)

    def evaluate(self, state: Any, step: int, *, final: bool = False) -> list[Figures]:
        name = "final" if final and self._final is not self._evaluate else "evaluate"
        function = self._final if final else self._evaluate
        steps = jnp.full(len(self.seeds), step, jnp.uint32) if self._abreast else [np.uint32(step)] * len(self.seeds)
        arguments = (state, self._seed_arguments(), steps)
        executable = self._executable(name, self._evaluation(name, function), *arguments)
        found = self._each(executable, *arguments)
        return self._figures(name, found) if self._measure is None else self._measured(found)

    # The state on disk.

    def save(self, state: Any) -> dict[str, np.ndarray]:
        """Named arrays with a leading seed axis in both modes. A typed key is its data, its name ends in `#impl`."""
        layout = self._known_layout()
        columns = layout.to_host([state] if self._abreast else state)
        if self._abreast:
            return dict(zip(layout.names, columns[0], strict=True))
        return {name: np.stack(leaves) for name, *leaves in zip(layout.names, *columns, strict=True)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> Any:
        layout = self._known_layout()
        layout.check(arrays, num_seeds=len(self.seeds))
        if self._abreast:
            return layout.to_device([arrays[name] for name in layout.names])
        rows = range(len(self.seeds))
        return self._placed(tuple(layout.to_device([arrays[name][row, ...] for name in layout.names]) for row in rows))

    def seed_state(self, state: Any, index: int) -> PyTree:
        """The state of the seed at that position, as `init` made it: modules with their functions, no seed axis."""
        layout = self._known_layout()
        arrays = jax.tree.map(lambda leaf: leaf[index], state) if self._abreast else state[index]
        return eqx.combine(arrays, layout.static)

    def _placed(self, state: Any) -> Any:
        # After every verb, not only `load`: an executable accepts one placement, and the compiler is free to give back
        # another (of an empty array, say). Where nothing has to move this costs nothing.
        return state if self._place is None else tuple(self._place(of_seed) for of_seed in state)

    # About the machine.

    def device(self) -> str:
        return device_in_words(self.num_devices)

    def peak_device_bytes(self) -> int:
        return peak_device_bytes(self.num_devices)

    # Tracing and compiling.

    def _trace_init(self) -> tuple[Any, float]:
        """Trace `init`, which alone tells the structure, names, types and static parts of the state."""
        start = time.perf_counter()
        about: list[Layout] = []

        def of_seed(seed: Array) -> PyTree:
            self.traces["init"] += 1
            arrays, static = split(self._init(jax.random.key(seed)), "init")
            refuse_weak(arrays, "init")
            about.append(Layout.of(arrays, static))
            return arrays

        traced = jax.jit(self._lift(of_seed)).trace(self._first(self._seed_arguments()))
        self._layout = about[0]
        return traced, time.perf_counter() - start

    def _known_layout(self) -> Layout:
        if self._layout is None:
            self.compile_seconds += self._trace_init()[1]
        assert self._layout is not None
        return self._layout

    def _chunk(self, length: int) -> Callable[[PyTree], tuple[PyTree, dict[str, Array]]]:
        def of_seed(arrays: PyTree) -> tuple[PyTree, dict[str, Array]]:
            static = self._known_layout().static

            def body(arrays: PyTree, _: None) -> tuple[PyTree, dict[str, Metric]]:
                self.traces["update"] += 1
                state, metrics = self._update(eqx.combine(arrays, static))
                after, static_after = split(state, "update")
                refuse_change((arrays, static), (after, static_after))
                return after, _scalars(metrics, "metric")

            arrays, metrics = jax.lax.scan(body, arrays, None, length=length)
            self._optional["update"] = _optional(metrics)
            return arrays, {name: _reduced(metric) for name, metric in metrics.items()}

        return of_seed

    def _evaluation(self, name: str, function: Evaluate) -> Callable[[PyTree, Array, Array], Any]:
        def of_seed(arrays: PyTree, seed: Array, step: Array) -> Any:
            self.traces[name] += 1
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), EVALUATION), step)
            figures = function(eqx.combine(arrays, self._known_layout().static), key)
            if self._measure is not None:
                return figures
            figures = _scalars(figures, "figure")
            self._optional[name] = _optional(figures)
            return {what: figure.value if isinstance(figure, Sometimes) else figure for what, figure in figures.items()}

        return of_seed

    def _executable(self, name: Any, of_seed: Callable[..., Any], *arguments: Any, donate: bool = False) -> Any:
        """The compiled function of that name; compiled now, from these arguments, if it is not there yet."""
        if name not in self._executables:
            start = time.perf_counter()
            jitted = jax.jit(self._lift(of_seed), donate_argnums=0 if donate else ())
            traced = jitted.trace(*(self._first(argument) for argument in arguments))
            self._executables[name] = self._built(name, traced, time.perf_counter() - start)
        return self._executables[name]

    def _built(self, name: Any, traced: Any, tracing_seconds: float) -> Callable[..., Any]:
        verb = name if isinstance(name, str) else name[0]
        refuse_large(verb, traced, self._known_layout(), len(self.seeds))
        start = time.perf_counter()
        executable = traced.lower().compile()
        self.compile_seconds += tracing_seconds + time.perf_counter() - start
        return executable

    # The two ways of having several seeds.

    def _lift(self, of_seed: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(of_seed) if self._abreast else of_seed

    def _first(self, argument: Any) -> Any:
        return argument if self._abreast else argument[0]

    def _seed_arguments(self) -> Any:
        seeds = np.array(self.seeds, np.uint32)
        return jnp.asarray(seeds) if self._abreast else list(seeds)

    def _each(self, executable: Callable[..., Any], *arguments: Any) -> Any:
        if self._abreast:
            return executable(*arguments)
        return tuple(executable(*of_seed) for of_seed in zip(*arguments, strict=True))

    def _figures(self, verb: str, values: Any) -> list[Figures]:
        """Numbers on the host, one record per seed, without what has no value."""
        host, optional = jax.device_get(values), self._optional[verb]
        if self._abreast:
            host = [{name: value[row] for name, value in host.items()} for row in range(len(self.seeds))]
        return [
            {name: float(value) for name, value in of_seed.items() if not (name in optional and np.isnan(value))}
            for of_seed in host
        ]

    def _measured(self, values: Any) -> list[Figures]:
        assert self._measure is not None
        host = jax.device_get(values)
        rows = range(len(self.seeds))
        of_seeds = [jax.tree.map(lambda leaf, row=row: leaf[row], host) for row in rows] if self._abreast else host
        figures = [self._measure(of_seed) for of_seed in of_seeds]
        return [{name: float(value) for name, value in found.items() if not np.isnan(value)} for found in figures]


def device_in_words(num_used: int = 1) -> str:
    """The devices that JAX sees, for the record."""
    device, used = jax.local_devices()[0], f"{jax.local_device_count()} visible, {num_used} used"
    if device.platform == "cpu":
        return f"CPU, {os.cpu_count()} cores" + (f" ({used} as devices)" if num_used > 1 else "")
    return f"{device.device_kind} ({used})"


def peak_device_bytes(num_used: int = 1) -> int:
    """The most memory held so far on any of the devices in use; 0 where JAX does not count it (CPU)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()[:num_used]]
    return max(int(of_device.get("peak_bytes_in_use", 0)) for of_device in stats)


def _scalars(figures: Mapping[str, Any], what: str) -> dict[str, Any]:
    for name, figure in figures.items():
        for leaf in jax.tree.leaves(figure):
            if jnp.shape(leaf) != ():
                raise TypeError(f"{what} {name!r} has shape {jnp.shape(leaf)}: must be a scalar; reduce it yourself")
    return jax.tree.map(jnp.asarray, dict(figures))


def _optional(figures: Mapping[str, Any]) -> set[str]:
    return {name for name, figure in figures.items() if isinstance(figure, Sometimes)}


def _reduced(metric: Metric) -> Array:
    """One number of the chunk's values, which are stacked on the leading axis."""
    match metric:
        case Last(values):
            return values[-1]
        case Sum(values):
            return values.sum()
        case Max(values):
            return values.max()
        case Sometimes(values):
            return jnp.nanmean(values)
        case values:
            return jnp.mean(values, dtype=jnp.float32)
