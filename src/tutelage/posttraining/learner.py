"""What every finetuning algorithm here is: verbs over a state of named tensors, stepped by whoever holds it.

    learner = ExpertIteration(policy, questions, rollouts, ExpertIterationConfig(), seed=0)
    state = learner.init()
    state, figures = learner.update(state)      # one round
    texts = learner.policy.sample(...)          # the policy as the state says

Everything random follows from (seed, step), so a state put on disk (`tutelage.backends.torch_state`) goes on to the
same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tutelage.lab.errors import BadInput
from tutelage.posttraining.policy import Policy

State = dict[str, Any]
"""Tensors, numbers, texts, nested in dicts and lists: what `tutelage.backends.torch_state.to_arrays` takes."""


class Learner(Protocol):
    """A finetuning algorithm.

    Attributes:
        policy: what answers now: its model holds the weights that the last verb's state says.
    """

    policy: Policy

    def init(self) -> State:
        """The state before the first update. The policy is the start; nothing was drawn."""
        ...

    def update(self, state: State) -> tuple[State, dict[str, float]]:
        """One unit of work (a round, an iteration, an epoch). The old state is used up.

        The state has `step` (updates done) and `rollouts` (all rollouts drawn for training so far). Figures are finite.
        """
        ...

    def enter(self, state: Mapping[str, Any]) -> None:
        """Make `policy` what the state says; nothing to do when it is the one that the last verb gave back."""
        ...


def restore(state: Mapping[str, Any], live: State | None, model: Any, optimizer: Any = None) -> State:
    """Make a model, and its optimiser, what the state says; nothing to do when that is `live`, which they hold already.

    Returns the state that they hold then, empty for one that was copied in: `live` is used up, for its tensors were
    the model's own.

    Raises:
        BadInput: a state that an update used up, or one of another model.
    """
    if not state:
        raise BadInput("state: was used up by an update; go on with the one that the update gave back")
    if live is not None and state is live:
        return live
    try:
        model.load_state_dict(state["model"])
        if optimizer is not None:
            optimizer.load_state_dict(state["optimizer"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise BadInput(f"state: is not one of this model: {' '.join(str(error).split())}") from error
    if live is not None:
        live.clear()
    return {}  # not None, which says that nothing has begun: the model is no longer the start
