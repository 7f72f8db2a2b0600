"""Contextual retrieval: several searches, and for each search a cue which of the found token's values is wanted.

Every one of N tokens has v_s search scalars and v_p value scalars, all N(0, 1), and for each search s a one-hot cue
p_s. With j*_s the other token nearest in search scalar s, a token's label is Σ_s coefficient_s · value_{p_s}(j*_s).
Where to look does not depend on the cue; what to take does (arXiv 2110.09419, section 4.1; official code). The loss is
the mean absolute error, L1.

Withheld combinations of cues (`contextual_retrieval_config.combinations`) tell whether the parts were learnt apart.
Evaluations draw their examples from the seed alone, in place of ever new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tutelage.attention import inspection
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.kinds import attention_layer
from tutelage.attention.layer import Activations
from tutelage.attention.tasks.contextual_retrieval_config import COEFFICIENTS, ContextualRetrievalConfig, combinations
from tutelage.attention.tasks.task import Batch

_TRAINING, _SEEN, _WITHHELD = range(3)
_CHUNK = 256


@dataclass(frozen=True)
class Examples:
    """What a batch is made of.

    Attributes:
        inputs: (B, N, v_s + v_p + v_s·v_p) float32: search scalars, values, cues (one-hot, search after search).
        labels: (B, N) float32.
        nearest: (B, N, v_s) whole, j*: the token that each search should find.
        cues: (B, N, v_s) whole, below v_p.
    """

    inputs: NDArray[np.float32]
    labels: NDArray[np.float32]
    nearest: NDArray[np.intp]
    cues: NDArray[np.intp]


def nearest_others(searches: NDArray[Any]) -> NDArray[np.intp]:
    """j* of (B, N, v_s) scalars: the other token whose scalar is nearest, the first of several; (B, N, v_s)."""
    distances = np.abs(searches[:, :, None] - searches[:, None])
    diagonal = np.arange(searches.shape[1])
    distances[:, diagonal, diagonal] = np.inf
    return distances.argmin(2)


def solve(
    searches: NDArray[Any], values: NDArray[Any], cues: NDArray[np.intp], coefficients: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """(labels (B, N), j* (B, N, v_s)) of scalars (B, N, v_s), values (B, N, v_p), cues (B, N, v_s) and v_s weights."""
    found = nearest_others(searches)
    batch = np.arange(len(values))[:, None, None]
    return values[batch, found, cues] @ coefficients, found


class ContextualRetrieval:
    """The `Task`. Figures: `l1_iid` on combinations of cues that training has; `l1_ood` on the withheld ones.

    Of a model whose layer has a competition also `search_mass`, the attention on j* of the true search that each
    learned search fits best (mean over learned searches), and `cue_accuracy`, how often the strongest retrieval names
    the cue, up to one permutation of retrievals for each search (`inspection.explain`).
    """

    def __init__(self, config: ContextualRetrievalConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self._coefficients = np.asarray(COEFFICIENTS[: config.searches], np.float32)
        if not config.coefficients:
            self._coefficients = np.ones_like(self._coefficients)
        self._combinations: dict[int, NDArray[np.intp]] = {}
        if config.withhold:
            seen, withheld = (np.asarray(of, np.intp) for of in combinations(config))
            self._combinations = {_TRAINING: seen, _SEEN: seen, _WITHHELD: withheld}

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> RetrievalModel:
        return RetrievalModel(self.config, attention, network)

    def examples(self, count: int, *, step: int | None = None, withheld: bool = False) -> Examples:
        """Of training update `step`; without one, of the evaluation, seen or withheld combinations of cues."""
        kind = _TRAINING if step is not None else _WITHHELD if withheld else _SEEN
        rng = np.random.default_rng([self.seed, kind, step or 0])
        searches, values = self.config.searches, self.config.values
        scalars = rng.standard_normal((count, self.config.tokens, searches + values), np.float32)
        if kind in self._combinations:
            known = self._combinations[kind]
            cues = known[rng.integers(len(known), size=scalars.shape[:2])]
        else:
            cues = rng.integers(values, size=(*scalars.shape[:2], searches))
        labels, found = solve(scalars[..., :searches], scalars[..., searches:], cues, self._coefficients)
        one_hot = np.eye(values, dtype=np.float32)[cues].reshape(*scalars.shape[:2], -1)
        return Examples(np.concatenate([scalars, one_hot], -1), labels, found, cues)

    def batch(self, step: int, size: int) -> Batch:
        return _tensors(self.examples(size, step=step))

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        return functional.l1_loss(model(batch["inputs"], generator=generator), batch["labels"]), {}

    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        found = {"l1_iid": self._l1(model, device, withheld=False)}
        if self.config.withhold:
            found["l1_ood"] = self._l1(model, device, withheld=True)
        explained = self.explain(model, device)
        if explained is not None:
            found["search_mass"] = float(explained.best_mass.mean())
            found["cue_accuracy"] = float(explained.accuracy.mean())
        return found

    def explain(self, model: nn.Module, device: torch.device) -> inspection.Explanation | None:
        """What each search and retrieval of the model does; None of a layer without a competition."""
        examples, activations = self._activations(model, device)
        if "competition" not in activations:
            return None
        return inspection.explain(
            activations["search"], activations["competition"], examples.nearest, examples.cues, self.config.values
        )

    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        """`search_mass` (S, v_s); with a competition `retrieval_given_cue` (S, R, v_p), `true_search` (S,), and of the
        first example's tokens `competition` (N, S·R) beside the true `cues` (N, v_s·v_p)."""
        examples, activations = self._activations(model, device)
        shown: dict[str, Any] = {"search_mass": inspection.search_mass(activations["search"], examples.nearest)}
        explained = self.explain(model, device)
        if explained is not None:
            tokens = self.config.tokens
            shown["true_search"], shown["retrieval_given_cue"] = explained.true_search, explained.tables
            shown["competition"] = activations["competition"][0].reshape(tokens, -1)
            shown["cues"] = np.eye(self.config.values)[examples.cues[0]].reshape(tokens, -1)
        return shown

    def _l1(self, model: nn.Module, device: torch.device, *, withheld: bool) -> float:
        batch = _tensors(self.examples(self.config.test_examples, withheld=withheld))
        error = 0.0
        for inputs, labels in zip(batch["inputs"].split(_CHUNK), batch["labels"].split(_CHUNK), strict=True):
            error += float((model(inputs.to(device)) - labels.to(device)).abs().sum())
        return error / batch["labels"].numel()

    def _activations(self, model: nn.Module, device: torch.device) -> tuple[Examples, dict[str, NDArray[Any]]]:
        examples = self.examples(min(self.config.test_examples, 8 * _CHUNK))
        with torch.no_grad():
            _, found = model(_tensors(examples)["inputs"].to(device), need=("search", "competition"))
        return examples, {name: tensor.float().cpu().numpy() for name, tensor in found.items()}


class RetrievalModel(nn.Module):
    """MLP of two layers, one attention layer without residual or norm, MLP of two layers, one number for each token."""

    def __init__(self, task: ContextualRetrievalConfig, attention: AttentionConfig, network: NetworkConfig) -> None:
        super().__init__()
        width = network.width
        features = task.searches + task.values + task.searches * task.values
        self.encoder = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width))
        self.attention = attention_layer(attention, width)
        self.decoder = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(
        self, inputs: Tensor, *, need: Sequence[str] = (), generator: torch.Generator | None = None
    ) -> Tensor | tuple[Tensor, Activations]:
        """(B, N, features) to (B, N); with `need` a pair of that and the layer's activations."""
        found = self.attention(self.encoder(inputs), need=need, generator=generator)
        mixed, activations = found if need else (found, {})
        out = self.decoder(mixed).squeeze(-1)
        return (out, activations) if need else out


def _tensors(examples: Examples) -> dict[str, Tensor]:
    return {"inputs": torch.from_numpy(examples.inputs), "labels": torch.from_numpy(examples.labels)}
