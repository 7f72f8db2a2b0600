"""Multi-head attention as compositional attention: the same outputs up to a leak that is known in closed form.

Retrieval j gets marker numbers beside its values, which V's bias makes the j-th unit vector; A's rows sum to 1, so they
arrive as they are. Value keys read the markers and nothing else, the value query of search i is sharpness · √e times
the i-th unit vector (from its bias), and the output projection ignores the markers. Search i then takes retrieval i
with weight 1 - leak, whatever it found.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tutelage.attention.baselines.multihead import MultiHead
from tutelage.attention.compositional.layer import CompositionalAttention
from tutelage.lab.errors import BadInput

Linear = tuple[Tensor, Tensor | None]
"""Weight and bias of a map."""


def leak(retrievals: int, sharpness: float) -> float:
    """What a search takes of the other R - 1 retrievals together: (R-1)e^(-c) / (1 + (R-1)e^(-c))."""
    others = (retrievals - 1) * math.exp(-sharpness)
    return others / (1 + others)


def sharpness_for(retrievals: int, leak: float) -> float:
    """The sharpness c at which R ≥ 2 retrievals leak so much, 0 < leak < (R-1)/R."""
    return math.log(retrievals - 1) + math.log1p(-leak) - math.log(leak)


class Heads(NamedTuple):
    """The weights of multi-head attention: H heads of size d = D / H. Biases may all be None."""

    num_heads: int
    query: Linear
    key: Linear
    value: Linear
    output: Linear


def from_multihead(
    mha: nn.MultiheadAttention, retrievals: int | None = None, sharpness: float = 20.0, backend: str = "auto"
) -> CompositionalAttention:
    """A layer that does what `mha` does, but for `leak(retrievals, sharpness)`; batch first, whatever `mha` has.

    A warm start for training wants a smaller sharpness (`sharpness_for`): at 20 the competition is saturated and hardly
    learns.

    Args:
        mha: H heads; its weights are copied.
        retrievals: R ≥ H; those beyond H begin as Xavier's uniform and are taken by no search; None: H.
        sharpness: c > 0, the logit of a search's own retrieval; the others' is 0.
        backend: of the new layer.

    Raises:
        BadInput: fewer retrievals than heads, keys or values of another size than queries, or extra keys and values.
    """
    if mha.in_proj_weight is None:
        raise BadInput(f"mha has kdim = {mha.kdim}, vdim = {mha.vdim}: must both be its embed_dim = {mha.embed_dim}")
    if mha.bias_k is not None or mha.add_zero_attn:
        raise BadInput("mha has add_bias_kv or add_zero_attn: keys and values must come from tokens alone")
    heads = packed_heads(mha.in_proj_weight, mha.in_proj_bias, mha.out_proj.weight, mha.out_proj.bias, mha.num_heads)
    return from_heads(heads, retrievals, sharpness, backend=backend, dropout=mha.dropout)


def from_baseline(layer: MultiHead, retrievals: int | None = None, sharpness: float = 20.0) -> CompositionalAttention:
    """The same of our own multi-head baseline; what it has beside heads (positions, no self) the new layer has too.

    Raises:
        BadInput: another baseline, a joined input, or values of another size than D together.
    """
    config = layer.config
    if config.kind != "multihead":
        raise BadInput(f"kind = {config.kind!r}: must be 'multihead', whose heads have values of their own")
    if config.join_input or layer.heads * layer.d != layer.width or layer.heads * layer.d_v != layer.width:
        raise BadInput("the layer joins its input, or its heads are not D together: only plain heads are converted")
    parts = (layer.query, layer.key, layer.value, layer.output)
    heads = Heads(layer.heads, *((part.weight, part.bias) for part in parts))
    made = from_heads(
        heads,
        retrievals,
        sharpness,
        backend=config.backend,
        dropout=config.dropout,
        positions=config.positions,
        exclude_self=config.exclude_self,
    )
    if layer.relative is not None and made.relative is not None:
        made.relative.load_state_dict(layer.relative.state_dict())
    return made


def packed_heads(
    in_weight: Tensor, in_bias: Tensor | None, out_weight: Tensor, out_bias: Tensor | None, num_heads: int
) -> Heads:
    """Heads of weights as `nn.MultiheadAttention` keeps them: queries, keys and values one below the other.

    Raises:
        BadInput: shapes that are not (3D, D) and (D, D), or heads that do not divide D.
    """
    width = out_weight.shape[0]
    if in_weight.shape != (3 * width, width) or out_weight.shape != (width, width):
        raise BadInput(
            f"in_proj_weight has shape {tuple(in_weight.shape)}, out_proj.weight {tuple(out_weight.shape)}: "
            "must be (3D, D) and (D, D)"
        )
    if num_heads < 1 or width % num_heads:
        raise BadInput(f"heads = {num_heads}: must divide the width {width}")
    biases = (None, None, None) if in_bias is None else in_bias.chunk(3)
    query, key, value = zip(in_weight.chunk(3), biases)
    return Heads(num_heads, query, key, value, (out_weight, out_bias))


def from_heads(
    heads: Heads,
    retrievals: int | None = None,
    sharpness: float = 20.0,
    *,
    backend: str = "auto",
    dropout: float = 0.0,
    positions: str = "none",
    exclude_self: bool = False,
) -> CompositionalAttention:
    """The layer of these heads, as `from_multihead` says.

    Raises:
        BadInput: fewer retrievals than heads, a sharpness that is not above 0.
    """
    count, width = heads.num_heads, int(heads.output[0].shape[0])
    number = count if retrievals is None else retrievals
    if number < count:
        raise BadInput(
            f"retrievals = {number}: must be at least the {count} heads, each of which has values of its own"
        )
    if not sharpness > 0:
        raise BadInput(f"sharpness = {sharpness:g}: must be above 0")
    size = width // count
    layer = CompositionalAttention(
        width,
        count,
        number,
        d_value=number * (size + number),
        d_select=number,
        dropout=dropout,
        backend=backend,
        positions=positions,
        exclude_self=exclude_self,
    ).to(heads.query[0])
    with torch.no_grad():
        for part, (weight, bias) in ((layer.query, heads.query), (layer.key, heads.key)):
            part.weight.copy_(weight)
            if bias is not None:
                part.bias.copy_(bias)
        weight, bias = heads.value
        values, markers = _parts(layer.value.weight, number, size)
        values[:count] = weight.unflatten(0, (count, size))
        markers.zero_()
        values, markers = _parts(layer.value.bias, number, size)
        markers.copy_(torch.eye(number))
        if bias is not None:
            values[:count] = bias.unflatten(0, (count, size))
        layer.value_query.weight.zero_()
        layer.value_query.bias.copy_(
            sharpness * math.sqrt(number) * torch.eye(count, number, dtype=torch.float64).flatten()
        )
        assert layer.competition.weight is not None
        layer.competition.weight.copy_(torch.cat((torch.zeros(number, size), torch.eye(number)), 1))
        weight, bias = heads.output
        layer.output.weight.zero_()
        layer.output.weight.unflatten(1, (count, -1))[..., :size] = weight.unflatten(1, (count, size))
        if bias is not None:
            layer.output.bias.copy_(bias)
    return layer


def _parts(of_values: Tensor, retrievals: int, size: int) -> tuple[Tensor, Tensor]:
    """Views of the value projection's rows: (R, size, …) of values and (R, R, …) of markers."""
    each = of_values.unflatten(0, (retrievals, -1))
    return each[:, :size], each[:, size:]
