"""From token ids to tensors: examples, truncation that keeps the cue, padding, packing, micro-batches.

An example is a prompt, which is read, and a response, which is learnt; the mask of learnt tokens follows from these two
lengths alone. A batch carries explicit positions, so left padding, right padding and packing give the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from tutelage.lab.errors import BadInput
from tutelage.lm.tokens import Context, prompt_ids


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """Token ids of what is read `[p]` (may be empty) and of what is learnt `[r]`, r ≥ 1.

    `learnt` `[r]` bool leaves tokens of the response out that are only read (a tool's output, a condition).
    """

    prompt: np.ndarray
    response: np.ndarray
    learnt: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.response):
            raise BadInput("example: the response is empty, so every label would be masked")
        if self.learnt is not None and np.shape(self.learnt) != np.shape(self.response):
            raise BadInput(
                f"example: learnt has shape {np.shape(self.learnt)}; must be {np.shape(self.response)}, one per token"
            )

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)

    @property
    def num_targets(self) -> int:
        """Learnt tokens: those of the response, save a first token that nothing precedes."""
        first = 0 if len(self.prompt) else 1
        return len(self.response) - first if self.learnt is None else int(np.sum(self.learnt[first:]))


def encode(tokenizer: Any, prompt: Context, response: str) -> Example:
    """Prompt and response tokenised apart (no token crosses the seam), and the end-of-sequence token after them.

    The prompt's tokens are those that a sampler reads (`tutelage.lm.tokens.prompt_ids`, whose errors are raised).
    Raises `BadInput` for a tokenizer without EOS.
    """
    learnt = response_ids(tokenizer, response)
    return Example(np.array(prompt_ids(tokenizer, prompt), np.int64), learnt)


def response_ids(tokenizer: Any, response: str) -> np.ndarray:
    """`[r]` int64: the response's own tokens and the end-of-sequence token. Raises `BadInput` if there is none."""
    end = end_token(tokenizer)
    return np.array([*(tokenizer.encode(response, add_special_tokens=False) if response else []), end], np.int64)


def end_token(tokenizer: Any) -> int:
    """The id of the end-of-sequence token. Raises `BadInput` if there is none."""
    if tokenizer.eos_token_id is None:
        raise BadInput("tokenizer has no eos_token: a model could not learn where to stop; set one")
    return int(tokenizer.eos_token_id)


def truncate(examples: Sequence[Example], max_length: int, *, keep_first: int = 0) -> tuple[list[Example], float]:
    """Examples of at most `max_length` tokens, cut at the left of the prompt, and the share that was cut.

    The end of the prompt (the cue) and the whole response stay. `keep_first` tokens at the prompt's beginning (BOS)
    stay too. Raises `BadInput` naming the first example whose response leaves no room for one token of the cue.
    """
    fitted, cut = [], 0
    for place, example in enumerate(examples):
        excess = len(example) - max_length
        if excess > 0:
            first = min(keep_first, len(example.prompt))
            if len(example.prompt) - first - excess < 1:
                raise BadInput(
                    f"example {place}: its response of {len(example.response)} tokens leaves no room for the cue "
                    f"within {max_length}; shorten it or raise max_length"
                )
            prompt = np.concatenate([example.prompt[:first], example.prompt[first + excess :]])
            example, cut = Example(prompt, example.response, example.learnt), cut + 1
        fitted.append(example)
    return fitted, cut / max(len(examples), 1)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of tokens, each holding one example (padded) or several (packed).

    Attributes:
        ids: `[rows, width]` int64.
        positions: `[rows, width]` int64; start at 0 with every example.
        owner: `[rows, width]` int64: which example of the row a token belongs to; −1 for padding.
        learnt: `[rows, width]` bool: the tokens whose log-probability is trained.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    owner: torch.Tensor
    learnt: torch.Tensor

    @property
    def num_targets(self) -> int:
        return int(self.learnt.sum())

    def to(self, device: torch.device | str) -> Batch:
        return Batch(*(getattr(self, name).to(device) for name in self.__slots__))

    def inputs(self, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
        """What a Hugging Face decoder is called with.

        Tokens padded on the right need no mask: nothing that counts comes after them. Several examples in a row get a
        block-diagonal mask `[rows, 1, width, width]`, added to the scores, which `sdpa` and `eager` attention take.
        """
        given = {"input_ids": self.ids, "use_cache": False}
        if int(self.owner.max()) == 0:
            if bool((self.owner[:, 0] == 0).all()):
                return given
            return given | {"position_ids": self.positions, "attention_mask": (self.owner >= 0).long()}
        same = self.owner[:, :, None] == self.owner[:, None, :]
        width = self.ids.shape[1]
        seen = same & torch.ones(width, width, dtype=torch.bool, device=same.device).tril()
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
        return given | {"position_ids": self.positions, "attention_mask": mask[:, None]}


def pad(examples: Sequence[Example], *, side: Literal["left", "right"] = "right", pad_id: int = 0) -> Batch:
    """One example a row, filled up on one side with `pad_id` (any id: masks come from lengths)."""
    if side not in ("left", "right"):
        raise BadInput(f"side = {side!r}: must be 'left' or 'right'")
    width = max(len(example) for example in examples)
    starts = [width - len(example) if side == "left" else 0 for example in examples]
    return _batch([[example] for example in examples], width, pad_id, starts)


def pack(examples: Sequence[Example], length: int, *, pad_id: int = 0) -> Batch:
    """Several examples a row, each row at most `length` tokens (first fit, longest first).

    Raises `BadInput` if an example is longer than `length`.
    """
    order = sorted(range(len(examples)), key=lambda place: -len(examples[place]))
    if order and len(examples[order[0]]) > length:
        raise BadInput(f"example {order[0]}: {len(examples[order[0]])} tokens are more than the row's {length}")
    rows: list[list[Example]] = []
    room: list[int] = []
    for place in order:
        size = len(examples[place])
        row = next((row for row, left in enumerate(room) if left >= size), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(length)
        rows[row].append(examples[place])
        room[row] -= size
    return _batch(rows, length - min(room), pad_id, [0] * len(rows))


def micro_batches(examples: Sequence[Example], max_tokens: int) -> list[list[Example]]:
    """Examples grouped by similar length so that no group, padded, has more than `max_tokens` tokens.

    A single example longer than that is a group of its own. Long groups come first: what does not fit fails at once.
    """
    groups: list[list[Example]] = []
    for example in sorted(examples, key=len, reverse=True):
        if groups and len(groups[-1][0]) * (len(groups[-1]) + 1) <= max_tokens:
            groups[-1].append(example)
        else:
            groups.append([example])
    return groups


def count_targets(examples: Iterable[Example]) -> int:
    """Learnt tokens of all examples: the normaliser of their mean."""
    return sum(example.num_targets for example in examples)


def _batch(rows: Sequence[Sequence[Example]], width: int, pad_id: int, starts: Sequence[int]) -> Batch:
    shape = (len(rows), width)
    ids, positions = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64)
    owner, learnt = np.full(shape, -1, np.int64), np.zeros(shape, bool)
    for row, (members, at) in enumerate(zip(rows, starts, strict=True)):
        for number, example in enumerate(members):
            seam, end = at + len(example.prompt), at + len(example)
            ids[row, at:seam], ids[row, seam:end] = example.prompt, example.response
            positions[row, at:end] = np.arange(end - at)
            owner[row, at:end] = number
            learnt[row, seam:end] = True if example.learnt is None else example.learnt
            learnt[row, at] = False  # nothing predicts the very first token
            at = end
    return Batch(*(torch.from_numpy(array) for array in (ids, positions, owner, learnt)))
