"""Relations between glyphs that were never seen in training: same or different, match to sample, and two of matrices.

A convolution reads each glyph, context normalisation takes away what all glyphs of a problem share, one block of
attention relates them, and the mean over the glyphs gives the answer.

Deviations from the published models: blocks are pre-norm like everywhere in this family (theirs are post-norm); each
glyph of a batch is read once, however often it is shown.

References: Mittal et al. (2022), arXiv 2110.09419; Webb, Sinha & Cohen (2021), arXiv 2012.14601; Webb et al. (2020),
Learning Representations that Support Extrapolation (context normalisation), arXiv 2007.05059.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.attention.blocks import Encoder
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.positions import legacy_sinusoidal, sinusoidal
from tutelage.attention.tasks.pictures.glyphs import glyphs
from tutelage.attention.tasks.relational_config import GLYPHS, RelationalConfig, check
from tutelage.attention.tasks.relational_problems import ANSWERS, LENGTHS, SEGMENTS, Problems, draw, draw_split
from tutelage.attention.tasks.task import Batch

_CHUNK = 500


class Relational:
    """A `Task`. Figures: `accuracy` on withheld glyphs (with m = 0 on held-out problems), `accuracy_train`.

    Attributes:
        train, test: the problems, objects being numbers of glyphs.

    Raises:
        BadInput: too few glyphs to train on, or to test on.
    """

    def __init__(self, config: RelationalConfig, seed: int) -> None:
        check(config)
        self.config, self.seed = config, seed
        rng = np.random.default_rng((seed, 1))
        order = rng.permutation(GLYPHS)
        relation, m = config.relation, config.withheld
        if m:
            self.train = draw(relation, order[m:], config.num_train, rng)
            self.test = draw(relation, order[:m], config.num_test, rng)
        else:
            self.train = draw_split(relation, order, False, config.num_train, rng)
            self.test = draw_split(relation, order, True, config.num_test, rng)
        self._epoch: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> nn.Module:
        return RelationalModel(self.config, attention, network)

    def batch(self, step: int, size: int) -> Batch:
        """`objects` int64 (B, T), `answers` int64 (B,). Each epoch shows every problem of training once."""
        places = np.arange(step * size, (step + 1) * size)
        rows = np.array(
            [self._order(place // self.config.num_train)[place % self.config.num_train] for place in places.tolist()]
        )
        return _tensors(Problems(self.train.objects[rows], self.train.answers[rows]))

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross-entropy; records `accuracy`."""
        logits = model(batch["objects"], generator=generator)
        accuracy = (logits.argmax(-1) == batch["answers"]).float().mean()
        return nn.functional.cross_entropy(logits, batch["answers"]), {"accuracy": accuracy}

    @torch.no_grad()
    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        return {
            "accuracy": _accuracy(model, self.test, device),
            "accuracy_train": _accuracy(model, Problems(*(column[:1000] for column in self.train)), device),
        }

    @torch.no_grad()
    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        """Eight test problems: `images` (8, T, 32, 32), `answers` and `given` (8,), `search` (8, S, T, T) of the last
        block, and `competition` (8, T, S, R) of a layer that has one."""
        some = _tensors(Problems(*(column[:8] for column in self.test)))
        logits, found = model(some["objects"].to(device), need=("search", "competition"))
        return {
            "images": glyphs(GLYPHS)[some["objects"].numpy()],
            "answers": some["answers"].numpy(),
            "given": logits.argmax(-1).cpu().numpy(),
            **{name: array.cpu().numpy() for name, array in found[-1].items()},
        }

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch[0] != epoch:
            rng = np.random.default_rng((self.seed, 2, epoch))
            self._epoch = epoch, rng.permutation(self.config.num_train)
        return self._epoch[1]


class RelationalModel(nn.Module):
    """Numbers of glyphs (B, T) to logits of the answers (B, A).

    Attributes:
        images: (100, 1, 32, 32), what the glyphs look like; not trained, not saved.
    """

    images: Tensor
    positions: Tensor

    def __init__(self, config: RelationalConfig, attention: AttentionConfig, network: NetworkConfig) -> None:
        super().__init__()
        self.register_buffer("images", torch.from_numpy(glyphs(GLYPHS))[:, None], persistent=False)
        length, width = LENGTHS[config.relation], network.width
        self.reader = _reader(width)
        self.norm = ContextNorm(width, SEGMENTS.get(config.relation, length)) if config.context_norm else nn.Identity()
        sines = legacy_sinusoidal if network.legacy_positions else sinusoidal
        known = attention.positions != "none"
        self.register_buffer("positions", torch.zeros(()) if known else sines(length, width), persistent=False)
        self.encoder = Encoder(attention, network)
        self.answer = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, ANSWERS[config.relation]))

    def forward(self, objects: Tensor, *, need: tuple[str, ...] = (), generator: torch.Generator | None = None) -> Any:
        shown, where = objects.unique(return_inverse=True)
        x = self.norm(self.reader(self.images[shown])[where]) + self.positions
        out = self.encoder(x, need=need, generator=generator)
        x, found = out if need else (out, None)
        logits = self.answer(x.mean(1))
        return (logits, found) if need else logits


class ContextNorm(nn.Module):
    """Each feature to mean 0 and variance 1 over the images of a segment, then scaled and shifted as learnt.

    Args:
        segment: images that are normalised together; T is a multiple of it.

    References: Webb et al. (2020), arXiv 2007.05059.
    """

    def __init__(self, width: int, segment: int) -> None:
        super().__init__()
        self.segment = segment
        self.gain, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, width)."""
        parts = x.unflatten(1, (-1, self.segment))
        centred = parts - parts.mean(2, keepdim=True)
        scaled = centred / (parts.var(2, keepdim=True) + 1e-8).sqrt()
        return scaled.flatten(1, 2) * self.gain + self.shift


def _reader(width: int) -> nn.Sequential:
    convolutions = [
        layer for inputs in (1, 32, 32) for layer in (nn.Conv2d(inputs, 32, 4, stride=2, padding=1), nn.ReLU())
    ]
    reader = nn.Sequential(
        *convolutions, nn.Flatten(), nn.Linear(4 * 4 * 32, 256), nn.ReLU(), nn.Linear(256, width), nn.ReLU()
    )
    for layer in reader:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return reader


def _accuracy(model: nn.Module, problems: Problems, device: torch.device) -> float:
    right = 0
    for start in range(0, len(problems.answers), _CHUNK):
        part = _tensors(Problems(*(column[start : start + _CHUNK] for column in problems)))
        given = model(part["objects"].to(device)).argmax(-1).cpu()
        right += int((given == part["answers"]).sum())
    return right / len(problems.answers)


def _tensors(problems: Problems) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in problems._asdict().items()}
