"""Causal language models of transformers as a `LanguageModel`: an object, a local folder or a hub id.

A worker thread owns each copy of the model. It takes whatever has been asked meanwhile, reads equal prompts once, and
advances all answers together; an answer does not depend on what else was asked.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tutelage.lab.errors import BadInput
from tutelage.lm.model import Capabilities, LanguageModel
from tutelage.lm.model_types import register_type_of
from tutelage.lm.request import Completion, Failure, Request, Scored, Scoring, Usage
from tutelage.lm.sampling.decoding import model_stops
from tutelage.lm.sampling.fallback import max_context
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.sampling.rows import Row
from tutelage.lm.sampling.scoring import Reading
from tutelage.lm.sampling.worker import Answer, Call, Worker, broken, tell_loop
from tutelage.lm.tokens import (
    Choices,
    Context,
    Tokenizer,
    common_prefix,
    context_text,
    continuations,
    encode,
    fingerprint,
    prompt_ids,
    raw_prompts_ids,
)

SMALL = 50_000_000
"""Models of fewer parameters run on one thread: more would spend their time waiting for each other."""
_NOT_IDENTITY = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
"""Parts of a configuration that change no answer, or that the weights tell themselves."""


class HuggingFace(LanguageModel):
    """A causal language model that we run ourselves.

    Args:
        model: a model object (its weights are hashed now; train it further and this `identity` no longer holds), a
            folder, or a hub id.
        tokenizer: needed with an object, unless it was loaded from somewhere; an object, a folder or a hub id.
        device: where the model goes; None leaves an object where it is, and puts a loaded one on a GPU if there is one.
        dtype: a torch dtype or its name ("bfloat16"); None keeps what the weights have.
        replicas: copies, asked in turns; on "cuda" each gets a GPU of its own.
        max_rows: answers in the making at the same time, per copy; others wait.
        threads: of the worker, on a CPU; None for one with a model under 50M parameters, torch's own number otherwise.

    Choices are kept to exactly; JSON schemas and regular expressions are answered with `unsupported`. Answers are cut
    where the context ends (finish reason `length`). Raises `BadInput` where the model or tokenizer cannot be loaded.
    """

    def __init__(
        self,
        model: PreTrainedModel | str | Path,
        tokenizer: Tokenizer | str | Path | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str | None = None,
        replicas: int = 1,
        max_rows: int = 256,
        threads: int | None = None,
    ) -> None:
        for name, value in (("replicas", replicas), ("max_rows", max_rows)):
            if value < 1:
                raise BadInput(f"{name} is {value}: must be at least 1")
        kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if dtype is not None and not isinstance(kind, torch.dtype):
            raise BadInput(f"dtype is {dtype!r}: must be a torch type such as 'float32' or 'bfloat16'")
        if isinstance(model, str | Path):
            source = str(model)
            loaded = _load(AutoModelForCausalLM, source, **({} if kind is None else {"dtype": kind}))
            device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        else:
            source, loaded = str(model.config.name_or_path or ""), model
        if tokenizer is None and not source:
            raise BadInput("tokenizer is missing: a model that was not loaded from a folder needs one")
        tokenizer = source if tokenizer is None else tokenizer
        named = isinstance(tokenizer, str | Path)
        self.tokenizer: Tokenizer = _load(AutoTokenizer, str(tokenizer)) if named else tokenizer
        if kind is not None:
            torch.nn.Module.to(loaded, dtype=kind)
        devices = _devices(device, replicas)
        copies = [loaded if number == 0 else copy.deepcopy(loaded) for number in range(replicas)]
        for each, where in zip(copies, devices):
            if where is not None:
                torch.nn.Module.to(each, device=where)  # in place; transformers' own `to` has no types
        self.model: PreTrainedModel = loaded
        self._stops = _stops(self.model, self.tokenizer)
        # A model that was given may have been trained since it was loaded: only for our own the revision says it all.
        revision = getattr(loaded.config, "_commit_hash", None) if isinstance(model, str | Path) else None
        digest = _digest(self.model, self.tokenizer, self._stops, revision)
        self.identity = f"hf:{Path(source).name or type(loaded).__name__}@{digest}"
        self.capabilities = Capabilities(
            logprobs=20, score=True, seed=True, choices=True, embed=True, max_context=max_context(self.model)
        )
        if threads is None and sum(part.numel() for part in loaded.parameters()) < SMALL:
            threads = 1
        self._workers = [Worker(each, max_rows, threads) for each in copies]
        self._turn = count()
        self._closed = False

    async def complete(self, request: Request) -> Completion:
        answer = self._ask(request, lambda _: None)
        if isinstance(answer, Completion):
            return answer
        try:
            return await answer.future
        finally:
            answer.cancelled = True

    async def stream(self, request: Request) -> AsyncIterator[str | Completion]:
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        answer = self._ask(request, lambda piece: tell_loop(loop, pieces.put_nowait, piece), streams=True)
        if isinstance(answer, Completion):
            yield answer
            return
        answer.future.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await answer.future
        finally:
            answer.cancelled = True

    async def score_one(self, item: Scoring) -> Scored:
        try:
            text, raw = context_text(self.tokenizer, item.context), isinstance(item.context, str)
            whole = continuations(self.tokenizer, text, item.continuations, raw=raw)
            if not whole or any(split == len(ids) for ids, split in whole):
                raise BadInput("a continuation adds no token: must have at least one, and there must be one")
            for ids, _ in whole:
                self._check_known(ids)
        except BadInput as error:
            return Scored(np.empty(0), (), error=Failure("bad_request", str(error)))
        longest, limit = max(len(ids) for ids, _ in whole), self.capabilities.max_context
        if limit and longest > limit:
            text = f"context and continuation have {longest} tokens: the model's context is {limit}"
            return Scored(np.empty(0), (), error=Failure("context_length", text))
        shared = min(common_prefix([ids for ids, _ in whole]), *(split for _, split in whole))
        reading = Reading(whole[0][0][:shared], [ids[shared:] for ids, _ in whole])
        try:
            found = await self._call("score", reading)
        except Exception as error:
            return Scored(np.empty(0), (), error=broken(error))
        tokens = tuple(part[split - shared :] for part, (_, split) in zip(found, whole))
        for number, part in enumerate(tokens):
            if np.isnan(part).any():
                place = int(np.flatnonzero(np.isnan(part))[0]) + 1
                text = f"the model gave NaN or infinite logits at token {place} of continuation {number}"
                return Scored(np.empty(0), (), error=Failure("not_finite", text))
        totals = np.array([float(part.sum(dtype=np.float64)) for part in tokens])
        return Scored(totals, tokens, Usage(prompt=shared + sum(len(ids) - shared for ids, _ in whole)))

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """`[texts, hidden]` float32: the last hidden state, mean over tokens.

        Raises `BadInput` over the context, and for a text at which a state is NaN or infinite.
        """
        ids = raw_prompts_ids(self.tokenizer, texts)
        for number, each in enumerate(ids):
            self._check_known(each)
            if self.capabilities.max_context and len(each) > self.capabilities.max_context:
                limit = self.capabilities.max_context
                raise BadInput(f"text {number} has {len(each)} tokens: the model's context is {limit}")
        found = await self._call("embed", ids)
        for number in np.flatnonzero(~np.isfinite(found).all(1)):
            raise BadInput(f"text {number}: the model gave NaN or infinite states")
        return found

    async def close(self) -> None:
        self._closed = True
        for worker in self._workers:
            worker.inbox.put(None)
        for worker in self._workers:
            await asyncio.to_thread(worker.join)

    def _worker(self) -> Worker:
        if self._closed:
            raise RuntimeError(f"{self.identity} is closed")
        return self._workers[next(self._turn) % len(self._workers)]

    async def _call(self, kind: str, given: Any) -> Any:
        call = Call(kind, given, asyncio.get_running_loop().create_future())
        self._worker().inbox.put(call)
        return await call.future

    def _ask(self, request: Request, tell: Callable[[str], None], streams: bool = False) -> Answer | Completion:
        if request.schema is not None or request.regex is not None:
            text = f"{self.identity} enforces choices, but neither JSON schemas nor regular expressions"
            return Completion.failed(Failure("unsupported", text), self.identity)
        try:
            context: Context = request.messages if request.prompt is None else request.prompt
            ids = prompt_ids(self.tokenizer, context)
            choices = None if request.choices is None else self._choices(context, ids, request.choices)
            self._check_known(ids)
        except BadInput as error:
            return Completion.failed(Failure("bad_request", str(error)), self.identity)
        wanted = 1 if choices is None else choices.longest - 1
        limit = self.capabilities.max_context or len(ids) + max(request.max_tokens, wanted + 1)
        if len(ids) + wanted > limit:
            text = f"the prompt has {len(ids)} tokens and {wanted} must follow: the model's context is {limit}"
            return Completion.failed(Failure("context_length", text), self.identity)
        sampling = Sampling(
            min(request.max_tokens if choices is None else choices.longest, limit - len(ids)),
            request.temperature,
            request.top_p,
            request.top_k,
            request.min_p,
            top_logprobs=request.top_logprobs,
        )
        prompt = np.asarray(ids, np.int64)
        seed = blake2b(repr((request.seed, request.sample_index)).encode() + prompt.tobytes(), digest_size=8)
        row = Row(prompt, sampling, int.from_bytes(seed.digest(), "little"), self._stops)
        future = asyncio.get_running_loop().create_future()
        answer = Answer(self.identity, self.tokenizer, request, row, tell, streams, choices, future)
        row.watch = answer.watch
        if choices is not None:
            row.allowed = lambda row: choices.allowed(row.tokens)
        self._worker().inbox.put(answer)
        return answer

    def _choices(self, context: Context, prompt: list[int], options: tuple[str, ...]) -> Choices:
        text, raw, found = context_text(self.tokenizer, context), isinstance(context, str), []
        for option in options:
            whole, _ = encode(self.tokenizer, text + option, raw=raw)
            joined = whole[: len(prompt)] == prompt
            found.append(
                whole[len(prompt) :] if joined else self.tokenizer(option, add_special_tokens=False)["input_ids"]
            )
        for ids in found:
            self._check_known(ids)
        return Choices(options, found, self._stops)

    def _check_known(self, ids: Sequence[int]) -> None:
        vocabulary = self.model.config.get_text_config().vocab_size
        if max(ids, default=0) >= vocabulary:
            raise BadInput(f"the text has the token id {max(ids)}: the model's vocabulary has {vocabulary}")


def _load(kind: Any, source: str, **settings: Any) -> Any:
    try:
        if kind is not AutoTokenizer:
            register_type_of(source)
        return kind.from_pretrained(source, **settings)
    except (OSError, ValueError) as error:
        what = "tokenizer" if kind is AutoTokenizer else "model"
        raise BadInput(f"{what} {source!r} cannot be loaded: {str(error).splitlines()[0]}") from error


def _devices(device: str | torch.device | None, replicas: int) -> list[torch.device | None]:
    if device is None:
        return [None] * replicas
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise BadInput(f"device is {device!r}: must be one such as 'cpu' or 'cuda:0'") from error
    if wanted.type == "cuda" and wanted.index is None and replicas > 1:
        if replicas > torch.cuda.device_count():
            raise BadInput(f"replicas is {replicas}: there are {torch.cuda.device_count()} GPUs")
        return [torch.device("cuda", number) for number in range(replicas)]
    return [wanted] * replicas


def _stops(model: PreTrainedModel, tokenizer: Tokenizer) -> frozenset[int]:
    stops = {*model_stops(model), tokenizer.eos_token_id}
    return frozenset(stop for stop in stops if stop is not None)


def _digest(model: PreTrainedModel, tokenizer: Tokenizer, stops: frozenset[int], revision: str | None) -> str:
    """12 hex digits over the weights (as they are in memory), the configuration that matters, and the tokenizer.

    `revision`: the hub's name for the weights, which stands for them.
    """
    found = blake2b(digest_size=6)
    if revision:
        found.update(revision.encode() + str(model.dtype).encode())
    else:
        for name, part in sorted(model.state_dict().items()):
            found.update(f"{name} {tuple(part.shape)} {part.dtype}".encode())
            found.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    config = {name: value for name, value in model.config.to_dict().items() if name not in _NOT_IDENTITY}
    found.update(json.dumps([config, sorted(stops)], sort_keys=True, default=repr).encode())
    found.update(fingerprint(tokenizer).encode())
    return found.hexdigest()
