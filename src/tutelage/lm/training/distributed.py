"""One training step over several processes, equal to one process on the whole batch.

Every process draws the whole batch's order from the seed and takes its share, so all know the batch's token count
without asking; each loss is a sum over own tokens divided by that count. `Processes()` is the single process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from tutelage.lab.errors import BadInput, nearest
from tutelage.lm.training.architecture import decoder_layers

STRATEGIES = ("ddp", "fsdp")


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as seen from one of them.

    Attributes:
        rank, size: this process among all; 0 of 1 by default.
        strategy: `ddp` (every process holds the model) or `fsdp` (each holds a slice of every layer).
        accelerator: accelerate's object once `join` was called; None in a single process.
    """

    rank: int = 0
    size: int = 1
    strategy: str = "ddp"
    accelerator: Any = None

    @classmethod
    def join(cls, strategy: str = "ddp", *, mixed_precision: str = "no", cpu: bool = False) -> Processes:
        """Meet the other processes of a launch by `accelerate launch` or `torchrun` (NCCL, or gloo with `cpu`)."""
        from accelerate import Accelerator, DistributedDataParallelKwargs

        if strategy not in STRATEGIES:
            raise BadInput(
                f"strategy = {strategy!r}: must be one of {', '.join(STRATEGIES)}{nearest(strategy, STRATEGIES)}"
            )
        # Buffers are constants (rotary frequencies); sending them in every forward pass would couple the processes.
        quiet = DistributedDataParallelKwargs(broadcast_buffers=False)
        accelerator = Accelerator(cpu=cpu, mixed_precision=mixed_precision, kwargs_handlers=[quiet])
        return cls(accelerator.process_index, accelerator.num_processes, strategy, accelerator)

    def share(self, model: Any) -> Any:
        """The model, ready for `backward` in all processes; on this process's device."""
        if self.accelerator is None:
            return model
        if self.strategy == "ddp":
            return self.accelerator.prepare_model(model)
        # torch's own sharding rather than accelerate's wrapper of it, which refuses processors without a GPU.
        from torch.distributed.fsdp import fully_shard

        model.to(self.accelerator.device)
        for layer in decoder_layers(model):
            fully_shard(layer)
        return fully_shard(model)

    @contextlib.contextmanager
    def accumulating(self, model: Any, *, last: bool) -> Iterator[None]:
        """Around forward and backward pass of one micro-batch: gradients are exchanged at the `last` one only.

        Processes may have different numbers of micro-batches.
        """
        if self.accelerator is not None and self.strategy == "fsdp":
            model.set_requires_gradient_sync(last)
        silent = not last and self.accelerator is not None and hasattr(model, "no_sync")
        with model.no_sync() if silent else contextlib.nullcontext():
            yield

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a loss. Both strategies average over processes; it is scaled so that they sum."""
        if self.accelerator is None:
            loss.backward()
        else:
            self.accelerator.backward(loss * self.size)

    def sum(self, value: float) -> float:
        """The sum of a number over all processes, in float64."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.accelerator.device)
        distributed.all_reduce(total)
        return float(total)

    def most(self, number: int) -> int:
        """The largest of a number over all processes."""
        if self.size == 1:
            return number
        largest = torch.tensor(number, device=self.accelerator.device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return int(largest)


def whole_state(model: Any) -> dict[str, torch.Tensor]:
    """The weights of a shared model, as one process would hold them. All processes must ask."""
    return {name: whole(tensor) for name, tensor in getattr(model, "module", model).state_dict().items()}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor, put together from its slices if it is sharded. All processes must ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # type: ignore[attr-defined]


@contextlib.contextmanager
def without_gradient(model: Any) -> Iterator[None]:
    """`torch.no_grad` around forward passes of a model that may be sharded.

    FSDP keeps the outermost layers gathered for a backward pass that never comes; the gradient of the next step would
    be wrong by what they still hold, so they are given back.
    """
    with torch.no_grad():
        yield
    if hasattr(model, "reshard"):
        model.reshard()
