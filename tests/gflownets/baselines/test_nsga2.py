"""NSGA-II is pymoo's: the same survivors of the same offspring; children are new; no pymoo, one line."""

from __future__ import annotations

import copy
import importlib.util

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_grid import tiny_grid

from tutelage.gflownets.baselines.config import GeneticConfig, MARSConfig, NSGA2Config
from tutelage.gflownets.baselines.genetic import genetic
from tutelage.gflownets.baselines.mars import mars
from tutelage.gflownets.baselines.nsga2 import nsga2, survivors, tournament
from tutelage.gflownets.config import GFlowNetConfig
from tutelage.gflownets.method import hosted_update
from tutelage.lab.errors import BadInput

SHARED = GFlowNetConfig(batch_size=12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 3]))
def test_survivors_are_those_of_pymoos_nsga2_for_the_same_offspring(seed: int, num_objectives: int) -> None:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem
    from pymoo.problems.static import StaticProblem

    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 12, num_objectives))
    problem = Problem(n_var=1, n_obj=num_objectives, xl=0.0, xu=100.0)
    algorithm = NSGA2(pop_size=12)
    algorithm.setup(problem, seed=1, termination=("n_gen", 10), verbose=False)
    algorithm.ask()
    for rewards, offset in ((first, 0), (second, 12)):
        before = [] if offset == 0 else algorithm.pop.get("X")[:, 0].astype(int).tolist()
        rows = np.array([*before, *range(offset, offset + 12)])
        # Boundary members are all infinitely far from their neighbours: the same draws break those ties.
        ours = copy.deepcopy(algorithm.random_state)
        offspring = Population.new(X=np.arange(offset, offset + 12.0)[:, None])
        algorithm.evaluator.eval(StaticProblem(problem, F=-rewards), offspring)
        algorithm.tell(infills=offspring)
    theirs = algorithm.pop.get("X")[:, 0].astype(int)
    kept, crowding = survivors(np.concatenate([first, second])[rows], 12, ours)
    kept = rows[kept]
    assert kept.tolist() == theirs.tolist()
    by_row = dict(zip(theirs, algorithm.pop.get("crowding")))
    assert np.allclose(crowding, [by_row[row] for row in kept])


def test_a_tournament_prefers_the_dominating_then_the_less_crowded() -> None:
    rewards = np.array([[0.9, 0.9], [0.1, 0.1], [0.95, 0.5], [0.5, 0.95]])
    crowding = np.array([1.0, 5.0, 2.0, 3.0])
    parents = tournament(rewards, crowding, 500, np.random.default_rng(0))
    assert parents.shape == (500, 2)
    wins = np.bincount(parents.ravel(), minlength=4) / parents.size
    # Each member is in half of the tournaments: 1 loses all; 3 (least crowded of the front) wins all its own.
    assert wins[1] == 0 and wins[3] == pytest.approx(0.5, abs=0.03)
    assert wins[2] == pytest.approx(1 / 3, abs=0.05) and wins[0] == pytest.approx(1 / 6, abs=0.05)


def test_children_are_different_from_members_and_each_other_while_there_is_room() -> None:
    problem = tiny_grid(side=12, dims=4)
    method = nsga2(problem, SHARED, NSGA2Config(attempts=20))
    rewards = jax.jit(problem.objectives.rewards)
    update = hosted_update(method, lambda objects: np.asarray(rewards(objects)))
    state, _ = update(jax.jit(method.init)(jax.random.key(0)))
    for _ in range(3):
        members = {tuple(row) for row in np.asarray(state.objects).tolist()}
        children = [tuple(row) for row in np.asarray(method.propose(state).objects).tolist()]
        assert len(set(children)) == len(children) and not members & set(children)
        state, metrics = update(state)
        assert metrics["different"] == 1.0


def test_a_space_smaller_than_the_population_is_no_dead_end() -> None:
    problem = tiny_grid(side=2)
    method = nsga2(problem, SHARED, NSGA2Config(attempts=2))
    rewards = jax.jit(problem.objectives.rewards)
    update = hosted_update(method, lambda objects: np.asarray(rewards(objects)))
    state = jax.jit(method.init)(jax.random.key(0))
    for _ in range(3):
        state, metrics = update(state)
    assert metrics["different"] == pytest.approx(4 / 12)


def test_without_pymoo_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"nsga2 needs the package pymoo: pip install 'tutelage\[mo\]'"):
        nsga2(tiny_grid(), SHARED, NSGA2Config())


def test_problems_without_variation_or_mutation_are_refused_by_name() -> None:
    bare = tiny_grid()._replace(variation=None, mutate=None)
    with pytest.raises(BadInput, match="nsga2: the problem has no variation"):
        nsga2(bare, SHARED, NSGA2Config())
    with pytest.raises(BadInput, match="genetic: the problem has no variation"):
        genetic(bare, SHARED, GeneticConfig())
    with pytest.raises(BadInput, match="mars: the problem has no mutate"):
        mars(bare, SHARED, MARSConfig())
