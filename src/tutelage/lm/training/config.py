"""Every number of training language models: making small ones, and supervised fine-tuning. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import part, setting

SIZES: dict[str, dict[str, int]] = {
    # Parameters without the embeddings: 0.05, 0.4, 0.8 and 2.7 million.
    "nano": {"hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    "micro": {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4},
    "mini": {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "num_attention_heads": 4},
    "small": {"hidden_size": 208, "intermediate_size": 552, "num_hidden_layers": 5, "num_attention_heads": 4},
}


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes tokens. Every kind gives back the text exactly, but for words or characters never met."""

    kind: str = setting(
        "word",
        "bpe: bytes merged by frequency; word: words with the space before them; character.",
        choices=("bpe", "word", "character"),
    )
    vocabulary: int = setting(1024, "The most tokens, special ones included.", interval="[8, 1000000]")
    chat: bool = setting(False, "Tokens for the roles of a conversation, and a chat template.")


@dataclass(frozen=True)
class FromScratchConfig:
    """A model from nothing, for a tokenizer that there is."""

    size: str = setting("mini", "Width and depth.", choices=tuple(SIZES))
    context: int = setting(256, "Positions; longer documents are cut into pieces.", interval="[8, inf)", unit="tokens")
    batch_tokens: int = setting(4096, "Tokens in one update, about.", interval="[1, inf)")
    num_epochs: float = setting(2.0, "Passes over the text.", interval="(0, inf)", unit="epochs")
    learning_rate: float = setting(2e-3, "AdamW's step size at its peak.", interval="(0, inf)")
    weight_decay: float = setting(0.01, "AdamW's decay of matrices.", interval="[0, inf)")


@dataclass(frozen=True)
class PretrainConfig(FromScratchConfig):
    """A model from nothing, its tokenizer too."""

    tokenizer: TokenizerConfig = part(TokenizerConfig)


@dataclass(frozen=True)
class SFTConfig:
    """How a model is fine-tuned. The mean of a batch is per learnt token, over the whole batch."""

    num_epochs: float = setting(1.0, "Passes over the data.", interval="(0, inf)", unit="epochs")
    batch_size: int = setting(64, "Examples in one update, over all processes.", interval="[1, inf)")
    micro_tokens: int = setting(8192, "Most tokens, padding included, in one forward pass.", interval="[1, inf)")
    max_length: int = setting(0, "Longest example; prompts are cut at the left. 0: the context.", interval="[0, inf)")
    keep_first: int = setting(0, "Tokens at a cut prompt's beginning that stay (BOS).", interval="[0, inf)")
    pack: bool = setting(False, "Several examples in one row, blind to each other.")
    learning_rate: float = setting(5e-4, "AdamW's step size at its peak.", interval="(0, inf)")
    schedule: str = setting("cosine", "How it falls to 0.", choices=("cosine", "linear", "constant"))
    warmup: float = setting(0.05, "Share of the updates over which it rises.", interval="[0, 1]")
    weight_decay: float = setting(0.0, "AdamW's decay of matrices; vectors have none.", interval="[0, inf)")
    beta1: float = setting(0.9, "AdamW's decay of the mean gradient.", interval="[0, 1)")
    beta2: float = setting(0.999, "AdamW's decay of the mean squared gradient.", interval="[0, 1)")
    max_grad_norm: float = setting(1.0, "Longest gradient; 0: any.", interval="[0, inf)")
    freeze: float = setting(
        0.0, "Share of the lower layers that stay as they are, with embeddings and head.", interval="[0, 1)"
    )
