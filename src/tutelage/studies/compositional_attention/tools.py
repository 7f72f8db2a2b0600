"""The tools of compositional_attention and their arguments."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting
from tutelage.lab.study import Tool


@dataclass(frozen=True)
class ConvertArguments:
    """Arguments of `compositional_attention convert`."""

    folder: str = setting(
        "",
        "A model folder whose attention is multi-head (tutelage_compositional, kind multihead); or a .safetensors file "
        "with weights of nn.MultiheadAttention anywhere in it.",
        word=True,
        needed=True,
    )
    out: str = setting("", "Folder (of a model) or .safetensors file (of weights) to write.", needed=True)
    heads: int = setting(0, "Heads of every layer; needed for weights, which do not say it.", interval="[0, inf)")
    leak: float = setting(
        0.0, "What a search takes of the others' retrievals together, in place of sharpness.", interval="[0, 1)"
    )
    sharpness: float = setting(
        20.0, "Logit of a search's own retrieval. At 20 outputs are equal and hardly learn; less for a warm start.",
        interval="(0, inf)",
    )  # fmt: skip


TOOLS = {
    "convert": Tool(
        "Trained multi-head attention as compositional attention with the same outputs, from which training goes on.",
        ConvertArguments,
        "tutelage.studies.compositional_attention.converting:convert",
    ),
}
