"""The SCAN task: batches, the decoder with its cache, and what counts as exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.attention.config import AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.attention.tasks.task import Task
from tutelage.attention.tasks.words.scan import CommandModel, Scan, exact_matches
from tutelage.attention.tasks.words.scan_config import ScanConfig
from tutelage.attention.tasks.words.scan_grammar import ACTIONS, WORDS, bare, commands, out_of_distribution
from tutelage.attention.tasks.words.scan_interpreter import interpret
from tutelage.attention.training import Training

CPU = torch.device("cpu")
ATTENTION = AttentionConfig(searches=2, retrievals=2, d_select=8, backend="literal")
NETWORK = NetworkConfig(width=32, iterations=2, dropout=0.0)


@pytest.fixture(scope="module")
def learnt() -> tuple[Scan, CommandModel]:
    """Trained on the shortest commands until it decodes some of them and not others."""
    torch.manual_seed(0)
    task = Scan(ScanConfig(cutoff=3, num_test=60, held_out=0.3), seed=0)
    optimizer = OptimizerConfig(learning_rate=1e-2, batch_size=32, curve="cosine")
    training = Training(task, ATTENTION, NETWORK, optimizer, seed=0, num_updates=50)
    state = training.init()
    for _ in range(50):
        state, _ = training.update(state)
    return task, training.model.eval()


def text(row: torch.Tensor, vocabulary: list[str]) -> list[str]:
    return [vocabulary[number - 1] for number in row.tolist() if number]


def test_batches_say_what_their_commands_mean():
    task = Scan(ScanConfig(cutoff=24), seed=0)
    assert isinstance(task, Task)
    batch = task.batch(3, 32)
    for words, actions, length in zip(batch["words"], batch["actions"], batch["lengths"]):
        assert tuple(text(actions, ACTIONS)) == interpret(" ".join(text(words, WORDS)))
        assert (actions[:length] > 0).all() and (actions[length:] == 0).all() and length <= 24
    assert batch["actions"].shape[1] == batch["lengths"].max() + 1


def test_batches_follow_from_seed_and_step_alone_and_pad_little():
    task, again = (Scan(ScanConfig(pool=8), seed=2) for _ in range(2))
    again.batch(30, 16)
    spreads = []
    for step in (9, 2, 10):
        mine, other = task.batch(step, 16), again.batch(step, 16)
        assert all(torch.equal(mine[name], other[name]) for name in mine)
        spreads.append(int(mine["lengths"].max() - mine["lengths"].min()))
    alone = Scan(ScanConfig(pool=1), seed=2).batch(2, 16)["lengths"]
    assert max(spreads) < int(alone.max() - alone.min())


@pytest.mark.parametrize("split", ["length", "simple", "jump", "turn_left"])
def test_what_is_held_out_is_never_trained_on(split: str):
    task = Scan(ScanConfig(split=split), seed=1)
    far = np.flatnonzero(out_of_distribution(split, 22))
    assert set(task.ood) == set(far) and not set(task.train) & (set(task.iid) | set(task.ood))
    assert len(task.iid) == round(0.1 * (len(task.iid) + len(task.train)))
    total = len(task.train) + len(task.iid) + len(task.ood) + (task.primitive is not None)
    assert total == 20910
    drawn = {row for step in range(4) for row in task._rows(step, 500)}
    allowed = set(task.train) | ({task.primitive} if task.primitive is not None else set())
    assert drawn <= allowed


@pytest.mark.parametrize(("split", "phrase"), [("jump", ("jump",)), ("turn_left", ("turn", "left"))])
def test_the_bare_command_is_a_tenth_of_training(split: str, phrase: tuple[str, ...]):
    task = Scan(ScanConfig(split=split), seed=1)
    rows = np.concatenate([task._rows(step, 500) for step in range(16)])
    assert bare(phrase)[task.primitive] and abs((rows == task.primitive).mean() - 0.1) < 0.02


def test_padding_changes_nothing(learnt: tuple[Scan, CommandModel]):
    _, model = learnt
    every, rows = commands(), np.array([0, 40, 5000, 20000])
    words, actions = (torch.from_numpy(a[rows].astype(np.int64)) for a in (every.words, every.actions))
    with torch.no_grad():
        together = model(words, actions)
        for n, row in enumerate(rows):
            length = every.num_actions[row] + 1
            alone = model(words[n : n + 1, : every.num_words[row]], actions[n : n + 1, :length])
            torch.testing.assert_close(together[n, :length], alone[0], atol=1e-5, rtol=1e-5)


def test_decoding_with_the_cache_is_greedy_in_the_full_forward(learnt: tuple[Scan, CommandModel]):
    _, model = learnt
    words = torch.from_numpy(commands().words[[3, 77, 9000, 20909]].astype(np.int64))
    decoded = model.decode(words, limit=12)
    forced = torch.from_numpy(decoded.forced)
    assert forced.shape == (4, 12)
    with torch.no_grad():
        logits = model(words, forced)
    assert torch.equal(logits[..., 1:].argmax(-1) + 1, forced)
    for row, free in zip(logits.argmax(-1).numpy(), decoded.actions):
        ends = np.flatnonzero(row == 0)
        assert len(free) == (ends[0] if len(ends) else 12)


def test_one_parallel_pass_tells_what_step_by_step_decoding_would(learnt: tuple[Scan, CommandModel]):
    task, model = learnt
    every = commands()
    rows = np.concatenate([task.train, task.iid, task.ood[:50]])
    exact, oracle = exact_matches(model, rows, CPU)
    decoded = model.decode(torch.from_numpy(every.words[rows].astype(np.int64)))
    for n, row in enumerate(rows):
        truth = every.actions[row, : every.num_actions[row]]
        assert exact[n] == np.array_equal(decoded.actions[n], truth)
        assert oracle[n] == np.array_equal(decoded.forced[n, : len(truth)], truth)
    assert 0 < exact.sum() < len(rows) and exact.sum() < oracle.sum()


def test_figures_and_pictures(learnt: tuple[Scan, CommandModel]):
    task, model = learnt
    with torch.no_grad():
        figures, shown = task.figures(model, CPU), task.show(model, CPU)
    names = {f"accuracy_{part}{oracle}" for part in ("iid", "ood") for oracle in ("", "_eos_oracle")}
    assert set(figures) == names and figures["accuracy_iid"] <= figures["accuracy_iid_eos_oracle"]
    assert all(interpret(said) == tuple(done.split()) for said, done in zip(shown["commands"], shown["actions"]))
    length, words = len(shown["actions"][0].split()) + 1, len(shown["commands"][0].split())
    assert shown["search"].shape == (2, length, words) and shown["competition"].shape == (length, 2, 2)
    assert len(shown["exact"]) == len(shown["lengths"]) == 60
    assert set(Scan(ScanConfig(split="simple", num_test=4), 0).figures(model, CPU)) == {
        "accuracy_iid",
        "accuracy_iid_eos_oracle",
    }


@pytest.mark.slow
def test_short_commands_are_learnt():
    """Up to six actions, held-out ones too."""
    torch.manual_seed(0)
    task = Scan(ScanConfig(cutoff=6), seed=0)
    optimizer = OptimizerConfig(learning_rate=2e-3, batch_size=32, curve="cosine", clip=1.0)
    network = NetworkConfig(width=64, iterations=2, dropout=0.0)
    training = Training(task, AttentionConfig(), network, optimizer, seed=0, num_updates=1200)
    state = training.init()
    for _ in range(1200):
        state, _ = training.update(state)
    training.model.eval()
    with torch.no_grad():
        exact, _ = exact_matches(training.model, task.iid, CPU)
    assert exact.mean() > 0.9
