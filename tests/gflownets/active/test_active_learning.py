from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.backends.jax_host_program import jax_host_program
from tutelage.gflownets.active.config import (
    PROPOSERS,
    AcquisitionConfig,
    ActiveLearningConfig,
    EncoderConfig,
    SurrogateConfig,
    edit_sampler,
)
from tutelage.gflownets.active.edits import edit_environment
from tutelage.gflownets.active.evaluated import (
    append,
    draw_pool,
    filled_up,
    front_rows,
    new_rows,
    nothing_evaluated,
    reference_point,
)
from tutelage.gflownets.active.learning import active_learning, evaluation, exponent, figures
from tutelage.gflownets.condition import condition
from tutelage.gflownets.config import BetaConfig, LossConfig, NetworkConfig, OptimizerConfig
from tutelage.gflownets.exact.conformance import check_environment
from tutelage.gflownets.method import hosted_update
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.config import HyperGridConfig, NGramConfig
from tutelage.gflownets.worlds.hypergrid import hypergrid
from tutelage.gflownets.worlds.ngrams import ngrams
from tutelage.lab.configuration import override, validate
from tutelage.lab.errors import BadInput


def small_sampler(width: int, layers: int):
    return dataclasses.replace(
        edit_sampler(),
        network=NetworkConfig(kind="set_transformer", width=width, layers=layers, heads=4),
        beta=BetaConfig(value=8.0),
        loss=LossConfig(kind="vargrad"),
        optimizer=OptimizerConfig(learning_rate=1e-3, z_learning_rate=1e-2, max_grad_norm=10.0),
    )


TINY = ActiveLearningConfig(
    rounds=3,
    queries=4,
    initial=10,
    pool=4,
    max_edits=3,
    eval_samples=4,
    opt_steps=4,
    generations=2,
    surrogate=SurrogateConfig(encoder=EncoderConfig(embed=8, latent=2, kernel=3, blocks=1), steps=6),
    acquisition=AcquisitionConfig(num_samples=4, front=8),
    gflownet=small_sampler(8, 1),
)


def words(length: int, *motifs: str) -> Problem:
    return ngrams(NGramConfig(alphabet="ACVW", motifs=motifs, min_len=length, max_len=length, scale=float(length)))


SHORT = words(6, "AV", "VC")


def score_of(problem: Problem):
    rewards = jax.jit(problem.objectives.rewards)
    return lambda objects: np.asarray(rewards(jnp.asarray(objects)))


def program_of(problem: Problem, config: ActiveLearningConfig):
    method = active_learning(problem, config)
    update = hosted_update(method, score_of(problem))
    return method, jax_host_program(method.init, update, evaluation(problem, config), seeds=(0,))


@pytest.fixture(scope="module")
def mogfn():
    """The method, and its program after the initial design and two rounds."""
    method, program = program_of(SHORT, dataclasses.replace(TINY, elites=3))
    state, metrics = program.update(program.init(), 3)
    return method, program, state, metrics()[0]


def test_every_query_of_the_loop_is_new(mogfn):
    _, _, (state,), metrics = mogfn
    objects, _, _ = state.evaluated.host()
    assert len(objects) == 10 + 2 * 4 == len(np.unique(objects, axis=0))
    found = figures(state, SHORT, TINY.queries)
    # The first hypervolume is kept as a float32: where nothing was gained the ratio is 1 up to that.
    assert found["new"] == 1.0 and found["relative_hypervolume"] >= 1.0 - 1e-6 and 0 < found["hypervolume_share"] <= 1.0
    assert found["evaluations"] == metrics["evaluations"] == 18
    assert found["relative_hypervolume"] == pytest.approx(metrics["relative_hypervolume"])
    assert np.isfinite(list(metrics.values())).all() and 0 < metrics["beta"] <= 8


def test_elites_are_only_what_as_many_edits_as_asked_for_lead_to():
    """A trajectory to anything else has an illegal STOP, and the loss would be infinite."""
    _, program = program_of(SHORT, dataclasses.replace(TINY, elites=3, min_edits=3, opt_steps=2))
    _, metrics = program.update(program.init(), 2)
    assert np.isfinite(metrics()[0]["loss"])


def test_a_saved_loop_goes_on_to_the_same_bits(mogfn):
    _, program, state, _ = mogfn
    again = program.load(program.save(state))
    once, twice = (program.save(program.update(given, 1)[0]) for given in (state, again))
    assert all(np.array_equal(once[key], twice[key]) for key in once)


