"""The state of a PyTorch system as named arrays: tensors, numbers and random generators, nested in dicts and lists.

    {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3, "rng": RandomState.now()}

`to_arrays` gives what the checkpoint container holds; `from_arrays` gives it back. Everything that is no tensor goes
into one array of JSON text, so nothing is pickled and a checkpoint from elsewhere can run no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch

from tutelage.lab.errors import BadInput

_OUTLINE = "outline.json"
_SCALARS = (bool, int, float, str, type(None))


class RandomState(NamedTuple):
    """The state of PyTorch's generators: the host's, and one for each CUDA device."""

    host: torch.Tensor
    devices: tuple[torch.Tensor, ...]

    @classmethod
    def now(cls) -> RandomState:
        """The state at this moment."""
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(torch.get_rng_state(), tuple(devices))

    def restore(self) -> None:
        """Go on from here. On a machine with another number of devices only the host's generator is set."""
        torch.set_rng_state(self.host)
        if self.devices and len(self.devices) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(list(self.devices))


def to_arrays(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Named arrays: every tensor by its path (`model/0.weight`), and the outline of all the rest as JSON text.

    Tensors may be on any device and of any type that NumPy or ml_dtypes knows (bfloat16 included). Dicts have keys
    that are text or whole numbers (an optimizer's state); raises `TypeError` naming the place of anything else.
    """
    arrays: dict[str, np.ndarray] = {}
    outline = json.dumps(_outline(state, "", arrays), allow_nan=True)
    arrays[_OUTLINE] = np.frombuffer(outline.encode(), np.uint8)
    return arrays


def from_arrays(arrays: Mapping[str, np.ndarray], device: torch.device | str = "cpu") -> dict[str, Any]:
    """The inverse of `to_arrays`, tensors on `device` (random states stay on the host).

    Raises `BadInput` if the arrays did not come from there, naming one that is missing or too many.
    """
    left = dict(arrays)
    try:
        state = _filled(json.loads(_taken(_OUTLINE, left).tobytes()), left, device)
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"the arrays are not a PyTorch state: {error}") from error
    if left:
        raise BadInput(f"the arrays are not a PyTorch state: array {next(iter(left))!r} is no part of it")
    return state


def _outline(node: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """The tree with its tensors moved into `arrays`. Each node is `[kind, content]`."""
    if isinstance(node, torch.Tensor):
        if path in arrays:
            raise TypeError(f"two tensors are both named {path!r}")
        arrays[path] = _array(node.detach().cpu())
        return ["tensor", path]
    if isinstance(node, RandomState):
        return ["random", [_outline(part, f"{path}/{name}", arrays) for name, part in zip(node._fields, node)]]
    if isinstance(node, Mapping):
        for key in node:
            if type(key) not in (str, int):
                raise TypeError(f"state {path or '(top)'} has the key {key!r}: must be text or a whole number")
        under = f"{path}/" if path else ""
        return ["dict", [[key, _outline(child, f"{under}{key}", arrays)] for key, child in node.items()]]
    if isinstance(node, list | tuple):
        children = [_outline(child, f"{path}/{place}", arrays) for place, child in enumerate(node)]
        return ["tuple" if isinstance(node, tuple) else "list", children]
    if isinstance(node, _SCALARS):
        return ["value", node]
    raise TypeError(f"state {path!r} is a {type(node).__name__}: must be a tensor, number, text, dict or list")


def _filled(node: Any, left: dict[str, np.ndarray], device: torch.device | str) -> Any:
    """The inverse of `_outline`; takes what it needs out of `left`."""
    kind, content = node
    match kind:
        case "tensor":
            return _tensor(_taken(content, left)).to(device)
        case "random":
            host, devices = (_filled(part, left, "cpu") for part in content)
            return RandomState(host, devices)
        case "dict":
            return {key: _filled(child, left, device) for key, child in content}
        case "list" | "tuple":
            children = [_filled(child, left, device) for child in content]
            return children if kind == "list" else tuple(children)
        case "value":
            return content
    raise ValueError(f"unknown kind {kind!r}")


def _taken(name: str, left: dict[str, np.ndarray]) -> np.ndarray:
    if name not in left:
        raise ValueError(f"array {name!r} is missing")
    return left.pop(name)


def _array(tensor: torch.Tensor) -> np.ndarray:
    if tensor.dtype == torch.bfloat16:  # NumPy has no such type of its own
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16).copy()
    return np.array(tensor.numpy())


def _tensor(array: np.ndarray) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
