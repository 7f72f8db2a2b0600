"""Language modelling: the next byte of Python's standard library, or the next byte or word of WikiText-103.

The published experiment is WikiText-103 in words (`path`, `units = words`); its stand-in on any machine without a
network is the bytes of the standard library. Deviations: plain softmax over all words, where the official code's
framework divides the rarer ones into groups; examples begin anywhere in the text.

References: Mittal et al. (2022), arXiv 2110.09419; Merity et al. (2017), Pointer Sentinel Mixture Models (WikiText),
arXiv 1609.07843.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.tasks.task import Batch
from tutelage.attention.tasks.words.byte_language_config import ByteLanguageConfig, check
from tutelage.attention.tasks.words.language_model import causal_model
from tutelage.attention.tasks.words.text import Text, standard_library, wikitext_bytes, wikitext_words
from tutelage.lab.errors import BadInput

_CHUNK = 16


class ByteLanguage:
    """A `Task`. Figures: `perplexity` for each unit, and `bits_per_byte`, which compares units and vocabularies.

    Attributes:
        text: what is trained and tested on.

    Raises:
        BadInput: settings that contradict each other, a folder or file that is missing, or a text that is too short.
    """

    def __init__(self, config: ByteLanguageConfig, seed: int) -> None:
        check(config)
        self.config, self.seed, self.text = config, seed, text_of(config)
        shortest = min(len(self.text.train), len(self.text.test))
        if shortest <= config.context:
            raise BadInput(f"context = {config.context}: must be below the text's {shortest} {config.units}")

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> nn.Module:
        return causal_model(self.text.vocabulary, self.config.context, attention, network)

    def batch(self, step: int, size: int) -> Batch:
        """`units` int64 (B, context + 1), from anywhere in the training text."""
        rng = np.random.default_rng((self.seed, 1, step))
        starts = rng.integers(len(self.text.train) - self.config.context, size=size)
        rows = self.text.train[starts[:, None] + np.arange(self.config.context + 1)]
        return {"units": torch.from_numpy(rows.astype(np.int64))}

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross-entropy in nats, the mean over units; records `perplexity`."""
        units = batch["units"]
        logits = model(units[:, :-1], generator=generator, use_cache=False).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), units[:, 1:].flatten())
        return loss, {"perplexity": loss.detach().exp()}

    @torch.no_grad()
    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        nats = self._surprises(model, device)
        num_bytes = self.text.test_bytes[1 : len(nats) + 1].sum()
        return {
            "perplexity": math.exp(nats.mean()),
            "bits_per_byte": float(nats.sum() / math.log(2) / num_bytes),
        }

    @torch.no_grad()
    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        """`nats` (context,) by how many units were read before, over sixteen examples of the test; and of the first,
        cut to 64 units, `units` (64,), `search` (S, 64, 64) of the last block and `competition` (64, S, R) of a layer
        that has one."""
        length = self.config.context
        starts = np.linspace(0, len(self.text.test) - length - 1, 16).astype(np.int64)
        units = torch.from_numpy(self.text.test[starts[:, None] + np.arange(length + 1)].astype(np.int64)).to(device)
        logits = model(units[:, :-1], use_cache=False).logits
        nats = nn.functional.cross_entropy(logits.transpose(1, 2), units[:, 1:], reduction="none").mean(0)
        first = units[:1, : min(64, length)]
        entered = model(first, output_hidden_states=True, use_cache=False).hidden_states[0]
        _, record = _blocks(model)(entered, is_causal=True, need=("search", "competition"))
        found = {name: array[0].cpu().numpy() for name, array in record[-1].items()}
        return {"nats": nats.cpu().numpy(), "units": first[0].cpu().numpy(), **found}

    def _surprises(self, model: nn.Module, device: torch.device) -> np.ndarray:
        wanted = self.config.num_test + 1 if self.config.num_test else None
        units = torch.from_numpy(self.text.test[:wanted].astype(np.int64))

        def logits(rows: Tensor) -> Tensor:
            return model(rows.to(device), use_cache=False).logits

        return surprises(logits, units, self.config.context, self.config.evaluation_context)


def text_of(config: ByteLanguageConfig) -> Text:
    """The text that the configuration names."""
    if not config.path:
        return standard_library()
    folder = Path(config.path)
    return wikitext_words(folder, config.vocabulary) if config.units == "words" else wikitext_bytes(folder)


def surprises(logits: Callable[[Tensor], Tensor], units: Tensor, context: int, before: int) -> np.ndarray:
    """float64 (N - 1,): -ln p of each unit but the first of `units` (N,), every one of them once.

    Windows of up to `context` units advance by `context - before`, so each unit is predicted from at least `before`
    units, or from all that there are.

    Args:
        logits: (B, n) to (B, n, vocabulary), of the unit after each.
    """
    found = []
    for rows, skipped in _windows(len(units) - 1, context, before):
        window = torch.stack([units[start:stop] for start, stop in rows])
        after = torch.stack([units[start + 1 : stop + 1] for start, stop in rows])[:, skipped:]
        scores = logits(window)[:, skipped:].cpu().double()
        nats = nn.functional.cross_entropy(scores.flatten(0, 1), after.flatten(), reduction="none")
        found.append(nats.numpy())
    return np.concatenate(found)


def _windows(number: int, context: int, before: int) -> Iterator[tuple[list[tuple[int, int]], int]]:
    """Batches of windows of equal length, as (start, stop), and how many units of each are only read."""
    yield [(0, min(context, number))], 0
    stride = context - before
    starts = range(stride, number - before, stride)
    whole = [start for start in starts if start + context <= number]
    for place in range(0, len(whole), _CHUNK):
        yield [(start, start + context) for start in whole[place : place + _CHUNK]], before
    for start in starts[len(whole) :]:
        yield [(start, number)], before


def _blocks(model: Any) -> Any:
    """The encoder inside a causal model, whose class PyTorch does not tell."""
    return model.model.blocks
