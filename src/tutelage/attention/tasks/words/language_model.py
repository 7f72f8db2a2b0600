"""The causal language model of tasks whose examples are sequences of tokens."""

from __future__ import annotations

from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.attention.huggingface.config import CompositionalConfig
from tutelage.attention.huggingface.models import CompositionalForCausalLM


def causal_model(
    vocabulary: int, length: int, attention: AttentionConfig, network: NetworkConfig
) -> CompositionalForCausalLM:
    """An untrained model of up to `length` tokens, with sines where scores know no positions themselves."""
    sines = "legacy" if network.legacy_positions else "sinusoidal"
    return CompositionalForCausalLM(
        CompositionalConfig(
            vocab_size=vocabulary,
            hidden_size=network.width,
            num_hidden_layers=network.iterations,
            shared_layers=network.shared,
            intermediate_size=network.d_feedforward,
            dropout=network.dropout,
            attention=attention,
            input_positions=sines if attention.positions == "none" else "none",
            max_position_embeddings=length,
        )
    )
