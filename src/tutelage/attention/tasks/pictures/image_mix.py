"""Several image tasks at once, each read from a CLS token of its own (arXiv 2110.09419, section 4.4).

The published four are CIFAR-10, FashionMNIST, SVHN and equilateral triangles at 32×32, from local copies (`image_files`
says in which formats). Sources that need no files are drawn (`image_drawn`): ever new images in training, and a test
that follows from the seed. Different from the official code: triangles are two classes like any others (there one
logit), and digits are not mirrored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tutelage.attention.blocks import Encoder
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.tasks.pictures import image_drawn, image_files, triangles_images
from tutelage.attention.tasks.pictures.image_files import Images
from tutelage.attention.tasks.pictures.image_mix_config import DRAWN_SOURCES, SIZE, TRIANGLES, ImageMixConfig
from tutelage.attention.tasks.pictures.patches import attention_of_token, patches, places
from tutelage.attention.tasks.task import Batch
from tutelage.lab.errors import BadInput, nearest

_TRAINING, _TEST = range(2)
_CHUNK = 128
_FEATURES = 128


class ImageMix:
    """The `Task`. Figures: `accuracy_<source>` of each source, and their mean, `accuracy`.

    A batch has `images_<source>` and `labels_<source>`; its size is of each source.

    Raises:
        BadInput: no or repeated sources, a patch that does not divide 32, a local copy that is missing or unreadable.
    """

    def __init__(self, config: ImageMixConfig, seed: int) -> None:
        if not config.sources or len(set(config.sources)) < len(config.sources):
            raise BadInput(f"sources = {config.sources}: must be at least one, each once")
        if SIZE % config.patch:
            raise BadInput(f"patch = {config.patch}: must divide {SIZE}")
        self.config, self.seed = config, seed
        self._files: dict[str, Images] = {}
        self._test: dict[str, Images] = {}
        self._classes: dict[str, int] = {}
        for number, name in enumerate(config.sources):
            if name in DRAWN_SOURCES:
                self._classes[name] = 2 if name == "triangles" else image_drawn.CLASSES
                self._test[name] = _drawn(np.random.default_rng([seed, _TEST, number]), name, config.test_images)
                continue
            self._files[name], test = image_files.load(_folder(config, name), name)
            self._test[name] = Images(test.pixels[: config.test_images], test.labels[: config.test_images])
            self._classes[name] = int(self._files[name].labels.max()) + 1

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> MixModel:
        return MixModel(self.config, tuple(self._classes.values()), attention, network)

    def batch(self, step: int, size: int) -> Batch:
        batch: dict[str, Tensor] = {}
        for number, name in enumerate(self.config.sources):
            rng = np.random.default_rng([self.seed, _TRAINING, step, number])
            images = self._augmented(rng, name, size) if name in self._files else _drawn(rng, name, size)
            batch[f"images_{name}"] = torch.from_numpy(images.pixels)
            batch[f"labels_{name}"] = torch.from_numpy(images.labels)
        return batch

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The sum of the sources' cross-entropies; beside it each source's accuracy."""
        names = self.config.sources
        logits = model([batch[f"images_{name}"] for name in names], generator=generator)
        labels = [batch[f"labels_{name}"] for name in names]
        losses = [functional.cross_entropy(said, true) for said, true in zip(logits, labels, strict=True)]
        right = [(said.argmax(-1) == true).float().mean() for said, true in zip(logits, labels, strict=True)]
        return torch.stack(losses).sum(), {f"accuracy_{name}": of for name, of in zip(names, right, strict=True)}

    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        found = {}
        for number, name in enumerate(self.config.sources):
            test, right = self._test[name], 0
            pixels, labels = torch.from_numpy(test.pixels), torch.from_numpy(test.labels)
            with torch.no_grad():
                for images, true in zip(pixels.split(_CHUNK), labels.split(_CHUNK), strict=True):
                    said = model(_only(number, images.to(device), len(self.config.sources)))[number]
                    right += int((said.argmax(-1).cpu() == true).sum())
            found[f"accuracy_{name}"] = right / len(labels)
        return {"accuracy": float(np.mean(list(found.values()))), **found}

    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        """For two test images of each of T sources: `images` (2T, 32, 32, 3) bytes, `labels` and `predicted` (2T,), and
        what the source's CLS token does, `search` (2T, iterations, S, rows, columns) and `competition` (2T, iterations,
        S, R)."""
        sources, side = self.config.sources, SIZE // self.config.patch
        parts: list[dict[str, Any]] = []
        for number, name in enumerate(sources):
            images = torch.from_numpy(self._test[name].pixels[:2])
            with torch.no_grad():
                logits, found = model(_only(number, images.to(device), len(sources)), need=("search", "competition"))
            part = attention_of_token(found, number, len(sources))
            part["search"] = part["search"].reshape(*part["search"].shape[:3], side, side)
            part["images"] = images.permute(0, 2, 3, 1).numpy()
            part["labels"], part["predicted"] = self._test[name].labels[:2], logits[number].argmax(-1).cpu().numpy()
            parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _augmented(self, rng: np.random.Generator, name: str, size: int) -> Images:
        """Images of a local copy, moved (what comes in is black) and, of some sources, mirrored."""
        held, shift = self._files[name], self.config.shift
        row = rng.integers(len(held.labels), size=size)
        framed = np.pad(held.pixels[row], ((0, 0), (0, 0), (shift, shift), (shift, shift)))
        window = np.arange(SIZE)
        rows, columns = (rng.integers(2 * shift + 1, size=(size, 1)) + window for _ in range(2))
        if name in self.config.mirrored:
            columns = np.where(rng.random((size, 1)) < 0.5, columns[:, ::-1], columns)
        at = np.arange(size)[:, None, None, None], np.arange(3)[:, None, None]
        return Images(framed[*at, rows[:, None, :, None], columns[:, None, None]], held.labels[row])


