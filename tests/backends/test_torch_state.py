"""PyTorch states: through the checkpoint container and back, bit for bit, and nothing but arrays and JSON on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tutelage.backends.torch_state import RandomState, from_arrays, to_arrays
from tutelage.lab.errors import BadInput
from tutelage.lab.storage import checkpoint


def through_disk(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    path = folder / checkpoint.file_name(1)
    checkpoint.save(path, to_arrays(state), step=1, seeds=[0], config_hash="x")
    return from_arrays(checkpoint.load(path).arrays)


def trained(steps: int, state: dict[str, Any] | None = None) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A small network after some steps of Adam on random data, from a state if one is given."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    done = 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        state["random"].restore()
        done = state["step"]
    for _ in range(done, steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()
    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    return model, parts | {"random": RandomState.now(), "step": steps}


def test_training_that_goes_on_from_disk_is_bit_identical(tmp_path: Path) -> None:
    straight, _ = trained(10)
    _, half = trained(5)
    torch.manual_seed(99)  # the state must bring its own randomness
    resumed, _ = trained(10, through_disk(tmp_path, half))
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.bool, torch.int64, torch.complex64]
)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_every_type_and_shape_survives(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (10 * torch.randn(shape)).to(dtype)
    back = through_disk(tmp_path, {"a": tensor.T if len(shape) == 2 else tensor})["a"]
    expected = tensor.T if len(shape) == 2 else tensor
    assert (back.dtype, back.shape) == (expected.dtype, expected.shape)
    assert torch.equal(back, expected)
    back.zero_()  # writable: it is memory of its own


def test_everything_that_is_no_tensor_survives(tmp_path: Path) -> None:
    state = {"a": [1, 2.5, None, True, "text"], "b": {0: {"lr": 1e-3, "betas": (0.9, 0.999)}, "empty": {}}, "c": []}
    assert through_disk(tmp_path, state) == state


def test_names_are_paths() -> None:
    arrays = to_arrays({"model": {"0.weight": torch.ones(2)}, "list": [torch.zeros(1)]})
    assert set(arrays) == {"model/0.weight", "list/0", "outline.json"}


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({"a": {"f": print}}, "state 'a/f' is a builtin_function_or_method"),
        ({"a": {None: 1}}, "state a has the key None: must be text or a whole number"),
        ({"a": {"b": torch.ones(1)}, "a/b": torch.ones(1)}, "two tensors are both named 'a/b'"),
    ],
)
def test_what_no_checkpoint_can_hold_is_refused_by_place(state: dict[Any, Any], complaint: str) -> None:
    with pytest.raises(TypeError, match=complaint):
        to_arrays(state)


@pytest.mark.parametrize("outline", [None, b"{", b'["surprise", 1]', b'["tensor", "nowhere"]', b"3", b'["dict", [1]]'])
def test_foreign_arrays_are_refused(outline: bytes | None) -> None:
    arrays = {"x": np.zeros(3)}
    if outline is not None:
        arrays["outline.json"] = np.frombuffer(outline, np.uint8)
    with pytest.raises(BadInput, match="not a PyTorch state"):
        from_arrays(arrays)


def test_arrays_that_are_missing_or_too_many_are_named() -> None:
    arrays = to_arrays({"model": {"weight": torch.ones(2)}, "step": 3})
    with pytest.raises(BadInput, match="array 'model/bias' is no part of it"):
        from_arrays(arrays | {"model/bias": np.zeros(1)})
    del arrays["model/weight"]
    with pytest.raises(BadInput, match="array 'model/weight' is missing"):
        from_arrays(arrays)
