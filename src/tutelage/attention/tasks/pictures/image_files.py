"""Local copies of image data sets, in formats that hold numbers and nothing else. NumPy only.

A source is a folder; the first of these that is complete in it is read:
- `<name>.npz` with `train_images`, `train_labels`, `test_images`, `test_labels`;
- idx files as MNIST and FashionMNIST have them, also with `.gz`: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
  `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`;
- the binary version of CIFAR-10: `data_batch_1.bin` … `data_batch_5.bin`, `test_batch.bin`;
- SVHN's `train_32x32.mat` and `test_32x32.mat` (label 10 is the digit 0).
Images are bytes, (n, height, width) or (n, height, width, 3), at most 32×32. Pickles (the Python version of CIFAR-10,
`.pkl`, `.pt`) are never opened: reading one may run what its author wrote.
"""

from __future__ import annotations

import gzip
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from tutelage.attention.tasks.pictures.image_mix_config import SIZE
from tutelage.lab.errors import BadInput

_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CIFAR = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_FORMATS = "<name>.npz, idx files (also .gz), CIFAR-10's binary version, or SVHN's .mat files"
_PICKLES = (".pkl", ".pickle", ".pt", ".pth")
_MAX_CLASSES = 1_000


@dataclass(frozen=True)
class Images:
    """n images with their classes.

    Attributes:
        pixels: (n, 3, 32, 32) bytes, RGB; grey is repeated, and smaller images have a black border.
        labels: (n,) whole, from 0.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


def load(folder: Path, name: str) -> tuple[Images, Images]:
    """(training, test) of the local copy `name`, which is the folder of that name in `folder`.

    Raises:
        BadInput: there is none, it is a pickle, or its contents are not what its format says.
    """
    at = folder / name
    if not at.is_dir():
        raise BadInput(f"folder = {str(folder)!r}: must hold a folder {name!r} with {_FORMATS}")
    try:
        train, test = _read(at, name)
    except (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile) as problem:
        if isinstance(problem, BadInput):
            raise
        raise BadInput(f"{at}: cannot be read, {' '.join(str(problem).split())}; must be {_FORMATS}") from problem
    if test.labels.max() > train.labels.max():
        raise BadInput(
            f"{at}: test labels go up to {test.labels.max()}; must be to {train.labels.max()}, as in training"
        )
    return train, test


def _read(at: Path, name: str) -> tuple[Images, Images]:
    if (at / f"{name}.npz").is_file():
        with np.load(at / f"{name}.npz", allow_pickle=False) as held:
            train, test = (_images(held[f"{of}_images"], held[f"{of}_labels"], at) for of in ("train", "test"))
            return train, test
    idx = [next((path for path in (at / of, at / f"{of}.gz") if path.is_file()), None) for of in _IDX]
    if all(idx):
        train_images, train_labels, test_images, test_labels = (_idx(path) for path in idx if path)
        return _images(train_images, train_labels, at), _images(test_images, test_labels, at)
    if all((at / of).is_file() for of in (*_CIFAR, "test_batch.bin")):
        return _images(*_cifar([at / of for of in _CIFAR]), at), _images(*_cifar([at / "test_batch.bin"]), at)
    if all((at / f"{of}_32x32.mat").is_file() for of in ("train", "test")):
        return _images(*_mat(at / "train_32x32.mat"), at), _images(*_mat(at / "test_32x32.mat"), at)
    pickles = sorted(path.name for path in at.iterdir() if path.suffix in _PICKLES or path.name == "data_batch_1")
    if pickles:
        raise BadInput(f"{at / pickles[0]}: a pickle is never opened; must be {_FORMATS}")
    raise BadInput(f"{at}: nothing complete in it; must be {_FORMATS}")


def _idx(path: Path) -> NDArray[np.uint8]:
    """Bytes of any shape: two zeros, type 8, number of axes, their lengths (4 bytes each, big-endian), the bytes."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        head = file.read(4)
        if len(head) < 4 or head[:3] != b"\0\0\x08" or not 1 <= head[3] <= 3:
            raise BadInput(f"{path}: starts with {head!r}; an idx file of bytes starts with 0, 0, 8, 1 to 3")
        shape = [int.from_bytes(file.read(4), "big") for _ in range(head[3])]
        content = file.read(math.prod(shape) + 1)
    if len(content) != math.prod(shape):
        more = "more than " if len(content) > math.prod(shape) else ""
        raise BadInput(f"{path}: {more}{min(len(content), math.prod(shape))} bytes; must be {math.prod(shape)}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _cifar(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Rows of one label and 3·32·32 pixels, channel by channel."""
    rows = np.concatenate([np.fromfile(path, np.uint8).reshape(-1, 1 + 3 * SIZE**2) for path in paths])
    return rows[:, 1:].reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1), rows[:, 0]


def _mat(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    held = scipy.io.loadmat(path, variable_names=["X", "y"])
    return held["X"].transpose(3, 0, 1, 2), held["y"].reshape(-1) % 10


def _images(pixels: NDArray[Any], labels: NDArray[Any], at: Path) -> Images:
    grey = pixels.ndim == 3
    colour = pixels.ndim == 4 and pixels.shape[-1] == 3
    if pixels.dtype != np.uint8 or not (grey or colour) or not 1 <= max(pixels.shape[1:3]) <= SIZE or not len(pixels):
        raise BadInput(
            f"{at}: images are {pixels.dtype} {pixels.shape}; must be uint8 (n, h, w) or (n, h, w, 3), "
            f"up to {SIZE}×{SIZE}"
        )
    if labels.shape != (len(pixels),) or not np.issubdtype(labels.dtype, np.integer):
        raise BadInput(f"{at}: labels are {labels.dtype} {labels.shape}; must be whole and {len(pixels)}")
    if labels.min() < 0 or labels.max() >= _MAX_CLASSES:
        raise BadInput(f"{at}: labels are {labels.min()} to {labels.max()}; must be 0 to {_MAX_CLASSES - 1}")
    if grey:
        pixels = np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
    above, left = (SIZE - pixels.shape[1]) // 2, (SIZE - pixels.shape[2]) // 2
    framed = np.zeros((len(pixels), 3, SIZE, SIZE), np.uint8)
    framed[:, :, above : above + pixels.shape[1], left : left + pixels.shape[2]] = pixels.transpose(0, 3, 1, 2)
    return Images(framed, labels.astype(np.int64))
