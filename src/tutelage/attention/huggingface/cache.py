"""`LayerCache`s where transformers' `generate` looks for its own: one for each iteration, grown, reordered, cropped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache

from tutelage.attention.cache import LayerCache


class CompositionalCache(Cache):
    """Keys (B, S, N, d) and values (B, R, N, d_v) of every iteration, and of its cross-attention.

    A universal transformer has one set of weights and one cache for each iteration: what it reads differs.

    Attributes:
        states: the caches, in order of iterations, as `blocks.Encoder` takes them.
    """

    is_compileable = False  # type: ignore[assignment]  # it grows
    is_initialized = True  # type: ignore[assignment]
    is_croppable = True  # type: ignore[assignment]

    def __init__(self, states: Sequence[LayerCache]) -> None:
        super().__init__(layers=[])
        self.states = list(states)

    def __len__(self) -> int:
        return len(self.states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.states[layer_idx].length

    def get_max_length(self, layer_idx: int | None = None) -> int:
        return -1

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        return -1

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.get_seq_length(layer_idx) + query_length, 0

    def reset(self) -> None:
        self.states = [LayerCache() for _ in self.states]

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens: as many as the number, which is negative, says."""
        if tokens_to_remove > 0:
            raise ValueError(f"crop({tokens_to_remove}): the number of tokens to forget is given as a negative one")
        for state in self.states:
            state.crop(state.length + tokens_to_remove)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        for state in self.states:
            state.select(beam_idx if state.k is None else beam_idx.to(state.k.device))

    def batch_select_indices(self, indices: Tensor) -> None:
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.states and (held := self.states[0].k) is not None:
            self.reorder_cache(torch.arange(held.shape[0], device=held.device).repeat_interleave(repeats))
