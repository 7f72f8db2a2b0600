"""From logits to next tokens: one random number per row and position, so a row's tokens depend on nothing but the row.

The random number comes from a counter-based hash of (row seed, position) and picks the token by inverse CDF. Which
other rows are in the batch, and when a row joined it, plays no part (up to rounding in the logits themselves).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tutelage.lab.errors import BadInput
from tutelage.lm.request import TEMPERATURES, usable_temperature

_BLOCK = 64
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        max_new_tokens: ≥ 1; cut further by the model's context.
        temperature: 0 takes the likeliest token; otherwise in [1e-6, 1e6].
        top_p, min_p: in (0, 1] and [0, 1); 1 and 0 switch them off. top_k: ≥ 0; 0 switches it off. Applied in the
            order top-k, top-p, min-p to the tempered distribution; of equal logits the lower id counts as likelier.
        stop_ids: tokens that end a row and are part of it; None for those of the model's generation config.
        top_logprobs: how many alternatives to report at every position.
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_ids: tuple[int, ...] | None = None
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        for name, good, allowed in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", usable_temperature(self.temperature), TEMPERATURES),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("min_p", 0 <= self.min_p < 1, "in [0, 1)"),
            ("top_logprobs", self.top_logprobs >= 0, "0 or more"),
        ):
            if not good:
                raise BadInput(f"sampling: {name} is {getattr(self, name)!r}: must be {allowed}")

    @property
    def knobs(self) -> tuple[float, float, float, float]:
        """Temperature, top-k, top-p, min-p: one row of what `draw` takes."""
        return self.temperature, float(self.top_k), self.top_p, self.min_p


def _mixed(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def hashed(*keys: int | np.ndarray) -> np.ndarray:
    """uint64 hash (SplitMix64 finaliser, chained) of integer keys, broadcast against each other; at least 1-D."""
    state = np.zeros(1, np.uint64)
    for key in keys:
        part = np.asarray(key)
        part = np.uint64(int(part) % 2**64) if part.ndim == 0 else part.astype(np.uint64)
        state = _mixed(state + _GOLDEN + _mixed(np.atleast_1d(part) + _GOLDEN))
    return state


def uniforms(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """float64 in [0, 1), 53 random bits, one for each (seed, position)."""
    return (hashed(seeds, positions) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def draw(
    logits: torch.Tensor, random: np.ndarray, knobs: np.ndarray, allowed: dict[int, list[int]] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Next tokens and their log-probabilities.

    Args:
        logits: `[rows, V]`, any float type.
        random: `[rows]` in [0, 1).
        knobs: `[rows, 4]`: temperature, top-k, top-p, min-p, see `Sampling`.
        allowed: by row, the only tokens it may take (at least one).

    Returns:
        Tokens `[rows]` int64, and float32 log softmax(logits / temperature) of each, before truncation and constraint
        (temperature 0: of the plain logits). Where a row has no distribution to draw from, its log-probability is NaN
        and its token means nothing: NaN or +inf among the logits, or none above −inf among those that may come.
    """
    if logits.device.type == "mps":  # has no float64
        logits = logits.cpu()
    temperature, device = knobs[:, 0], logits.device
    scaled = logits.float()
    if np.any((temperature != 0) & (temperature != 1)):
        divisor = np.where(temperature == 0, 1.0, temperature).astype(np.float32)
        scaled = scaled / torch.from_numpy(divisor).to(device)[:, None]
    top = scaled.amax(-1)
    weights = _weights(scaled, top)
    sums = weights.view(len(scaled), -1, _BLOCK).sum(-1, dtype=torch.float32)
    limited = (knobs[:, 1] > 0) | (knobs[:, 2] < 1) | (knobs[:, 3] > 0)
    target = torch.from_numpy(random).to(device)
    tokens = _inverse_cdf(weights, sums, target, scaled.shape[1]) if np.any(temperature > 0) else scaled.argmax(-1)
    for special, pick in ((limited & (temperature > 0), _limited), (temperature == 0, _greedy)):
        if special.any() and not special.all():
            chosen = torch.from_numpy(np.flatnonzero(special)).to(device)
            tokens = tokens.index_copy(0, chosen, pick(scaled[chosen], target[chosen], knobs[special]))
        elif special.any():
            tokens = pick(scaled, target, knobs)
    forced = {row: ids[0] for row, ids in (allowed or {}).items() if len(ids) == 1}
    if forced:
        tokens[list(forced)] = torch.tensor(list(forced.values()), device=device)
    for row, ids in (allowed or {}).items():
        if row in forced:
            continue
        inside = torch.tensor(sorted(ids), device=device)
        plain = knobs[row : row + 1] * [1, 1, 1, 1]
        plain[0, 0] = float(temperature[row] > 0)  # what is scaled is tempered already
        part, logprob = draw(scaled[row : row + 1, inside], random[row : row + 1], plain)
        tokens[row] = inside[part[0]]
        top[row] += 0.0 * logprob[0]  # NaN where nothing could be drawn
    norm = sums.sum(-1, dtype=torch.float64).log()
    logprobs = (scaled.gather(1, tokens[:, None])[:, 0] - top).double() - norm
    return tokens, logprobs.float()


