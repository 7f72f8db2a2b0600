"""Control tokens: marks that a model reads as conditions. They are ids of their own, and show in no text."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tutelage.lab.errors import BadInput, nearest
from tutelage.lm.sampling.rows import Row
from tutelage.lm.tokens import decode
from tutelage.posttraining.policy import Policy

GOOD, BAD = CONTROL = ("[GOOD]", "[BAD]")
LEVELS = ("solution", "step")


def add_control_tokens(tokenizer: Any) -> Any:
    """A copy of a tokenizer which has the control tokens, as special tokens, whether or not it had them."""
    from tokenizers import AddedToken

    made = copy.deepcopy(tokenizer)
    known = made.get_vocab()
    new = [AddedToken(name, special=True, normalized=False) for name in CONTROL if name not in known]
    if new:
        made.add_tokens(new, special_tokens=True)
    return made


def control_ids(tokenizer: Any) -> tuple[int, int]:
    """The ids of `[GOOD]` and `[BAD]`.

    Raises:
        BadInput: one is not in the vocabulary, is split by the tokenizer, or shows in decoded text.
    """
    known = tokenizer.get_vocab()
    for name in CONTROL:
        if name not in known:
            raise BadInput(f"control token {name!r}: not in the tokenizer's vocabulary; see add_control_tokens")
        pieces = tokenizer.encode(name, add_special_tokens=False)
        if pieces != [known[name]]:
            raise BadInput(f"control token {name!r}: split by the tokenizer into {len(pieces)} tokens; must be special")
        if decode(tokenizer, pieces):
            raise BadInput(f"control token {name!r}: shows in decoded text; must be special")
    return known[GOOD], known[BAD]


class Controls:
    """The control tokens of a tokenizer, and where a solution's lines end.

    Attributes:
        ids: of `[GOOD]` and `[BAD]`.

    Raises:
        BadInput: see `control_ids`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.ids = control_ids(tokenizer)
        self._tokenizer = tokenizer
        self._ends: dict[int, bool] = {}

    def ends(self, token: int) -> bool:
        """Whether a token ends a line: it holds a new line, and at most white space after that."""
        if token not in self._ends:
            _, line, rest = decode(self._tokenizer, [token]).rpartition("\n")
            self._ends[token] = bool(line) and not rest.strip()
        return self._ends[token]

    def starts(self, tokens: np.ndarray) -> np.ndarray:
        """`[S]` where the segments of a completion begin: at 0, and after each token but the last that ends a line."""
        after = [place + 1 for place, token in enumerate(tokens[:-1].tolist()) if self.ends(token)]
        return np.array([0, *after], np.int64)

    def without(self, tokens: np.ndarray) -> np.ndarray:
        """A completion as it was but for control tokens."""
        return tokens[~np.isin(tokens, self.ids)]


class ForcedGood:
    """`Policy.allowed` at the level of steps: after a token that ends a line only `[GOOD]` may come."""

    def __init__(self, tokenizer: Any) -> None:
        self._controls = Controls(tokenizer)
        self._only = [self._controls.ids[0]]

    def __call__(self, row: Row) -> list[int] | None:
        last = row.tokens[-1] if row.tokens else int(row.prompt[-1])
        return self._only if self._controls.ends(last) else None


def conditioned(policy: Policy, level: str) -> Policy:
    """The policy asked for good solutions: `[GOOD]` ends its prompt, and stands before every line at level `step`.

    For a policy that was trained so; its tokenizer must have the control tokens, as that of a saved one has.

    Raises:
        BadInput: an unknown level, or see `control_ids`.
    """
    if level not in LEVELS:
        raise BadInput(f"level: {level!r}; must be one of {', '.join(LEVELS)}{nearest(level, LEVELS)}")
    good, _ = control_ids(policy.tokenizer)
    allowed = ForcedGood(policy.tokenizer) if level == "step" else policy.allowed
    return replace(policy, suffix=(*policy.suffix, good), allowed=allowed)


def set_rows(model: Any, before: Any, ids: tuple[int, ...]) -> None:
    """Input and output rows of the ids that the tokenizer `before` did not have become the mean of those it had."""
    new = [token for token in ids if token >= len(before)]
    if not new:
        return
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            for weights in (layer.weight, getattr(layer, "bias", None)):
                if weights is not None:
                    weights[new] = weights[: len(before)].mean(0)
