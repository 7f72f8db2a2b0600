"""Multi-head attention as compositional attention: the same outputs up to a leak that is known in closed form.

Retrieval j gets marker numbers beside its values, which V's bias makes the j-th unit vector; A's rows sum to 1, so they
arrive as they are. Value keys read the markers and nothing else, the value query of search i is sharpness · √e times
the i-th unit vector (from its bias), and the output projection ignores the markers. Search i then takes retrieval i
with weight 1 - leak, whatever it found.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tutelage.attention.compositional.layer import CompositionalAttention
from tutelage.lab.errors import BadInput


def leak(retrievals: int, sharpness: float) -> float:
    """What a search takes of the other R - 1 retrievals together: (R-1)e^(-c) / (1 + (R-1)e^(-c))."""
    others = (retrievals - 1) * math.exp(-sharpness)
    return others / (1 + others)


def sharpness_for(retrievals: int, leak: float) -> float:
    """The sharpness c at which R ≥ 2 retrievals leak so much, 0 < leak < (R-1)/R."""
    return math.log(retrievals - 1) + math.log1p(-leak) - math.log(leak)


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
    heads, width = int(mha.num_heads), int(mha.embed_dim)
    number = heads if retrievals is None else retrievals
    if number < heads:
        raise BadInput(
            f"retrievals = {number}: must be at least the {heads} heads, each of which has values of its own"
        )
    if not sharpness > 0:
        raise BadInput(f"sharpness = {sharpness:g}: must be above 0")
    if mha.in_proj_weight is None:
        raise BadInput(f"mha has kdim = {mha.kdim}, vdim = {mha.vdim}: must both be its embed_dim = {width}")
    if mha.bias_k is not None or mha.add_zero_attn:
        raise BadInput("mha has add_bias_kv or add_zero_attn: keys and values must come from tokens alone")
    size = width // heads
    layer = CompositionalAttention(
        width,
        heads,
        number,
        d_value=number * (size + number),
        d_select=number,
        dropout=mha.dropout,
        backend=backend,
    ).to(mha.in_proj_weight)
    with torch.no_grad():
        query, key, value = mha.in_proj_weight.chunk(3)
        layer.query.weight.copy_(query)
        layer.key.weight.copy_(key)
        values, markers = _parts(layer.value.weight, number, size)
        values[:heads] = value.unflatten(0, (heads, size))
        markers.zero_()
        values, markers = _parts(layer.value.bias, number, size)
        markers.copy_(torch.eye(number))
        if mha.in_proj_bias is not None:
            query, key, value = mha.in_proj_bias.chunk(3)
            layer.query.bias.copy_(query)
            layer.key.bias.copy_(key)
            values[:heads] = value.unflatten(0, (heads, size))
        layer.value_query.weight.zero_()
        layer.value_query.bias.copy_(
            sharpness * math.sqrt(number) * torch.eye(heads, number, dtype=torch.float64).flatten()
        )
        assert layer.competition.weight is not None
        layer.competition.weight.copy_(torch.cat((torch.zeros(number, size), torch.eye(number)), 1))
        layer.output.weight.zero_()
        layer.output.weight.unflatten(1, (heads, -1))[..., :size] = mha.out_proj.weight.unflatten(1, (heads, size))
        if mha.out_proj.bias is not None:
            layer.output.bias.copy_(mha.out_proj.bias)
    return layer


def _parts(of_values: Tensor, retrievals: int, size: int) -> tuple[Tensor, Tensor]:
    """Views of the value projection's rows: (R, size, …) of values and (R, R, …) of markers."""
    each = of_values.unflatten(0, (retrievals, -1))
    return each[:, :size], each[:, size:]
