"""Whether expected updates are the exact policy gradient: every estimator, summed over all outputs or all groups.

Compared is what a step climbs, −∂loss/∂θ, of the losses that `Online` takes its steps by (`policy_gradient`), for a
batch as it was drawn: no clip is active yet. Losses are taken as sums over tokens, since dividing by the number of
tokens that were drawn makes a ratio of two random numbers, whose expectation is not proportional to the gradient.

| | expected step |
|---|---|
| PPO, λ = 1, any values; λ < 1 with exact values | ∇(E[R] − β KL) |
| RLOO | ∇(E[R] − β KL) |
| Dr. GRPO | (K−1)/K · ∇(E[R] − β KL) |
| GRPO | biased, by the group's deviation and by 1/length: compared with its own literal expectation |
| KL in the loss | not −β∇KL: k1 nothing, k2 and k3 per-token divergences with the prefixes' distribution held fixed |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from tutelage.lm.sampling.decoding import sample
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.training.losses import length_mask
from tutelage.posttraining.config import OnlineConfig
from tutelage.posttraining.policy_gradient.enumeration import (
    Output,
    TabularPolicy,
    exact_objective,
    exact_values,
    model_logprobs,
    outputs_of,
)
from tutelage.posttraining.policy_gradient.objective import estimate, loss_weights, objective

BETA = 0.3
"""Weight of the KL divergence in all checks: large enough that leaving it out would be seen."""

Z_LIMIT = 4.5
"""Standard errors that a Monte-Carlo mean may be off: one in 150,000 honest checks is."""

PROMPT = [1, 2, 1]
"""What the transformer is asked."""

_Gradient = torch.Tensor


class Comparison(NamedTuple):
    """One check.

    Attributes:
        name: what was compared with what.
        error: largest difference over the largest entry of the expected; or |z|. limit: what is allowed.
    """

    name: str
    error: float
    limit: float

    @property
    def ok(self) -> bool:
        return self.error <= self.limit


class Enumerated(NamedTuple):
    """A policy, all of its outputs `[N]` and what is known of them.

    Attributes:
        logprobs: a function without arguments: `[N, L]` with gradient. parameters: what it is differentiated by.
        rewards: `[N, L]` per token, dense. reference: `[N, L]` of the start. exact: how near sums come.
    """

    name: str
    outputs: list[Output]
    mask: torch.Tensor
    logprobs: Callable[[], torch.Tensor]
    parameters: Sequence[torch.Tensor]
    rewards: torch.Tensor
    reference: torch.Tensor
    exact: float

    def gradient(self, goal: torch.Tensor) -> _Gradient:
        """`[parameters]` derivative of what was computed from `logprobs()`."""
        found = torch.autograd.grad(goal, self.parameters, allow_unused=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in zip(found, self.parameters)])


def check_policy_gradients(seed: int = 0, num_samples: int = 4096) -> list[Comparison]:
    """All comparisons, on a tabular policy and on a Llama of a few thousand parameters that is sampled from.

    Args:
        num_samples: of the Monte-Carlo checks.
    """
    found: list[Comparison] = []
    for policy in (tabular(seed), transformer(seed)[0]):
        found += [
            *_ppo(policy, seed),
            *(_groups(policy, algorithm, size) for algorithm in ("rloo", "dr_grpo") for size in (2, 3)),
            _grpo(policy),
            *_divergence_in_the_loss(policy),
        ]
    return [*found, _expert_iteration(seed), *_sampled(seed, num_samples)]


def tabular(seed: int = 0) -> Enumerated:
    """15 outputs of three tokens."""
    policy, start = TabularPolicy(seed=seed), TabularPolicy(seed=seed + 1)
    return Enumerated(
        "tabular",
        policy.outputs,
        policy.mask,
        policy.token_logprobs,
        [policy.logits],
        _by_prefix(policy.outputs, policy.mask, [seed, 7], 1),
        start.token_logprobs().detach(),
        1e-9,
    )


def transformer(seed: int = 0) -> tuple[Enumerated, Any]:
    """The same outputs, from a Llama-architecture model through the shared-prefix reading; and that model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
        config = LlamaConfig(vocab_size=3, max_position_embeddings=16, initializer_range=1.0, **sizes, **ends)
        model, start = (LlamaForCausalLM(config).eval() for _ in range(2))
    outputs = outputs_of(3, 3)
    mask = length_mask([len(output) for output in outputs], 3)
    return Enumerated(
        "transformer",
        outputs,
        mask,
        lambda: model_logprobs(model, PROMPT, outputs),
        list(model.parameters()),
        _by_prefix(outputs, mask, [seed, 7], 1),
        model_logprobs(start, PROMPT, outputs).detach(),
        1e-4,
    ), model


def _by_prefix(outputs: Sequence[Output], mask: torch.Tensor, seed: Sequence[int], shift: int) -> torch.Tensor:
    """`[N, L]` random numbers, each a function of the tokens up to (`shift` 1: with) the one that it stands on."""
    random, drawn = np.random.default_rng(seed), {}
    found = torch.zeros(mask.shape, dtype=torch.float64)
    for row, output in enumerate(outputs):
        for t in range(len(output)):
            found[row, t] = drawn.setdefault(output[: t + shift], random.normal(1.0, 1.0))
    return found


