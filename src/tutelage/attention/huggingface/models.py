"""Language models with compositional attention for transformers: a decoder alone, and an encoder with a decoder.

    import tutelage.attention.huggingface.models  # from now on transformers' Auto classes know them

    model = CompositionalForCausalLM(CompositionalConfig(vocab_size=258, attention={"searches": 8, "retrievals": 4}))
    model.save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(folder).generate(ids, max_new_tokens=20)

Blocks are `tutelage.attention.blocks.Encoder`'s, so every attention of the family can be in them. Embeddings are scaled
by √D, as in Vaswani et al. (2017), arXiv 1706.03762, section 3.4, and tied to the output unless that is switched off.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    Seq2SeqLMOutput,
)

from tutelage.attention.blocks import Encoder
from tutelage.attention.compositional.competition import Competition
from tutelage.attention.huggingface.cache import CompositionalCache
from tutelage.attention.huggingface.config import CompositionalConfig
from tutelage.attention.noise import dropout
from tutelage.attention.positions import RelativeBias, legacy_sinusoidal, sinusoidal
from tutelage.lab.errors import BadInput

IGNORED = -100
"""The label of what is not to be predicted."""


class CompositionalPreTrainedModel(PreTrainedModel):
    """What the models share: their configuration, and how weights begin."""

    config_class = CompositionalConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        return False  # which attention it is, the configuration says

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        own = list(module.parameters(recurse=False))
        if own and all(getattr(each, "_is_hf_initialized", False) for each in own):
            return
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.LayerNorm | Competition):
            module.reset_parameters()
        elif isinstance(module, RelativeBias):
            nn.init.zeros_(module.weight)


class OwnCacheGenerationMixin(GenerationMixin):
    """`generate`, with our cache in place of transformers' own, whose keys and values are equally many.

    (transformers recognises what can generate by the end of this name.)
    """

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], *others: Any, **more: Any
    ) -> Any:
        kind = generation_config.cache_implementation
        if kind is not None:
            raise BadInput(f"cache_implementation = {kind!r}: must be None, as the model has a cache of its own")
        if generation_config.use_cache is not False and model_kwargs.get("past_key_values") is None:
            owner: Any = self
            reader: CompositionalModel = owner.decoder if owner.config.is_encoder_decoder else owner.model
            model_kwargs["past_key_values"] = CompositionalCache(reader.blocks.caches())


class CompositionalModel(CompositionalPreTrainedModel):
    """Embeddings, positions and blocks: token ids to (B, N, D).

    As the base model of a causal language model it is causal; as part of an encoder-decoder it is one of the two.
    """

    def __init__(self, config: CompositionalConfig, *, part: str = "decoder") -> None:
        """`part`: decoder (causal), encoder (not causal) or crossing (a decoder which attends to a memory)."""
        super().__init__(config)
        self.causal = part != "encoder"
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        network = config.network_config(decoder=part == "crossing")
        self.blocks = Encoder(config.attention_config, network, cross=part == "crossing")
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.embed_tokens = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: CompositionalCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        generator: torch.Generator | None = None,
        return_dict: bool | None = None,
        **ignored: Any,
    ) -> Any:
        """Reads N more tokens.

        Args:
            input_ids: (B, N).
            attention_mask: (B, N) with those in the cache, 0 = padding; on either side.
            position_ids: (B, N), of `input_positions`; None: tokens are counted, without padding.
            past_key_values: what earlier calls left; it is changed in place. None: a new one, where `use_cache`.
            inputs_embeds: (B, N, D), in place of `input_ids`; they are scaled as embeddings are.
            use_cache: None: as the configuration says, but not in training.
            output_attentions: also A (B, S, N, M) of every block; needs the literal computation.
            output_hidden_states: also what goes into the blocks; the last element is the result.
            memory, memory_mask: (B, M, D) and (B, M), for a decoder beside an encoder.
            generator: of dropout and Gumbel noise; None: PyTorch's own.

        Raises:
            BadInput: both or neither of ids and embeddings, a mask that is not (B, N), or another kind of cache.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise BadInput("input_ids or inputs_embeds: give exactly one of them")
        if past_key_values is not None and not isinstance(past_key_values, CompositionalCache):
            raise BadInput(f"past_key_values is a {type(past_key_values).__name__}: must be a CompositionalCache")
        embedded: Tensor = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = (self.config.use_cache and not self.training) if use_cache is None else use_cache
        if past_key_values is None and use_cache and self.causal:
            past_key_values = CompositionalCache(self.blocks.caches())
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        real = _real(attention_mask, past + embedded.shape[1])
        x = embedded * math.sqrt(self.config.hidden_size)
        if self.config.input_positions != "none":
            end = past + embedded.shape[1]
            if position_ids is None:
                position_ids = _positions(attention_mask, past, x)
            elif not torch.compiler.is_compiling():
                end = max(end, int(position_ids.max()) + 1)
            x = x + _waves(position_ids, end, x.shape[-1], self.config.input_positions).to(x)
        x = dropout(x, self.config.dropout, self.training, generator)
        out = self.blocks(
            x,
            memory,
            key_padding_mask=real,
            memory_padding_mask=_real(memory_mask, None if memory is None else memory.shape[1]),
            is_causal=self.causal,
            caches=None if past_key_values is None else past_key_values.states,
            need=("search",) if output_attentions else (),
            generator=generator,
        )
        out, found = out if output_attentions else (out, [])
        result = BaseModelOutputWithPast(
            last_hidden_state=out,
            past_key_values=past_key_values,
            hidden_states=(x, out) if output_hidden_states else None,
            attentions=tuple(each["search"] for each in found) or None,
        )
        return result if return_dict is None or return_dict else result.to_tuple()


