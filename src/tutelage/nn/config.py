"""Settings of the networks, free of any framework."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting


@dataclass(frozen=True)
class NetworkConfig:
    """A recurrent actor–critic: encoder, body, two heads."""

    body: str = setting("lstm", "Recurrent body.", choices=("lstm", "gru", "s5", "none"), source="minimax")
    hidden: int = setting(256, "Width of the body's state.", interval="[1, inf)", unit="units", source="minimax")
    num_filters: int = setting(16, "3×3 filters of the encoder's convolution.", interval="[1, inf)", source="minimax")
    direction_embedding: int = setting(
        5, "Width of the embedding of the agent's direction.", interval="[1, inf)", source="minimax"
    )
    head_hidden: int = setting(32, "Width of the hidden layer of each head.", interval="[1, inf)", source="minimax")
    activation: str = setting(
        "tanh", "Activation of the heads' hidden layers.", choices=("tanh", "relu"), source="minimax; jaxued uses relu"
    )
    num_value_heads: int = setting(
        1, "Value heads; two or more give the value-disagreement score.", interval="[1, inf)", source="minimax"
    )
    s5_layers: int = setting(2, "Layers of the S5 body.", interval="[1, inf)", source="minimax s5_*.json")
    s5_blocks: int = setting(
        2, "Diagonal blocks of the S5 state matrix at initialisation.", interval="[1, inf)", source="minimax s5_*.json"
    )
