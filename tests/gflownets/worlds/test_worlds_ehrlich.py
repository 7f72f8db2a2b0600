import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tutelage.gflownets.worlds.config import EhrlichConfig
from tutelage.gflownets.worlds.ehrlich import (
    Instance,
    draw_instance,
    ehrlich,
    ehrlich_front,
    ehrlich_values,
    joint_length,
    optimal_sequence,
)
from tutelage.gflownets.worlds.enumeration import enumerate_objects, front_of
from tutelage.lab.errors import BadInput

SMALL = (
    EhrlichConfig(num_states=4, length=8, num_motifs=2, motif_length=3, quantization=3, num_objectives=2, seed=1),
    EhrlichConfig(num_states=4, length=7, num_motifs=1, motif_length=4, quantization=2, num_objectives=3, seed=2),
    EhrlichConfig(num_states=3, length=8, num_motifs=2, motif_length=3, quantization=3, num_objectives=3, seed=5),
    EhrlichConfig(num_states=4, length=5, num_motifs=3, motif_length=1, quantization=1, num_objectives=3, seed=3),
    EhrlichConfig(num_states=5, length=5, num_motifs=1, motif_length=3, quantization=2, num_objectives=4, seed=7),
)


def by_definition(x: np.ndarray, instance: Instance, q: int) -> list[float]:
    """f of one sequence, read off the paper."""
    if not all(instance.allowed[a, b] for a, b in itertools.pairwise(x)):
        return [0.0] * len(instance.motifs)
    values = []
    for motifs, offsets in zip(instance.motifs, instance.offsets):
        value = 1.0
        for a, s in zip(motifs, offsets):
            h = max(sum(x[start + s_j] == a_j for a_j, s_j in zip(a, s)) for start in range(len(x) - s[-1]))
            value *= (h * q // len(a)) / q
        values.append(value)
    return values


@pytest.mark.parametrize("config", SMALL)
def test_values_are_those_of_the_definition(config):
    instance, problem = draw_instance(config), ehrlich(config)
    objects = np.random.default_rng(0).integers(0, config.num_states, (1500, config.length)).astype(np.int32)
    values = np.asarray(jax.jit(problem.objectives.rewards)(jnp.asarray(objects)))
    assert_allclose(values, [by_definition(x, instance, config.quantization) for x in objects], rtol=1e-6)
    assert (values == 0).any() and (values > 0).any() and values.max() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_every_objective_reaches_one_and_no_banned_transition_is_on_the_way(seed):
    config = EhrlichConfig(num_states=32, length=32, num_motifs=4, motif_length=4, num_objectives=3, seed=seed)
    instance = draw_instance(config)
    assert (~instance.allowed).sum(axis=1).tolist() == [12] * 32
    assert instance.allowed.diagonal().all()
    assert (np.linalg.matrix_power(instance.allowed.astype(float), 32) > 0).all()
    best = np.stack([optimal_sequence(instance, objective, 32) for objective in range(3)])
    assert best.shape == (3, 32)
    assert_array_equal(ehrlich_values(jnp.asarray(best), instance, 4).diagonal(), 1.0)


def test_a_seed_names_a_function():
    one, same, other = (draw_instance(EhrlichConfig(seed=seed)) for seed in (3, 3, 4))
    assert all((a == b).all() for a, b in zip(one, same))
    assert not (one.motifs == other.motifs).all()


@pytest.mark.parametrize("config", SMALL)
def test_front_by_dynamic_programming_equals_enumeration(config):
    problem, instance = ehrlich(config), draw_instance(config)
    values = np.asarray(jax.jit(problem.objectives.rewards)(jnp.asarray(enumerate_objects(problem))), np.float64)
    expected = front_of(np.round(values, 5))
    assert_allclose(ehrlich_front(instance, config.quantization, config.length), expected, atol=1e-5)
    assert problem.front is not None
    assert_allclose(problem.front(), expected, atol=1e-5)


def test_short_sequences_make_objectives_conflict():
    config = EhrlichConfig(num_states=4, length=6, num_motifs=2, motif_length=3, quantization=3, seed=1)
    problem = ehrlich(config)
    assert problem.front is not None
    assert len(problem.front()) > 1


def test_objectives_whose_motifs_all_fit_do_not_conflict():
    config = EhrlichConfig(num_states=4, length=8, num_motifs=1, motif_length=3, quantization=3, max_span=3, seed=1)
    instance, problem = draw_instance(config), ehrlich(config)
    assert joint_length(instance) <= 8
    assert problem.front is not None
    assert_array_equal(problem.front(), [[1.0, 1.0]])
    assert_array_equal(ehrlich_front(instance, 3, joint_length(instance)), [[1.0, 1.0]])


def test_a_front_that_cannot_be_had_is_not_promised():
    assert ehrlich(EhrlichConfig()).front is None


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EhrlichConfig(num_motifs=9), "num_motifs × motif_length = 36: must be at most length = 32"),
        (EhrlichConfig(quantization=5), "quantization = 5: must be at most motif_length = 4"),
        (EhrlichConfig(max_span=9), r"max_span = 9: must be 0 or in \[4, 8\]"),
        (EhrlichConfig(num_states=1), r"num_states = 1: must be in \[2, 62\]"),
        (EhrlichConfig(banned_share=1.0), r"banned_share = 1.0: must be in \[0, 1\)"),
    ],
)
def test_bad_functions_are_refused_in_one_line(config, message):
    with pytest.raises(BadInput, match=message):
        ehrlich(config)
