"""Routed heads are kept in balance by the training, and no other model is touched by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.attention.baselines.mixture_of_heads import MixtureOfHeads
from tutelage.attention.blocks import Encoder
from tutelage.attention.config import AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.attention.training import Training


class Copying:
    """Tokens are to come out as they went in."""

    def model(self, attention: AttentionConfig, network: NetworkConfig) -> nn.Module:
        torch.manual_seed(0)
        model = Encoder(attention, network)
        for part in model.modules():
            if isinstance(part, MixtureOfHeads) and part.routed_router is not None:
                with torch.no_grad():
                    part.routed_router.weight[0, 0] += 2.0  # at first all tokens want head 0
        return model

    def batch(self, step: int, size: int) -> Mapping[str, Tensor]:
        x = torch.randn(size, 4, 8, generator=torch.Generator().manual_seed(step))
        x[..., 0] = 2.0
        return {"x": x}

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor], generator: torch.Generator | None) -> Any:
        return (model(batch["x"], generator=generator) - batch["x"]).square().mean(), {}

    def figures(self, model: nn.Module, device: torch.device) -> Mapping[str, float]:
        return {}

    def show(self, model: nn.Module, device: torch.device) -> Mapping[str, Any]:
        return {}


def trained(kind: str, balance: float, steps: int = 1) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    attention = AttentionConfig(kind=kind, searches=4, top_k=1)
    settings = OptimizerConfig(batch_size=8, balance=balance, learning_rate=1e-2)
    training = Training(Copying(), attention, NetworkConfig(width=8, iterations=2), settings, seed=0, num_updates=steps)
    state, metrics = training.init(), {}
    for _ in range(steps):
        state, metrics = training.update(state)
    return {name: value.clone() for name, value in state["model"].items()}, metrics


def test_the_loss_of_routed_heads_contains_their_balance() -> None:
    _, without = trained("mixture_of_heads", 0.0)
    _, much = trained("mixture_of_heads", 2.0)
    torch.testing.assert_close(much["loss"], without["loss"] + 2.0 * without["balance"])
    assert 1.0 <= float(without["balance"]) <= 4.0


def test_balance_evens_the_heads_out() -> None:
    _, without = trained("mixture_of_heads", 0.0, steps=60)
    _, much = trained("mixture_of_heads", 1.0, steps=60)
    assert much["balance"] < 1.3 < 2.0 < without["balance"]  # 1: even; 4: all in one head


def test_a_model_without_routed_heads_does_not_feel_the_balance() -> None:
    (first, metrics), (second, _) = trained("multihead", 0.0), trained("multihead", 2.0)
    assert "balance" not in metrics
    assert all(torch.equal(value, second[name]) for name, value in first.items())