class CompositionalForCausalLM(OwnCacheGenerationMixin, CompositionalPreTrainedModel):
    """A causal language model: `CompositionalModel` and a linear layer over the vocabulary."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: CompositionalConfig) -> None:
        super().__init__(config)
        if config.is_encoder_decoder:
            raise BadInput("is_encoder_decoder = True: CompositionalForConditionalGeneration is the model for it")
        self.model = CompositionalModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        self.lm_head = new_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: CompositionalCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        generator: torch.Generator | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Logits (B, N, V) of the next token at each position; see `CompositionalModel.forward`.

        Args:
            labels: (B, N), the tokens themselves, -100 = not to be predicted; the loss compares each logit with the
                label one further.
            logits_to_keep: only of so many last positions (0: all), or of these.
        """
        read = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions,
            output_hidden_states,
            generator=generator,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(read.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        out = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=read.past_key_values,
            hidden_states=read.hidden_states,
            attentions=read.attentions,
        )
        return out if return_dict is None or return_dict else out.to_tuple()


class CompositionalForConditionalGeneration(OwnCacheGenerationMixin, CompositionalPreTrainedModel):
    """An encoder and a decoder that attends to it, over one vocabulary, for translation tasks such as SCAN."""

    _tied_weights_keys = {  # noqa: RUF012
        "decoder.embed_tokens.weight": "encoder.embed_tokens.weight",
        "lm_head.weight": "encoder.embed_tokens.weight",
    }

    def __init__(self, config: CompositionalConfig) -> None:
        config.is_encoder_decoder = True
        super().__init__(config)
        self.encoder = CompositionalModel(config, part="encoder")
        self.decoder = CompositionalModel(config, part="crossing")
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.encoder.embed_tokens = self.decoder.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        self.lm_head = new_embeddings

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """(B, N): the labels one to the right, behind the start token; what is not to be predicted is padding.

        Raises:
            BadInput: the configuration has no start token, or none for padding.
        """
        start, padding = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None or padding is None:
            missing = "decoder_start_token_id" if start is None else "pad_token_id"
            raise BadInput(f"{missing} = None: the decoder's input is made of labels only with one")
        shifted = torch.cat((torch.full_like(labels[:, :1], start), labels[:, :-1]), 1)
        return shifted.masked_fill(shifted == IGNORED, padding)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: CompositionalCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        generator: torch.Generator | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Logits (B, N, V) of the next token of the answer; see `CompositionalModel.forward`.

        Args:
            input_ids: (B, M), the question.
            decoder_input_ids: (B, N), the answer so far; None: made of the labels.
            encoder_outputs: of the question; None: it is read now.
            labels: (B, N), the answer, -100 = not to be predicted; logit n is compared with label n.
            kwargs: `num_items_in_batch`, what the loss is divided by (transformers' trainer gives it when gradients of
                several batches are summed); None: the labels that are to be predicted.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids,
                attention_mask,
                output_attentions=output_attentions,
                output_hidden_states=output_hidden_states,
                generator=generator,
            )
        if decoder_input_ids is None:
            if labels is None:
                raise BadInput("decoder_input_ids is missing: give it, or labels to make it of")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        memory = encoder_outputs[0]
        read = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            memory=memory,
            memory_mask=attention_mask,
            generator=generator,
        )
        logits = self.lm_head(read.last_hidden_state)
        loss = None
        if labels is not None:
            flat, items = logits.flatten(0, 1).float(), kwargs.get("num_items_in_batch")
            loss = nn.functional.cross_entropy(
                flat, labels.flatten(), ignore_index=IGNORED, reduction="mean" if items is None else "sum"
            )
            loss = loss if items is None else loss / items
        out = Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=read.past_key_values,
            decoder_hidden_states=read.hidden_states,
            decoder_attentions=read.attentions,
            encoder_last_hidden_state=memory,
            encoder_hidden_states=getattr(encoder_outputs, "hidden_states", None),
            encoder_attentions=getattr(encoder_outputs, "attentions", None),
        )
        return out if return_dict is None or return_dict else out.to_tuple()


