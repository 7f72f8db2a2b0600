"""Tokenizers of every kind that a model may come with, and which special tokens stand before a prompt of each."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from typing import Any

import tiny_models
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GPT2Tokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

from tutelage.lm.training.config import TokenizerConfig
from tutelage.lm.training.pretraining import train_tokenizer
from tutelage.posttraining.wordmath import corpus as wordmath

TURNS = (
    "{% for message in messages %}{{ message.role + ':' + message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'answer:' }}{% endif %}"
)
"""A chat template of plain words, without BOS."""


def with_template(tokenizer: Any, **single: str) -> Any:
    """A copy whose post-processor writes the template `single`, after what was there; with fields set."""
    made = copy.deepcopy(tokenizer)
    template = single.pop("single")
    for name, value in single.items():
        setattr(made, name, value)
    known = [(token, made.convert_tokens_to_ids(token)) for token in template.split() if token != "$A"]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=known)
    return made


@functools.cache
def byte_level(bos: str | None = None, eos: str | None = "</s>") -> Any:
    """Byte-level BPE that puts nothing around a text."""
    made = copy.deepcopy(tiny_models.tokenizer(bos=False))
    made.bos_token, made.eos_token, made.pad_token = bos, eos, None
    made.chat_template = TURNS
    return made


@functools.cache
def gpt2() -> Any:
    """Of GPT-2's class: the token for the beginning is that for the end, and it adds none."""
    core = json.loads(byte_level().backend_tokenizer.to_str())["model"]
    vocabulary = dict(core["vocab"]) | {"<|endoftext|>": len(core["vocab"])}
    merges: Any = [tuple(pair) for pair in core["merges"]]
    made = GPT2Tokenizer(vocab=vocabulary, merges=merges)
    made.chat_template = TURNS
    return made


@functools.cache
def unigram() -> Any:
    """Of SentencePiece's kind: spaces are part of words, and one stands before the text."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    core.decoder = decoders.Metaspace()  # type: ignore[assignment]
    special = ["<unk>", "<s>", "</s>", "[gMASK]", "<sop>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    core.train_from_iterator([*tiny_models.CORPUS, "user:which? answer:\n"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


class Letters(PreTrainedTokenizer):
    """A tokenizer in Python alone: letters, `<s>` before and `</s>` behind."""

    def __init__(self, **options: Any) -> None:
        self._ids = {chr(code): code for code in range(128)} | {"<s>": 128, "</s>": 129, "<unk>": 130}
        super().__init__(bos_token="<s>", eos_token="</s>", unk_token="<unk>", **options)

    @property
    def vocab_size(self) -> int:
        return len(self._ids)

    def get_vocab(self) -> dict[str, int]:
        return dict(self._ids)

    def _tokenize(self, text: str, **options: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, 130)

    def _convert_id_to_token(self, index: int) -> str:
        return {number: token for token, number in self._ids.items()}.get(index, "<unk>")

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)

    def build_inputs_with_special_tokens(self, token_ids_0: list[int], token_ids_1: Any = None) -> list[int]:
        return [128, *token_ids_0, 129]


TEXTS = [*tiny_models.CORPUS, "user:which? answer:\nQuestion: Ada has 3 apples.\nAnswer:\n"]
KINDS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "ours, words": (lambda: train_tokenizer(TEXTS, TokenizerConfig(kind="word", vocabulary=300)), ["<bos>"]),
    "ours, letters, chat": (lambda: train_tokenizer(TEXTS, TokenizerConfig(kind="character", chat=True)), ["<bos>"]),
    "ours, wordmath": (lambda: wordmath.tokenizer(20), ["<bos>"]),
    "BOS added, template writes it": (tiny_models.tokenizer, ["<s>"]),
    "BOS added, template does not": (lambda: with_template(byte_level("<s>"), single="<s> $A"), ["<s>"]),
    "BOS not added": (lambda: byte_level("<s>"), []),
    "no BOS": (byte_level, []),
    "EOS behind": (lambda: with_template(byte_level(), single="$A </s>"), []),
    "BOS and EOS around": (lambda: with_template(byte_level("<s>"), single="<s> $A </s>"), ["<s>"]),
    "BOS is EOS": (gpt2, []),
    "BOS is EOS, around": (lambda: with_template(gpt2(), single="<|endoftext|> $A <|endoftext|>"), ["<|endoftext|>"]),
    "no special tokens": (lambda: byte_level(None, None), []),
    "unigram": (lambda: with_template(unigram(), single="<s> $A"), ["<s>"]),
    "two before": (lambda: with_template(unigram(), single="[gMASK] <sop> $A"), ["[gMASK]", "<sop>"]),
    "Python alone": (Letters, ["<s>"]),
}
"""Name -> how it is made, and what stands before a raw prompt."""


@functools.cache
def some(name: str) -> Any:
    """The tokenizer of that name."""
    return KINDS[name][0]()
