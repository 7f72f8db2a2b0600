"""Every attention of the family can be in the model of every task of words and glyphs."""

from __future__ import annotations

import math

import pytest
import torch

from tutelage.attention.config import KINDS, AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.attention.tasks.relational import Relational
from tutelage.attention.tasks.relational_config import RelationalConfig
from tutelage.attention.tasks.task import Task
from tutelage.attention.tasks.words.associative_recall import AssociativeRecall
from tutelage.attention.tasks.words.associative_recall_config import AssociativeRecallConfig
from tutelage.attention.tasks.words.byte_language import ByteLanguage
from tutelage.attention.tasks.words.byte_language_config import ByteLanguageConfig
from tutelage.attention.tasks.words.scan import Scan
from tutelage.attention.tasks.words.scan_config import ScanConfig
from tutelage.attention.training import Training

TASKS = {
    "scan": lambda: Scan(ScanConfig(num_test=4, cutoff=8), 0),
    "recall": lambda: AssociativeRecall(AssociativeRecallConfig(items=2, queries=1, num_test=4), 0),
    "relational": lambda: Relational(RelationalConfig(num_train=50, num_test=50), 0),
    "bytes": lambda: ByteLanguage(ByteLanguageConfig(context=8, evaluation_context=4, num_test=32), 0),
}


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return TASKS[request.param]()


@pytest.mark.parametrize("kind", KINDS)
def test_two_updates_reach_every_parameter_and_give_figures(task: Task, kind: str):
    torch.manual_seed(0)
    attention = AttentionConfig(kind=kind, searches=4, retrievals=2, d_select=4)
    network = NetworkConfig(width=16, iterations=2, shared=kind == "compositional")
    training = Training(task, attention, network, OptimizerConfig(batch_size=8), seed=0, num_updates=2)
    before = {name: parameter.detach().clone() for name, parameter in training.model.named_parameters()}
    state = training.init()
    for _ in range(2):
        state, metrics = training.update(state)
    assert math.isfinite(float(metrics["loss"]))
    found = training.evaluate(state, 2, True)
    assert len(found) > 1 and all(math.isfinite(value) for value in found.values())
    still = [name for name, parameter in training.model.named_parameters() if torch.equal(parameter, before[name])]
    # A bias in the value keys adds the same to all retrievals, so nothing ever changes it (F1).
    assert all(name.endswith("competition.bias") for name in still)


@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_positions_may_be_in_the_scores_alone(task: Task, positions: str):
    torch.manual_seed(0)
    attention = AttentionConfig(searches=2, positions=positions, d_select=4)
    training = Training(
        task, attention, NetworkConfig(width=16, iterations=1), OptimizerConfig(), seed=0, num_updates=1
    )
    _, metrics = training.update(training.init())
    assert math.isfinite(float(metrics["loss"]))