def _real(mask: Tensor | None, length: int | None) -> Tensor | None:
    """Bool (B, N), True = a real token; None where all are, which costs less."""
    if mask is None:
        return None
    if mask.dim() != 2 or mask.shape[1] != length:
        raise BadInput(f"attention_mask has shape {tuple(mask.shape)}: must be (B, N) with N = {length}, 0 = padding")
    real = mask.bool()
    return None if not torch.compiler.is_compiling() and bool(real.all()) else real


def _positions(mask: Tensor | None, past: int, x: Tensor) -> Tensor:
    """(B, N), counted without padding."""
    if mask is None:
        return torch.arange(past, past + x.shape[1], device=x.device)[None]
    return (mask.long().cumsum(1) - 1).clamp(min=0)[:, past:]


def _waves(positions: Tensor, end: int, width: int, kind: str) -> Tensor:
    """(B, N, D) of positions before `end`."""
    if torch.compiler.is_compiling():
        return _table.__wrapped__(end, width, kind).to(positions.device)[positions]
    return _table(1 << max(end.bit_length(), 6), width, kind).to(positions.device)[positions]


@functools.lru_cache(maxsize=16)
def _table(length: int, width: int, kind: str) -> Tensor:
    with torch.inference_mode(False):  # it outlives the mode of who first asked for it
        return (legacy_sinusoidal if kind == "legacy" else sinusoidal)(length, width)


AutoConfig.register(CompositionalConfig.model_type, CompositionalConfig, exist_ok=True)
AutoModel.register(CompositionalConfig, CompositionalModel, exist_ok=True)
AutoModelForCausalLM.register(CompositionalConfig, CompositionalForCausalLM, exist_ok=True)
AutoModelForSeq2SeqLM.register(CompositionalConfig, CompositionalForConditionalGeneration, exist_ok=True)
