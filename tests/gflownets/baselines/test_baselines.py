"""What every baseline keeps to: a state of arrays that goes on to the same bits, legal samples, honest counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_grid import tiny_grid

from tutelage.backends.jax_host_program import jax_host_program
from tutelage.gflownets.baselines.a2c import a2c
from tutelage.gflownets.baselines.config import BaselinesConfig, EnvelopeQConfig, SoftQConfig
from tutelage.gflownets.baselines.envelope_q import envelope_q
from tutelage.gflownets.baselines.genetic import genetic
from tutelage.gflownets.baselines.mars import mars
from tutelage.gflownets.baselines.moreinforce import moreinforce
from tutelage.gflownets.baselines.nsga2 import nsga2
from tutelage.gflownets.baselines.random_search import random_search
from tutelage.gflownets.baselines.soft_q import soft_q
from tutelage.gflownets.condition import condition
from tutelage.gflownets.config import GFlowNetConfig, NetworkConfig, PreferenceConfig
from tutelage.gflownets.method import Method, compiled_update, hosted_update
from tutelage.lab.program import Sum

SIDE = 5
SHARED = GFlowNetConfig(batch_size=16, network=NetworkConfig(width=8), preference=PreferenceConfig(bins=4))
RUN = 10
OWN = BaselinesConfig(
    soft_q=SoftQConfig(target_period=2),
    envelope_q=EnvelopeQConfig(num_weights=4, target_period=2, replay_size=24, replay_batch=4),
)
PROBLEM = tiny_grid(SIDE)
METHODS: dict[str, Callable[[], Method]] = {
    "moreinforce": lambda: moreinforce(PROBLEM, SHARED, OWN.moreinforce, RUN),
    "a2c": lambda: a2c(PROBLEM, SHARED, OWN.a2c, RUN),
    "soft_q": lambda: soft_q(PROBLEM, SHARED, OWN.soft_q, RUN),
    "envelope_q": lambda: envelope_q(PROBLEM, SHARED, OWN.envelope_q, RUN),
    "mars": lambda: mars(PROBLEM, SHARED, OWN.mars),
    "nsga2": lambda: nsga2(PROBLEM, SHARED, OWN.nsga2),
    "genetic": lambda: genetic(PROBLEM, SHARED, OWN.genetic),
    "random": lambda: random_search(PROBLEM, SHARED, OWN.random),
}
every_method = pytest.mark.parametrize("name", METHODS)


@cache
def sampler(name: str) -> Callable[..., Any]:
    """Five objects at a time, compiled once."""
    return jax.jit(built(name)[0].sample)


@cache
def built(name: str) -> tuple[Method, Callable[[Any], Any], Any, Any]:
    """The method, its update, its first state and the one after three updates with the last metrics."""
    method = METHODS[name]()
    if method.on_host:
        update = hosted_update(method, lambda objects: np.asarray(PROBLEM.objectives.rewards(objects)))
    else:
        update = jax.jit(compiled_update(method, PROBLEM.objectives))
    first = jax.jit(method.init)(jax.random.key(0))
    state = first
    for _ in range(3):
        state, metrics = update(state)
    return method, update, first, (state, metrics)


def bits(tree: Any) -> list[np.ndarray]:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return [
        np.array(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
        for leaf in leaves
    ]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(bits(one), bits(other), strict=True))


@every_method
def test_a_state_that_was_saved_goes_on_to_the_same_bits(name: str) -> None:
    method, update, _, (state, _) = built(name)
    program = jax_host_program(method.init, update, lambda state, key, final: {}, seeds=[0])
    (loaded,) = program.load(program.save((state,)))
    assert same(loaded, state)
    assert same(update(loaded)[0], update(state)[0])


@every_method
def test_proposing_and_sampling_change_nothing(name: str) -> None:
    method, _, _, (state, _) = built(name)
    before = bits(state)
    propose = method.propose if method.on_host else jax.jit(method.propose)
    assert same(propose(state), propose(state))
    sampler(name)(state, jax.random.key(1), condition([[0.5, 0.5]] * 5, 16.0, 2))
    assert all(np.array_equal(a, b) for a, b in zip(before, bits(state), strict=True))


@every_method
def test_samples_are_legal_before_and_after_training_one_for_each_row(name: str) -> None:
    _, _, first, (state, _) = built(name)
    asked = condition([[0.5, 0.5], [1.0, 0.0], [0.1, 0.9], [1.0, 0.0], [0.0, 1.0]], 16.0, 2)
    for given in (first, state):
        objects = np.asarray(sampler(name)(given, jax.random.key(2), asked))
        assert objects.shape == (5, 2) and objects.dtype == np.int32
        assert (objects >= 0).all() and (objects < SIDE).all()


@every_method
def test_no_update_scores_more_objects_than_a_batch(name: str) -> None:
    method, _, first, (_, metrics) = built(name)
    assert isinstance(metrics["evaluations"], Sum)
    drafted = method.propose(first) if method.on_host else jax.eval_shape(method.propose, first)
    assert float(metrics["evaluations"].value) == SHARED.batch_size == len(drafted.objects)


@pytest.mark.parametrize("name", ["nsga2", "genetic", "random"])
def test_different_samples_are_the_best_for_the_preference(name: str) -> None:
    _, _, _, (state, _) = built(name)
    answers = np.asarray(sampler(name)(state, jax.random.key(3), condition([[1.0, 0.0]] * 5, 16.0, 2)))
    assert len({tuple(answer) for answer in answers.tolist()}) == 5
    values = np.asarray(PROBLEM.objectives.rewards(jnp.asarray(answers)))[:, 0]
    assert (np.diff(values) <= 1e-6).all()


@pytest.mark.parametrize("name", ["moreinforce", "a2c", "soft_q", "envelope_q"])
def test_every_parameter_is_learnt(name: str) -> None:
    _, _, first, (state, _) = built(name)
    for path, before in jax.tree.leaves_with_path(first.policy):
        after = {jax.tree_util.keystr(at): leaf for at, leaf in jax.tree.leaves_with_path(state.policy)}
        assert not np.array_equal(before, after[jax.tree_util.keystr(path)]), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", ["soft_q", "envelope_q"])
def test_the_target_is_the_network_of_the_last_multiple_of_its_period(name: str) -> None:
    _, update, first, _ = built(name)
    one = update(first)[0]
    two = update(one)[0]
    three = update(two)[0]
    assert same(one.target, first.policy) and same(two.target, two.policy) and same(three.target, two.policy)
    assert not same(three.policy, two.policy)
