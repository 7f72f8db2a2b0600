"""Texts and how they are predicted: each unit once, with the context that was asked for."""

from __future__ import annotations

import argparse
import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.tasks.task import Task
from tutelage.attention.tasks.words.byte_language import ByteLanguage, surprises
from tutelage.attention.tasks.words.byte_language_config import ByteLanguageConfig
from tutelage.attention.tasks.words.text import is_test, standard_library, wikitext_bytes, wikitext_words
from tutelage.lab.errors import BadInput

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def wiki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wiki")
    (folder / "wiki.train.tokens").write_text(" \n = A = \n \n the the the cat cat é <unk> \n", encoding="utf-8")
    (folder / "wiki.test.tokens").write_text(" \n the é dog \nA cat\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("before", [0, 3, 5, 7])
@pytest.mark.parametrize("number", [2, 8, 9, 10, 11, 40])
def test_every_unit_is_predicted_once_from_enough_before_it(number: int, before: int):
    """The stand-in says how many units it has read: unit k must be told by min(k, at least `before`) of them."""
    context, units = 8, torch.arange(number)

    def logits(rows: Tensor) -> Tensor:
        assert rows.shape[1] <= context
        read = torch.arange(1, rows.shape[1] + 1).double()
        return (
            torch.nn.functional.one_hot(rows + 1, number + 1) * read[:, None]
        )  # the right unit, by as many as were read

    nats = surprises(logits, units, context, before)
    assert len(nats) == number - 1
    for place, one in enumerate(nats, start=1):
        read = -math.log(math.expm1(one) / number)  # of number + 1 units: nats = ln(1 + number / e^read)
        assert read == pytest.approx(round(read)) and min(place, before + 1) <= round(read) <= min(place, context)


def test_figures_by_hand_on_words(wiki: Path):
    task = ByteLanguage(ByteLanguageConfig(str(wiki), "words", context=4, evaluation_context=2, num_test=0), seed=0)
    model = task.model(AttentionConfig(searches=2, retrievals=2), NetworkConfig(width=8, iterations=1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # all logits are equal
        found = task.figures(model, CPU)
    assert found["perplexity"] == pytest.approx(7)
    # The first line's end is not predicted; the others are 4 + 3 units of "the é dog " and "A cat", 21 - 2 bytes.
    assert found["bits_per_byte"] == pytest.approx(7 * math.log2(7) / 19)


def test_words_of_wikitext_by_hand(wiki: Path):
    text = wikitext_words(wiki)
    # <eos> 4, the 3, = and cat 2, A and é 1, and <unk>, which is last whatever its frequency.
    assert text.vocabulary == 7
    eos, the, equals, cat, a, accent, unknown = range(7)
    assert text.train.tolist() == [eos, equals, a, equals, eos, eos, the, the, the, cat, cat, accent, unknown, eos]
    assert text.test.tolist() == [eos, the, accent, unknown, eos, a, cat, eos]
    assert text.test_bytes.tolist() == [2, 4, 3, 4, 2, 2, 4, 0]
    assert text.test_bytes.sum() == (wiki / "wiki.test.tokens").stat().st_size
    few = wikitext_words(wiki, 3)
    assert few.vocabulary == 3 and few.test.tolist() == [0, 1, 2, 2, 0, 2, 2, 0]


def test_bytes_of_wikitext_are_the_files(wiki: Path):
    text = wikitext_bytes(wiki)
    assert bytes(text.test) == (wiki / "wiki.test.tokens").read_bytes() and text.vocabulary == 256
    assert text.test_bytes.sum() == len(text.test)


def test_the_standard_library_is_divided_by_file():
    text = standard_library()
    assert 0.01 < len(text.test) / len(text.train) < 0.2 and len(text.train) > 1_000_000
    for module in (argparse, ast):
        path = Path(module.__file__)
        part, other = (text.test, text.train) if is_test(path.name) else (text.train, text.test)
        assert path.read_bytes() in bytes(part) and path.read_bytes() not in bytes(other)


def test_batches_follow_from_seed_and_step_alone():
    config = ByteLanguageConfig(context=16, evaluation_context=8)
    task, again = ByteLanguage(config, seed=1), ByteLanguage(config, seed=1)
    assert isinstance(task, Task)
    again.batch(5, 3)
    assert torch.equal(task.batch(2, 3)["units"], again.batch(2, 3)["units"])
    assert task.batch(2, 3)["units"].shape == (3, 17)
    assert bytes(task.batch(2, 3)["units"][0].to(torch.uint8).numpy()) in bytes(task.text.train)


def test_pictures():
    task = ByteLanguage(ByteLanguageConfig(context=16, evaluation_context=8), seed=1)
    model = task.model(AttentionConfig(searches=2, retrievals=3), NetworkConfig(width=8, iterations=2)).eval()
    with torch.no_grad():
        shown = task.show(model, CPU)
    assert shown["nats"].shape == (16,) and shown["search"].shape == (2, 16, 16)
    assert np.allclose(shown["search"].sum(-1), 1, atol=1e-5) and shown["competition"].shape == (16, 2, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"context": 8, "evaluation_context": 8}, "evaluation_context = 8: must be below context = 8"),
        ({"units": "words"}, "units = 'words': must be 'bytes' where path is empty"),
        ({"vocabulary": 9}, "vocabulary = 9: must be 0 with units = 'bytes'"),
        ({"path": "/no/such"}, "path = '/no/such': no such folder"),
        ({"context": 10**9}, "context = 1000000000: must be below the text's"),
    ],
)
def test_settings_that_contradict_are_refused(changes: dict[str, object], said: str):
    with pytest.raises(BadInput, match=said):
        ByteLanguage(ByteLanguageConfig(**changes), seed=0)


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    with pytest.raises(BadInput, match=r"must hold wiki.train.tokens or wiki.train.raw"):
        wikitext_bytes(tmp_path)
    (tmp_path / "wiki.train.raw").write_bytes(b"a \xff b\n")
    (tmp_path / "wiki.test.raw").write_bytes(b"")
    with pytest.raises(BadInput, match=r"wiki.test.raw is empty"):
        wikitext_words(tmp_path)
    (tmp_path / "wiki.test.raw").write_bytes(b"a")
    with pytest.raises(BadInput, match=r"wiki.train.raw is not UTF-8"):
        wikitext_words(tmp_path)
