"""Sort-of-CLEVR: questions about a picture, from unary to ternary relations (arXiv 2110.09419, section 4.2).

Pictures and questions are in `sort_of_clevr_scenes`. Training has a fixed number of pictures; an update draws pictures
and questions uniformly (the official code passes over all of them in turn, with one update for each kind of question).
Nothing is chosen by a validation set, so there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tutelage.attention.blocks import Encoder
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.tasks.pictures import sort_of_clevr_scenes as scenes
from tutelage.attention.tasks.pictures.patches import attention_of_token, patches, places
from tutelage.attention.tasks.pictures.sort_of_clevr_config import SortOfClevrConfig
from tutelage.attention.tasks.task import Batch
from tutelage.lab.errors import BadInput

PATCH = 15
_TRAINING, _TEST, _BATCH = range(3)
_CHUNK = 256


class SortOfClevr:
    """The `Task`. Figures: `accuracy`, and `accuracy_unary`, `accuracy_binary`, `accuracy_ternary`."""

    def __init__(self, config: SortOfClevrConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self._training = self._pool(_TRAINING, config.train_images)
        self._test = self._pool(_TEST, config.test_images)

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> QuestionModel:
        return QuestionModel(attention, network)

    def batch(self, step: int, size: int) -> Batch:
        rng = np.random.default_rng([self.seed, _BATCH, step])
        pictures, questions, answers = self._training
        row = rng.integers(len(pictures), size=size)
        column = rng.integers(answers.shape[1], size=size)
        return _tensors(pictures[row], questions[row, column], answers[row, column])

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        logits = model(batch["images"], batch["questions"], generator=generator)
        right = (logits.argmax(-1) == batch["answers"]).float().mean()
        return functional.cross_entropy(logits, batch["answers"]), {"accuracy": right}

    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        kind, right = self._test[1].kind, self._right(model, device)
        of_kind = {f"accuracy_{name}": float(right[kind == k].mean()) for k, name in enumerate(scenes.KINDS)}
        return {"accuracy": float(right.mean()), **of_kind}

    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        """For the first six pictures of the test, with their first question of each kind (18 rows): `images`
        (18, 75, 75, 3) bytes, `questions` and `answers` in words, `right` (18,), and the CLS token's `search`
        (18, iterations, S, 5, 5) and `competition` (18, iterations, S, R); and `accuracy_by_subtype` (3, 3)."""
        pictures, questions, answers = self._test
        each = self.config.questions
        row = np.repeat(np.arange(min(6, len(pictures))), 3)
        column = np.tile(np.arange(3) * each, len(row) // 3)
        asked = questions[row, column]
        batch = _tensors(pictures[row], asked, answers[row, column])
        with torch.no_grad():
            logits, found = model(
                batch["images"].to(device), batch["questions"].to(device), need=("search", "competition")
            )
        shown = attention_of_token(found, 0, 1)
        shown["search"] = shown["search"].reshape(*shown["search"].shape[:3], scenes.SIZE // PATCH, -1)
        right = self._right(model, device)
        by_subtype = [
            [right[(questions.kind == kind) & (questions.subtype == sub)].mean() for sub in range(3)]
            for kind in range(3)
        ]
        return {
            **shown,
            "images": batch["images"].permute(0, 2, 3, 1).numpy(),
            "questions": scenes.describe(asked),
            "answers": [scenes.ANSWERS[answer] for answer in batch["answers"].tolist()],
            "right": (logits.argmax(-1).cpu() == batch["answers"]).numpy(),
            "accuracy_by_subtype": np.asarray(by_subtype),
        }

    def _pool(self, kind: int, images: int) -> tuple[scenes.Scenes, scenes.Questions, NDArray[np.int64]]:
        rng = np.random.default_rng([self.seed, kind])
        pictures = scenes.draw_scenes(rng, images)
        questions = scenes.draw_questions(rng, images, self.config.questions)
        return pictures, questions, scenes.answer(pictures, questions, self.config.band)

    def _right(self, model: nn.Module, device: torch.device) -> NDArray[np.bool_]:
        """(test images, questions) whether the model answers right."""
        pictures, questions, answers = self._test
        images, codes = torch.from_numpy(scenes.render(pictures)), torch.from_numpy(scenes.encode(questions))
        row = torch.arange(len(pictures)).repeat_interleave(answers.shape[1])
        said = []
        with torch.no_grad():
            for rows, asked in zip(row.split(_CHUNK), codes.flatten(0, 1).split(_CHUNK), strict=True):
                said.append(model(images[rows].to(device), asked.to(device)).argmax(-1).cpu())
        return torch.cat(said).numpy().reshape(answers.shape) == answers


class QuestionModel(nn.Module):
    """25 patches and a CLS token, each joined to the embedded question; an encoder; ten answers from the CLS token."""

    def __init__(self, attention: AttentionConfig, network: NetworkConfig) -> None:
        super().__init__()
        if network.width % 2:
            raise BadInput(f"width = {network.width}: must be even, half of it is of patches and half of the question")
        half, count = network.width // 2, (scenes.SIZE // PATCH) ** 2
        self.patch = nn.Linear(3 * PATCH**2, half)
        self.question = nn.Linear(scenes.QUESTION_SIZE, half)
        self.cls = nn.Parameter(torch.randn(1, 1, half))
        self.register_buffer("places", places(network, count, half), persistent=False)
        self.join = nn.Linear(2 * half, network.width)
        self.encoder = Encoder(attention, network)
        self.answer = nn.Linear(network.width, len(scenes.ANSWERS))

    def forward(
        self,
        images: Tensor,
        questions: Tensor,
        *,
        need: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> Any:
        """Images (B, 3, 75, 75), bytes or in [0, 1], and questions (B, 18) to logits (B, 10); with `need` a pair of
        that and the activations of each iteration."""
        seen = self.patch(patches(images, PATCH)) + self.places
        tokens = torch.cat([self.cls.expand(len(seen), -1, -1), seen], 1)
        asked = self.question(questions)[:, None].expand(-1, tokens.shape[1], -1)
        out = self.encoder(self.join(torch.cat([tokens, asked], -1)), need=need, generator=generator)
        out, found = out if need else (out, [])
        logits = self.answer(out[:, 0])
        return (logits, found) if need else logits


def _tensors(pictures: scenes.Scenes, questions: scenes.Questions, answers: NDArray[np.int64]) -> dict[str, Tensor]:
    return {
        "images": torch.from_numpy(scenes.render(pictures)),
        "questions": torch.from_numpy(scenes.encode(questions)),
        "answers": torch.from_numpy(answers),
    }
