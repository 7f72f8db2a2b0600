"""Associative recall with attributes, as a causal language model: what was the shape of that key?

    k₃ red disc small   k₇ blue square large   …   k₇ shape? square   k₃ size? small   …

A key and its three values are an item; a question is a key, the name of an attribute, and the answer. Where to look is
the key's, what to take is the attribute's: search and retrieval. Keys are of three types, and each type has one
attribute that is never asked of it in training, so the out-of-distribution figure asks for known keys and known
attributes in pairings which are new.

The model is the Hugging Face one, so that its cache and `generate` are exercised by it too. Only answers are learnt;
everything else in a sequence is random.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.tasks.task import Batch
from tutelage.attention.tasks.words.associative_recall_config import ATTRIBUTES, AssociativeRecallConfig, check
from tutelage.attention.tasks.words.language_model import causal_model

_CHUNK = 250


class Sequences(NamedTuple):
    """B sequences of N = 4·items + 3·queries tokens: the names of attributes come first, then keys, then values.

    Attributes:
        tokens: int64 (B, N).
        asked: int64 (B, Q) the attribute of each question.
        source: int64 (B, Q) where in the sequence the answer stands.
    """

    tokens: np.ndarray
    asked: np.ndarray
    source: np.ndarray


class AssociativeRecall:
    """A `Task`. Figures: `accuracy_iid`, `accuracy_ood`, the shares of questions that are answered; chance is 1/values.

    Attributes:
        never: int64 (3,), of each type of key the attribute that training never asks for.

    Raises:
        BadInput: too few keys, or more than 64 tokens.
    """

    def __init__(self, config: AssociativeRecallConfig, seed: int) -> None:
        check(config)
        self.config, self.seed = config, seed
        self.never = np.random.default_rng((seed, 0)).permutation(len(ATTRIBUTES))
        self._questions = 4 * config.items + 1 + 3 * np.arange(config.queries)  # where the names of attributes stand

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> nn.Module:
        return causal_model(self.config.vocabulary, self._questions[-1] + 2, attention, network)

    def draw(self, count: int, rng: np.random.Generator, *, held_out: bool = False) -> Sequences:
        """Sequences whose questions are all of training's pairings, or all held out."""
        config, attributes = self.config, len(ATTRIBUTES)
        keys = rng.permuted(np.tile(np.arange(attributes * config.keys), (count, 1)), axis=1)[:, : config.items]
        values = rng.integers(config.values, size=(count, config.items, attributes))
        about = rng.permuted(np.tile(np.arange(config.items), (count, 1)), axis=1)[:, : config.queries]
        key = np.take_along_axis(keys, about, 1)
        never = self.never[key // config.keys]
        asked = never if held_out else (never + rng.integers(1, attributes, size=never.shape)) % attributes
        answer = np.take_along_axis(values, about[..., None], 1)
        answer = np.take_along_axis(answer, asked[..., None], 2)[..., 0]
        first_key, first_value = attributes, attributes * (1 + config.keys)
        of_value = first_value + config.values * np.arange(attributes)
        items = np.concatenate([keys[..., None] + first_key, values + of_value], 2)
        questions = np.stack([key + first_key, asked, answer + of_value[asked]], 2)
        tokens = np.concatenate([items.reshape(count, -1), questions.reshape(count, -1)], 1)
        return Sequences(tokens, asked, 4 * about + 1 + asked)

    def batch(self, step: int, size: int) -> Batch:
        """`tokens` int64 (B, N)."""
        drawn = self.draw(size, np.random.default_rng((self.seed, 1, step)))
        return {"tokens": torch.from_numpy(drawn.tokens)}

    def loss(
        self, model: nn.Module, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross-entropy of the answers; records `accuracy`."""
        logits = model(batch["tokens"][:, :-1], generator=generator, use_cache=False).logits[:, self._questions]
        answers = batch["tokens"][:, self._questions + 1]
        accuracy = (logits.argmax(-1) == answers).float().mean()
        return nn.functional.cross_entropy(logits.flatten(0, 1), answers.flatten()), {"accuracy": accuracy}

    @torch.no_grad()
    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        return {f"accuracy_{name}": self._accuracy(model, drawn, device) for name, drawn in self._tests()}

    @torch.no_grad()
    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        """What happens at the name of the attribute in a question, over a hundred sequences of each figure.

        `mass_iid`, `mass_ood` (iterations, S): the mean share of each search on the token that is the answer.
        `competition_iid`, `competition_ood` (iterations, 3, S, R): the mean of C by attribute, of a layer that has one.
        """
        found: dict[str, Any] = {}
        for name, drawn in self._tests():
            some = Sequences(*(column[:100] for column in drawn))
            tokens = torch.from_numpy(some.tokens).to(device)
            entered = model(tokens, output_hidden_states=True, use_cache=False).hidden_states[0]
            _, record = _blocks(model)(entered, is_causal=True, need=("search", "competition"))
            rows, source = np.arange(len(tokens))[:, None], some.source
            masses, tables = [], []
            for each in record:
                search = each["search"].cpu().numpy()
                masses.append(search[rows, :, self._questions, source].mean((0, 1)))
                if "competition" in each:
                    competition = each["competition"].cpu().numpy()[:, self._questions]
                    tables.append([competition[some.asked == a].mean(0) for a in range(len(ATTRIBUTES))])
            found[f"mass_{name}"] = np.array(masses)
            if tables:
                found[f"competition_{name}"] = np.array(tables)
        return found

    def _tests(self) -> list[tuple[str, Sequences]]:
        rng = np.random.default_rng((self.seed, 2))
        return [(name, self.draw(self.config.num_test, rng, held_out=name == "ood")) for name in ("iid", "ood")]

    def _accuracy(self, model: nn.Module, drawn: Sequences, device: torch.device) -> float:
        right = 0
        for tokens in torch.from_numpy(drawn.tokens).split(_CHUNK):
            logits = model(tokens[:, :-1].to(device), use_cache=False).logits[:, self._questions]
            right += int((logits.argmax(-1).cpu() == tokens[:, self._questions + 1]).sum())
        return right / drawn.asked.size


def _blocks(model: Any) -> Any:
    """The encoder inside a causal model, whose class PyTorch does not tell."""
    return model.model.blocks