class MixModel(nn.Module):
    """Patches through an MLP, T CLS tokens (learnt patches through the same MLP), an encoder, T heads.

    A head is linear, after a layer of 128 with ReLU that all share.
    """

    def __init__(
        self, task: ImageMixConfig, classes: tuple[int, ...], attention: AttentionConfig, network: NetworkConfig
    ) -> None:
        super().__init__()
        width, pixels = network.width, 3 * task.patch**2
        self.size = task.patch
        self.embed = nn.Sequential(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width))
        self.cls = nn.Parameter(torch.randn(len(classes), pixels))
        self.register_buffer("places", places(network, (SIZE // task.patch) ** 2, width), persistent=False)
        self.encoder = Encoder(attention, network)
        self.features = nn.Sequential(nn.Linear(width, _FEATURES), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(_FEATURES, count) for count in classes)

    def forward(
        self, images: Sequence[Tensor], *, need: Sequence[str] = (), generator: torch.Generator | None = None
    ) -> Any:
        """T tensors of images (B_t, 3, 32, 32), bytes or in [0, 1], one of each source, to T of logits (B_t, classes);
        with `need` a pair of that and the activations of each iteration, over all images."""
        seen = torch.cat([patches(of, self.size) for of in images]) * 2 - 1
        cls = self.embed(self.cls).expand(len(seen), -1, -1)
        out = self.encoder(torch.cat([cls, self.embed(seen) + self.places], 1), need=need, generator=generator)
        out, found = out if need else (out, [])
        of_source = out[:, : len(self.heads)].split([len(of) for of in images])
        logits = [head(self.features(of[:, t])) for t, (head, of) in enumerate(zip(self.heads, of_source, strict=True))]
        return (logits, found) if need else logits


def _drawn(rng: np.random.Generator, name: str, count: int) -> Images:
    # A thousand at a time: what is drawn in between takes far more memory than the images.
    parts = [_drawn_at_once(rng, name, min(1000, count - start)) for start in range(0, count, 1000)]
    return Images(np.concatenate([part.pixels for part in parts]), np.concatenate([part.labels for part in parts]))


def _drawn_at_once(rng: np.random.Generator, name: str, count: int) -> Images:
    if name != "triangles":
        return image_drawn.draw(rng, name, count)
    grey, labels = triangles_images.draw(rng, count, TRIANGLES)
    return Images(np.repeat(grey, 3, 1), labels)


def _folder(config: ImageMixConfig, name: str) -> Path:
    if not config.folder:
        raise BadInput(
            f"folder is empty: source {name!r} is read from a local copy; drawn are {', '.join(DRAWN_SOURCES)}"
            + nearest(name, DRAWN_SOURCES)
        )
    return Path(config.folder)


def _only(number: int, images: Tensor, sources: int) -> list[Tensor]:
    """Images of one source, and none of the others."""
    return [images if t == number else images[:0] for t in range(sources)]
