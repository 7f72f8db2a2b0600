"""Which problem and which method a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable

from tutelage.gflownets.active.learning import active_learning
from tutelage.gflownets.baselines.a2c import a2c
from tutelage.gflownets.baselines.envelope_q import envelope_q
from tutelage.gflownets.baselines.genetic import genetic
from tutelage.gflownets.baselines.mars import mars
from tutelage.gflownets.baselines.moreinforce import moreinforce
from tutelage.gflownets.baselines.nsga2 import nsga2
from tutelage.gflownets.baselines.random_search import random_search
from tutelage.gflownets.baselines.soft_q import soft_q
from tutelage.gflownets.learning.gflownet import gflownet
from tutelage.gflownets.method import Method
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.ehrlich import ehrlich
from tutelage.gflownets.worlds.hypergrid import hypergrid
from tutelage.gflownets.worlds.ngrams import ngrams
from tutelage.studies.mogfn.config import Config


def problem(config: Config) -> Problem:
    """What is built. Raises `BadInput` naming the extra, where a package that it needs is not installed."""
    match config.problem:
        case "hypergrid":
            return hypergrid(config.hypergrid)
        case "ngrams":
            return ngrams(config.ngrams)
        case "ehrlich":
            return ehrlich(config.ehrlich)
        case "aptamers":
            from tutelage.gflownets.worlds.aptamers import aptamers

            return aptamers(config.aptamers)
        case "fragments":
            from tutelage.gflownets.worlds.molecules.fragments import fragments

            return fragments(config.fragments)
        case _:
            from tutelage.gflownets.worlds.molecules.atoms import atoms

            return atoms(config.atoms)


def method(config: Config, problem: Problem) -> Method:
    """Who builds it."""
    shared, own, num_updates = config.gflownet, config.baselines, config.schedule.num_updates
    makers: dict[str, Callable[[], Method]] = {
        "gflownet": lambda: gflownet(problem, shared, num_updates),
        "moreinforce": lambda: moreinforce(problem, shared, own.moreinforce, num_updates),
        "a2c": lambda: a2c(problem, shared, own.a2c, num_updates),
        "soft_q": lambda: soft_q(problem, shared, own.soft_q, num_updates),
        "envelope_q": lambda: envelope_q(problem, shared, own.envelope_q, num_updates),
        "mars": lambda: mars(problem, shared, own.mars),
        "nsga2": lambda: nsga2(problem, shared, own.nsga2),
        "genetic": lambda: genetic(problem, shared, own.genetic),
        "random": lambda: random_search(problem, shared, own.random),
        "active": lambda: active_learning(problem, config.active),
    }
    return makers[config.method]()
