"""Learning from the policy's own samples: PPO, RLOO, GRPO and Dr. GRPO as one learner.

    rollouts = Rollouts(Sampling(max_new_tokens=64), seed=0)
    learner = Online(policy, questions, rollouts, reward, OnlineConfig(algorithm="rloo"), seed=0)
    state = learner.init()
    while state["step"] < 100:
        state, figures = learner.update(state)
        print(state["step"], figures["reward"], figures["kl"])

An update draws `num_samples` completions of `num_questions` questions, and takes a few epochs of steps on them. Dropout
is off throughout: a ratio between two dropout masks is noise.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.lm.training.adapters import add_lora
from tutelage.lm.training.adapters import reference as without_adapter
from tutelage.lm.training.distributed import without_gradient
from tutelage.lm.training.shared_prefix import read_completions
from tutelage.posttraining.config import OnlineConfig
from tutelage.posttraining.learner import State
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.policy_gradient.experience import Experience, Piece
from tutelage.posttraining.policy_gradient.losses import value_loss
from tutelage.posttraining.policy_gradient.objective import Estimates, estimate, loss_weights, objective
from tutelage.posttraining.policy_gradient.value_function import ValueFunction
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import Reward, Rollouts, flat, truncated_share, warn_truncated

PATIENCE = 10
"""Updates in which no group's rewards differ, one after another, at which a group algorithm stops."""


