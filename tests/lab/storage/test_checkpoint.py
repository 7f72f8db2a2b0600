"""The checkpoint container: whatever goes in comes out bit for bit, and nothing damaged or foreign is ever accepted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file
from safetensors.torch import load_file as torch_load

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import checkpoint

TYPES = [
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64", "complex64", "complex128"),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
]


def write(folder: Path, step: int = 3, config_hash: str = "abc", **arrays: np.ndarray) -> Path:
    path = folder / checkpoint.file_name(step)
    arrays = arrays or {"weight": np.arange(12.0).reshape(3, 4)}
    checkpoint.save(path, arrays, step=step, seeds=[4, 7], config_hash=config_hash, extra={"evaluated": True})
    return path


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_type_and_shape_survives(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(TYPES)))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    size = int(np.prod(shape)) * dtype.itemsize
    content = data.draw(st.binary(min_size=size, max_size=size))
    if dtype.kind == "b":  # other bytes than 0 and 1 are no booleans
        content = bytes(byte & 1 for byte in content)
    array = np.frombuffer(content, dtype).reshape(shape)
    found = checkpoint.load(write(tmp_path_factory.mktemp("run"), a=array)).arrays["a"]
    assert (found.dtype, found.shape, found.tobytes()) == (dtype, shape, content)
    assert found.flags.writeable


def test_transposed_and_big_endian_arrays_keep_their_values(tmp_path: Path) -> None:
    given_arrays = {"transposed": np.arange(6).reshape(2, 3).T, "big": np.arange(5, dtype=">i4")}
    found = checkpoint.load(write(tmp_path, **given_arrays)).arrays
    assert found["transposed"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["big"].tolist() == [0, 1, 2, 3, 4]


def test_header_comes_back_and_other_readers_understand_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, half=np.array([1.5, -2.0], ml_dtypes.bfloat16), zero=np.array(7, np.int32))
    found = checkpoint.load(path, config_hash="abc")
    assert (found.step, found.seeds, found.config_hash, found.extra) == (3, (4, 7), "abc", {"evaluated": True})
    tensors = torch_load(path)
    assert tensors["half"].float().tolist() == [1.5, -2.0]
    assert tensors["zero"].item() == 7


def test_same_state_same_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = write(tmp_path, a=np.ones(3), b=np.zeros(2))
    other = write(tmp_path / "other", b=np.zeros(2), a=np.ones(3))
    assert one.read_bytes() == other.read_bytes()


def test_an_array_of_objects_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'notes' has type object"):
        write(tmp_path, notes=np.array([{}]))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match="truncated or damaged"):
            checkpoint.load(path)


def test_every_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BadInput, match=r"step-00000003\.safetensors"):
            checkpoint.load(path)


def test_foreign_and_missing_files_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "model.safetensors"
    save_file({"weight": np.ones(3)}, foreign)
    with pytest.raises(BadInput, match="not a Tutelage checkpoint"):
        checkpoint.load(foreign)
    (tmp_path / "text").write_text("hello, I am no checkpoint at all")
    with pytest.raises(BadInput, match="truncated or damaged"):
        checkpoint.load(tmp_path / "text")
    with pytest.raises(BadInput, match="No such file"):
        checkpoint.load(tmp_path / "nowhere")


def test_other_configuration_and_newer_format_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    with pytest.raises(BadInput, match="belongs to another configuration"):
        checkpoint.load(path, config_hash="xyz")
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(BadInput, match="has format 1; this version reads format 2"):
        checkpoint.load(path)


def test_a_forged_digest_does_not_help_a_malformed_header(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.file_name(1)
    header = {"format": 1, "step": 1, "as_bytes": {"a": ["object", [1]]}}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
    array = np.zeros(8, np.uint8)
    digest.update(json.dumps(["a", "uint8", [8]], separators=(",", ":")).encode() + array.tobytes())
    save_file({"a": array}, path, metadata={"tutelage": json.dumps(header | {"sha256": digest.hexdigest()})})
    with pytest.raises(BadInput, match="header that no run wrote"):
        checkpoint.load(path)


def test_configuration_hash_ignores_order_and_sees_every_value() -> None:
    assert checkpoint.config_hash({"a": 1, "b": (2, 3)}) == checkpoint.config_hash({"b": [2, 3], "a": 1})
    assert checkpoint.config_hash({"a": 1}) != checkpoint.config_hash({"a": 1.5})


def test_newest_good_one_is_found_and_damage_is_said(tmp_path: Path) -> None:
    assert checkpoint.latest_good(tmp_path / "nowhere") == (None, [])
    for step in (10, 20, 30):
        write(tmp_path, step)
    found, notes = checkpoint.latest_good(tmp_path, config_hash="abc")
    assert found is not None
    assert (found.step, notes) == (30, [])
    (tmp_path / checkpoint.file_name(30)).write_bytes(b"")
    found, notes = checkpoint.latest_good(tmp_path, config_hash="abc")
    assert found is not None and found.step == 20
    assert len(notes) == 1
    assert "step-00000030" in notes[0] and "going on from step-00000020.safetensors" in notes[0]
    with pytest.raises(BadInput, match=r"no checkpoint in .* can be used; remove that folder to start over"):
        checkpoint.latest_good(tmp_path, config_hash="xyz")


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 100, 30):
        write(tmp_path, step)
    (tmp_path / checkpoint.BEST).write_bytes(b"")
    checkpoint.prune(tmp_path, keep=2)
    assert [step for step, _ in checkpoint.steps(tmp_path)] == [30, 100]
    assert (tmp_path / checkpoint.BEST).exists()
