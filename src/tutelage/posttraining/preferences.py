"""Preferences between one's own samples: right solutions of a question are to be likelier than wrong ones (DPO, IPO).

    learner = Preferences(policy, questions, Rollouts(Sampling(), folder="pool"), PreferenceConfig(), seed=0)
    state = learner.init()
    state, figures = learner.update(state)      # one round: draw, pair, learn

References: Rafailov et al. (2023), Direct Preference Optimization, arXiv 2305.18290, equation 7. Azar et al. (2023), A
General Theoretical Paradigm to Understand Learning from Human Preferences, arXiv 2310.12036, equation 17.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.lm.training.distributed import without_gradient
from tutelage.lm.training.shared_prefix import read_completions
from tutelage.posttraining.config import PreferenceConfig
from tutelage.posttraining.learner import State, restore
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import Rollouts, block_size, correct, truncated_share, warn_truncated
from tutelage.posttraining.selection import distinct


class Pair(NamedTuple):
    """Token ids of a prompt and of two solutions, the right one and the wrong one."""

    prompt: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray


def preference_loss(
    margins: torch.Tensor, *, loss: str = "dpo", beta: float = 0.1, label_smoothing: float = 0.0
) -> torch.Tensor:
    """The loss of each pair.

    Args:
        margins: Δ = log π(chosen)/π_ref(chosen) − log π(rejected)/π_ref(rejected), in nats, any shape.
        loss: `dpo`: −(1−ε) log σ(βΔ) − ε log σ(−βΔ), ε the label smoothing; `ipo`: (Δ − 1/(2β))².
    """
    if loss == "ipo":
        return (margins - 1 / (2 * beta)).square()
    scaled = beta * margins
    return -(1 - label_smoothing) * F.logsigmoid(scaled) - label_smoothing * F.logsigmoid(-scaled)


def paired(group: Sequence[Rollout], seed: Sequence[int], most: int = 0) -> list[tuple[Rollout, Rollout]]:
    """Pairs (right, wrong) of one question's rollouts, no two alike.

    Both sides, without repeated token ids and what was cut off, are put into an order drawn from the seed; the shorter
    one is gone through again until the longer one is through, or `most` (not 0) pairs are made.
    """
    ended = distinct([each for each in group if each.finish_reason == "stop"], "exact")
    random = np.random.default_rng(seed)
    right, wrong = ([each for each in ended if correct(each) is verdict] for verdict in (True, False))
    if not right or not wrong:
        return []
    first, second = random.permutation(len(right)), random.permutation(len(wrong))
    number = min(max(len(right), len(wrong)), most or math.inf)
    return [(right[first[n % len(first)]], wrong[second[n % len(second)]]) for n in range(int(number))]


class Preferences:
    """A learner (`tutelage.posttraining.learner`); an update is one round.

    Dropout is off throughout, so that a policy that has not moved has a margin of zero.

    Args:
        policy: the start, and with `reference="start"` what the policy is held to; its model is trained in place.
        questions: to sample.
        rollouts: with a folder, a round that was killed draws no finished block of questions again.
        seed: of the pairing, the order of pairs and the choice of questions.

    Raises:
        BadInput: no questions, several samples at temperature 0, or smoothed labels with `ipo`.
    """

    def __init__(
        self,
        policy: Policy,
        questions: Sequence[Question],
        rollouts: Rollouts,
        config: PreferenceConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.policy, self.questions, self.rollouts, self.seed = policy, list(questions), rollouts, seed
        self.config = config = config or PreferenceConfig()
        validate(config)
        if not questions:
            raise BadInput("questions: there are none; give at least one")
        if config.questions_per_round > len(questions):
            raise BadInput(f"questions_per_round = {config.questions_per_round}: there are only {len(questions)}")
        if config.loss == "ipo" and config.label_smoothing:
            raise BadInput(f"label_smoothing = {config.label_smoothing:g}: must be 0 for loss = 'ipo'")
        rollouts.check(config.num_samples)
        self._trained = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
        self._start = _copied(self._trained)
        self.optimizer = torch.optim.AdamW(
            list(self._trained.values()), config.learning_rate, weight_decay=0.0, fused=True
        )
        self._live: State | None = None

    def init(self) -> State:
        """The start: its weights, an optimiser without history, no rollouts.

        Raises:
            BadInput: a round was run, so the policy's model is no longer the start.
        """
        if self._live is not None:
            raise BadInput("init: this learner has begun and its model is no longer as it was given; make a new one")
        return self._state(0, 0)

    def update(self, state: State) -> tuple[State, dict[str, float]]:
        """One round: draw, pair, learn.

        Figures: of the samples `correct` and `truncated` shares; `pairs`, and `paired_questions`, the share of
        questions that have one; after the round and over its pairs `loss`, `accuracy` (the chosen one has gained on the
        rejected one), `margin` (of their log-ratios, times β), `chosen_drift` and `rejected_drift` (log π/π_ref of
        each side in nats per solution, or per token if normalised so); `grad_norm` before clipping (mean);
        `rollouts` drawn in total.

        Warns where more than a fifth of the samples were cut off.

        Raises:
            BadInput: no question has both a right and a wrong sample; the state can still be used.
        """
        self.enter(state)
        step = state["step"]
        pairs, figures = self._round(step)
        total = state["rollouts"] + int(figures.pop("samples"))
        state.clear()
        self.policy.model.eval()
        held = self._as_start() if self.config.reference == "start" else contextlib.nullcontext()
        with held:
            reference = self._logprobs(pairs)
        norms = [norm for epoch in range(self.config.num_epochs) for norm in self._epoch(pairs, reference, step, epoch)]
        figures |= self._measured(self._logprobs(pairs) - reference)
        figures |= {"grad_norm": float(np.mean(norms)), "rollouts": float(total)}
        return self._state(step + 1, total), figures

    def enter(self, state: Mapping[str, Any]) -> None:
        """Make `policy` what the state says."""
        self._live = restore(state, self._live, self.policy.model, self.optimizer)

    def _round(self, step: int) -> tuple[list[Pair], dict[str, float]]:
        """Draw and pair, a block of questions at a time: a round's samples may be more than fit into memory."""
        config, number = self.config, len(self.questions)
        few = config.questions_per_round or number
        asked = sorted(np.random.default_rng([self.seed, step]).choice(number, few, replace=False).tolist())
        pairs: list[Pair] = []
        right = cut = with_pair = 0
        drawn_from = contextlib.nullcontext() if config.on_policy else self._as_start()
        with drawn_from:
            size = block_size(config.num_samples)
            for start in range(0, few, size):
                places = asked[start : start + size]
                block = [self.questions[place] for place in places]
                groups = self.rollouts.draw(self.policy, block, config.num_samples, round=step)
                for place, group in zip(places, groups, strict=True):
                    found = paired(group, [self.seed, step, place], config.pairs)
                    pairs += [Pair(good.prompt, good.completion, bad.completion) for good, bad in found]
                    with_pair += bool(found)
                    right += sum(map(correct, group))
                    cut += round(truncated_share(group) * len(group))
        samples = few * config.num_samples
        figures = {"samples": float(samples), "correct": right / samples, "truncated": cut / samples}
        figures |= {"pairs": float(len(pairs)), "paired_questions": with_pair / few}
        if not pairs:
            rates = f"{figures['correct']:.2%} of {samples} samples are right, {figures['truncated']:.0%} cut off"
            raise BadInput(
                f"round {step + 1}: no question has both a right and a wrong sample: {rates}; give questions of "
                "another difficulty, or a larger num_samples"
            )
        warn_truncated(figures["truncated"], self.rollouts.sampling)
        return pairs, figures

    def _epoch(self, pairs: Sequence[Pair], reference: torch.Tensor, step: int, epoch: int) -> list[float]:
        """One pass over the pairs; the gradient's norm at each step of the optimiser."""
        config, norms = self.config, []
        order = np.random.default_rng([self.seed, step, epoch]).permutation(len(pairs)).tolist()
        for start in range(0, len(order), config.batch_size):
            batch = order[start : start + config.batch_size]
            self.optimizer.zero_grad()
            for places in self._pieces(pairs, batch):
                ratios = self._read([pairs[place] for place in places]) - reference[places]
                self._losses(ratios).sum().div(len(batch)).backward()
            limit = config.max_grad_norm or math.inf
            norms.append(float(torch.nn.utils.clip_grad_norm_(self._trained.values(), limit)))
            self.optimizer.step()
        return norms

    def _losses(self, ratios: torch.Tensor) -> torch.Tensor:
        config = self.config
        margins = ratios[:, 0] - ratios[:, 1]
        return preference_loss(margins, loss=config.loss, beta=config.beta, label_smoothing=config.label_smoothing)

    def _measured(self, ratios: torch.Tensor) -> dict[str, float]:
        margins, drift = ratios[:, 0] - ratios[:, 1], ratios.mean(0).tolist()
        return {
            "loss": float(self._losses(ratios).mean()),
            "accuracy": float((margins > 0).float().mean()),
            "margin": float(self.config.beta * margins.mean()),
            "chosen_drift": drift[0],
            "rejected_drift": drift[1],
        }

    def _read(self, pairs: Sequence[Pair]) -> torch.Tensor:
        """`[pairs, 2]` log-probabilities of chosen and rejected solution, each prompt read once for both."""
        both = [[pair.chosen.tolist(), pair.rejected.tolist()] for pair in pairs]
        reading = read_completions(self.policy.model, [pair.prompt.tolist() for pair in pairs], both)
        sums = reading.logprobs.sum(-1)
        return (sums / reading.mask.sum(-1) if self.config.length_normalised else sums).view(-1, 2)

    def _logprobs(self, pairs: Sequence[Pair]) -> torch.Tensor:
        """`_read` of all pairs without gradient."""
        found = torch.zeros(len(pairs), 2, device=self.policy.model.device)
        with without_gradient(self.policy.model):
            for places in self._pieces(pairs, range(len(pairs))):
                found[places] = self._read([pairs[place] for place in places])
        return found

    def _pieces(self, pairs: Sequence[Pair], places: Sequence[int]) -> Iterator[list[int]]:
        """Places of similar pairs that go through the model together."""
        widths = {place: len(pairs[place].prompt) + max(map(len, pairs[place][1:])) for place in places}
        piece: list[int] = []
        for place in sorted(places, key=lambda place: -widths[place]):
            if piece and 2 * widths[piece[0]] * (len(piece) + 1) > self.config.micro_tokens:
                yield piece
                piece = []
            piece.append(place)
        yield piece

    @contextlib.contextmanager
    def _as_start(self) -> Iterator[None]:
        """The model as it was at the start; afterwards as it is."""
        held = _copied(self._trained)
        _put(self._trained, self._start)
        try:
            yield
        finally:
            _put(self._trained, held)

    def _state(self, step: int, rollouts: int) -> State:
        self._live = {
            "model": self.policy.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": step,
            "rollouts": rollouts,
        }
        return self._live


def _copied(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _put(tensors: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(values[name])