def what_is_wrong(logits: torch.Tensor) -> str:
    """What a row of logits `[V]`, from which `draw` could not draw, has that is no distribution."""
    if logits.isnan().any():
        return "NaN"
    if logits.isposinf().any():
        return "an infinite logit"
    if logits.isneginf().all():
        return "no token a chance (all logits are -inf)"
    return "no token that may come here a chance, or logits too large for the temperature"


def top_logprobs(logits: torch.Tensor, count: int, temperature: float) -> tuple[list[int], list[float]]:
    """The `count` likeliest tokens of one row `[V]` and their log-probabilities, on the scale of `draw`'s."""
    best = torch.log_softmax(logits.float() / (temperature or 1.0), -1).topk(min(count, logits.shape[-1]))
    return best.indices.tolist(), best.values.tolist()


def _greedy(scaled: torch.Tensor, target: torch.Tensor, knobs: np.ndarray) -> torch.Tensor:
    return scaled.argmax(-1)


def _weights(scaled: torch.Tensor, top: torch.Tensor) -> torch.Tensor:
    """exp(logit − top) `[rows, V rounded up to whole blocks]`, zeros at the end."""
    rows, width = scaled.shape
    weights = scaled.new_empty(rows, -(-width // _BLOCK) * _BLOCK)
    torch.sub(scaled, top[:, None], out=weights[:, :width])
    weights[:, :width].exp_()
    weights[:, width:] = 0
    return weights


def _inverse_cdf(weights: torch.Tensor, sums: torch.Tensor, target: torch.Tensor, width: int) -> torch.Tensor:
    """First the block, then the token within it: one pass over V instead of a running sum along V.

    In a row with NaN no place is found: it gets one that exists.
    """
    running = sums.cumsum(-1, dtype=torch.float64)
    goal = target * running[:, -1]
    # Rounding may put the goal on the last edge, or into a block of zeros: the last block with weight is the end.
    block = torch.searchsorted(running, goal[:, None], right=True)
    block = torch.minimum(block, torch.searchsorted(running, running[:, -1:].contiguous()))
    block = block.clamp(max=running.shape[1] - 1)
    goal = goal[:, None] - (running - sums).gather(1, block)
    inside = weights.view(len(weights), -1, _BLOCK).gather(1, block[:, :, None].expand(-1, 1, _BLOCK))[:, 0]
    running = inside.cumsum(-1, dtype=torch.float64)
    token = torch.searchsorted(running, goal, right=True)
    token = torch.minimum(token, torch.searchsorted(running, running[:, -1:].contiguous()))
    return (block * _BLOCK + token)[:, 0].clamp(max=width - 1)


def _limited(scaled: torch.Tensor, target: torch.Tensor, knobs: np.ndarray) -> torch.Tensor:
    """All three truncations keep a head of the tokens in order of falling probability."""
    limits = torch.from_numpy(knobs).to(scaled.device)
    width = scaled.shape[1]
    k = torch.where(limits[:, 1] > 0, limits[:, 1], width).clamp(max=width).long()
    if int(knobs[:, 1].min()) > 0 and int(k.max()) * 8 < width:
        # One more than asked for shows whether equal logits straddle the cut; then the lower id must win, as in a sort.
        best = scaled.topk(int(k.max()) + 1)
        ties = (best.values[:, 1:] == best.values[:, :-1]).any()
        values, order = torch.sort(scaled, stable=True, dim=-1, descending=True) if ties else best
    else:
        values, order = torch.sort(scaled, stable=True, dim=-1, descending=True)
    weights = (values - values[:, :1]).double().exp()
    rank = torch.arange(weights.shape[1], device=scaled.device)
    weights = weights * (rank < k[:, None])
    before = weights.cumsum(-1) - weights
    weights = weights * (before < limits[:, 2:3] * weights.sum(-1, keepdim=True)) * (weights >= limits[:, 3:4])
    running = weights.cumsum(-1)
    place = torch.searchsorted(running, (target * running[:, -1])[:, None], right=True)
    place = torch.minimum(place, torch.searchsorted(running, running[:, -1:].contiguous()))
    return order.gather(1, place.clamp(max=running.shape[1] - 1))[:, 0]
