"""Plain supervised fine-tuning on demonstrations, an epoch at a time: the start, and the curve, of everything else.

    start = SupervisedEpochs(policy, demonstrations, SFTConfig(num_epochs=4), seed=0)
    state = start.init()
    while state["step"] < start.num_updates:
        state, figures = start.update(state)

Continued for many epochs it raises the greedy accuracy and lowers the coverage of many samples.

References: Havrilla et al. (2024), Teaching Large Language Models to Reason with Reinforcement Learning, arXiv
2403.04642, section on the trade-off between maj@1 and pass@K.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from tutelage.lab.errors import BadInput
from tutelage.lm.training.config import SFTConfig
from tutelage.lm.training.sft import SFT
from tutelage.posttraining.learner import State
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question


class SupervisedEpochs:
    """A learner (`tutelage.posttraining.learner`) of demonstrations; an update is one epoch.

    Args:
        policy: its model is trained in place.
        demonstrations: pairs of a question and a solution's text, ending in a marker and the answer.
        config: `num_epochs` (the last may be a fraction) and `schedule` say what the learning rate is when; the
            optimiser is one for all of them. A batch never holds more than the demonstrations once.

    Attributes:
        num_updates: epochs, a last fraction counted as one.

    Raises:
        BadInput: no demonstration, or what `tutelage.lm.training.sft.SFT` refuses.
    """

    def __init__(
        self,
        policy: Policy,
        demonstrations: Sequence[tuple[Question, str]],
        config: SFTConfig | None = None,
        seed: int = 0,
    ) -> None:
        if not demonstrations:
            raise BadInput("demonstrations: there are none; give at least one question with a solution")
        self.policy = policy
        examples = [policy.example(question, solution) for question, solution in demonstrations]
        config = config or SFTConfig()
        config = replace(config, batch_size=min(config.batch_size, len(examples)))
        self._tuning = SFT(policy.model, examples, config, seed)
        self.num_updates = next(epoch for epoch in count(1) if self._end(epoch) == self._tuning.num_updates)

    def init(self) -> State:
        """The start: an optimiser without history, no rollouts (there never are any)."""
        return {"fit": self._tuning.init(), "step": 0, "rollouts": 0}

    def update(self, state: State) -> tuple[State, dict[str, float]]:
        """One epoch more.

        Figures: `loss` in nats per learnt token, each batch before its step, and `grad_norm` before clipping, both
        means over the epoch; `learning_rate` of its last step; `tokens` learnt, `truncated` share of examples.

        Raises:
            BadInput: all epochs are done.
        """
        self.enter(state)
        tuning, epoch = self._tuning, state["step"]
        if epoch >= self.num_updates:
            raise BadInput(f"num_epochs = {tuning.config.num_epochs:g}: all are done; raise it to go on")
        fit, figures = state["fit"], []
        state.clear()
        while fit["step"] < self._end(epoch + 1):
            fit, found = tuning.update(fit)
            figures.append(found)
        mean = {name: float(np.mean([each[name] for each in figures])) for name in ("loss", "grad_norm")}
        tokens = float(sum(each["tokens"] for each in figures))
        mean |= {"learning_rate": figures[-1]["learning_rate"], "tokens": tokens, "truncated": tuning.truncated}
        return {"fit": fit, "step": epoch + 1, "rollouts": 0}, mean

    def _end(self, epoch: int) -> int:
        """Steps of the optimiser that are done when so many epochs are."""
        tuning = self._tuning
        return min(math.ceil(epoch * len(tuning.examples) / tuning.config.batch_size), tuning.num_updates)

    def enter(self, state: Mapping[str, Any]) -> None:
        """Make `policy` what the state says."""
        if not state:
            raise BadInput("state: was used up by an update; go on with the one that the update gave back")
        self._tuning.enter(state["fit"])
