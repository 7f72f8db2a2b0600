"""SCAN with an encoder-decoder: does a model that knows short action sequences, or other verbs, know the rest?

Deviations from the published set-up: words have no end mark of their own; batches are of near-equal length.

References: Lake & Baroni (2018), arXiv 1711.00350; Newman et al. (2020), The EOS Decision and Length Extrapolation
(oracle, cutoffs above 22), arXiv 2010.07174; Mittal et al. (2022), arXiv 2110.09419.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.attention.blocks import Encoder
from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.tasks.task import Batch
from tutelage.attention.tasks.words.embedding import Embedding
from tutelage.attention.tasks.words.scan_config import ScanConfig
from tutelage.attention.tasks.words.scan_grammar import (
    ACTIONS,
    EOS,
    PADDING,
    WORDS,
    bare,
    commands,
    out_of_distribution,
)

LONGEST = 48
_CHUNK = 512


class Scan:
    """A `Task`. Figures: `accuracy_iid`, `accuracy_ood` and both with `_eos_oracle`.

    Accuracy is the share of commands whose whole action sequence is decoded, greedily and with its end. The oracle
    tells the model when to stop, so that only the actions count.

    Attributes:
        train, iid, ood: numbers of commands (rows of `scan_grammar.commands()`); `ood` is empty in the simple split.
    """

    def __init__(self, config: ScanConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        rng = np.random.default_rng((seed, 1))
        far = out_of_distribution(config.split, config.cutoff)
        self.primitive: int | None = None
        near = np.flatnonzero(~far)
        if config.split in ("jump", "turn_left"):
            self.primitive = int(bare(tuple(config.split.split("_"))).argmax())
            near = near[near != self.primitive]
        near = rng.permutation(near)
        kept = max(1, round(config.held_out * len(near)))
        self.iid, self.train = near[:kept], near[kept:]
        self.ood = rng.permutation(np.flatnonzero(far))
        self._pool: tuple[tuple[int, int], np.ndarray] = ((-1, -1), np.empty((0, 0), np.int64))

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> nn.Module:
        return CommandModel(attention, network)

    def batch(self, step: int, size: int) -> Batch:
        """`words` int64 (B, L), `PADDING` at the end; `actions` int64 (B, T + 1), `EOS` at the end; `lengths` (B,)."""
        return _batch(self._rows(step, size))

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross-entropy, the mean over actions and ends; records `accuracy`, of whole sequences."""
        real = _real(batch)
        logits = model(batch["words"], batch["actions"], generator=generator)
        right = (logits.argmax(-1) == batch["actions"]) | ~real
        loss = nn.functional.cross_entropy(logits[real], batch["actions"][real])
        return loss, {"accuracy": right.all(1).float().mean()}

    @torch.no_grad()
    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        found = {}
        for name, rows in (("iid", self.iid), ("ood", self.ood)):
            rows = rows[: self.config.num_test or None]
            if len(rows):
                exact, oracle = exact_matches(model, rows, device)
                found[f"accuracy_{name}"] = float(exact.mean())
                found[f"accuracy_{name}_eos_oracle"] = float(oracle.mean())
        return found

    @torch.no_grad()
    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        """What was decoded, and where the decoder looked; of iid commands in the simple split, else of the others.

        `lengths`, `exact`: of the commands that are tested, or 2,000 of them where all would be. Of eight of them
        `commands`, `actions`, `decoded` as texts. Of the first, in the last block, `search` (S, T, L): where each
        action looks among the words, and `competition` (T, S, R) of a layer that has one.
        """
        rows = (self.ood if len(self.ood) else self.iid)[: self.config.num_test or 2000]
        exact, _ = exact_matches(model, rows, device)
        some = _batch(rows[:8])
        assert isinstance(model, CommandModel)
        decoded = model.decode(some["words"].to(device))
        length = int(some["lengths"][0])
        words = some["words"][:1, : int((some["words"][0] != PADDING).sum())]
        _, found = model(words.to(device), some["actions"][:1, : length + 1].to(device), need=("search", "competition"))
        looks = {n.removeprefix("cross_"): a[0].cpu().numpy() for n, a in found[-1].items() if n.startswith("cross_")}
        return {
            "lengths": commands().num_actions[rows],
            "exact": exact,
            "commands": np.array([_text(row, WORDS) for row in some["words"].numpy()]),
            "actions": np.array([_text(row, ACTIONS) for row in some["actions"].numpy()]),
            "decoded": np.array([_text(one, ACTIONS) for one in decoded.actions]),
            **looks,
        }

    def _rows(self, step: int, size: int) -> np.ndarray:
        key = (step // self.config.pool, size)
        if self._pool[0] != key:
            rng = np.random.default_rng((self.seed, 2, *key))
            rows = rng.choice(self.train, self.config.pool * size)
            if self.primitive is not None:
                rows[rng.random(len(rows)) < self.config.primitive_share] = self.primitive
            ordered = rows[np.lexsort((commands().num_words[rows], commands().num_actions[rows]))]
            self._pool = key, rng.permutation(ordered.reshape(self.config.pool, size))
        return self._pool[1][step % self.config.pool]


class Decoded(NamedTuple):
    """Greedy decoding of B commands.

    Attributes:
        actions: as far as the first `EOS`, a list of int64 arrays.
        forced: int64 (B, limit), the greedy actions when `EOS` may not be chosen. Up to its end, a free sequence is the
            same, so one pass answers with and without an EOS oracle.
    """

    actions: list[np.ndarray]
    forced: np.ndarray


class CommandModel(nn.Module):
    """Encoder-decoder from words to actions; sizes of the vocabularies are SCAN's."""

    def __init__(self, attention: AttentionConfig, network: NetworkConfig) -> None:
        super().__init__()
        self.words = Embedding(len(WORDS) + 1, attention, network)
        self.actions = Embedding(len(ACTIONS) + 1, attention, network)
        self.encoder = Encoder(attention, network)
        self.decoder = Encoder(attention, network, cross=True)
        self.output = nn.Linear(network.width, len(ACTIONS) + 1)

    def forward(
        self,
        words: Tensor,
        actions: Tensor,
        *,
        need: Sequence[str] = (),
        generator: torch.Generator | None = None,
    ) -> Any:
        """Logits (B, T, 7) of each action given the words and the true actions before it.

        Args:
            words: (B, L), `PADDING` at the end.
            actions: (B, T) what is to be predicted; the last is not read.
            need: activations of the decoder to return, of each iteration.
        """
        real = words != PADDING
        memory = self.encoder(self.words(words), key_padding_mask=real, generator=generator)
        before = self.actions(nn.functional.pad(actions[:, :-1], (1, 0), value=EOS))
        out = self.decoder(before, memory, memory_padding_mask=real, is_causal=True, need=need, generator=generator)
        x, found = out if need else (out, None)
        return (self.output(x), found) if need else self.output(x)

    @torch.no_grad()
    def decode(self, words: Tensor, limit: int = LONGEST + 1) -> Decoded:
        """The most likely action after action, with a cache, until all sequences have ended or reached the limit.

        Call it in evaluation mode. `forced` is `limit` long only where some sequence did not end.
        """
        real = words != PADDING
        memory = self.encoder(self.words(words), key_padding_mask=real)
        caches = self.decoder.caches()
        last = words.new_full((len(words), 1), EOS)
        ended = torch.zeros(len(words), dtype=torch.bool, device=words.device)
        ends = words.new_full((len(words),), limit)
        chosen = []
        for place in range(limit):
            x = self.decoder(self.actions(last, place), memory, memory_padding_mask=real, is_causal=True, caches=caches)
            logits = self.output(x[:, 0])
            stops = (logits.argmax(-1) == EOS) & ~ended
            ends[stops] = place
            ended |= stops
            last = logits[:, EOS + 1 :].argmax(-1, keepdim=True) + EOS + 1
            chosen.append(last)
        forced = torch.cat(chosen, 1).cpu().numpy()
        return Decoded([row[:end] for row, end in zip(forced, ends.tolist())], forced)


@torch.no_grad()
def exact_matches(model: nn.Module, rows: np.ndarray, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
    """bool (K,) twice: which commands are decoded exactly, and which with an EOS oracle.

    Greedy decoding gives the true sequence if and only if each true action is the most likely one after the true
    actions before it, so one parallel pass over the true sequences tells what step-by-step decoding would.
    """
    by_length = np.argsort(commands().num_actions[rows], kind="stable")
    exact, oracle = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    for places in np.split(by_length, range(_CHUNK, len(rows), _CHUNK)):
        batch = _batch(rows[places])
        logits = model(batch["words"].to(device), batch["actions"].to(device)).cpu()
        real, actions = _real(batch), batch["actions"]
        exact[places] = ((logits.argmax(-1) == actions) | ~real).all(1).numpy()
        forced = logits[..., EOS + 1 :].argmax(-1) + EOS + 1
        oracle[places] = ((forced == actions) | (actions == EOS)).all(1).numpy()
    return exact, oracle


def _batch(rows: np.ndarray) -> dict[str, Tensor]:
    every = commands()
    lengths = every.num_actions[rows]
    words = every.words[rows, : every.num_words[rows].max()]
    actions = every.actions[rows, : lengths.max() + 1]
    named = {"words": words, "actions": actions, "lengths": lengths}
    return {name: torch.from_numpy(array.astype(np.int64)) for name, array in named.items()}


def _real(batch: Batch) -> Tensor:
    """bool (B, T + 1): the actions and the end after them."""
    length = batch["actions"].shape[1]
    return torch.arange(length, device=batch["lengths"].device) <= batch["lengths"][:, None]


def _text(numbers: Iterable[int], vocabulary: Sequence[str]) -> str:
    return " ".join(vocabulary[int(number) - 1] for number in numbers if number)