def test_evaluation_does_not_change_the_loop_and_samples_are_as_many_as_asked(mogfn):
    method, program, state, _ = mogfn
    before = program.save(state)
    program.evaluate(state, 3)
    asked = condition(np.tile([0.5, 0.5], (3, 1)), np.ones(3), 2)
    samples = np.asarray(method.sample(state[0], jax.random.key(5), asked))
    assert samples.shape == (3, 6) and len(new_rows(samples, state[0].evaluated.host()[0])) == 3
    assert all(np.array_equal(before[key], after) for key, after in program.save(state).items())


def test_log_z_reads_the_start_and_the_whole_policy_learns(mogfn):
    method, _, (state,), _ = mogfn
    fresh = jax.jit(method.init)(jax.random.key(0))
    pairs = zip(jax.tree.leaves_with_path(fresh.sampler.policy), jax.tree.leaves(state.sampler.policy), strict=True)
    moved = {path[0].name: bool(jnp.any(before != after)) for (path, before), after in pairs}
    assert moved.pop("z") is False and all(moved.values())  # VarGrad has no log Z to learn
    assert state.sampler.policy.z.of_start


@pytest.mark.parametrize("proposer", sorted({*PROPOSERS} - {"mogfn"}))
def test_every_query_of_a_baseline_is_new(proposer):
    _, program = program_of(SHORT, dataclasses.replace(TINY, proposer=proposer))
    (state,), _ = program.update(program.init(), 3)
    objects, _, _ = state.evaluated.host()
    assert len(np.unique(objects, axis=0)) == len(objects) == 18
    assert figures(state, SHORT, TINY.queries)["new"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("kind, conditional", [("ehvi", False), ("qehvi", True)])
def test_other_acquisitions_and_preferences_ask_for_new_objects_too(kind, conditional):
    config = override(
        TINY, {"acquisition.kind": kind, "gflownet.preference.use": conditional, "gflownet.loss.kind": "tb"}
    )
    _, program = program_of(words(6, "AV", "VC", "CA"), dataclasses.replace(config, warm=False))
    (state,), _ = program.update(program.init(), 3)
    assert figures(state, SHORT, TINY.queries)["new"] == 1.0


def test_the_exponent_never_reaches_zero():
    config = ActiveLearningConfig()
    betas = [exponent(number, config) for number in range(1, 65)]
    assert betas[0] == 32 and betas[1] == 30 and min(betas) == betas[-1] == config.beta_floor > 0


def test_the_default_configuration_is_valid_and_edits_conform():
    validate(ActiveLearningConfig())
    start = np.array([0, 1, 0, -1], np.int32)
    assert check_environment(edit_environment(start, 2, max_edits=2), jax.random.key(0)) == []


# What is drawn from the evaluated objects.


def evaluated_of(rewards, capacity=20):
    rewards = np.asarray(rewards, np.float32)
    objects = np.arange(len(rewards) * 2, dtype=np.int32).reshape(-1, 2)
    return append(nothing_evaluated(capacity, 2, 2), objects, rewards)


def test_the_pool_is_the_front_then_the_former_front_then_the_rest():
    evaluated = evaluated_of([[0.1, 0.1], [0.5, 0.2], [0.2, 0.5], [0.0, 0.0]])
    evaluated = append(evaluated, np.array([[90, 91]], np.int32), np.array([[0.6, 0.3]], np.float32))
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert set(draw_pool(rng, evaluated, 2, 1.0)) == {2, 4}
        assert set(draw_pool(rng, evaluated, 3, 1.0)) == {1, 2, 4}
    fourth = [draw_pool(rng, evaluated, 4, 0.0)[3] for _ in range(1000)]
    assert set(fourth) == {0, 3} and fourth.count(0) > fourth.count(3)  # 3 dominate row 0, 4 row 3
    with pytest.raises(BadInput, match="pool = 6 is more than the 5 objects"):
        draw_pool(rng, evaluated, 6, 1.0)


def test_the_front_is_thinned_evenly_and_keeps_its_ends():
    line = np.linspace(0, 1, 11)
    rewards = np.stack([line, 1 - line], axis=1)[::-1]
    rows = front_rows(np.vstack([rewards, rewards[:2], [[0.1, 0.1]]]), 3)
    assert rewards[rows][:, 0].tolist() == [0.0, 0.5, 1.0]
    assert len(front_rows(rewards, 32)) == 11


def test_the_reference_lies_strictly_below_the_first_front():
    assert reference_point(np.array([[1.0, 2.0], [2.0, 1.0], [0, 0]]), "first_front") == pytest.approx([0.9, 0.9])
    assert reference_point(np.array([[1.0, 1.0], [0.0, 0.5]]), "first_front") == pytest.approx([0.9, 0.95])
    assert (reference_point(np.full((3, 2), 0.5), "first_front") < 0.5).all()
    assert reference_point(np.ones((3, 2)), "zero").tolist() == [0.0, 0.0]


def test_objects_that_are_missing_are_made_and_an_exhausted_space_is_said_to_be():
    known = np.array([[0], [1]], np.int32)
    nothing = np.zeros((0, 1), np.int32)
    for given in (np.array([[1], [2], [2]], np.int32), nothing):
        found = filled_up(given, known, 3, lambda attempt, made: (made + 1) % 5, known)
        assert sorted(found[:, 0].tolist()) == [2, 3, 4]
    with pytest.raises(BadInput, match="queries = 4: only 3 objects were found"):
        filled_up(nothing, known, 4, lambda attempt, made: (made + 1) % 5, known)


def test_a_run_that_is_over_says_so():
    with pytest.raises(BadInput, match="4 objects are evaluated and 2 more do not fit in 5"):
        append(evaluated_of(np.eye(4, 2), capacity=5), np.zeros((2, 2), np.int32), np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(
    "problem, changes, initial, message",
    [
        (words(6, "AV", "VC", "CA", "AA"), {}, None, "proposer = 'mogfn' with 4 objectives"),
        (SHORT, {"gflownet.beta.kind": "uniform"}, None, "gflownet.beta.kind = 'uniform'"),
        (SHORT, {"pool": 11}, None, "pool = 11: must be at most initial = 10"),
        (SHORT, {"min_edits": 4}, None, "min_edits = 4: must be at most 3"),
        (SHORT, {}, np.zeros((5, 7), np.int32), r"initial of shape \(5, 7\): must be \[n ≥ 4, 6\]"),
        (SHORT, {}, np.full((5, 6), 4, np.int32), r"initial has tokens from 4 to 4: must be in \[-1, 3\]"),
        (SHORT._replace(mutate=None), {"proposer": "mutation"}, None, "the problem has no mutate"),
        (SHORT._replace(variation=None), {"proposer": "genetic"}, None, "the problem has no variation"),
        (SHORT._replace(variation=None), {"proposer": "nsga2"}, None, "the problem has no variation"),
        (hypergrid(HyperGridConfig()), {}, None, "active learning edits sequences"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_any_work(problem, changes, initial, message):
    with pytest.raises(BadInput, match=message):
        active_learning(problem, override(TINY, changes), initial)


@pytest.mark.slow
def test_rounds_of_the_gflownet_reach_more_hypervolume_than_random_mutation():
    """It works when, 7: alphabet 4, L = 10, 8 rounds of 8 queries; geometric mean over seeds."""
    problem = words(10, "AV", "VC")
    shared = ActiveLearningConfig(
        rounds=8,
        queries=8,
        initial=16,
        pool=8,
        max_edits=4,
        eval_samples=50,
        opt_steps=200,
        elites=16,
        warm=False,
        surrogate=SurrogateConfig(encoder=EncoderConfig(embed=32, latent=8, kernel=5, blocks=1), steps=150),
        acquisition=AcquisitionConfig(num_samples=16, front=16),
        gflownet=override(small_sampler(32, 1), {"optimizer.learning_rate": 3e-3}),
        beta_decay=1.0,
        beta_floor=2.0,
    )
    reached = {}
    for proposer in ("mutation", "mogfn"):
        method = active_learning(problem, dataclasses.replace(shared, proposer=proposer))
        update = hosted_update(method, score_of(problem))
        for seed in range(3):
            state = method.init(jax.random.key(seed))
            for _ in range(9):
                state, _ = update(state)
            found = figures(state, problem, shared.queries)
            assert found["new"] == 1.0 and found["evaluations"] == 80
            reached.setdefault(proposer, []).append(np.log(found["relative_hypervolume"]))
    assert np.exp(np.mean(reached["mogfn"]) - np.mean(reached["mutation"])) >= 1.15
