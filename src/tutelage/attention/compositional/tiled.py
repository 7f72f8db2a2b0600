"""Attention of S searches over R·d_v values side by side, in tiles: never more of A than one tile, forward or backward.

PyTorch's fused kernels for the CPU take values only of the queries' size, and for other sizes quietly build all of A.
Here a tile of A (some searches, some queries, all keys) is made in the processor's second-level cache, used and
forgotten; the backward pass makes it again. It also has what fused kernels lack: dropout on A from a seed, boolean,
padding and causal limits together, rows that allow nothing, and relative positions as one number for each distance.

Both passes are custom operators, so `torch.compile` and `torch.export` see one opaque node each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import Tensor

TILE = 1 << 19
"""Numbers of one tile of A: 2 MiB of float32, the best of 2^17 to 2^22 where it was measured."""

_ARGUMENTS = (
    "Tensor q, Tensor k, Tensor v, Tensor? attn, Tensor? keys, Tensor? offsets, Tensor? seed, float scale, "
    "bool causal, bool exclude_self, float dropout"
)


def _types_as_given(call: Callable[..., Any]) -> Callable[..., Any]:
    """Without autocast, which would choose other types than those computed in here."""

    @wraps(call)
    def plain(*args: Any, **kwargs: Any) -> Any:
        device = next(argument for argument in args if isinstance(argument, Tensor)).device.type
        with torch.autocast(device, enabled=False):
            return call(*args, **kwargs)

    return plain


@torch.library.custom_op("tutelage::tiled_attention", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor")
@_types_as_given
def tiled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn: Tensor | None,
    keys: Tensor | None,
    offsets: Tensor | None,
    seed: Tensor | None,
    scale: float,
    causal: bool,
    exclude_self: bool,
    dropout: float,
) -> Tensor:
    """O (B, S, N, C): for each search and query the mean of the values that A = softmax(scale · q kᵀ + limits) weights.

    Args:
        q: (B, S, N, d).
        k: (B, S, M, d).
        v: (B, M, C), the retrievals side by side.
        attn: bool (True = may attend) or additive, four axes that broadcast to (B, S, N, M); gets no gradient.
        keys: bool (B, M), True = may be attended to.
        offsets: (S, N + M - 1), added to the scores: entry m - n + N - 1.
        seed: one int64, which dropout's masks follow from; needed where `dropout` > 0.
        scale: of the scores.
        causal: query n may attend to the first n + 1 + (M - N) keys.
        exclude_self: query n may not attend to key n + (M - N).
        dropout: of A.
    """
    work = _Work(q, k, attn, keys, offsets, seed, scale, causal, exclude_self, dropout)
    out = torch.empty(*q.shape[:3], v.shape[2], dtype=work.dtype, device=q.device)
    for row, k_row, v_row, tiles in work.rows(v):
        for tile in tiles:
            a, kept = tile.weights(row, k_row)
            if kept is not None:
                a = a.mul_(kept)
            searches, _, used = a.shape
            into = out[row, tile.searches, tile.queries]
            if into.is_contiguous():
                torch.mm(a.view(-1, used), v_row[:used], out=into.view(-1, v.shape[2]))
            else:
                torch.bmm(a, v_row[:used].expand(searches, -1, -1), out=into)
    return out.to(q.dtype)


@torch.library.custom_op(
    "tutelage::tiled_attention_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor, Tensor)",
)
@_types_as_given
def _tiled_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn: Tensor | None,
    keys: Tensor | None,
    offsets: Tensor | None,
    seed: Tensor | None,
    scale: float,
    causal: bool,
    exclude_self: bool,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and offsets (empty without offsets)."""
    work = _Work(q, k, attn, keys, offsets, seed, scale, causal, exclude_self, dropout)
    new: dict[str, Any] = {"dtype": work.dtype, "device": q.device}
    dq, dk, dv = torch.empty_like(q, **new), torch.zeros_like(k, **new), torch.zeros_like(v, **new)
    d_offsets = torch.zeros(0 if offsets is None else offsets.shape, **new)
    for row, k_row, v_row, tiles in work.rows(v):
        for tile in tiles:
            a, kept = tile.weights(row, k_row)
            used = a.shape[2]
            d_out = grad[row, tile.searches, tile.queries].to(work.dtype).reshape(-1, v.shape[2])
            d_a = torch.mm(d_out, v_row[:used].T).view_as(a)
            if kept is None:
                dv[row, :used].addmm_(a.view(-1, used).T, d_out)
            else:
                d_a.mul_(kept)
                dv[row, :used].addmm_((a * kept).view(-1, used).T, d_out)
            d_scores = torch.ops.aten._softmax_backward_data(d_a, a, -1, work.dtype)
            if offsets is not None:
                d_offsets[tile.searches] += _along_diagonals(d_scores, tile.queries.start, q.shape[2], k.shape[2])
            dq[row, tile.searches, tile.queries] = torch.bmm(d_scores, k_row[tile.searches, :used])
            dk[row, tile.searches, :used].baddbmm_(d_scores.transpose(1, 2), tile.q)
    dq.mul_(scale)
    return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), d_offsets.to(q.dtype if offsets is None else offsets.dtype)


