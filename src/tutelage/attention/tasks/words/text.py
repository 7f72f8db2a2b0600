"""Texts to model: WikiText from a local folder, and the sources of Python's standard library, which are everywhere."""

from __future__ import annotations

import os
import sysconfig
import zlib
from array import array
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tutelage.lab.errors import BadInput

UNKNOWN, END = "<unk>", "<eos>"
_TEST_SHARE = 20
_LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


class Text(NamedTuple):
    """A text in numbers.

    Attributes:
        train, test: one axis; uint8 of bytes, int32 of words.
        vocabulary: how many numbers there are.
        test_bytes: int64, as long as `test`: the bytes of each unit; of a word with a blank after it, of `<eos>` what
            remains of the line.
    """

    train: np.ndarray
    test: np.ndarray
    vocabulary: int
    test_bytes: np.ndarray


@cache
def standard_library() -> Text:
    """The bytes of every module's source but the tests', in the order of their paths.

    About a twentieth of the files are the test, by a checksum of the path, so that a file stays where it is when others
    come or go. The text is another with each version of Python.

    Raises:
        BadInput: a Python without sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(path.relative_to(root).as_posix() for path in _sources(root))
    train, test = ([path for path in paths if is_test(path) == held] for held in (False, True))
    if not train or not test:
        raise BadInput(f"path is empty, and {root} holds no Python sources: give path, a folder with WikiText")
    return _of_bytes(*(b"".join((root / path).read_bytes() for path in part) for part in (train, test)))


def _sources(root: Path) -> Iterator[Path]:
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in _LEFT_OUT]  # what is taken out here is not entered
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def is_test(path: str) -> bool:
    """Whether the file of that path, relative to the library, is of the test."""
    return zlib.crc32(path.encode()) % _TEST_SHARE == 0


def wikitext_bytes(folder: Path) -> Text:
    """The bytes of WikiText's training and test files.

    Raises:
        BadInput: no such folder, or one of its files is missing.
    """
    files = _files(folder)
    return _of_bytes(files["train"].read_bytes(), files["test"].read_bytes())


def wikitext_words(folder: Path, limit: int = 0) -> Text:
    """Words between blanks, with `<eos>` at the end of each line, as WikiText's perplexities are reported.

    Numbers go by frequency in training, then by the order of characters. `<unk>` is the last of them: what training
    lacks, or what is not among the `limit` - 1 most frequent.

    Raises:
        BadInput: no such folder, one of its files is missing, or it is not UTF-8.
    """
    files = _files(folder)
    counts = Counter(word for line, _ in _lines(files["train"]) for word in line)
    del counts[UNKNOWN]
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    ranked = [*ranked[: limit - 1 if limit else None], UNKNOWN]
    number = {word: index for index, word in enumerate(ranked)}
    unknown = number[UNKNOWN]
    train, test, sizes = array("i"), array("i"), array("q")
    for line, _ in _lines(files["train"]):
        train.extend(number.get(word, unknown) for word in line)
    for line, num_bytes in _lines(files["test"]):
        test.extend(number.get(word, unknown) for word in line)
        of_words = [len(word.encode()) + 1 for word in line[:-1]]
        sizes.extend([*of_words, num_bytes - sum(of_words)])
    return Text(np.array(train), np.array(test), len(ranked), np.array(sizes))


def _lines(path: Path) -> Iterator[tuple[list[str], int]]:
    """Of each line the words, the last being its end, and how many bytes it has."""
    try:
        with path.open("rb") as file:
            for line in file:
                yield [*line.decode("utf-8").split(), END], len(line)
    except UnicodeDecodeError as error:
        raise BadInput(f"path: {path} is not UTF-8 ({error.reason})") from None


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise BadInput(f"path = {str(folder)!r}: no such folder; it must hold wiki.train.tokens and wiki.test.tokens")
    found = {}
    for part in ("train", "test"):
        names = [f"wiki.{part}.tokens", f"wiki.{part}.raw"]
        if not (there := [folder / name for name in names if (folder / name).is_file()]):
            raise BadInput(f"path = {str(folder)!r}: must hold {' or '.join(names)}")
        if not there[0].stat().st_size:
            raise BadInput(f"path = {str(folder)!r}: {there[0].name} is empty")
        found[part] = there[0]
    return found


def _of_bytes(train: bytes, test: bytes) -> Text:
    first, second = (np.frombuffer(part, np.uint8) for part in (train, test))
    return Text(first, second, 256, np.ones(len(test), np.int64))
