"""The image tasks: data of seed and step alone, figures of every kind of question, models that train and show."""

import dataclasses

import numpy as np
import pytest
import torch

from tutelage.attention.config import AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.attention.tasks.pictures.image_mix import ImageMix
from tutelage.attention.tasks.pictures.image_mix_config import DRAWN_SOURCES, ImageMixConfig
from tutelage.attention.tasks.pictures.patches import patches
from tutelage.attention.tasks.pictures.sort_of_clevr import SortOfClevr
from tutelage.attention.tasks.pictures.sort_of_clevr_config import SortOfClevrConfig
from tutelage.attention.tasks.pictures.triangles import Triangles
from tutelage.attention.tasks.pictures.triangles_config import QUICK
from tutelage.attention.tasks.task import Task
from tutelage.attention.training import Training
from tutelage.lab.errors import BadInput

ATTENTION = AttentionConfig(searches=2, retrievals=3, d_select=8)
NETWORK = NetworkConfig(width=16, iterations=2)
CPU = torch.device("cpu")
MIX = ImageMixConfig(sources=DRAWN_SOURCES, test_images=20, patch=8)


def make(name, seed=0):
    if name == "clevr":
        return SortOfClevr(SortOfClevrConfig(train_images=30, test_images=8, questions=2), seed)
    if name == "triangles":
        return Triangles(dataclasses.replace(QUICK, test_images=40), seed)
    return ImageMix(MIX, seed)


NAMES = ("clevr", "triangles", "mix")


@pytest.mark.parametrize("name", NAMES)
def test_batches_follow_from_seed_and_step_alone(name):
    task, again, other = make(name), make(name), make(name, 1)
    assert isinstance(task, Task)
    again.batch(0, 4)
    first, second, third, fourth = task.batch(3, 6), again.batch(3, 6), task.batch(4, 6), other.batch(3, 6)
    for key in first:
        assert len(first[key]) == 6 and torch.equal(first[key], second[key])
    images = next(key for key in first if key.startswith("images"))
    assert not torch.equal(first[images], third[images]) and not torch.equal(first[images], fourth[images])


@pytest.mark.parametrize("name", NAMES)
def test_a_model_trains_and_evaluation_leaves_it_as_it_is(name):
    task = make(name)
    training = Training(task, ATTENTION, NETWORK, OptimizerConfig(batch_size=4), seed=0, num_updates=2)
    state = training.init()
    for _ in range(2):
        state, metrics = training.update(state)
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert all(parameter.grad is not None for parameter in training.model.parameters())
    before = {key: tensor.clone() for key, tensor in training.model.state_dict().items()}
    found, again = (training.evaluate(state, 2, True) for _ in range(2))
    assert found == again and all(0 <= value <= 1 for key, value in found.items() if key.startswith("accuracy"))
    task.show(training.model, CPU)
    assert all(torch.equal(before[key], tensor) for key, tensor in training.model.state_dict().items())


def test_accuracies_of_the_kinds_of_questions_are_those_of_the_answers_said():
    task = make("clevr")

    class Says(torch.nn.Module):
        """Yes to everything unary, and 1 to everything else."""

        def forward(self, images, questions):
            return torch.eye(10)[torch.where(questions[:, 12] == 1, 0, 4)]

    found = task.figures(Says(), CPU)
    pictures, questions, answers = task._test
    for kind, (name, said) in enumerate((("unary", 0), ("binary", 4), ("ternary", 4))):
        assert found[f"accuracy_{name}"] == pytest.approx((answers[questions.kind == kind] == said).mean())
    weights = np.array([found[f"accuracy_{name}"] for name in ("unary", "binary", "ternary")])
    assert found["accuracy"] == pytest.approx(weights.mean()) and len(pictures) == 8


def test_show_gives_maps_over_patches_that_sum_to_at_most_one():
    for name, side, count in (("clevr", 5, 18), ("triangles", 8, 8), ("mix", 4, 8)):
        task = make(name)
        model = task.model(ATTENTION, NETWORK).eval()
        shown = task.show(model, CPU)
        assert shown["search"].shape == (count, 2, 2, side, side)
        assert np.all(shown["search"].sum((-1, -2)) <= 1 + 1e-5)
        assert shown["competition"].shape == (count, 2, 2, 3)
        np.testing.assert_allclose(shown["competition"].sum(-1), 1, rtol=0, atol=1e-5)
        assert len(shown["images"]) == count
        multihead = task.model(dataclasses.replace(ATTENTION, kind="multihead"), NETWORK).eval()
        assert "competition" not in task.show(multihead, CPU)


def test_every_source_reads_its_own_token_whatever_else_is_in_the_batch():
    task = make("mix")
    model = task.model(ATTENTION, NETWORK).eval()
    batch = task.batch(0, 3)
    images = [batch[f"images_{name}"] for name in DRAWN_SOURCES]
    together = model(images)
    assert [tuple(of.shape) for of in together] == [(3, 10), (3, 10), (3, 10), (3, 2)]
    for number, of in enumerate(images):
        alone = model([of if other == number else of[:0] for other in range(4)])
        torch.testing.assert_close(alone[number], together[number])


def test_patches_are_cut_row_by_row():
    images = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    cut = patches(images, 2)
    assert cut.shape == (2, 6, 12)
    assert torch.equal(cut[1, 4].reshape(3, 2, 2), images[1, :, 2:4, 2:4])
    with pytest.raises(BadInput, match="patch = 4: must divide the image's 4×6 px"):
        patches(images, 4)


def test_local_copies_are_moved_and_mirrored_within_their_class(tmp_path):
    pixels = np.zeros((10, 32, 32, 3), np.uint8)
    labels = np.arange(10)
    pixels[labels, 10, 3 * labels] = 255
    (tmp_path / "dots").mkdir()
    np.savez(
        tmp_path / "dots" / "dots.npz", train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels
    )
    config = ImageMixConfig(sources=("dots",), folder=str(tmp_path), shift=2, mirrored=("dots",))
    batch = ImageMix(config, 0).batch(0, 400)
    places = {label: set() for label in range(10)}
    for image, label in zip(batch["images_dots"], batch["labels_dots"].tolist(), strict=True):
        places[label] |= {(row, column) for _, row, column in image.nonzero().tolist()}
    rows = range(8, 13)
    for label, found in places.items():
        columns = {at + move for at in (3 * label, 31 - 3 * label) for move in range(-2, 3)}
        assert found <= {(row, column) for row in rows for column in columns if 0 <= column < 32}
        assert len(found) > 15
    still = ImageMix(dataclasses.replace(config, shift=0, mirrored=()), 0).batch(0, 50)
    for image, label in zip(still["images_dots"], still["labels_dots"].tolist(), strict=True):
        assert torch.equal(image, torch.from_numpy(pixels[label]).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ImageMixConfig(), "folder is empty: source 'cifar10' is read from a local copy; drawn are digits"),
        (ImageMixConfig(sources=("symbol",)), "did you mean 'symbols'"),
        (ImageMixConfig(sources=("digits", "digits")), "must be at least one, each once"),
        (ImageMixConfig(sources=("digits",), patch=5), "patch = 5: must divide 32"),
    ],
)
def test_sources_that_cannot_be_are_refused(config, message):
    with pytest.raises(BadInput, match=message):
        ImageMix(config, 0)


def test_an_odd_width_cannot_be_shared_by_patches_and_question():
    with pytest.raises(BadInput, match="width = 15: must be even"):
        make("clevr").model(ATTENTION, NetworkConfig(width=15))
