"""A model with attention learns a task: one batch, one step of Adam.

    training = Training(task, AttentionConfig(), NetworkConfig(), OptimizerConfig(), seed=0, num_updates=1600)
    state = training.init()
    state, metrics = training.update(state)
    training.evaluate(state, step=1, final=False)

Batches, dropout and Gumbel noise follow from the seed and the step, so a state that was saved goes on to the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from tutelage.attention.baselines.mixture_of_heads import balance_losses
from tutelage.attention.config import AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.attention.tasks.task import Task

State = dict[str, Any]


class Training:
    """A `tutelage.backends.torch_program.TorchSystem`.

    Attributes:
        model: the model; it is what the state says after `enter`.
        num_parameters: trainable numbers in it.
    """

    def __init__(
        self,
        task: Task,
        attention: AttentionConfig,
        network: NetworkConfig,
        optimizer: OptimizerConfig,
        *,
        seed: int,
        num_updates: int,
        device: str = "cpu",
    ) -> None:
        self.task, self.config, self.seed, self.num_updates = task, optimizer, seed, num_updates
        self.device = torch.device(device)
        self._make = lambda: task.model(attention, network).to(self.device)
        self._begin()
        self.num_parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self._live: State | None = None

    def init(self) -> State:
        """The state before the first update: weights that follow from the seed, no moments."""
        if self._live is not None:
            self._begin()
        self._live = self._state(0)
        return self._live

    def _begin(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(self.seed))
            self.model = self._make()
        config = self.config
        self._adam = torch.optim.AdamW(
            self.model.parameters(),
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
            fused=True,
        )

    def update(self, state: State) -> tuple[State, Mapping[str, Any]]:
        """One step. Metrics: `loss`, `grad_norm` before clipping, `learning_rate`, and what the task records."""
        self.enter(state)
        step = int(state["step"])
        noise = torch.Generator(self.device).manual_seed(_seed(self.seed, step))
        batch = {name: tensor.to(self.device) for name, tensor in self.task.batch(step, self.config.batch_size).items()}
        self.model.train()
        with balance_losses(self.model) as balance:
            loss, found = self.task.loss(self.model, batch, noise)
        if balance:
            found = {**found, "balance": torch.stack(balance).mean()}
            loss = loss + self.config.balance * found["balance"]
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip or math.inf)
        rate = learning_rate(self.config, step, self.num_updates)
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        self._live = self._state(step + 1)
        metrics = {"loss": loss.detach(), "grad_norm": norm, "learning_rate": rate}
        return self._live, {**metrics, **{name: value.detach() for name, value in found.items()}}

    def evaluate(self, state: State, step: int, final: bool) -> dict[str, float]:
        """The task's figures, and `parameters`."""
        self.enter(state)
        self.model.eval()
        with torch.no_grad():
            found = self.task.figures(self.model, self.device)
        return {**found, "parameters": float(self.num_parameters)}

    def enter(self, state: State) -> None:
        """Make model and optimiser what the state says."""
        if state is not self._live:
            self.model.load_state_dict(state["model"])
            self._adam.load_state_dict(_unpacked(state["adam"], self._adam))
            self._live = state

    def _state(self, step: int) -> State:
        moments = {
            str(index): self._adam.state[parameter]
            for index, parameter in enumerate(self.model.parameters())
            if parameter in self._adam.state
        }
        return {"model": dict(self.model.state_dict()), "adam": moments, "step": step}


def learning_rate(config: OptimizerConfig, step: int, num_updates: int) -> float:
    """Of update `step`, counted from 0. The inverse square root has its peak at the end of warm-up."""
    peak = config.learning_rate
    if step < config.warmup:
        return peak * (step + 1) / config.warmup
    match config.curve:
        case "cosine":
            done = (step - config.warmup) / max(num_updates - config.warmup, 1)
            return peak * 0.5 * (1 + math.cos(math.pi * done))
        case "inverse_sqrt":
            return peak * math.sqrt(max(config.warmup, 1) / (step + 1))
    return peak


def _unpacked(moments: Mapping[str, Any], adam: torch.optim.Optimizer) -> dict[str, Any]:
    groups = adam.state_dict()["param_groups"]
    return {"state": {int(index): dict(of) for index, of in moments.items()}, "param_groups": groups}


def _seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
