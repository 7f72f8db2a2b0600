"""From a configuration to the running system: composes, computes little."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tutelage.backends.jax_cache import enable_compilation_cache
from tutelage.backends.jax_host_program import jax_host_program
from tutelage.backends.jax_program import jax_program
from tutelage.gflownets.active.learning import evaluation as active_figures
from tutelage.gflownets.method import Method, compiled_update, hosted_update
from tutelage.gflownets.objectives import compiled_rewards
from tutelage.gflownets.oracles.oracle import Oracle
from tutelage.gflownets.problem import Problem
from tutelage.lab.program import Program, Sum
from tutelage.studies.mogfn.config import Config
from tutelage.studies.mogfn.evaluation import collector, exactness, measurer
from tutelage.studies.mogfn.problems import method as make_method
from tutelage.studies.mogfn.problems import problem as make_problem


class RunState(NamedTuple):
    """A method's state, and how many objects it has had scored.

    Attributes:
        method: whatever the method keeps.
        evaluations: f32, exact up to 2^24.
    """

    method: Any
    evaluations: Float[Array, ""]


class System(NamedTuple):
    """What a run is made of."""

    problem: Problem
    method: Method


def system(config: Config) -> System:
    """Problem and method of a configuration."""
    chosen = make_problem(config)
    return System(chosen, make_method(config, chosen))


def build(config: Config, seeds: Sequence[int]) -> Program:
    """The compiled system for these seeds; with rewards or a method on the host, its compiled pieces."""
    enable_compilation_cache()
    problem, method = system(config)
    known = functools.cache(lambda: exactness(config, problem))

    def init(key: Key[Array, ""]) -> RunState:
        return RunState(method.init(key), jnp.zeros((), jnp.float32))

    def counted(update: Any) -> Any:
        def counting(state: RunState) -> tuple[RunState, Mapping[str, Any]]:
            after, metrics = update(state.method)
            scored = metrics["evaluations"]
            assert isinstance(scored, Sum)
            return RunState(after, state.evaluations + jnp.asarray(scored.value, jnp.float32)), metrics

        return counting

    collected = collector(config, method, problem, known)
    on_host = problem.objectives.on_host or method.on_host
    if not on_host:
        return jax_program(
            init,
            counted(compiled_update(method, problem.objectives)),
            lambda state, key: collected(state, key, False),
            final=lambda state, key: collected(state, key, True),
            measure=measurer(config, problem, known, None),
            seeds=seeds,
        )
    if problem.objectives.on_host:
        score: Any = Oracle(problem.objectives)
    else:
        score = jax.jit(lambda objects: compiled_rewards(problem.objectives, objects))
    update = counted(hosted_update(method, score))
    if config.method == "active":
        rounds = active_figures(problem, config.active)

        def evaluate_rounds(state: RunState, key: Key[Array, ""], final: bool) -> Mapping[str, float]:
            return {**rounds(state.method, key, final), "evaluations": float(state.evaluations)}

        return jax_host_program(init, update, evaluate_rounds, seeds=seeds)
    measured = measurer(config, problem, known, score if problem.objectives.on_host else None)
    collect = jax.jit(collected, static_argnums=2)

    def evaluate(state: RunState, key: Key[Array, ""], final: bool) -> dict[str, float]:
        return measured(jax.device_get(collect(state, key, final)))

    return jax_host_program(init, update, evaluate, seeds=seeds)
