"""Where a token is: sines added to the input, and rotary or relative positions inside the scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoidal(length: int, width: int) -> Tensor:
    """(length, width): sines and cosines in turns, wavelengths from 2π to 10000·2π (arXiv 1706.03762, section 3.5)."""
    column = torch.arange(width, dtype=torch.float64)
    return _waves(length, width, 2 * (column // 2) / width).float()


def legacy_sinusoidal(length: int, width: int) -> Tensor:
    """(length, width) as the official code of arXiv 2110.09419 has it, for comparisons only.

    The exponent's factor 2 is applied to an index that already steps by 2, so wavelengths go up to 10000²·2π and the
    cosine's is not its sine's; all is scaled by 1 / (1 + 1/e).
    """
    column = torch.arange(width, dtype=torch.float64)
    return (_waves(length, width, 2 * column / width) / (1 + math.exp(-1))).float()


def _waves(length: int, width: int, exponent: Tensor) -> Tensor:
    angle = torch.arange(length, dtype=torch.float64)[:, None] * 10000.0**-exponent
    odd = torch.arange(width) % 2 == 1
    return torch.where(odd, angle.cos(), angle.sin())


def rotate(x: Tensor, start: int) -> Tensor:
    """Rotary positions (arXiv 2104.09864) for x (B, S, N, d) whose first token has position `start`; d is even.

    Numbers i and i + d/2 are turned together by position · 10000^(-2i/d), so that q·k depends on the distance alone.
    """
    half = x.shape[-1] // 2
    dtype = torch.promote_types(x.dtype, torch.float32)
    exponent = torch.arange(half, device=x.device, dtype=dtype) / half
    position = torch.arange(start, start + x.shape[2], device=x.device, dtype=dtype)
    angle = position[:, None] * 10000.0**-exponent
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    one, two = x[..., :half], x[..., half:]
    return torch.cat((one * cos - two * sin, one * sin + two * cos), -1)


class RelativeBias(nn.Module):
    """A learned number for each search and distance, added to the scores (arXiv 1910.10683, section 2.1).

    Half of the `buckets` are for keys before the query, half for keys after it; in each half the nearest half of the
    buckets hold one distance each, the others grow logarithmically up to `farthest`, beyond which all are one.
    """

    def __init__(self, searches: int, buckets: int = 32, farthest: int = 128) -> None:
        super().__init__()
        self.buckets, self.farthest = buckets, farthest
        self.weight = nn.Parameter(torch.zeros(searches, buckets))

    def forward(self, queries: int, keys: int) -> Tensor:
        """(S, N + M - 1): entry m - n + N - 1 is the bias of key m for query n; query N - 1 is key M - 1."""
        offset = torch.arange(
            1 - keys, max(queries, 1 - keys), device=self.weight.device
        )  # key's position minus query's
        return self.weight[:, self.bucket(offset)]

    def bucket(self, offset: Tensor) -> Tensor:
        """The bucket of each offset (key's position minus query's)."""
        half = self.buckets // 2
        exact = half // 2
        distance = offset.abs()
        grown = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.farthest / exact) * (half - exact)
        far = (exact + grown.long()).clamp(max=half - 1)
        return torch.where(distance < exact, distance, far) + half * (offset > 0)


def toeplitz(by_offset: Tensor, queries: int, keys: int) -> Tensor:
    """(S, N, M) of `RelativeBias`' (S, N + M - 1)."""
    if not queries or not keys:
        return by_offset.new_zeros(by_offset.shape[0], queries, keys)
    return by_offset.unfold(1, keys, 1).flip(1)[:, :queries]
