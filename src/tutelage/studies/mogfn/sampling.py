"""The sampler of a run, in the hands of its user.

run = load_run("runs/grid")
objects = sampler_of(run)([0.3, 0.7], 100, jax.random.key(0))
"""

from __future__ import annotations

from tutelage.gflownets.sampling import Draw, sampler
from tutelage.lab.errors import BadInput
from tutelage.studies.loading import LoadedRun
from tutelage.studies.mogfn.build import system
from tutelage.studies.mogfn.evaluation import asked_beta


def sampler_of(run: LoadedRun, *, beta: float | None = None, index: int = 0) -> Draw:
    """`(preference [M] or [number, M], number, key) -> objects [number, …]`, as `gflownets.sampling.sampler`.

    Of a run that learns actively these are the queries that it would ask next, at most four times as many as it asks in
    a round.

    Args:
        run: of this study, finished or not (`studies.loading.load_run`).
        beta: the exponent; by default that of the run's evaluation.
        index: which of the run's seeds, by its place.

    Raises:
        BadInput: a run of another study, or a place beyond its seeds; when it draws: what `sampler` refuses.
    """
    if run.study.name != "mogfn":
        raise BadInput(f"this run is of study {run.study.name!r}; must be of 'mogfn'")
    number = len(run.program.seeds)
    if not 0 <= index < number:
        raise BadInput(f"index = {index}: the run has {number} seeds; must be in [0, {number - 1}]")
    problem, method = system(run.config)
    state = run.program.seed_state(run.state, index).method
    return sampler(method, state, problem.objectives, beta=asked_beta(run.config) if beta is None else beta)