class _Work:
    """What all tiles share, in the type that is computed in: half precision is computed in float32."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        attn: Tensor | None,
        keys: Tensor | None,
        offsets: Tensor | None,
        seed: Tensor | None,
        scale: float,
        causal: bool,
        exclude_self: bool,
        dropout: float,
    ) -> None:
        self.dtype = torch.float32 if q.dtype in (torch.float16, torch.bfloat16) else q.dtype
        self.q, self.k, self.causal, self.exclude_self = q.to(self.dtype) * scale, k, causal, exclude_self
        self.forbidden = None if keys is None else ~keys
        shape = (*q.shape[:3], k.shape[2])
        self.attn = None if attn is None else (~attn if attn.dtype == torch.bool else attn).expand(shape)
        self.offsets = None if offsets is None else offsets.to(self.dtype).contiguous()
        self.dropout = dropout
        self.noise = None
        if dropout > 0:
            assert seed is not None
            self.noise = torch.Generator(q.device).manual_seed(int(seed))

    def rows(self, v: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Iterator[_Tile]]]:
        """For each row of the batch its number, its keys (S, M, d), its values (M, C) and its tiles, in one order."""
        for row in range(v.shape[0]):
            yield row, self.k[row].to(self.dtype), v[row].to(self.dtype), self._tiles(row)

    def _tiles(self, row: int) -> Iterator[_Tile]:
        searches, queries, _ = self.q.shape[1:]
        keys = self.k.shape[2]
        high = min(queries, max(TILE // max(keys, 1), 16))
        deep = max(1, min(searches, TILE // max(high * keys, 1)))
        for search in range(0, searches, deep):
            for query in range(0, queries, high):
                some = slice(search, min(search + deep, searches))
                yield _Tile(self, row, some, slice(query, min(query + high, queries)))


class _Tile:
    """Some searches and some queries, all keys that they may attend to."""

    def __init__(self, work: _Work, row: int, searches: slice, queries: slice) -> None:
        self.work, self.searches, self.queries = work, searches, queries
        self.q = work.q[row, searches, queries]

    def weights(self, row: int, k: Tensor) -> tuple[Tensor, Tensor | None]:
        """A (searches, queries, used keys), and what dropout multiplies it with."""
        work = self.work
        total_queries, total_keys = work.q.shape[2], work.k.shape[2]
        first = total_keys - total_queries + self.queries.start  # the key of the tile's first query
        high = self.queries.stop - self.queries.start
        used = max(min(total_keys, first + high), 1) if work.causal else total_keys
        scores = torch.bmm(self.q, k[self.searches, :used].transpose(1, 2))
        limited = work.causal or work.exclude_self
        if work.offsets is not None:
            scores += _by_offset(work.offsets, self.searches, self.queries, total_queries)[..., :used]
        if work.attn is not None:
            limited = True
            attn = work.attn[row, self.searches, self.queries, :used]
            if attn.dtype == torch.bool:
                scores.masked_fill_(attn, -math.inf)
            else:
                scores += attn
        if work.forbidden is not None:
            limited = True
            scores.masked_fill_(work.forbidden[row, :used], -math.inf)
        if work.causal or work.exclude_self:
            own = torch.arange(first, first + high, device=scores.device)[:, None]
            key = torch.arange(used, device=scores.device)
            if work.causal:
                scores.masked_fill_(key >= own if work.exclude_self else key > own, -math.inf)
            else:
                scores.masked_fill_(key == own, -math.inf)
        empty = scores.amax(-1, keepdim=True) == -math.inf if limited else None
        a = torch.softmax(scores, -1)
        if empty is not None:
            a.masked_fill_(empty, 0.0)
        if work.noise is None:
            return a, None
        kept = torch.empty_like(a).bernoulli_(1 - work.dropout, generator=work.noise)
        return a, kept.div_(1 - work.dropout)


def _by_offset(offsets: Tensor, searches: slice, queries: slice, total_queries: int) -> Tensor:
    """(searches, queries, M) as a view of (S, N + M - 1): one step down is one step to the left."""
    some = offsets[searches]
    keys = offsets.shape[1] - total_queries + 1
    last = total_queries - queries.stop  # where the row of the tile's last query starts
    return some.unfold(1, keys, 1)[:, last : total_queries - queries.start].flip(1)


def _along_diagonals(d_scores: Tensor, start: int, queries: int, keys: int) -> Tensor:
    """The transpose of `_by_offset`: (searches, tile, used) summed into (searches, N + M - 1)."""
    searches, high, used = d_scores.shape
    # Rows that are one number longer than the period shift by one each, so that diagonals become columns.
    width = used + high
    skewed = torch.zeros(searches, high, width, dtype=d_scores.dtype, device=d_scores.device)
    skewed[..., :used] = d_scores.flip(1)
    columns = skewed.view(searches, -1)[:, : high * (width - 1)].view(searches, high, width - 1).sum(1)
    total = torch.zeros(searches, queries + keys - 1, dtype=d_scores.dtype, device=d_scores.device)
    first = queries - start - high
    total[:, first : first + width - 1] = columns[:, : width - 1]
    return total


@tiled_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *_: Any) -> Tensor:
    return q.new_empty(*q.shape[:3], v.shape[2])


@_tiled_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, attn: Any, keys: Any, offsets: Tensor | None, *_: Any) -> Any:
    empty = q.new_empty(0) if offsets is None else torch.empty_like(offsets)
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), empty


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.options = inputs[7:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    dq, dk, dv, d_offsets = _tiled_backward(grad, *saved, *ctx.options)
    return dq, dk, dv, None, None, None if saved[5] is None else d_offsets, *[None] * 5


tiled_attention.register_autograd(_backward, setup_context=_save)
