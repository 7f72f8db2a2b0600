"""Pictures of a finished run: the front that was found, what each preference is answered by, learned and exact law."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from tutelage.gflownets.active.learning import ActiveLearningState
from tutelage.gflownets.exact import law as exact
from tutelage.gflownets.learning.gflownet import GFlowNetState, encoded
from tutelage.gflownets.method import Method
from tutelage.gflownets.problem import Problem
from tutelage.lab.drawing import plots
from tutelage.lab.program import Program
from tutelage.lab.study import Exhibit
from tutelage.measures import pareto
from tutelage.studies.mogfn.build import system
from tutelage.studies.mogfn.config import Config
from tutelage.studies.mogfn.evaluation import asked_beta, conditions, exactness, preferences, sampled, scored

KEY = 0x6C6F6F6B
SAMPLES = 64
"""Samples for each preference."""
POINTS = 400
"""Points of a picture; more are a blot."""
MIDDLE = "even"


def exhibits(config: Config, program: Program, state: Any) -> list[Exhibit]:
    """Everything the report shows of one run, of its first seed."""
    problem, method = system(config)
    of_seed = program.seed_state(state, 0).method
    if isinstance(of_seed, ActiveLearningState):
        return queries(problem, of_seed, config.active.initial)
    weights = preferences(config, problem.objectives.num_objectives, final=False)
    objects, rewards = _samples(config, problem, method, of_seed, weights)
    shown = [front(problem, weights, rewards)] if problem.objectives.num_objectives == 2 else []
    shown.append(answers(problem, weights, objects, rewards))
    if config.problem in ("fragments", "atoms"):
        shown.append(molecules(problem, weights, objects, rewards))
    if isinstance(of_seed, GFlowNetState):
        shown += laws(config, problem, of_seed)
    return shown


def _samples(
    config: Config, problem: Problem, method: Method, state: Any, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Objects [P, n, …] and their rewards [P, n, M]."""
    asked = conditions(weights, SAMPLES, asked_beta(config))
    draw = jax.jit(lambda state, key: sampled(method, state, key, asked))
    objects = np.asarray(draw(state, jax.random.key(KEY)))
    rewards = scored(problem, objects).reshape(len(weights), SAMPLES, -1)
    return objects.reshape(len(weights), SAMPLES, *objects.shape[1:]), rewards


def _exact_front(problem: Problem) -> np.ndarray:
    """Up to 60 of its points, evenly; none where it is not known."""
    if problem.front is None:
        return np.zeros((0, problem.objectives.num_objectives))
    known = np.asarray(problem.front(), np.float64)
    return known[np.linspace(0, len(known) - 1, min(len(known), 60)).round().astype(int)]


def front(problem: Problem, weights: np.ndarray, rewards: np.ndarray) -> Exhibit:
    """Samples in the plane of two objectives by what was asked for, with the exact front where it is known."""
    first, second = problem.objectives.names
    kinds = [f"asked for {first}", MIDDLE, f"asked for {second}"]
    kind = np.repeat(np.where(weights[:, 0] > 2 / 3, 0, np.where(weights[:, 0] < 1 / 3, 2, 1)), rewards.shape[1])
    points = rewards.reshape(-1, 2)
    chosen = np.random.default_rng(0).permutation(len(points))[:POINTS]
    groups = [kinds[index] for index in kind[chosen]]
    points, known = points[chosen], _exact_front(problem)
    groups += ["exact front"] * len(known)
    every = np.concatenate([points, known])
    order = np.argsort([(*kinds, "exact front").index(group) for group in groups], kind="stable")
    picture = plots.scatter(
        every[order, 0],
        every[order, 1],
        groups=[groups[index] for index in order],
        title="Samples and the front",
        x_label=first,
        y_label=second,
    )
    caption = f"{len(points)} samples of all preferences; those that weigh {first} by more than ⅔ are asked for it."
    return Exhibit("front", "The front", caption, svg=picture)


