"""The sampler of a run, in the hands of its user.

run = load_run("runs/grid")
objects = sampler_of(run)([0.3, 0.7], 100, jax.random.key(0))
"""

from __future__ import annotations

import jax
import numpy as np

from tutelage.gflownets.condition import condition
from tutelage.gflownets.sampling import Draw, sampler
from tutelage.lab.errors import BadInput
from tutelage.lab.files import check_table, write_rows
from tutelage.lab.report.printed import print_tables
from tutelage.lab.study import Exhibit
from tutelage.studies.loading import LoadedRun, load_run
from tutelage.studies.mogfn.build import system
from tutelage.studies.mogfn.evaluation import asked_beta, scored
from tutelage.studies.mogfn.tools import SampleArguments

SHOWN = 10
"""Objects in the terminal."""


def sampler_of(run: LoadedRun, *, beta: float | None = None, index: int = 0) -> Draw:
    """`(preference [M] or [number, M], number, key) -> objects [number, …]`, as `gflownets.sampling.sampler`.

    Of a run that learns actively these are the queries that it would ask next, at most four times as many as it asks in
    a round, and the preference must be None; so it must of a run whose samples are uniform.

    Args:
        run: of this study, finished or not (`studies.loading.load_run`).
        beta: the exponent, one that training had; by default that of the run's evaluation.
        index: which of the run's seeds, by its place.

    Raises:
        BadInput: a run of another study, a place beyond its seeds, and what `sampler` refuses.
    """
    if run.study.name != "mogfn":
        raise BadInput(f"this run is of study {run.study.name!r}; must be of 'mogfn'")
    number = len(run.program.seeds)
    if not 0 <= index < number:
        raise BadInput(f"index = {index}: the run has {number} seeds; must be in [0, {number - 1}]")
    problem, method = system(run.config)
    state = run.program.seed_state(run.state, index).method
    if beta is None and method.exponents is not None:
        beta = asked_beta(run.config)
    return sampler(method, state, problem.objectives, beta=beta)


def sample(arguments: SampleArguments) -> None:
    """Draw objects for a preference, print the best ten by the weighted sum of rewards, write all of them.

    Raises:
        BadInput: no run of this study, a preference that is not on the simplex or has another number of weights, an
            exponent that training did not have, a place beyond the seeds, a file that cannot be written.
    """
    if arguments.out:
        check_table(arguments.out)
    run = load_run(arguments.run, of="mogfn")
    for note in run.notes:
        print(note)
    problem, method = system(run.config)
    objectives = problem.objectives
    weights = np.asarray(arguments.preference)
    condition(weights, 1.0, objectives.num_objectives)
    if not method.answers_preferences:
        print("this run samples the same whatever is preferred: the preference only weighs what it is worth")
    draw = sampler_of(run, beta=arguments.beta or None, index=arguments.place)
    key = jax.random.key(arguments.seed)
    objects = draw(weights if method.answers_preferences else None, arguments.number, key)
    if arguments.distinct:
        _, first = np.unique(objects.reshape(len(objects), -1), axis=0, return_index=True)
        objects = objects[np.sort(first)]
    rewards = scored(problem, objects)
    worth = rewards @ weights.astype(rewards.dtype)
    texts = [objectives.render(each) for each in objects]
    names = objectives.names
    rows = [
        {"object": text, **dict(zip(names, map(float, reward))), "weighted_sum": float(value)}
        for text, reward, value in zip(texts, rewards, worth)
    ]
    asked = ", ".join(f"{name} {weight:g}" for name, weight in zip(names, arguments.preference))
    best = np.argsort(-worth, kind="stable")[:SHOWN]
    table = [("object", *names, "weighted sum")]
    table += [(texts[i], *(f"{value:.3f}" for value in rewards[i]), f"{worth[i]:.3f}") for i in best]
    title = f"The best {len(best)} of {len(objects)} for {asked}"
    print_tables([Exhibit("sample", title, "By the weighted sum of rewards.", rows=tuple(table))])
    if arguments.out:
        print(f"all {len(rows)}: {write_rows(arguments.out, rows)}")
