"""From three pure JAX functions to a program for the driver: compiled once, chunked, seeds in a row or abreast.

    init(key) -> state                  any pytree: arrays, typed keys, Equinox modules
    update(state) -> state, metrics     one unit of work; metrics are scalars by name
    evaluate(state, key) -> figures     scalars by name

A chunk is one compiled `lax.scan` over `update` whose state is donated, and whose metrics are reduced to one number
each before they leave the device. A metric is the mean over the chunk unless it says otherwise by its wrapper:

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
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from tutelage.lab.errors import BadInput
from tutelage.lab.program import Figures

EVALUATION = 0x65766C
"""Folded into a seed's key for evaluations, so that they share no randomness with `init`."""


class Last(NamedTuple):
    """A metric of which the value after the chunk's last update counts."""

    value: Array


class Sum(NamedTuple):
    """A metric that is added up over the chunk."""

    value: Array


class Max(NamedTuple):
    """A metric of which the largest value in the chunk counts."""

    value: Array


class Sometimes(NamedTuple):
    """A metric or figure that not every update has: NaN means "no value here".

    The mean over the updates that have one; left out of the record where none has. Do not wrap a loss: a plain NaN
    stops the run, and this one does not.
    """

    value: Array


Metric = Array | Last | Sum | Max | Sometimes
Init = Callable[[Key[Array, ""]], PyTree]
Update = Callable[[PyTree], tuple[PyTree, Mapping[str, Metric]]]
Evaluate = Callable[[PyTree, Key[Array, ""]], Mapping[str, Array | Sometimes]]


def jax_program(
    init: Init,
    update: Update,
    evaluate: Evaluate,
    *,
    seeds: Sequence[int],
    mode: Literal["loop", "vmap"] = "loop",
    final: Evaluate | None = None,
) -> JaxProgram:
    """A `Program` of pure functions.

    Args:
        seeds: whole numbers in [0, 2^32).
        mode: "loop" runs the seeds one after another through one executable of one seed; "vmap" runs them side by
            side, in which `lax.cond` and `lax.switch` run all their branches.
        final: the evaluation after the last update, where it is to be more thorough than the others.

    Turns on the persistent compilation cache (`enable_compilation_cache`).

    Raises (at the first call, while tracing): `TypeError` naming the leaf, if the state has a leaf that is neither an
    array nor a function, or one of a weak type (`jnp.asarray(0)`: it would compile everything twice), if `update`
    changes a leaf's shape or type, or if a metric is no scalar.
    """
    if mode not in ("loop", "vmap"):
        raise BadInput(f"mode = {mode!r}: must be 'loop' or 'vmap'")
    enable_compilation_cache()
    return JaxProgram(init, update, evaluate, final or evaluate, tuple(seeds), mode)