def answers(problem: Problem, weights: np.ndarray, objects: np.ndarray, rewards: np.ndarray) -> Exhibit:
    """What some of the preferences are answered by: mean rewards, different objects, and the best one."""
    names = problem.objectives.names
    rows = [("preference", *(f"mean {name}" for name in names), "different objects", "best")]
    for row in np.unique(np.linspace(0, len(weights) - 1, 11).round().astype(int)):
        best = int(np.argmax(rewards[row] @ weights[row]))
        different = len(np.unique(objects[row].reshape(len(objects[row]), -1), axis=0))
        shown = f"{problem.objectives.render(objects[row, best]):.60}"
        asked = ", ".join(f"{weight:.2f}" for weight in weights[row])
        means = (f"{mean:.3f}" for mean in rewards[row].mean(axis=0))
        rows.append((asked, *means, f"{different} of {len(objects[row])}", shown))
    caption = f"{SAMPLES} samples for each. The best has the largest weighted sum of rewards."
    return Exhibit("answers", "Answers to preferences", caption, rows=tuple(rows))


def molecules(problem: Problem, weights: np.ndarray, objects: np.ndarray, rewards: np.ndarray) -> Exhibit:
    """The best molecule for each of some preferences."""
    from tutelage.gflownets.worlds.molecules.drawing import drawing

    smiles, captions = [], []
    for row in np.unique(np.linspace(0, len(weights) - 1, 8).round().astype(int)):
        best = int(np.argmax(rewards[row] @ weights[row]))
        smiles.append(problem.objectives.render(objects[row, best]))
        captions.append(" ".join(f"{value:.2f}" for value in rewards[row, best]))
    caption = (
        f"The best of {SAMPLES} samples for each of some preferences, with its {', '.join(problem.objectives.names)}."
    )
    return Exhibit("molecules", "Molecules", caption, svg=drawing(smiles, captions))


def laws(config: Config, problem: Problem, state: GFlowNetState) -> list[Exhibit]:
    """Learned and exact law side by side over a grid of two dimensions, for the preference in the middle."""
    known = exactness(config, problem)
    if known is None or config.problem != "hypergrid" or config.hypergrid.dimensions != 2:
        return []
    middle = len(known.target) - 1 - config.evaluation.exact_bins // 2
    asked = jax.tree.map(lambda leaf: leaf[middle : middle + 1], known.conditions)
    learned = exact.policy_law(known.graph, state.policy, np.asarray(encoded(asked, config.gflownet)))[0]
    side, cells = config.hypergrid.side, np.asarray(known.graph.objects)
    shown = []
    for name, law in (("learned", learned), ("exact", known.target[middle])):
        table = np.zeros((side, side))
        table[cells[:, 1], cells[:, 0]] = 100 * law
        marks = [str(index) for index in range(side)]
        if side <= 16:
            picture = plots.heat_map(
                table[::-1],
                rows=marks[::-1],
                columns=marks,
                digits=1,
                title=f"The {name} law, per cent",
                x_label="first coordinate",
                y_label="second coordinate",
            )
            caption = f"P(x | w, β) in per cent, weights even, β = {float(asked.beta[0]):g}."
            shown.append(Exhibit(f"law-{name}", f"The {name} law", caption, svg=picture))
    return shown


def queries(problem: Problem, state: ActiveLearningState, initial: int) -> list[Exhibit]:
    """What active learning has evaluated, and the best of it."""
    objects, rewards, _ = state.evaluated.host()
    names = problem.objectives.names
    best = np.flatnonzero(pareto.nondominated(rewards, maximise=True, duplicates=False))
    order = best[np.argsort(-rewards[best, 0], kind="stable")]
    rows = [("object", *names)]
    rows += [
        (f"{problem.objectives.render(objects[row]):.60}", *(f"{value:.3f}" for value in rewards[row])) for row in order
    ]
    shown = [Exhibit("found", "The front that was found", f"Of {len(objects)} evaluated objects.", rows=tuple(rows))]
    if len(names) == 2:
        known = _exact_front(problem)
        groups = ["initial design" if row < initial else "queries" for row in range(len(objects))]
        points = np.concatenate([rewards, known])
        picture = plots.scatter(
            points[:, 0],
            points[:, 1],
            groups=groups + ["exact front"] * len(known),
            title="Evaluated",
            x_label=names[0],
            y_label=names[1],
        )
        shown.insert(
            0,
            Exhibit(
                "evaluated",
                "What was evaluated",
                f"The initial design of {initial} objects, and what was asked for since"
                + (", with the exact front." if len(known) else "."),
                svg=picture,
            ),
        )
    return shown
