"""Compositional attention: where to look and what to take are separate pools, combined by a second attention.

S searches, R retrievals. Each pair of them is computed, O_ij = A_i V_j, and each search picks softly among the
retrievals by what they found. R = 1 is multi-head attention whose heads share one value; the same layer for PyTorch
models is `tutelage.attention.compositional.layer`.

References: Mittal, Raparthy, Rish, Bengio & Lajoie (2022), arXiv 2110.09419.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from tutelage.lab.errors import BadInput, nearest
from tutelage.nn.layers import Linear, linear

COMPETITIONS = ("dot", "linear", "mlp", "static")


class Competition(eqx.Module):
    """Which retrieval a search takes: the softmax over j of logits ℓ_ij, from value queries q̂ and what was found.

        dot      q̂_i · (W O_ij + b) / √e         first (e, d_v), or (R, e, d_v) where each retrieval has its own
        linear   w · [q̂_i; O_ij] + b             first (1, e + d_v)
        mlp      w₂ · relu(W [q̂_i; O_ij] + b)    first (e, e + d_v), last (e,)
        static   q̂_i · k_j / √e                  first (R, e): free keys, whatever was found

    What is the same for all j leaves the softmax and is left out: dot's bias where the retrievals share it, and in
    linear the part of q̂, so that there the value query has no effect.

    Attributes:
        shift: b, (e,) of mlp, (R, e) of dot with keys of its own; 0 elsewhere.
    """

    first: Float[Array, "..."]
    shift: Float[Array, "..."]
    last: Float[Array, "..."]
    kind: str = eqx.field(static=True)

    def __call__(self, query: Float[Array, "B N S e"], found: Float[Array, "B N S R D"]) -> Float[Array, "B N S R"]:
        """C, which sums to 1 over R."""
        return jax.nn.softmax(self.logits(query, found), axis=-1)

    def logits(self, query: Float[Array, "B N S e"], found: Float[Array, "B N S R D"]) -> Float[Array, "B N S R"]:
        """ℓ, but for what is the same for all retrievals."""
        size = query.shape[-1]
        match self.kind:
            case "dot" if self.first.ndim == 2:
                return jnp.einsum("bnsrv,bnsv->bnsr", found, query @ self.first) / math.sqrt(size)
            case "dot":
                logits = jnp.einsum("bnsrv,rev,bnse->bnsr", found, self.first, query)
                return (logits + query @ self.shift.T) / math.sqrt(size)
            case "linear":
                return found @ self.first[0, size:]
            case "mlp":
                from_query = query @ self.first[:, :size].T + self.shift
                return jax.nn.relu(from_query[..., None, :] + found @ self.first[:, size:].T) @ self.last
        return query @ self.first.T / math.sqrt(size)


class CompositionalAttention(eqx.Module):
    """S searches by R retrievals over D-wide tokens.

    Attributes:
        query, key: to S blocks of d.
        value: to R blocks of d_v.
        select: to S value queries of e.
        merge: from S blocks of d_v.
    """

    query: Linear
    key: Linear
    value: Linear
    select: Linear
    competition: Competition
    merge: Linear
    searches: int = eqx.field(static=True)
    retrievals: int = eqx.field(static=True)

    def __call__(
        self,
        x: Float[Array, "B N d"],
        memory: Float[Array, "B M d"] | None = None,
        visible: Bool[Array, "..."] | None = None,
        *,
        causal: bool = False,
    ) -> Float[Array, "B N d"]:
        """Queries are made of `x`, keys and values of `memory`, or of `x` as well.

        A token that sees nothing brings zeros before `merge`, never NaN. What a token holds that `visible` shows to
        none, NaN and infinity too, reaches no other output and no gradient.

        Args:
            visible: True = may attend, broadcastable to [B, S, N, M]; give real tokens [B, M] as `real[:, None, None]`.
            causal: token n sees the first n + 1 + (M - N) tokens of the memory.
        """
        return self.inspect(x, memory, visible, causal=causal)[0]

    def inspect(
        self,
        x: Float[Array, "B N d"],
        memory: Float[Array, "B M d"] | None = None,
        visible: Bool[Array, "..."] | None = None,
        *,
        causal: bool = False,
    ) -> tuple[Float[Array, "B N d"], Float[Array, "B S N M"], Float[Array, "B N S R"]]:
        """The output, A (rows sum to 1, or are 0 where nothing is seen) and C."""
        if visible is not None:
            # 0 · NaN is NaN: what nobody sees must not be multiplied at all.
            seen = _seen(visible)
            if memory is None:
                x = jnp.where(seen | jnp.isfinite(x), x, 0.0)
            memory = jnp.where(seen, x if memory is None else memory, 0.0)
        memory = x if memory is None else memory
        query, key = _split(self.query(x), self.searches), _split(self.key(memory), self.searches)
        search = _softmax(
            jnp.einsum("bnsd,bmsd->bsnm", query, key) / math.sqrt(query.shape[-1]),
            _visible(visible, causal, x.shape[1], memory.shape[1]),
        )
        found = jnp.einsum("bsnm,bmrv->bnsrv", search, _split(self.value(memory), self.retrievals))
        chosen = self.competition(_split(self.select(x), self.searches), found)
        taken = jnp.einsum("bnsr,bnsrv->bnsv", chosen, found)
        return self.merge(taken.reshape(*x.shape[:2], taken.shape[2] * taken.shape[3])), search, chosen


def compositional_attention(
    key: Key[Array, ""],
    width: int,
    searches: int,
    retrievals: int,
    *,
    d_search: int | None = None,
    d_value: int | None = None,
    d_select: int = 32,
    competition: str = "dot",
    per_retrieval_key: bool = False,
) -> CompositionalAttention:
    """An untrained layer: Xavier's uniform weights, those of the competition with gain 1/√2, biases 0.

    Args:
        d_search: S·d, all searches together; None: the width.
        d_value: R·d_v, all retrievals together; None: R times width / S, multi-head attention's head size.
        d_select: e, size of a value query.
        competition: dot, linear, mlp or static.
        per_retrieval_key: dot with a map of each retrieval's own.

    Raises:
        BadInput: fewer than one search or retrieval, sizes that do not divide, or an unknown competition.
    """
    for name, value in (("searches", searches), ("retrievals", retrievals), ("d_select", d_select)):
        if value < 1:
            raise BadInput(f"{name} = {value}: must be at least 1")
    if competition not in COMPETITIONS:
        known = ", ".join(COMPETITIONS)
        raise BadInput(f"competition = {competition!r}: must be one of {known}{nearest(competition, COMPETITIONS)}")
    d = _share(width if d_search is None else d_search, searches, "d_search", "searches")
    if d_value is None:
        d_v = _share(width, searches, "width", "searches")
    else:
        d_v = _share(d_value, retrievals, "d_value", "retrievals")
    k_query, k_key, k_value, k_select, k_compete, k_merge = jax.random.split(key, 6)
    init = jax.nn.initializers.glorot_uniform()
    return CompositionalAttention(
        linear(k_query, width, searches * d, init),
        linear(k_key, width, searches * d, init),
        linear(k_value, width, retrievals * d_v, init),
        linear(k_select, width, searches * d_select, init),
        _competition(k_compete, competition, retrievals, d_v, d_select, per_retrieval_key),
        linear(k_merge, searches * d_v, width, init),
        searches,
        retrievals,
    )


def _competition(
    key: Key[Array, ""], kind: str, retrievals: int, d_v: int, size: int, per_retrieval_key: bool
) -> Competition:
    init = jax.nn.initializers.variance_scaling(0.5, "fan_avg", "uniform")
    shapes = {"dot": (size, d_v), "linear": (1, size + d_v), "mlp": (size, size + d_v), "static": (retrievals, size)}
    k_first, k_last = jax.random.split(key)
    own = kind == "dot" and per_retrieval_key
    if own:
        first = jnp.stack([init(k, shapes[kind]) for k in jax.random.split(k_first, retrievals)])
    else:
        first = init(k_first, shapes[kind])
    shift = {"mlp": (size,)}.get(kind, (retrievals, size) if own else ())
    last = init(k_last, (1, size))[0] if kind == "mlp" else jnp.zeros(())
    return Competition(first, jnp.zeros(shift), last, kind)


def _visible(visible: Array | None, causal: bool, queries: int, keys: int) -> Array | None:
    if not causal:
        return visible
    past = jnp.tri(queries, keys, keys - queries, dtype=jnp.bool_)
    return past if visible is None else visible & past


def _seen(visible: Array) -> Array:
    """Which tokens of the memory anyone sees, bool [B, M, 1], or 1 for B or M where `visible` does not depend on it."""
    full = visible.reshape((1,) * (4 - visible.ndim) + visible.shape)
    return full.any(axis=(1, 2))[..., None]


def _softmax(scores: Float[Array, "B S N M"], visible: Array | None) -> Float[Array, "B S N M"]:
    """Rows without anything visible are 0, and so is their gradient."""
    if scores.size == 0:
        return scores
    if visible is None:
        return jax.nn.softmax(scores, axis=-1)
    some = visible.any(axis=-1, keepdims=True)
    return jnp.where(some, jax.nn.softmax(jnp.where(visible | ~some, scores, -jnp.inf), axis=-1), 0.0)


def _split(x: Float[Array, "B N all"], parts: int) -> Float[Array, "B N parts each"]:
    return x.reshape(*x.shape[:2], parts, x.shape[2] // parts)


def _share(size: int, parts: int, name: str, of: str) -> int:
    if size % parts:
        low = size // parts * parts
        near = f"{low} or {low + parts}" if low else f"{parts}"
        raise BadInput(f"{name} = {size}: must be a multiple of {of} = {parts}, such as {near}")
    return size // parts