class JaxProgram:
    """What `jax_program` returns. Its states have a leading seed axis: a tuple ("loop") or an array axis ("vmap").

    Attributes:
        traces: how often each verb was traced; 1 each in a healthy run.
    """

    compiles = True

    def __init__(
        self, init: Init, update: Update, evaluate: Evaluate, final: Evaluate, seeds: tuple[int, ...], mode: str
    ) -> None:
        self.seeds = seeds
        self.compile_seconds = 0.0
        self.traces: Counter[str] = Counter()
        self._init, self._update = init, update
        self._evaluate, self._final = evaluate, final
        self._abreast = mode == "vmap"
        self._executables: dict[Any, Callable[..., Any]] = {}
        self._optional: set[str] = set()
        self._template: _Template | None = None

    # The three verbs.

    def init(self) -> Any:
        if "init" not in self._executables:
            traced, seconds = self._trace_init()
            self._executables["init"] = self._built(traced, seconds)
        return self._each(self._executables["init"], self._seed_arguments())

    def update(self, state: Any, num_updates: int) -> tuple[Any, Callable[[], list[Figures]]]:
        chunk = self._executable(("update", num_updates), self._chunk(num_updates), state, donate=True)
        if self._abreast:
            state, metrics = chunk(state)
            return state, lambda: self._figures(metrics)
        pairs = [chunk(of_seed) for of_seed in state]
        metrics = [figures for _, figures in pairs]
        return tuple(of_seed for of_seed, _ in pairs), lambda: self._figures(metrics)

    def evaluate(self, state: Any, step: int, *, final: bool = False) -> list[Figures]:
        name = "final" if final and self._final is not self._evaluate else "evaluate"
        function = self._final if final else self._evaluate
        steps = jnp.full(len(self.seeds), step, jnp.uint32) if self._abreast else [np.uint32(step)] * len(self.seeds)
        arguments = (state, self._seed_arguments(), steps)
        executable = self._executable(name, self._evaluation(name, function), *arguments)
        return self._figures(self._each(executable, *arguments))

    # The state on disk.

    def save(self, state: Any) -> dict[str, np.ndarray]:
        """Named arrays with a leading seed axis in both modes. A typed key is its data, its name ends in `#impl`."""
        template = self._known_template()
        columns = [jax.tree.leaves(state)] if self._abreast else [jax.tree.leaves(of_seed) for of_seed in state]
        raw = jax.device_get([[_data_of(leaf) for leaf in column] for column in columns])
        if self._abreast:
            return dict(zip(template.names, raw[0], strict=True))
        return {name: np.stack(leaves) for name, *leaves in zip(template.names, *raw, strict=True)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> Any:
        template = self._known_template()
        for name in template.names:
            if name not in arrays:
                raise BadInput(f"array {name!r} is missing")
        for name in arrays:
            if name not in template.names:
                raise BadInput(f"array {name!r} is not part of this program's state")
        for name, spec in zip(template.names, template.data, strict=True):
            shape, array = (len(self.seeds), *spec.shape), arrays[name]
            if array.shape != shape or array.dtype != spec.dtype:
                raise BadInput(f"array {name!r} is {array.dtype}{list(array.shape)}, must be {spec.dtype}{list(shape)}")

        def tree(pick: Callable[[np.ndarray], np.ndarray]) -> PyTree:
            # Copies: JAX may otherwise borrow NumPy's memory, which must not be donated.
            leaves = [
                jnp.array(pick(arrays[name])) if impl is None else _key_of(pick(arrays[name]), impl)
                for name, impl in zip(template.names, template.impls, strict=True)
            ]
            return jax.tree.unflatten(template.structure, leaves)

        if self._abreast:
            return tree(lambda array: array)
        return tuple(tree(lambda array, row=row: array[row]) for row in range(len(self.seeds)))

    def seed_state(self, state: Any, index: int) -> PyTree:
        """The state of the seed at that position, as `init` made it: modules with their functions, no seed axis."""
        template = self._known_template()
        arrays = jax.tree.map(lambda leaf: leaf[index], state) if self._abreast else state[index]
        return eqx.combine(arrays, template.static)

    # About the machine.

    def device(self) -> str:
        device = jax.local_devices()[0]
        if device.platform == "cpu":
            return f"CPU, {os.cpu_count()} cores"
        return f"{device.device_kind} ({jax.local_device_count()} visible, 1 used)"

    def peak_device_bytes(self) -> int:
        stats = jax.local_devices()[0].memory_stats() or {}
        return int(stats.get("peak_bytes_in_use", 0))

    # Tracing and compiling.

    def _trace_init(self) -> tuple[Any, float]:
        """Trace `init`, which alone tells the structure, names, types and static parts of the state."""
        start = time.perf_counter()
        about: list[_Template] = []

        def of_seed(seed: Array) -> PyTree:
            self.traces["init"] += 1
            arrays, static = _split(self._init(jax.random.key(seed)), "init")
            about.append(_Template.of(arrays, static))
            return arrays

        traced = jax.jit(self._lift(of_seed)).trace(self._first(self._seed_arguments()))
        self._template = about[0]
        return traced, time.perf_counter() - start

    def _known_template(self) -> _Template:
        if self._template is None:
            self.compile_seconds += self._trace_init()[1]
        assert self._template is not None
        return self._template

    def _chunk(self, length: int) -> Callable[[PyTree], tuple[PyTree, dict[str, Array]]]:
        def of_seed(arrays: PyTree) -> tuple[PyTree, dict[str, Array]]:
            static = self._known_template().static

            def body(arrays: PyTree, _: None) -> tuple[PyTree, dict[str, Metric]]:
                self.traces["update"] += 1
                state, metrics = self._update(eqx.combine(arrays, static))
                after, static_after = _split(state, "update")
                _refuse_change((arrays, static), (after, static_after))
                return after, _scalars(metrics, "metric")

            arrays, metrics = jax.lax.scan(body, arrays, None, length=length)
            self._optional |= {name for name, metric in metrics.items() if isinstance(metric, Sometimes)}
            return arrays, {name: _reduced(metric) for name, metric in metrics.items()}

        return of_seed

    def _evaluation(self, name: str, function: Evaluate) -> Callable[[PyTree, Array, Array], dict[str, Array]]:
        def of_seed(arrays: PyTree, seed: Array, step: Array) -> dict[str, Array]:
            self.traces[name] += 1
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), EVALUATION), step)
            figures = _scalars(function(eqx.combine(arrays, self._known_template().static), key), "figure")
            self._optional |= {name for name, figure in figures.items() if isinstance(figure, Sometimes)}
            return {name: figure.value if isinstance(figure, Sometimes) else figure for name, figure in figures.items()}

        return of_seed

    def _executable(self, name: Any, of_seed: Callable[..., Any], *arguments: Any, donate: bool = False) -> Any:
        """The compiled function of that name; compiled now, from these arguments, if it is not there yet."""
        if name not in self._executables:
            start = time.perf_counter()
            jitted = jax.jit(self._lift(of_seed), donate_argnums=0 if donate else ())
            traced = jitted.trace(*(self._first(argument) for argument in arguments))
            self._executables[name] = self._built(traced, time.perf_counter() - start)
        return self._executables[name]

    def _built(self, traced: Any, tracing_seconds: float) -> Callable[..., Any]:
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

    def _figures(self, values: Any) -> list[Figures]:
        """Numbers on the host, one record per seed, without what has no value."""
        host = jax.device_get(values)
        if self._abreast:
            host = [{name: value[row] for name, value in host.items()} for row in range(len(self.seeds))]
        return [
            {name: float(value) for name, value in of_seed.items() if not (name in self._optional and np.isnan(value))}
            for of_seed in host
        ]


