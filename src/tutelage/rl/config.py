"""Settings of the learners, free of any framework so that command lines can read them at once."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation for recurrent policies (Schulman et al. 2017, arXiv 1707.06347)."""

    learning_rate: float = setting(1e-4, "Step size of Adam.", interval="(0, inf)", source="minimax dr.json")
    anneal: bool = setting(False, "Anneal the step size linearly to 0 over all updates.", source="jaxued")
    discount: float = setting(0.995, "Discount γ per step.", interval="[0, 1]", source="minimax dr.json")
    gae_lambda: float = setting(0.98, "λ of generalised advantage estimation.", interval="[0, 1]", source="minimax")
    num_epochs: int = setting(5, "Passes over each rollout.", interval="[1, inf)", source="minimax")
    num_minibatches: int = setting(
        1, "Parts of each pass, split over environments, never over time.", interval="[1, inf)", source="minimax"
    )
    clip: float = setting(
        0.2, "Clip range of the probability ratio and of the value.", interval="(0, inf)", source="minimax"
    )
    clip_value: bool = setting(True, "Clip the value loss as well.", source="minimax")
    value_coefficient: float = setting(0.5, "Weight of the value loss.", interval="[0, inf)", source="minimax")
    entropy_coefficient: float = setting(
        1e-3, "Weight of the entropy bonus.", interval="[0, inf)", source="minimax dr.json"
    )
    max_grad_norm: float = setting(
        0.5, "Global norm at which gradients are clipped.", interval="(0, inf)", source="minimax"
    )
    adam_eps: float = setting(1e-5, "ε of Adam.", interval="(0, inf)", source="minimax")
