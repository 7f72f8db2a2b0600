"""Supervised epochs are one fine-tuning cut into epochs, to the bit."""

from __future__ import annotations

import pytest
import torch
from posttraining.guessing import QUESTIONS, TEMPLATE, tokenizer, untrained, weights

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.lab.errors import BadInput
from tutelage.lm.training.config import SFTConfig
from tutelage.lm.training.sft import sft
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.supervised import SupervisedEpochs

PAIRS = [(question, question.solution) for question in QUESTIONS * 2][:7]
CONFIG = SFTConfig(num_epochs=4, batch_size=3, learning_rate=1e-2)


def policy() -> Policy:
    return Policy(untrained(attention_dropout=0.1), tokenizer(), TEMPLATE)


@pytest.mark.parametrize("epochs, updates", [(4, 4), (2.5, 3), (0.5, 1)])
def test_all_epochs_equal_one_fine_tuning(epochs: float, updates: int) -> None:
    config = SFTConfig(num_epochs=epochs, batch_size=3, learning_rate=1e-2)
    whole = policy()
    _, _, figures = sft(whole.model, [whole.example(*pair) for pair in PAIRS], config, seed=2)
    learner = SupervisedEpochs(policy(), PAIRS, config, seed=2)
    assert learner.num_updates == updates
    state, found = learner.init(), []
    for epoch in range(updates):
        assert (state["step"], state["rollouts"]) == (epoch, 0)
        state, each = learner.update(state)
        found.append(each)
    assert torch.equal(weights(learner.policy.model), weights(whole.model))
    assert sum(each["tokens"] for each in found) == sum(each["tokens"] for each in figures)
    assert found[-1]["learning_rate"] == figures[-1]["learning_rate"]
    assert found[0]["loss"] > found[-1]["loss"] or updates == 1
    with pytest.raises(BadInput, match="all are done"):
        learner.update(state)


def test_an_epoch_of_fewer_demonstrations_than_a_batch_is_one_step_on_all() -> None:
    learner = SupervisedEpochs(policy(), PAIRS, SFTConfig(num_epochs=3, batch_size=64))
    _, figures = learner.update(learner.init())
    assert learner.num_updates == 3
    assert figures["tokens"] == sum(len(learner.policy.example(*pair).response) for pair in PAIRS)


def test_a_state_from_disk_goes_on_to_the_same_bits_in_a_new_learner() -> None:
    whole = SupervisedEpochs(policy(), PAIRS, CONFIG, seed=5)
    state = whole.init()
    for _ in range(4):
        state, _ = whole.update(state)
    half = SupervisedEpochs(policy(), PAIRS, CONFIG, seed=5)
    state = half.init()
    for _ in range(2):
        state, _ = half.update(state)
    arrays = to_arrays(state)
    resumed = SupervisedEpochs(policy(), PAIRS, CONFIG, seed=5)
    state = from_arrays(arrays)
    resumed.enter(state)
    assert torch.equal(weights(resumed.policy.model), weights(half.policy.model))
    for _ in range(2):
        state, _ = resumed.update(state)
    assert torch.equal(weights(resumed.policy.model), weights(whole.policy.model))


def test_bad_input_is_named() -> None:
    with pytest.raises(BadInput, match="demonstrations: there are none"):
        SupervisedEpochs(policy(), [])
    learner = SupervisedEpochs(policy(), PAIRS, CONFIG)
    first = learner.init()
    learner.update(first)
    for verb in (learner.update, learner.enter):
        with pytest.raises(BadInput, match="was used up"):
            verb(first)
    with pytest.raises(BadInput, match="init: this tuning has begun"):
        learner.init()
