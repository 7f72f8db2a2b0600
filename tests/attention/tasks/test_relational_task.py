"""The relational task: its model, its epochs and its figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.tasks.pictures.glyphs import glyphs
from tutelage.attention.tasks.relational import ContextNorm, Relational, RelationalModel
from tutelage.attention.tasks.relational_config import RELATIONS, RelationalConfig
from tutelage.attention.tasks.task import Task
from tutelage.lab.errors import BadInput

CPU = torch.device("cpu")
ATTENTION = AttentionConfig(searches=4, retrievals=2, d_select=4)
NETWORK = NetworkConfig(width=16, iterations=1, d_feedforward=32, dropout=0.0)


def small(relation: str, withheld: int = 85, **more: int) -> RelationalConfig:
    return RelationalConfig(relation=relation, withheld=withheld, num_train=40, num_test=30, **more)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("withheld", [0, 50, 95])
def test_withheld_glyphs_are_in_the_test_alone(relation: str, withheld: int):
    task = Relational(small(relation, withheld), seed=1)
    assert isinstance(task, Task)
    train, test = set(task.train.objects.flat), set(task.test.objects.flat)
    assert len(train) <= 100 - withheld and (not train & test if withheld else train & test)


def test_two_glyphs_suffice_for_same_or_different_and_for_nothing_else():
    assert len(set(Relational(small("same_different", 98), seed=0).train.objects.flat)) == 2
    with pytest.raises(BadInput, match=r"withheld = 98: match_to_sample shows up to 5 different glyphs"):
        Relational(small("match_to_sample", 98), seed=0)


def test_an_epoch_shows_every_problem_once_and_follows_from_the_seed():
    task, again = (Relational(small("identity_rules"), seed=1) for _ in range(2))
    again.batch(9, 8)
    shown = np.concatenate([task.batch(step, 16)["objects"].numpy() for step in range(5)])  # two epochs of 40
    for epoch in (shown[:40], shown[40:]):
        assert sorted(map(tuple, epoch)) == sorted(map(tuple, task.train.objects))
    assert not np.array_equal(shown[:40], shown[40:])
    assert torch.equal(again.batch(4, 16)["objects"], torch.from_numpy(shown[64:]))


def test_context_norm_by_hand():
    x = torch.tensor([[[1.0], [3.0], [5.0], [5.0]]])
    half = 0.5**0.5
    torch.testing.assert_close(ContextNorm(1, 2)(x), torch.tensor([[[-half], [half], [0.0], [0.0]]]))
    spread = torch.tensor([-2.5, -0.5, 1.5, 1.5]) / (11 / 3) ** 0.5
    torch.testing.assert_close(ContextNorm(1, 4)(x), spread[None, :, None])


def test_glyphs_are_read_once_and_answered_as_if_read_each_time():
    torch.manual_seed(0)
    model = RelationalModel(small("match_to_sample"), ATTENTION, NETWORK).eval()
    objects = torch.tensor([[3, 3, 9, 9, 1, 4], [9, 1, 3, 3, 4, 3]])
    with torch.no_grad():
        images = torch.from_numpy(glyphs())[objects].flatten(0, 1)[:, None]
        x = model.norm(model.reader(images).unflatten(0, (2, 6))) + model.positions
        literal = model.answer(model.encoder(x).mean(1))
        torch.testing.assert_close(model(objects), literal, atol=1e-5, rtol=1e-5)
    assert "images" not in model.state_dict()


@pytest.mark.parametrize("relation", RELATIONS)
def test_figures_and_pictures(relation: str):
    torch.manual_seed(0)
    task = Relational(small(relation), seed=1)
    model = task.model(ATTENTION, NETWORK).eval()
    with torch.no_grad():
        figures, shown = task.figures(model, CPU), task.show(model, CPU)
        given = model(torch.from_numpy(task.test.objects)).argmax(-1).numpy()
    assert figures["accuracy"] == pytest.approx((given == task.test.answers).mean())
    assert 0 <= figures["accuracy_train"] <= 1
    length = task.test.objects.shape[1]
    assert shown["images"].shape == (8, length, 32, 32) and shown["search"].shape == (8, 4, length, length)
    assert shown["competition"].shape == (8, length, 4, 2) and len(shown["given"]) == 8
    loss, found = task.loss(model, task.batch(0, 40), None)
    assert float(found["accuracy"]) == pytest.approx(figures["accuracy_train"]) and loss.ndim == 0