class Online:
    """Policy-gradient finetuning of a policy, whose model is trained in place.

    Args:
        policy: the start. With `lora_rank` its model is given an adapter, and `self.policy` has the model with it.
        rollouts: how to draw: at a temperature above 0, from the whole distribution, which is the one that is trained.
        reward: any function that fits `Reward`; it is handed all rollouts of an update at once. For PPO, what is earned
            before the end may depend on nothing that comes later.

    Raises:
        BadInput: a value outside its range, fewer questions than an update takes, groups of 1 for a group algorithm,
            or sampling from another distribution than the one that is trained.
    """

    def __init__(
        self,
        policy: Policy,
        questions: Sequence[Question],
        rollouts: Rollouts,
        reward: Reward,
        config: OnlineConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.config = config = config or OnlineConfig()
        validate(config)
        _check(config, policy, questions, rollouts)
        self.questions, self.rollouts, self.reward, self.seed = list(questions), rollouts, reward, seed
        self._start = _fingerprint(policy.model)
        frozen_copy = config.kl and not config.lora_rank
        self._reference = copy.deepcopy(policy.model).eval().requires_grad_(False) if frozen_copy else None
        self._values: ValueFunction | None = None
        if config.algorithm == "ppo":
            separate = config.value_network == "separate"
            self._values = ValueFunction.separate(policy.model) if separate else ValueFunction(policy.model)
        if config.lora_rank:
            policy = replace(policy, model=_adapted(policy.model, config.lora_rank, seed))
            if self._values is not None and self._values.network is not None:
                self._values.network = _adapted(self._values.network, config.lora_rank, seed)
        self.policy = policy
        self._model = policy.model.eval()
        self._trained = {name: p for name, p in self._model.named_parameters() if p.requires_grad}
        self._critic = {}
        if self._values is not None:
            self._critic = {name: p for name, p in self._values.eval().named_parameters() if p.requires_grad}
        if not self._trained:
            raise BadInput("policy: no parameter of its model requires a gradient, so nothing can be learnt")
        groups: list[dict[str, Any]] = [{"params": list(self._trained.values())}]
        if self._critic:
            groups.append({"params": list(self._critic.values()), "lr": config.value_learning_rate})
        self.optimizer = torch.optim.Adam(groups, config.learning_rate, (config.beta1, config.beta2), fused=True)
        self._warned = False
        self._live: State | None = None

    def init(self) -> State:
        """The state before the first update."""
        if self._live is not None:
            raise BadInput("init: this learner has begun and its model is no longer as it was given; make a new one")
        return self._state(step=0, rollouts=0, idle=0)

    def batch(self, step: int) -> list[Question]:
        """The questions of an update: in a new order in every pass over them, each at most once in a pass."""
        size = self.config.num_questions
        epoch, place = divmod(step, len(self.questions) // size)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.questions))
        return [self.questions[index] for index in order[place * size : (place + 1) * size]]

    def update(self, state: State) -> tuple[State, dict[str, float]]:
        """One draw and the steps on it. The old state is used up.

        Figures: `reward`, the mean of what a completion earned, and `correct`; `kl` from the start, in nats per
        completion (absent where its weight is 0); `entropy` in nats per token, estimated by the mean of −log p;
        `truncated` share; `tokens` of the completions; `mismatch`, the mean |log p of the sampler − of the trainer|;
        `informative`, the share of groups whose rewards differ (absent for groups of 1); `loss` of the policy,
        `clip_share` of the tokens and `grad_norm` before clipping, means over the steps; for PPO `value_loss`,
        likewise, and `explained_variance`, 1 − Var(return − value)/Var(return), before the first step.

        Raises:
            BadInput: rewards that are not finite or not one for each rollout; for group algorithms no group whose
                rewards differ in `PATIENCE` updates on end. The state can still be used.
        """
        self.enter(state)
        config, step = self.config, state["step"]
        questions = self.batch(step)
        groups = self.rollouts.draw(self.policy, questions, config.num_samples, round=step)
        experience, figures = self._experience(questions, groups)
        idle = 0 if figures["informative"] else state["idle"] + 1
        if config.algorithm != "ppo" and idle >= PATIENCE:
            raise BadInput(
                f"reward: all equal within every group for {idle} updates (mean {figures['reward']:g}), so there is "
                "nothing to learn from; give questions that are neither too hard nor too easy, more num_samples or a "
                "better start"
            )
        if config.num_samples == 1:
            del figures["informative"]
        drawn = state["rollouts"] + len(experience.completions)
        state.clear()  # its tensors change now: whoever asks it again is told
        figures |= self._improve(experience, step)
        return self._state(step=step + 1, rollouts=drawn, idle=idle), figures

    def enter(self, state: Mapping[str, Any]) -> None:
        """Make the policy what the state says; nothing to do when it is the one that the last verb gave back."""
        if not state:
            raise BadInput("state: was used up by an update; go on with the one that the update gave back")
        if state is self._live:
            return
        if state.get("start") != self._start:
            raise BadInput("state: began from another policy than the one that this learner was given")
        try:
            _load(self._trained, state["policy"])
            _load(self._critic, state["values"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise BadInput(f"state: is not one of this learner: {' '.join(str(error).split())}") from error
        if self._live is not None:
            self._live.clear()  # its tensors were the policy's own
        self._live = {}

    def _state(self, **counters: int) -> State:
        self._live = {
            "start": self._start,
            "policy": {name: p.detach() for name, p in self._trained.items()},
            "values": {name: p.detach() for name, p in self._critic.items()},
            "optimizer": self.optimizer.state_dict(),
            **counters,
        }
        return self._live

    def _experience(
        self, questions: Sequence[Question], groups: Sequence[Sequence[Rollout]]
    ) -> tuple[Experience, dict[str, float]]:
        asked, rollouts = flat(questions, groups)
        earned = self.reward(asked, rollouts)
        device = next(self._model.parameters()).device
        experience = Experience.of(self.policy.tokenizer, groups, earned, device)
        truncated = truncated_share(rollouts)
        if not self._warned:  # once is enough: there are many updates
            self._warned = warn_truncated(truncated, self.rollouts.sampling)
        totals = experience.totals
        return experience, {
            "reward": float(totals.mean()),
            "correct": float(np.mean([rollout.scores["correct"] for rollout in rollouts])),
            "informative": float((totals != totals[:, :1]).any(1).float().mean()),
            "truncated": truncated,
            "tokens": float(experience.mask.sum()),
        }

    def _improve(self, experience: Experience, step: int) -> dict[str, float]:
        """All epochs of steps on one draw."""
        config, mask = self.config, experience.mask
        number, lengths = len(experience.prompts), mask.sum(1)
        pieces = experience.pieces(range(number), config.micro_tokens)
        needs_readings = config.algorithm == "ppo" or config.penalises
        # The first gradient pass says what a pass before it would, where no step is taken until all of it is read.
        at_once = config.num_minibatches == 1 and (len(pieces) == 1 or not needs_readings)
        old, values = (torch.zeros_like(experience.sampled) for _ in range(2))
        start = self._start_logprobs(experience, pieces) if config.kl else None
        if not at_once:
            with without_gradient(self._model):
                for piece in pieces:
                    _fill(piece, (old, values), self._read(piece))
        found: Estimates | None = None
        steps: list[dict[str, float]] = []
        for epoch in range(config.num_epochs):
            order = np.random.default_rng([self.seed, step, epoch]).permutation(number)
            for minibatch in np.array_split(order, config.num_minibatches):
                chosen = minibatch.tolist()
                several = config.num_minibatches > 1
                whole = lengths.view(number, -1)[torch.from_numpy(minibatch).to(mask.device)].flatten()
                sums = {"loss": 0.0, "clip_share": 0.0, "value_loss": 0.0}
                self.optimizer.zero_grad()
                for piece in experience.pieces(chosen, config.micro_tokens) if several else pieces:
                    readings = self._read(piece)
                    if at_once and epoch == 0:
                        _fill(piece, (old, values), readings)
                    if found is None:
                        found = estimate(
                            config,
                            experience.rewards,
                            mask,
                            experience.num_samples,
                            logprobs=old,
                            reference=start,
                            values=values,
                        )
                    self._accumulate(experience, piece, readings, (old, values), start, found, whole, sums)
                limit = config.max_grad_norm or float("inf")
                norm = torch.nn.utils.clip_grad_norm_(self._trained.values(), limit)
                if self._critic:  # apart: an error in the values must not shorten the policy's step
                    torch.nn.utils.clip_grad_norm_(self._critic.values(), limit)
                self.optimizer.step()
                steps.append(sums | {"grad_norm": float(norm)})
        assert found is not None
        figures = {name: float(np.mean([each[name] for each in steps])) for name in steps[0]}
        figures["entropy"] = -float(old[mask].mean())
        figures["mismatch"] = float((old - experience.sampled)[mask].abs().mean())
        if start is not None:
            figures["kl"] = float((old - start).sum(1).mean())
        if self._values is None:
            del figures["value_loss"]
        else:
            figures["explained_variance"] = _explained(found.returns[mask], values[mask])
        return figures

    def _accumulate(
        self,
        experience: Experience,
        piece: Piece,
        readings: tuple[torch.Tensor, torch.Tensor | None],
        before: tuple[torch.Tensor, torch.Tensor],
        start: torch.Tensor | None,
        found: Estimates,
        whole: torch.Tensor,
        sums: dict[str, float],
    ) -> None:
        """The gradient of one piece of a minibatch whose completions have the lengths `whole`."""

        def part(tensor: torch.Tensor) -> torch.Tensor:
            return tensor[piece.rows, : piece.width]

        config, mask = self.config, part(experience.mask)
        weights = loss_weights(config, mask.sum(1), whole, self.rollouts.sampling.max_new_tokens)
        policy = objective(
            config,
            readings[0],
            part(before[0]),
            part(found.advantages),
            mask,
            weights,
            sampled=part(experience.sampled),
            reference=None if start is None else part(start),
        )
        loss, tokens = policy.loss, float(whole.sum())
        sums["loss"] += float(policy.loss.detach())
        sums["clip_share"] += float(policy.clipped) / tokens
        if readings[1] is not None and found.targets is not None:
            critic = value_loss(
                readings[1], part(before[1]), part(found.targets), mask, weights, clip=config.value_clip
            )
            loss = loss + config.value_coefficient * critic.loss
            sums["value_loss"] += float(critic.loss.detach())
        loss.backward()

    def _read(self, piece: Piece) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Log-probabilities and values of a piece, `[rows, width]` each."""
        trunk = self._values is not None and self._values.network is None
        arguments = (piece.prompts, piece.completions)
        temperature = self.rollouts.sampling.temperature
        reading = read_completions(self._model, *arguments, temperature=temperature, with_hidden=trunk)
        if self._values is None:
            return reading.logprobs, None
        hidden = reading.hidden
        if self._values.network is not None:
            hidden = read_completions(self._values.network, *arguments, with_hidden=True).hidden
        assert hidden is not None
        return reading.logprobs, self._values(hidden)

    def _start_logprobs(self, experience: Experience, pieces: Sequence[Piece]) -> torch.Tensor:
        """`[rows, width]` of the policy before the first update."""
        found = torch.zeros_like(experience.sampled)
        model = self._reference
        with without_adapter(self._model) if model is None else contextlib.nullcontext(model) as start, torch.no_grad():
            for piece in pieces:
                arguments = (piece.prompts, piece.completions)
                reading = read_completions(start, *arguments, temperature=self.rollouts.sampling.temperature)
                _fill(piece, (found,), (reading.logprobs,))
        return found


def _check(config: OnlineConfig, policy: Policy, questions: Sequence[Question], rollouts: Rollouts) -> None:
    sampling = rollouts.sampling
    if config.num_questions > len(questions):
        raise BadInput(
            f"num_questions = {config.num_questions}: must be at most {len(questions)}, as many as there are"
        )
    if config.num_minibatches > config.num_questions:
        raise BadInput(
            f"num_minibatches = {config.num_minibatches}: must be at most num_questions = {config.num_questions}"
        )
    if config.algorithm != "ppo" and config.num_samples < 2:
        raise BadInput(f"num_samples = {config.num_samples}: must be at least 2 for {config.algorithm!r}")
    if not sampling.temperature > 0:
        raise BadInput(f"temperature = {sampling.temperature}: must be above 0: greedy samples teach nothing")
    for name, off in (("top_p", 1.0), ("top_k", 0), ("min_p", 0.0)):
        if getattr(sampling, name) != off:
            raise BadInput(
                f"{name} = {getattr(sampling, name)}: must be {off:g}: a truncated distribution is not the one trained"
            )
    if policy.allowed is not None:
        raise BadInput("policy.allowed: must be None: a constrained distribution is not the one that is trained")


def _fill(piece: Piece, targets: Sequence[torch.Tensor], readings: Sequence[torch.Tensor | None]) -> None:
    """Put what was read of a piece's rows in its place."""
    for target, reading in zip(targets, readings):
        if reading is not None:
            target[piece.rows, : piece.width] = reading.detach().to(target.dtype)


def _explained(returns: torch.Tensor, values: torch.Tensor) -> float:
    """The share of the returns' variance that the values explain; 0 where there is none."""
    variance = float(returns.var(correction=0))
    return 1 - float((returns - values).var(correction=0)) / variance if variance > 1e-12 else 0.0


def _adapted(model: Any, rank: int, seed: int) -> Any:
    """The model with an adapter whose random numbers follow from the seed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return add_lora(model, rank=rank, alpha=2 * rank)


def _load(parameters: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor]) -> None:
    if parameters.keys() != saved.keys():
        raise ValueError(f"other parameters: {', '.join(sorted(parameters.keys() ^ saved.keys())[:3])}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != saved[name].shape:
                raise ValueError(f"{name} has the shape {tuple(saved[name].shape)}")
            parameter.copy_(saved[name])


def _fingerprint(model: Any) -> str:
    """BLAKE2b of all weights, as 32 hex digits."""
    digest = blake2b(digest_size=16)
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
