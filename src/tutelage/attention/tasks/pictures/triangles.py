"""Is the triangle of three clusters of points equilateral? (arXiv 2110.09419, section 4.3)

Pictures are in `triangles_images`, ever new ones in training; the test's follow from the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tutelage.attention.blocks import Encoder
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.tasks.pictures import triangles_images
from tutelage.attention.tasks.pictures.patches import attention_of_token, patches, places
from tutelage.attention.tasks.pictures.triangles_config import TrianglesConfig, check
from tutelage.attention.tasks.task import Batch

_TRAINING, _TEST = range(2)
_CHUNK = 128


class Triangles:
    """The `Task`. Figures: `accuracy`, and of either kind `accuracy_equilateral` and `accuracy_other`."""

    def __init__(self, config: TrianglesConfig, seed: int) -> None:
        check(config)
        self.config, self.seed = config, seed
        self._test = self._draw(config.test_images, _TEST, 0)

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> TriangleModel:
        return TriangleModel(self.config, attention, network)

    def batch(self, step: int, size: int) -> Batch:
        return self._draw(size, _TRAINING, step)

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        logits = model(batch["images"], generator=generator)
        right = ((logits > 0) == batch["labels"].bool()).float().mean()
        return functional.binary_cross_entropy_with_logits(logits, batch["labels"].float()), {"accuracy": right}

    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        said = []
        with torch.no_grad():
            for images in self._test["images"].split(_CHUNK):
                said.append((model(images.to(device)) > 0).cpu())
        labels = self._test["labels"].bool()
        right = (torch.cat(said) == labels).double()
        kinds = {"equilateral": ~labels, "other": labels}
        of_kind = {f"accuracy_{name}": float(right[of].mean()) for name, of in kinds.items() if of.any()}
        return {"accuracy": float(right.mean()), **of_kind}

    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        """For eight pictures of the test: `images` (8, size, size) bytes, `labels`, `probability` (8,) of label 1, and
        the CLS token's `search` (8, iterations, S, rows, columns) and `competition` (8, iterations, S, R)."""
        images = self._test["images"][:8]
        with torch.no_grad():
            logits, found = model(images.to(device), need=("search", "competition"))
        shown = attention_of_token(found, 0, 1)
        side = self.config.size // self.config.patch
        shown["search"] = shown["search"].reshape(*shown["search"].shape[:3], side, side)
        labels, probability = self._test["labels"][:8].numpy(), logits.sigmoid().cpu().numpy()
        return {**shown, "images": images[:, 0].numpy(), "labels": labels, "probability": probability}

    def _draw(self, count: int, kind: int, step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, kind, step])
        images, labels = triangles_images.draw(rng, count, self.config)
        return {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}


class TriangleModel(nn.Module):
    """Patches and a CLS token, an encoder, one logit (of label 1) from the CLS token."""

    def __init__(self, task: TrianglesConfig, attention: AttentionConfig, network: NetworkConfig) -> None:
        super().__init__()
        width = network.width
        self.size = task.patch
        self.patch = nn.Linear(task.patch**2, width)
        self.cls = nn.Parameter(torch.randn(1, 1, width))
        self.register_buffer("places", places(network, (task.size // task.patch) ** 2, width), persistent=False)
        self.encoder = Encoder(attention, network)
        self.answer = nn.Linear(width, 1)

    def forward(self, images: Tensor, *, need: Sequence[str] = (), generator: torch.Generator | None = None) -> Any:
        """Images (B, 1, size, size), bytes or in [0, 1], to logits (B,); with `need` a pair of that and the activations
        of each iteration."""
        seen = self.patch(patches(images, self.size)) + self.places
        out = self.encoder(torch.cat([self.cls.expand(len(seen), -1, -1), seen], 1), need=need, generator=generator)
        out, found = out if need else (out, [])
        logits = self.answer(out[:, 0]).squeeze(-1)
        return (logits, found) if need else logits
