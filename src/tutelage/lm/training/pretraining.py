"""Small language models made from text: a tokenizer, a Llama-architecture model, trained, as a Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.backends.torch_threads import single_threaded
from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lab.process.progress import Progress
from tutelage.lab.storage import checkpoint
from tutelage.lm import folders
from tutelage.lm.tokens import begin_with_bos, fingerprint, raw_prompts_ids
from tutelage.lm.training.batches import Example
from tutelage.lm.training.config import SIZES, FromScratchConfig, PretrainConfig, SFTConfig, TokenizerConfig
from tutelage.lm.training.sft import SFT

RECORD = "tutelage.json"
_SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
_CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Sequence[str], config: TokenizerConfig) -> Any:
    """A fast tokenizer with its own pad, bos, eos (ids 0, 1, 2) and unk tokens; it puts bos before a text.

    The same texts give the same one.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = [*_SPECIAL, *(_ROLES if config.chat else ())]
    if config.kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
        tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        if config.vocabulary < 256 + len(special):
            raise BadInput(f"vocabulary = {config.vocabulary}: must be at least {256 + len(special)} for bpe")
        trainer: Any = trainers.BpeTrainer(
            vocab_size=config.vocabulary,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        pieces = r" ?\d+| ?[^\W\d_]+| ?[^\w\s]|\s|_" if config.kind == "word" else r"[\s\S]"
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), "isolated")  # type: ignore[assignment]
        tokenizer.decoder = decoders.Fuse()  # type: ignore[assignment]
        trainer = trainers.WordLevelTrainer(vocab_size=config.vocabulary, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    made = begin_with_bos(made)
    made.chat_template = _CHAT if config.chat else None  # type: ignore[assignment]
    return made


def new_model(
    vocabulary: int, config: FromScratchConfig, seed: int = 0, *, special: tuple[int | None, int, int] = (0, 1, 2)
) -> Any:
    """A Llama-architecture model with random weights from the seed; input and output share their embeddings.

    Args:
        special: the tokenizer's ids of pad, bos and eos.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = SIZES[config.size]
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                max_position_embeddings=config.context,
                num_key_value_heads=sizes["num_attention_heads"] // 2,
                tie_word_embeddings=True,
                pad_token_id=special[0],
                bos_token_id=special[1],
                eos_token_id=special[2],
                **sizes,  # type: ignore[arg-type]
            )
        )


def documents(tokenizer: Any, texts: Sequence[str], context: int) -> list[Example]:
    """Every text as a prompt is read, then eos, in pieces of at most `context` tokens.

    Each token but the first, which is the tokenizer's bos, is predicted exactly once.
    """
    examples = []
    for ids in raw_prompts_ids(tokenizer, texts):
        whole = np.array([*ids, tokenizer.eos_token_id], np.int64)
        for start in range(0, len(whole) - 1, context - 1):
            examples.append(Example(whole[start : start + 1], whole[start + 1 : start + context]))
    return examples


def pretrain(
    texts: Sequence[str],
    folder: str | Path,
    config: FromScratchConfig | None = None,
    seed: int = 0,
    *,
    tokenizer: Any = None,
    quiet: bool = False,
    save_every: int = 200,
) -> dict[str, float]:
    """Train tokenizer and model on texts and save them as a Hugging Face folder; the figures of the last update.

    The folder records what it was made from: asked again for the same, nothing is done; asked for something else,
    `BadInput`. An interrupted training goes on from the last checkpoint (every `save_every` updates) to the same bits.
    Raises `BadInput` for an empty corpus, and for settings outside their ranges.

    Args:
        config: with a `tokenizer` to be made (`PretrainConfig`), unless there is one.
        tokenizer: one that is ready, with bos and eos tokens. The folder's copy puts bos before a text, if it did not.
    """
    config = config or PretrainConfig()
    validate(config)
    target = Path(folder)
    if not texts or not any(texts):
        raise BadInput("corpus: is empty; give at least one text")
    made_from: dict[str, Any] = {"texts": list(texts), "config": asdict(config), "seed": seed}
    if tokenizer is not None:
        if tokenizer.eos_token_id is None:
            raise BadInput("tokenizer: has no eos token; a text must end with one")
        tokenizer = begin_with_bos(tokenizer)
        made_from["tokenizer"] = fingerprint(tokenizer)
    identity = checkpoint.config_hash(made_from)
    if (done := _made_from(target)) is not None:
        if done.get("identity") != identity:
            raise BadInput(f"{folder}: holds a model made from other text or settings; choose another --out")
        return done["figures"]
    if tokenizer is None:
        wanted = config.tokenizer if isinstance(config, PretrainConfig) else TokenizerConfig()
        tokenizer = train_tokenizer(texts, wanted)
    special = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    examples = documents(tokenizer, texts, config.context)
    mean = sum(map(len, examples)) / len(examples)
    settings = SFTConfig(
        num_epochs=config.num_epochs,
        batch_size=max(1, round(config.batch_tokens / mean)),
        micro_tokens=config.batch_tokens,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        beta2=0.98,
    )
    with single_threaded():
        tuning = SFT(new_model(len(tokenizer), config, seed, special=special), examples, settings, seed)
        figures = _train(tuning, target, identity, seed, quiet=quiet, save_every=save_every)
    tuning.model.eval()
    extra = {"identity": identity, "config": asdict(config), "seed": seed, "figures": figures}
    folders.save(tuning.model, tokenizer, target, extra={RECORD: extra})
    shutil.rmtree(_halfway(target), ignore_errors=True)
    return figures


def _train(tuning: SFT, target: Path, identity: str, seed: int, *, quiet: bool, save_every: int) -> dict[str, float]:
    halfway, figures = _halfway(target), {}
    halfway.mkdir(parents=True, exist_ok=True)
    saved, _ = checkpoint.latest_good(halfway, config_hash=identity)
    state = tuning.init() if saved is None else from_arrays(saved.arrays)
    tokens = sum(map(len, tuning.examples)) / len(tuning.examples) * tuning.config.batch_size
    with Progress(
        Console(stderr=True),
        title=str(target),
        start=state["step"],
        total=tuning.num_updates,
        unit="tokens",
        amount=tokens,
        headline="loss",
        quiet=quiet,
    ) as progress:
        figures = {} if saved is None else saved.extra
        while state["step"] < tuning.num_updates:
            state, figures = tuning.update(state)
            step = state["step"]
            if not np.isfinite(figures["loss"]):
                raise BadInput(f"loss is {figures['loss']} at update {step}: lower learning_rate; halfway is {halfway}")
            progress.figure(figures["loss"])
            progress.reach(step)
            if step % save_every == 0:
                path = halfway / checkpoint.file_name(step)
                arrays = to_arrays(state)
                checkpoint.save(path, arrays, step=step, seeds=[seed], config_hash=identity, extra=figures)
                checkpoint.prune(halfway, 1)
    return figures


def _halfway(target: Path) -> Path:
    return target.with_name(f".training-{target.name}")


def _made_from(target: Path) -> dict[str, Any] | None:
    """The record of the model in a folder; None if there is nothing in it."""
    if not target.exists():
        return None
    try:
        return json.loads((target / RECORD).read_bytes())
    except (OSError, ValueError):
        return {} if target.is_file() or any(target.iterdir()) else None
