"""The configuration of a language model with any of our attentions, as transformers writes and reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

from tutelage.attention.config import AttentionConfig, NetworkConfig
from tutelage.lab.configuration import from_json, to_json, validate
from tutelage.lab.errors import BadInput, nearest

INPUT_POSITIONS = ("none", "sinusoidal", "legacy")


class CompositionalConfig(PretrainedConfig):
    """Of `CompositionalForCausalLM`, and with `is_encoder_decoder` of `CompositionalForConditionalGeneration`.

    Args:
        vocab_size: tokens; encoder and decoder have the same.
        hidden_size: D.
        num_hidden_layers: blocks one after another; of the encoder, where there is one.
        num_decoder_layers: blocks of the decoder beside an encoder; None: as many as the encoder has.
        shared_layers: all blocks are one and the same (universal transformer).
        intermediate_size: hidden size of the feed-forward part; 0: twice D.
        dropout: of embeddings and in blocks, outside attention.
        attention: settings of `AttentionConfig` that differ from its defaults, as it or as a mapping.
        input_positions: what is added to the embeddings: none, sinusoidal, or legacy (the official code's sines);
            positions inside the scores are a setting of `attention`.
        max_position_embeddings: tokens of prompt and answer together, at which `tutelage.lm` stops. The model itself
            has no limit.
        tie_word_embeddings: the output layer is the embedding.

    Raises:
        BadInput: an unknown setting of the attention, or a value outside what is allowed.
    """

    model_type = "tutelage_compositional"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 (transformers declares it so)

    def __init__(
        self,
        vocab_size: int = 258,
        hidden_size: int = 256,
        num_hidden_layers: int = 6,
        num_decoder_layers: int | None = None,
        shared_layers: bool = True,
        intermediate_size: int = 0,
        dropout: float = 0.1,
        attention: AttentionConfig | Mapping[str, Any] | None = None,
        input_positions: str = "sinusoidal",
        max_position_embeddings: int = 2048,
        use_cache: bool = True,
        tie_word_embeddings: bool = True,
        pad_token_id: int | None = None,
        bos_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        decoder_start_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(attention, AttentionConfig):
            attention = to_json(attention)
        # A folder written before a setting existed means its default.
        settings = from_json(AttentionConfig, {**to_json(AttentionConfig()), **(attention or {})}, "attention.")
        if vocab_size < 1:
            raise BadInput(f"vocab_size = {vocab_size}: must be at least 1")
        if input_positions not in INPUT_POSITIONS:
            raise BadInput(
                f"input_positions = {input_positions!r}: must be one of {', '.join(INPUT_POSITIONS)}"
                f"{nearest(input_positions, INPUT_POSITIONS)}"
            )
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.num_hidden_layers, self.num_decoder_layers = num_hidden_layers, num_decoder_layers
        self.shared_layers, self.intermediate_size, self.dropout = shared_layers, intermediate_size, float(dropout)
        self.attention = to_json(settings)
        self.input_positions, self.max_position_embeddings = input_positions, max_position_embeddings
        validate(self.network_config())
        validate(self.network_config(decoder=True))
        super().__init__(**kwargs)
        self.use_cache, self.tie_word_embeddings = use_cache, tie_word_embeddings
        self.pad_token_id, self.bos_token_id, self.eos_token_id = pad_token_id, bos_token_id, eos_token_id
        self.decoder_start_token_id = decoder_start_token_id

    @property
    def num_attention_heads(self) -> int:
        """S."""
        return self.attention["searches"]

    @property
    def attention_config(self) -> AttentionConfig:
        """The attention of every block."""
        return AttentionConfig(**self.attention)

    def network_config(self, decoder: bool = False) -> NetworkConfig:
        """What is around the attention, of the only stack or the encoder, or of the decoder beside an encoder."""
        layers = self.num_decoder_layers if decoder and self.num_decoder_layers is not None else self.num_hidden_layers
        return NetworkConfig(
            self.hidden_size,
            layers,
            self.shared_layers,
            self.intermediate_size,
            self.dropout,
            self.input_positions == "legacy",
        )
