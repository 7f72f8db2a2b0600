"""Associative recall: labels that can be read off, pairings that are kept from training, and the cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.tasks.task import Task
from tutelage.attention.tasks.words.associative_recall import AssociativeRecall
from tutelage.attention.tasks.words.associative_recall_config import AssociativeRecallConfig
from tutelage.lab.errors import BadInput

SMALL = AssociativeRecallConfig(items=3, queries=2, keys=2, values=3, num_test=8)


@pytest.fixture(scope="module")
def task() -> AssociativeRecall:
    return AssociativeRecall(SMALL, seed=3)


@pytest.fixture(scope="module")
def model(task: AssociativeRecall) -> torch.nn.Module:
    torch.manual_seed(0)
    attention = AttentionConfig(searches=2, retrievals=2, d_select=4)
    return task.model(attention, NetworkConfig(width=16, iterations=2, dropout=0.0)).eval()


def words(config: AssociativeRecallConfig, row: np.ndarray) -> list[tuple[str, int]]:
    """Each token as its kind and its number within the kind."""
    kinds = (
        ["name"] * 3
        + ["key"] * 3 * config.keys
        + [v for v in ("colour", "shape", "size") for _ in range(config.values)]
    )
    assert len(kinds) == config.vocabulary
    return [(kinds[token], int(token) - kinds.index(kinds[token])) for token in row]


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("config", [SMALL, AssociativeRecallConfig()])
def test_answers_can_be_read_off_the_items(config: AssociativeRecallConfig, held_out: bool):
    task = AssociativeRecall(config, seed=3)
    drawn = task.draw(50, np.random.default_rng(0), held_out=held_out)
    for row, asked, source in zip(*drawn):
        said = words(config, row)
        items, questions = said[: 4 * config.items], said[4 * config.items :]
        known = {}
        for key, *values in (items[n : n + 4] for n in range(0, len(items), 4)):
            assert key[0] == "key" and key not in known
            known[key] = dict(values)
            assert list(known[key]) == ["colour", "shape", "size"]
        keys = []
        for n, (key, name, answer) in enumerate(questions[n : n + 3] for n in range(0, len(questions), 3)):
            attribute = ("colour", "shape", "size")[name[1]]
            assert name == ("name", asked[n]) and answer == (attribute, known[key][attribute])
            assert said[source[n]] == answer and said[source[n] - 1 - asked[n]] == key
            assert (task.never[key[1] // config.keys] == name[1]) == held_out
            keys.append(key)
        assert len(set(keys)) == config.queries == len(keys)


def test_every_pairing_that_is_not_held_out_is_trained():
    task = AssociativeRecall(AssociativeRecallConfig(), seed=1)
    tokens = task.batch(0, 200)["tokens"].numpy()
    questions = tokens[:, 24:].reshape(-1, 3)
    pairs = {(int(key - 3) // 4, int(name)) for key, name, _ in questions}
    assert pairs == {(t, a) for t in range(3) for a in range(3)} - set(enumerate(task.never.tolist()))


def test_batches_follow_from_seed_and_step_alone(task: AssociativeRecall):
    assert isinstance(task, Task)
    again = AssociativeRecall(SMALL, seed=3)
    again.batch(7, 4)
    assert torch.equal(task.batch(2, 4)["tokens"], again.batch(2, 4)["tokens"])
    assert not torch.equal(task.batch(2, 4)["tokens"], task.batch(3, 4)["tokens"])
    assert not torch.equal(task.batch(2, 4)["tokens"], AssociativeRecall(SMALL, seed=4).batch(2, 4)["tokens"])


def test_generation_with_the_cache_answers_what_the_figure_counts(task: AssociativeRecall, model: torch.nn.Module):
    drawn = task.draw(8, np.random.default_rng(5))
    tokens = torch.from_numpy(drawn.tokens)
    with torch.no_grad():
        expected = model(tokens[:, :-1], use_cache=False).logits[:, [13, 16]].argmax(-1)
        for n, place in enumerate((13, 16)):
            given = model.generate(
                tokens[:, : place + 1], attention_mask=torch.ones(8, place + 1), max_new_tokens=1, do_sample=False
            )
            assert torch.equal(given[:, -1], expected[:, n])
        accuracy = (expected == tokens[:, [14, 17]]).double().mean()
        assert task._accuracy(model, drawn, torch.device("cpu")) == pytest.approx(float(accuracy))


def test_the_loss_is_that_of_the_answers(task: AssociativeRecall, model: torch.nn.Module):
    batch = task.batch(0, 5)
    loss, found = task.loss(model, batch, None)
    with torch.no_grad():
        logits = model(batch["tokens"]).logits.log_softmax(-1)
    nats = [-logits[b, p, batch["tokens"][b, p + 1]] for b in range(5) for p in (13, 16)]
    assert float(loss.detach()) == pytest.approx(float(torch.stack(nats).mean()), abs=1e-5)
    assert set(found) == {"accuracy"}


def test_figures_and_pictures(task: AssociativeRecall, model: torch.nn.Module):
    with torch.no_grad():
        figures, shown = task.figures(model, torch.device("cpu")), task.show(model, torch.device("cpu"))
    assert set(figures) == {"accuracy_iid", "accuracy_ood"} and all(0 <= value <= 1 for value in figures.values())
    assert shown["mass_ood"].shape == (2, 2) and shown["competition_iid"].shape == (2, 3, 2, 2)
    assert np.allclose(shown["competition_iid"].sum(-1), 1, atol=1e-5) and (shown["mass_iid"] < 1).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"items": 13}, "items = 13: must be at most the number of keys, 3 × 4 = 12"),
        ({"queries": 7}, "queries = 7: must be at most items = 6"),
        ({"values": 17}, "make a vocabulary of 66: must be at most 64"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, int], said: str):
    with pytest.raises(BadInput, match=said):
        AssociativeRecall(AssociativeRecallConfig(**changes), seed=0)
