"""Supervised fine-tuning as three verbs over a state of named tensors.

    tuning = SFT(model, examples, SFTConfig(), seed=0)
    state = tuning.init()
    while state["step"] < tuning.num_updates:
        state, figures = tuning.update(state)
    figures = tuning.evaluate(state, held_out)

The order of the data and every dropout mask follow from (seed, step) alone, so a state put on disk
(`tutelage.backends.torch_state.to_arrays`) and loaded again goes on to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lm.training.architecture import context_of, decoder_layers, full_attention, unwrapped
from tutelage.lm.training.batches import Batch, Example, count_targets, micro_batches, pack, pad, truncate
from tutelage.lm.training.config import SFTConfig
from tutelage.lm.training.distributed import Processes, whole, without_gradient
from tutelage.lm.training.losses import cross_entropy

State = dict[str, Any]


class SFT:
    """Fine-tuning of one model on examples. The model's own parameters are the live state.

    Raises `BadInput` for no data, labels all masked, a value outside its range, or an example beyond the context.
    """

    def __init__(
        self,
        model: Any,
        examples: Sequence[Example],
        config: SFTConfig | None = None,
        seed: int = 0,
        processes: Processes | None = None,
    ) -> None:
        self.config = config = config or SFTConfig()
        validate(config)
        self.processes = processes or Processes()
        context = context_of(model)
        if context and config.max_length > context:
            raise BadInput(f"max_length = {config.max_length}: must be at most the model's context of {context}")
        self.max_length = config.max_length or context or max((len(example) for example in examples), default=1)
        self.examples, self.truncated = truncate(examples, self.max_length, keep_first=config.keep_first)
        if not count_targets(self.examples):
            raise BadInput("examples: there is nothing to learn: no example, or every label is masked")
        if config.pack and not full_attention(model):
            name = type(unwrapped(model)).__name__
            raise BadInput(f"pack = True: {name} cannot keep packed examples apart; must be False")
        if config.batch_size < self.processes.size:
            raise BadInput(f"batch_size = {config.batch_size}: must be at least {self.processes.size}, one per process")
        freeze(model, config.freeze)
        self.seed = seed
        self.model = self.processes.share(model)
        self.num_updates = math.ceil(config.num_epochs * len(self.examples) / config.batch_size)
        self._trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        groups = [
            {"params": [p for p in self._trained.values() if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in self._trained.values() if p.dim() <= 1], "weight_decay": 0.0},
        ]
        betas = (config.beta1, config.beta2)
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], config.learning_rate, betas, fused=True
        )
        self._live: State | None = None

    def init(self) -> State:
        """The state before the first update: the model as it was given, an optimiser without history."""
        if self._live is not None:
            raise BadInput("init: this tuning has begun and its model is no longer as it was given; make a new one")
        return self._state(0)

    def update(self, state: State) -> tuple[State, dict[str, float]]:
        """One step of AdamW on one batch, in micro-batches whose gradients sum to that of the batch.

        The old state is used up. Figures: `loss` in nats per learnt token (before the step), `grad_norm` before
        clipping, `learning_rate`, `tokens` learnt, `truncated` share of examples.
        """
        self.enter(state)
        config, processes, step = self.config, self.processes, state["step"]
        chosen = self.batch(step)
        normaliser = count_targets(chosen)
        rate = config.learning_rate * learning_rate_factor(config, step, self.num_updates)
        self.model.train()
        self.optimizer.zero_grad()
        pieces = self._pieces(chosen[processes.rank :: processes.size], normaliser)
        total = 0.0
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(np.random.SeedSequence([self.seed, step, processes.rank]).generate_state(1)[0]))
            for place, (piece, weight) in enumerate(pieces):
                with processes.accumulating(self.model, last=place == len(pieces) - 1):
                    loss = self._loss(piece, weight)
                    processes.backward(loss)
                total += float(loss.detach())
        limit = config.max_grad_norm or math.inf
        norm = float(whole(torch.nn.utils.clip_grad_norm_(self._trained.values(), limit)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        state.clear()  # its tensors have changed under it: whoever asks it again is told
        figures = {"loss": processes.sum(total), "grad_norm": norm, "learning_rate": rate}
        figures |= {"tokens": float(normaliser), "truncated": self.truncated}
        return self._state(step + 1), figures

    def evaluate(self, state: State, examples: Sequence[Example] | None = None) -> dict[str, float]:
        """`loss` (nats per learnt token), `perplexity` and `tokens` over held-out examples, or the training's."""
        self.enter(state)
        some = self.examples if examples is None else truncate(examples, self.max_length)[0]
        processes = self.processes
        normaliser = count_targets(some)
        if not normaliser:
            raise BadInput("examples: there is nothing to evaluate: no example, or every label is masked")
        self.model.eval()
        pieces = self._pieces(some[processes.rank :: processes.size], normaliser)
        with without_gradient(self.model):
            loss = processes.sum(sum(float(self._loss(*piece)) for piece in pieces))
        return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "tokens": float(normaliser)}

    def batch(self, step: int) -> list[Example]:
        """The examples of an update: the data in a new order every epoch, from the seed and the step alone."""
        size, number = self.config.batch_size, len(self.examples)
        places = range(step * size, (step + 1) * size)
        orders = {
            epoch: np.random.default_rng([self.seed, epoch]).permutation(number)
            for epoch in {place // number for place in places}
        }
        return [self.examples[orders[place // number][place % number]] for place in places]

    @property
    def _device(self) -> torch.device:
        return next(iter(self._trained.values())).device

    def _pieces(self, examples: Sequence[Example], normaliser: int) -> list[tuple[Batch, float]]:
        """This process's micro-batches, each with the weight of one token's loss."""
        if self.config.pack:
            rows = pack(examples, self.max_length)
            each = max(1, self.config.micro_tokens // rows.ids.shape[1])
            parts = [getattr(rows, name).split(each) for name in Batch.__slots__]
            batches = [Batch(*part) for part in zip(*parts, strict=True)]
        else:
            batches = [pad(group) for group in micro_batches(examples, self.config.micro_tokens)]
        pieces = [(batch, 1.0 / normaliser) for batch in batches]
        if self.processes.strategy == "fsdp":  # slices meet in every pass: all processes need equally many
            pieces += [(batches[-1], 0.0)] * (self.processes.most(len(pieces)) - len(pieces))
        return pieces

    def _loss(self, batch: Batch, weight: float) -> torch.Tensor:
        batch = batch.to(self._device)
        logits = self.model(**batch.inputs(next(iter(self._trained.values())).dtype)).logits[:, :-1]
        return weight * cross_entropy(logits, batch.ids[:, 1:], batch.learnt[:, 1:], 1.0)

    def _state(self, step: int) -> State:
        self._live = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": step}
        return self._live

    def enter(self, state: Mapping[str, Any]) -> None:
        """Make the model what the state says; nothing to do when it is the one that the last verb gave back.

        The state that the model held before is used up: its tensors are the model's own.
        """
        if state is self._live and state:
            return
        if not state:
            raise BadInput("state: was used up by an update; go on with the one that the update gave back")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise BadInput(f"state: is not one of this model: {' '.join(str(error).split())}") from error
        if self._live is not None:
            self._live.clear()
        self._live = {}


def sft(
    model: Any, examples: Sequence[Example], config: SFTConfig | None = None, seed: int = 0
) -> tuple[SFT, State, list[dict[str, float]]]:
    """Fine-tune to the end: the tuning, its last state and the figures of every update."""
    tuning = SFT(model, examples, config, seed)
    state, figures = tuning.init(), []
    while state["step"] < tuning.num_updates:
        state, found = tuning.update(state)
        figures.append(found)
    return tuning, state, figures


def learning_rate_factor(config: SFTConfig, step: int, num_updates: int) -> float:
    """The share of the peak learning rate at an update: a linear rise over the warm-up, then the schedule's fall."""
    warmup = round(config.warmup * num_updates)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, num_updates - warmup)
    match config.schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        case "linear":
            return max(0.0, 1 - done)
        case _:
            return 1.0


def freeze(model: Any, share: float) -> None:
    """Keep the lower `share` of the layers as they are, and with them embeddings and head; 0: train everything."""
    if share == 0:
        return
    base = unwrapped(model)
    layers = decoder_layers(base)
    for part in (base.get_input_embeddings(), base.get_output_embeddings(), *layers[: round(share * len(layers))]):
        if part is not None:
            part.requires_grad_(False)