def _config(algorithm: str, **changes: Any) -> OnlineConfig:
    return OnlineConfig(**{"algorithm": algorithm, "kl": BETA, "whiten": False, "trace": 1.0, **changes})


def _exact(policy: Enumerated) -> _Gradient:
    totals = policy.rewards.sum(1)
    return policy.gradient(exact_objective(policy.logprobs(), totals, policy.reference, BETA))


def _step(
    policy: Enumerated,
    config: OnlineConfig,
    groups: torch.Tensor,
    weights: torch.Tensor,
    values: torch.Tensor | None = None,
) -> _Gradient:
    """The step −∂loss/∂θ of groups of outputs `[G, K]`, whose rows count `weights` `[G, K]`."""
    rows = groups.flatten()
    mask, reference = policy.mask[rows], policy.reference[rows]
    logprobs = policy.logprobs()[rows]
    old = logprobs.detach()
    known = {"logprobs": old, "reference": reference, "values": None if values is None else values[rows]}
    found = estimate(config, policy.rewards[rows], mask, groups.shape[1], **known)
    loss = objective(config, logprobs, old, found.advantages, mask, weights.flatten(), reference=reference).loss
    return -policy.gradient(loss)


def _all_groups(policy: Enumerated, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every group of outputs `[N^K, K]`, and how likely each is `[N^K]`."""
    groups = torch.tensor(list(itertools.product(range(len(policy.outputs)), repeat=size)))
    return groups, policy.logprobs().detach().sum(1).exp()[groups].prod(1)


def _compared(name: str, found: torch.Tensor, expected: torch.Tensor, limit: float, scale: float = 0.0) -> Comparison:
    size = max(float(expected.abs().max()), scale)
    return Comparison(name, float((found - expected).abs().max()) / size, limit)


def _ppo(policy: Enumerated, seed: int) -> list[Comparison]:
    every = torch.arange(len(policy.outputs))[:, None]
    logprobs = policy.logprobs().detach()
    weights, exact = logprobs.sum(1).exp()[:, None], _exact(policy)
    anything = _by_prefix(policy.outputs, policy.mask, [seed, 11], 0)
    penalised = torch.where(policy.mask, policy.rewards - BETA * (logprobs - policy.reference), 0.0)
    right = exact_values(penalised, logprobs, policy.outputs)
    found = _step(policy, _config("ppo"), every, weights, anything)
    traced = _step(policy, _config("ppo", trace=0.7), every, weights, right)
    return [
        _compared(f"{policy.name}: PPO, trace 1, any values = exact gradient", found, exact, policy.exact),
        _compared(f"{policy.name}: PPO, trace 0.7, exact values = exact gradient", traced, exact, policy.exact),
    ]


def _groups(policy: Enumerated, algorithm: str, size: int) -> Comparison:
    groups, chances = _all_groups(policy, size)
    found = _step(policy, _config(algorithm), groups, (chances[:, None] / size).expand(groups.shape))
    factor, words = (1.0, "") if algorithm == "rloo" else ((size - 1) / size, f"{size - 1}/{size} x ")
    title = {"rloo": "RLOO", "dr_grpo": "Dr. GRPO"}[algorithm]
    name = f"{policy.name}: {title}, all groups of {size} = {words}exact gradient"
    return _compared(name, found, factor * _exact(policy), policy.exact)


def _grpo(policy: Enumerated) -> Comparison:
    """Against a literal loop: mean and deviation of a pair's two rewards, divided by each output's length."""
    groups, chances = _all_groups(policy, 2)
    lengths = policy.mask.sum(1)
    weights = torch.stack([loss_weights(_config("grpo"), lengths[pair], lengths[pair], 3) for pair in groups])
    found = _step(policy, _config("grpo"), groups, weights.double() * chances[:, None])
    logprobs = policy.logprobs()
    totals = (policy.rewards.sum(1) - BETA * (logprobs.detach() - policy.reference).sum(1)).tolist()
    likely = logprobs.detach().sum(1).exp().tolist()
    gains = [0.0] * len(totals)
    for (i, a), (j, b) in itertools.product(enumerate(totals), repeat=2):
        deviation = math.sqrt((a - b) ** 2 / 2) + 1e-4
        gains[i] += likely[i] * likely[j] * (a - b) / 2 / deviation / len(policy.outputs[i]) / 2
        gains[j] += likely[i] * likely[j] * (b - a) / 2 / deviation / len(policy.outputs[j]) / 2
    expected = policy.gradient((logprobs.sum(1) * torch.tensor(gains)).sum())
    return _compared(
        f"{policy.name}: GRPO, all pairs = its literal (biased) expectation", found, expected, max(1e-6, policy.exact)
    )


def _divergence_in_the_loss(policy: Enumerated) -> list[Comparison]:
    """Without rewards, so that nothing but the KL term of the loss moves the policy."""
    silent = policy._replace(rewards=torch.zeros_like(policy.rewards))
    every = torch.arange(len(policy.outputs))[:, None]
    logprobs = policy.logprobs()
    weights = logprobs.detach().sum(1).exp()
    reached: dict[Output, float] = {}
    places: dict[tuple[Output, int], tuple[int, int]] = {}
    for row, output in enumerate(policy.outputs):
        for t, token in enumerate(output):
            reached[output[:t]] = reached.get(output[:t], 0.0) + float(weights[row])
            places[output[:t], token] = row, t
    rows, columns = torch.tensor(list(places.values())).T
    chances = torch.tensor([reached[prefix] for prefix, _ in places], dtype=torch.float64)
    ours, theirs = logprobs[rows, columns], policy.reference[rows, columns]
    expected = {
        "k1": torch.zeros_like(_exact(policy)),
        "k2": policy.gradient(-BETA * (chances * ours.exp() * (ours - theirs)).sum()),
    }
    ours = policy.logprobs()[rows, columns]
    expected["k3"] = policy.gradient(-BETA * (chances * theirs.exp() * (theirs - ours)).sum())
    meaning = {"k1": "0", "k2": "per-token KL(pi | start), prefixes held", "k3": "per-token KL(start | pi), likewise"}
    scale = float(expected["k2"].abs().max())
    found = []
    for estimator, gradient in expected.items():
        config = _config("ppo", kl_in="loss", kl_estimator=estimator)
        step = _step(silent, config, every, weights[:, None], torch.zeros_like(policy.rewards))
        name = f"{policy.name}: KL in the loss, {estimator} = {meaning[estimator]}"
        found.append(_compared(name, step, gradient, policy.exact, scale))
    return found


def _expert_iteration(seed: int) -> Comparison:
    """A round with endless samples: fitted to its own successes, a policy is itself conditioned on success."""
    policy = TabularPolicy(seed=seed)
    chances = policy.probabilities().detach()
    right = policy.rewards(lambda output: float(sum(output) % 2 == 0))
    expected = chances * right / (chances * right).sum()
    found = policy.refit(chances * right).probabilities().detach()
    return _compared("tabular: expert iteration, endless samples = policy given success", found, expected, 1e-9)


def _sampled(seed: int, num_samples: int) -> list[Comparison]:
    """Samples of the tabular policy, and of the transformer by the sampler that training uses; along one direction."""
    table, (small, model) = tabular(seed), transformer(seed)
    plan = Sampling(max_new_tokens=3)
    [drawn] = sample(model, [PROMPT], num_samples=num_samples, sampling=plan, seed=seed)
    draws = {
        "tabular": TabularPolicy(seed=seed).sample(num_samples, seed),
        "transformer": [tuple(each.tokens.tolist()) for each in drawn],
    }
    found = []
    for policy, (algorithm, size) in itertools.product((table, small), (("ppo", 1), ("rloo", 4))):
        place = {output: row for row, output in enumerate(policy.outputs)}
        rows = torch.tensor([place[output] for output in draws[policy.name]])
        rows = rows[: len(rows) // size * size]
        slopes, expected = _along(policy, seed)
        logprobs, mask, reference = policy.logprobs().detach()[rows], policy.mask[rows], policy.reference[rows]
        leaf, config = logprobs.clone().requires_grad_(), _config(algorithm)
        known = {"logprobs": logprobs, "reference": reference, "values": torch.zeros_like(policy.rewards)[rows]}
        estimates = estimate(config, policy.rewards[rows], mask, size, **known)
        weights = torch.full((len(rows),), 1 / size)
        loss = objective(config, leaf, logprobs, estimates.advantages, mask, weights).loss
        [gradient] = torch.autograd.grad(loss, leaf)
        steps = -(gradient * slopes[rows]).sum(1).view(-1, size).sum(1).double()
        error = float(steps.std()) / math.sqrt(len(steps))
        name = f"{policy.name}: {algorithm.upper()}, {len(rows)} samples, |z| against the exact gradient"
        found.append(Comparison(name, abs(float(steps.mean()) - expected) / error, Z_LIMIT))
    return found


def _along(policy: Enumerated, seed: int) -> tuple[torch.Tensor, float]:
    """Derivatives along one random direction: of every token's log-probability `[N, L]`, and of the objective."""
    size = sum(parameter.numel() for parameter in policy.parameters)
    direction = torch.from_numpy(np.random.default_rng([seed, 13]).normal(size=size))
    slopes = torch.zeros_like(policy.rewards)
    logprobs = policy.logprobs()
    for row, column in policy.mask.nonzero().tolist():
        parts = torch.autograd.grad(logprobs[row, column], policy.parameters, retain_graph=True, allow_unused=True)
        flat = [torch.zeros_like(p) if g is None else g for g, p in zip(parts, policy.parameters)]
        slopes[row, column] = torch.cat([part.flatten() for part in flat]).double() @ direction
    return slopes, float(_exact(policy).double() @ direction)
