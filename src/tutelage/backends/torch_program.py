"""From one object per seed with three verbs to a program for the driver: PyTorch, one seed after another.

    make(seed, folder) -> system        what a seed is trained with: its model, its data; built when first needed
    system.init() -> state              what must survive a kill: what `tutelage.backends.torch_state.to_arrays` takes
    system.update(state) -> state, metrics
    system.evaluate(state, step, final) -> figures

`update` may change tensors of the state that it was given; that state is then used up. All that is random in an update
must follow from the seed and what the state says (a step counter), so that a run goes on to the same bits. A metric is
the mean over the chunk unless wrapped in `Last`, `Sum`, `Max` or `Sometimes` (`tutelage.lab.program`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.backends.torch_threads import single_threaded
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Figures
from tutelage.lab.reduction import number, reduced

TorchState = dict[str, Any]
Metric = Any
"""A number or a tensor of one element, or one of them in a wrapper."""


@runtime_checkable
class TorchSystem(Protocol):
    """What one seed is trained with."""

    def init(self) -> TorchState:
        """The state before the first update. PyTorch's generators are seeded with the seed."""
        ...

    def update(self, state: TorchState) -> tuple[TorchState, Mapping[str, Metric]]:
        """One unit of work. The old state is used up."""
        ...

    def evaluate(self, state: TorchState, step: int, final: bool) -> Mapping[str, Metric]:
        """Figures of the state, which stays as it is. PyTorch's generators are seeded with the seed and the step.

        `final` marks the evaluation after the last update.
        """
        ...


def torch_program(
    make: Callable[[int, Path | None], TorchSystem], *, seeds: Sequence[int], device: str = "cpu"
) -> TorchProgram:
    """A `Program` of one system per seed.

    Args:
        make: `(seed, folder) -> system`, called when the seed is first needed, with PyTorch's generators seeded with
            the seed. `folder` is the run's, for records of the system's own (subfolders by seed are up to it); None
            where a run is only looked at.
        seeds: whole numbers in [0, 2^32).
        device: where the states' tensors are put when they are loaded: `cpu`, `cuda`, `cuda:1`, `mps`. The systems
            themselves must put their models there.

    Inside every verb PyTorch computes on one thread of the host, which the systems here are too small to share, and on
    CUDA with deterministic algorithms where there are any.

    Raises `BadInput` if there is no such device here.
    """
    return TorchProgram(make, tuple(seeds), _device(device))


class TorchProgram:
    """What `torch_program` returns. Its states are tuples: one seed's state each, as the system knows it."""

    compiles = False
    compile_seconds = 0.0

    def __init__(
        self, make: Callable[[int, Path | None], TorchSystem], seeds: tuple[int, ...], device: torch.device
    ) -> None:
        self.seeds = seeds
        self._make = make
        self._device = device
        self._folder: Path | None = None
        self._systems: dict[int, TorchSystem] = {}

    def attach(self, folder: Path) -> None:
        self._folder = folder

    def system(self, index: int) -> TorchSystem:
        """What the seed at that position is trained with (for exhibits, play)."""
        if index not in self._systems:
            seed = self.seeds[index]
            with self._computing(seed):
                self._systems[index] = self._make(seed, self._folder)
        return self._systems[index]

    # The three verbs.

    def init(self) -> tuple[TorchState, ...]:
        states = []
        for index, seed in enumerate(self.seeds):
            system = self.system(index)
            with self._computing(seed):
                states.append(system.init())
        return tuple(states)

    def update(
        self, state: tuple[TorchState, ...], num_updates: int
    ) -> tuple[tuple[TorchState, ...], Callable[[], list[Figures]]]:
        after, figures = [], []
        for index, of_seed in enumerate(state):
            system = self.system(index)
            chunk = []
            with self._computing():
                for _ in range(num_updates):
                    of_seed, metrics = system.update(of_seed)
                    # At once: the next update may change the tensors that the metrics are made of.
                    chunk.append({name: number(name, metric) for name, metric in metrics.items()})
            after.append(of_seed)
            figures.append(reduced(chunk))
        return tuple(after), lambda: figures

    def evaluate(self, state: tuple[TorchState, ...], step: int, *, final: bool = False) -> list[Figures]:
        figures = []
        for index, (seed, of_seed) in enumerate(zip(self.seeds, state, strict=True)):
            system = self.system(index)
            with self._computing(seed, step):
                found = system.evaluate(of_seed, step, final)
            figures.append(reduced([{name: number(name, figure) for name, figure in found.items()}]))
        return figures

    # The state on disk.

    def save(self, state: tuple[TorchState, ...]) -> dict[str, np.ndarray]:
        """Named arrays: those of `to_arrays`, behind `seed-3/`."""
        return {
            f"seed-{seed}/{name}": array
            for seed, of_seed in zip(self.seeds, state, strict=True)
            for name, array in to_arrays(of_seed).items()
        }

    def load(self, arrays: Mapping[str, np.ndarray]) -> tuple[TorchState, ...]:
        by_seed: dict[str, dict[str, np.ndarray]] = {f"seed-{seed}": {} for seed in self.seeds}
        for name, array in arrays.items():
            owner, _, rest = name.partition("/")
            if owner not in by_seed:
                raise BadInput(f"array {name!r} is not part of this program's state")
            by_seed[owner][rest] = array
        states = []
        for owner, of_seed in by_seed.items():
            try:
                states.append(from_arrays(of_seed, self._device))
            except BadInput as error:
                raise BadInput(f"{owner}: {error}") from error
        return tuple(states)

    def seed_state(self, state: tuple[TorchState, ...], index: int) -> TorchState:
        return state[index]

    # About the machine.

    def device(self) -> str:
        if self._device.type == "cuda":
            return f"{torch.cuda.get_device_name(self._device)} ({torch.cuda.device_count()} visible, 1 used)"
        if self._device.type == "cpu":
            return f"CPU, 1 of {os.cpu_count()} cores"
        return str(self._device)

    def peak_device_bytes(self) -> int:
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else 0

    @contextlib.contextmanager
    def _computing(self, *entropy: int) -> Iterator[None]:
        """Around all calls of a system. With `entropy` PyTorch's generators are seeded with it, for the call alone."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(single_threaded())
            if self._device.type == "cuda":
                stack.enter_context(_deterministic())
            if entropy:
                stack.enter_context(torch.random.fork_rng([self._device] if self._device.type == "cuda" else []))
                torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
            yield


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise BadInput(
            f"device = {name!r}: cannot be used here ({reason}); allowed are cpu, cuda, cuda:1, …"
        ) from error
    if device.type == "cuda":
        # cuBLAS reads it when it first computes; without it its matrix products are not reproducible.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return device


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """Deterministic algorithms where there are any, without a word where there are none; the host's always are."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # it costs time and finds mistakes, not other numbers
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = filled
