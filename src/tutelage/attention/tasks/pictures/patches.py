"""Images as tokens: what the models of the image tasks share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.attention.config import NetworkConfig
from tutelage.attention.layer import Activations
from tutelage.attention.positions import legacy_sinusoidal, sinusoidal
from tutelage.lab.errors import BadInput


def patches(images: Tensor, size: int) -> Tensor:
    """(B, C, H, W) to (B, H/size · W/size, C·size²), row by row; floating, bytes scaled to [0, 1].

    Raises:
        BadInput: the size does not divide the image.
    """
    batch, channels, height, width = images.shape
    if height % size or width % size:
        raise BadInput(f"patch = {size}: must divide the image's {height}×{width} px")
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images
    rows, columns = height // size, width // size
    cut = pixels.reshape(batch, channels, rows, size, columns, size)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * size**2)


def places(network: NetworkConfig, count: int, width: int) -> Tensor:
    """(count, width) what is added to patches so that they know where they are."""
    return legacy_sinusoidal(count, width) if network.legacy_positions else sinusoidal(count, width)


def attention_of_token(found: Sequence[Activations], token: int, tokens: int) -> dict[str, Any]:
    """Where one token looks, and what it takes, as NumPy arrays.

    Args:
        found: of each iteration of an encoder.
        token: whose.
        tokens: how many stand before the patches.

    Returns:
        `search` (B, iterations, S, patches); `competition` (B, iterations, S, R) of layers that have one.
    """
    search = torch.stack([of["search"][:, :, token, tokens:] for of in found], 1)
    shown = {"search": search.float().cpu().numpy()}
    if "competition" in found[0]:
        shown["competition"] = torch.stack([of["competition"][:, token] for of in found], 1).float().cpu().numpy()
    return shown
