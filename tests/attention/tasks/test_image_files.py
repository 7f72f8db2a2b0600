"""Local copies of images: every format gives back what was written; pickles are never opened; faults are one line."""

import gzip
import pickle

import numpy as np
import pytest
import scipy.io

from tutelage.attention.tasks.pictures.image_files import load
from tutelage.lab.errors import BadInput

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
GREY = RNG.integers(256, size=(20, 28, 28), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


def write_npz(at, **changed):
    at.mkdir(parents=True)
    held = {"train_images": COLOUR, "train_labels": LABELS, "test_images": COLOUR[:10], "test_labels": LABELS[:10]}
    np.savez(at / f"{at.name}.npz", **{**held, **changed})


def write_idx(at, suffix=""):
    at.mkdir(parents=True)
    for name, images, labels in (("train", GREY, LABELS), ("t10k", GREY[:10], LABELS[:10])):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = head + array.tobytes()
            path = at / f"{name}-{kind}-ubyte{suffix}"
            path.write_bytes(gzip.compress(content) if suffix else content)


def test_npz(tmp_path):
    write_npz(tmp_path / "birds")
    train, test = load(tmp_path, "birds")
    assert np.array_equal(train.pixels, COLOUR.transpose(0, 3, 1, 2)) and np.array_equal(train.labels, LABELS)
    assert np.array_equal(test.pixels, train.pixels[:10]) and test.labels.dtype == np.int64


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_of_grey_images_is_framed_and_repeated(tmp_path, suffix):
    write_idx(tmp_path / "fashion_mnist", suffix)
    train, test = load(tmp_path, "fashion_mnist")
    assert train.pixels.shape == (20, 3, 32, 32) and len(test.labels) == 10
    for channel in range(3):
        assert np.array_equal(train.pixels[:, channel, 2:30, 2:30], GREY)
    assert train.pixels[:, :, :2].max() == 0 == train.pixels[:, :, :, 30:].max()


def test_the_binary_version_of_cifar10(tmp_path):
    at = tmp_path / "cifar10"
    at.mkdir()
    rows = np.concatenate([LABELS[:, None], COLOUR.transpose(0, 3, 1, 2).reshape(20, -1)], 1)
    for number in range(5):
        rows[4 * number : 4 * number + 4].tofile(at / f"data_batch_{number + 1}.bin")
    rows[:4].tofile(at / "test_batch.bin")
    train, test = load(tmp_path, "cifar10")
    assert np.array_equal(train.pixels, COLOUR.transpose(0, 3, 1, 2)) and np.array_equal(train.labels, LABELS)
    assert np.array_equal(test.pixels, train.pixels[:4])


def test_svhn_counts_the_digit_zero_as_ten(tmp_path):
    at = tmp_path / "svhn"
    at.mkdir()
    ten = np.where(LABELS == 0, 10, LABELS)[:, None]
    for name in ("train", "test"):
        scipy.io.savemat(at / f"{name}_32x32.mat", {"X": COLOUR.transpose(1, 2, 3, 0), "y": ten})
    train, _ = load(tmp_path, "svhn")
    assert np.array_equal(train.labels, LABELS) and np.array_equal(train.pixels, COLOUR.transpose(0, 3, 1, 2))


class Harm:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("name", ["data_batch_1", "train.pkl", "all.pt"])
def test_a_pickle_is_refused_unopened(tmp_path, name):
    at = tmp_path / "cifar10"
    at.mkdir()
    (at / name).write_bytes(pickle.dumps(Harm()))
    with pytest.raises(BadInput, match=f"{name}: a pickle is never opened; must be .*binary version"):
        load(tmp_path, "cifar10")


def test_a_pickle_inside_npz_is_refused_unopened(tmp_path):
    write_npz(tmp_path / "birds", train_labels=np.array([Harm()] * 20, object))
    with pytest.raises(BadInput, match=r"birds: cannot be read, .*allow_pickle"):
        load(tmp_path, "birds")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_images": COLOUR / 255}, r"images are float64 \(20, 32, 32, 3\); must be uint8"),
        ({"train_images": np.zeros((20, 64, 64), np.uint8)}, r"\(20, 64, 64\); must be .* up to 32×32"),
        ({"train_labels": LABELS[:7]}, r"labels are uint8 \(7,\); must be whole and 20"),
        ({"train_labels": LABELS.astype(int) - 1}, "labels are -1 to 8; must be 0 to 999"),
        ({"test_labels": LABELS[:10] + 5}, "test labels go up to 14; must be to 9, as in training"),
    ],
)
def test_contents_that_cannot_be_are_refused(tmp_path, changed, message):
    write_npz(tmp_path / "birds", **changed)
    with pytest.raises(BadInput, match=message):
        load(tmp_path, "birds")


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    at = tmp_path / "fashion_mnist"
    write_idx(at)
    path = at / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadInput, match="15675 bytes; must be 15680"):
        load(tmp_path, "fashion_mnist")
    path.write_bytes(b"<html>")
    with pytest.raises(BadInput, match="an idx file of bytes starts with 0, 0, 8"):
        load(tmp_path, "fashion_mnist")


def test_a_missing_or_empty_copy_names_the_formats(tmp_path):
    with pytest.raises(BadInput, match=r"must hold a folder 'svhn' with <name>\.npz, idx files"):
        load(tmp_path, "svhn")
    (tmp_path / "svhn").mkdir()
    with pytest.raises(BadInput, match=r"nothing complete in it; must be <name>\.npz"):
        load(tmp_path, "svhn")