class _Template(NamedTuple):
    """One seed's state without its numbers.

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
    def of(cls, arrays: PyTree, static: PyTree) -> _Template:
        paths, structure = jax.tree.flatten_with_path(arrays)
        impls = tuple(str(jax.random.key_impl(leaf)) if _is_key(leaf) else None for _, leaf in paths)
        names = tuple(_name(path) + (f"#{impl}" if impl else "") for (path, _), impl in zip(paths, impls))
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise TypeError(f"two leaves of the state are both named {twice[0]!r}")
        data = tuple(jax.eval_shape(_data_of, leaf) for _, leaf in paths)
        return cls(structure, static, names, impls, data)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/") or "state"


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data_of(leaf: Array) -> Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _key_of(data: np.ndarray, impl: str) -> Array:
    return jax.random.wrap_key_data(jnp.array(data), impl=impl)


def _split(state: PyTree, verb: str) -> tuple[PyTree, PyTree]:
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
        if jax.typeof(leaf).weak_type:
            raise TypeError(
                f"state leaf {_name(path)!r} of {verb} is weakly typed ({leaf.dtype.name} from a Python number), which "
                f"would compile the program twice: give it its type, e.g. jnp.{leaf.dtype.name}(...)"
            )
        return leaf

    return eqx.partition(jax.tree_util.tree_map_with_path(array, state), eqx.is_array)


def _refuse_change(before: tuple[PyTree, PyTree], after: tuple[PyTree, PyTree]) -> None:
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
    if jax.tree.structure(arrays) != jax.tree.structure(arrays_after) or not eqx.tree_equal(static, static_after):
        raise TypeError("update changes the structure of the state, or a static part of it; it must give both back")


def _scalars(figures: Mapping[str, Any], what: str) -> dict[str, Any]:
    for name, figure in figures.items():
        for leaf in jax.tree.leaves(figure):
            if jnp.shape(leaf) != ():
                raise TypeError(f"{what} {name!r} has shape {jnp.shape(leaf)}: must be a scalar; reduce it yourself")
    return dict(figures)


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


def enable_compilation_cache(path: str | Path | None = None) -> Path | None:
    """Keep compiled programs on disk, so that the second start of a program compiles nothing. Returns the folder.

    The folder is `path`, else what JAX was configured with (`JAX_COMPILATION_CACHE_DIR`), else `$TUTELAGE_CACHE`, else
    `~/.cache/tutelage/xla`. None, and nothing is changed, if `TUTELAGE_CACHE` is "off" or the folder cannot be made.
    """
    configured: str | None = jax.config.values["jax_compilation_cache_dir"]
    chosen = str(path or configured or os.environ.get("TUTELAGE_CACHE") or Path.home() / ".cache" / "tutelage" / "xla")
    if chosen == "off":
        return None
    folder = Path(chosen).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None  # a cache that cannot be had costs time, not correctness
    if chosen != configured:
        jax.config.update("jax_compilation_cache_dir", str(folder))
    # By default only what took a second to compile is kept, which leaves a start of many small programs slow.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
