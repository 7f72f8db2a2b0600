"""What the paper says, judged from our own runs; and the figures it prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tutelage.lab.study import Claim, Judgement, Published, RunResult
from tutelage.measures.claims import Judge, at_least, at_most, better, not_worse
from tutelage.measures.rank_correlation import spearman

PAPER = "Havrilla et al. 2024, arXiv 2403.04642"
SPECIFICATION = "specification of the quick preset"


def largest(result: RunResult, name: str) -> str:
    """The figure `name@k` of the largest k that a run has: `pass@32`."""
    found = [figure for figure in result.figures if figure.startswith(f"{name}@")]
    if not found:
        raise KeyError(f"{name}@k")
    return max(found, key=lambda figure: int(figure.rpartition("@")[2]))


def at_largest(name: str) -> Callable[[RunResult], float]:
    """`name@k` at the end of a run, of the largest k."""
    return lambda result: result.figures[largest(result, name)]


def gained(name: str) -> Callable[[RunResult], float]:
    """How much `name@k` of the largest k rose from the start to the end of a run."""
    return lambda result: result.figures[f"gain_{largest(result, name)}"]


def between(first: str, second: str) -> Callable[[RunResult], float]:
    """`first@k` − `second@k` at the end of a run, of the largest k."""
    return lambda result: result.figures[largest(result, first)] - result.figures[largest(result, second)]


def since_first_epoch(figure: str) -> Callable[[RunResult], float]:
    """Change of a figure from the second evaluation, after the first epochs, to the last; evaluations from 0 on."""

    def measure(result: RunResult) -> float:
        values = _series(result, figure)
        if len(values) < 3:
            raise KeyError(figure)
        return float(values[-1] - values[1])

    return measure


def trend_after_peak(figure: str) -> Callable[[RunResult], float]:
    """Spearman's ρ of a figure with the step, from its highest value on: −1 if it only falls."""

    def measure(result: RunResult) -> float:
        values = _series(result, figure)
        after = values[int(np.argmax(values)) :]
        if len(after) < 4:
            raise KeyError(figure)
        return float(spearman(np.arange(len(after)), after))

    return measure


def interim(name: str, result: RunResult) -> str:
    """The figure `name@k` of the largest k that every evaluation of a run has."""
    lengths = {figure: len(steps) for (kind, figure), (steps, _) in result.series.items() if kind == "evaluation"}
    found = [figure for figure, number in lengths.items() if figure.startswith(f"{name}@") and number > 1]
    if not found:
        raise KeyError(f"{name}@k")
    return max(found, key=lambda figure: int(figure.rpartition("@")[2]))


def of(measure: Callable[[RunResult], float], name: str, judge: Judge) -> Judge:
    """Judge a number that is computed from a run; the judge finds it under `name`. Runs without it lack it."""

    def judged(results: Sequence[RunResult]) -> Judgement:
        return judge(
            [replace(result, figures={**result.figures, **_named(measure, name, result)}) for result in results]
        )

    return judged


def rises(figure: str, arm: str) -> Judge:
    """The figure is above 0, over seeds."""
    return at_least(figure, arm, 1e-6)


def _named(measure: Callable[[RunResult], float], name: str, result: RunResult) -> dict[str, float]:
    try:
        return {name: measure(result)}
    except KeyError:
        return {}


def _series(result: RunResult, figure: str) -> np.ndarray:
    """Values of a figure over all evaluations, from that of the start on."""
    return np.asarray(result.series["evaluation", figure][1])


CLAIMS = (
    Claim(
        "ei_improves",
        "Expert Iteration improves on its supervised start: greedy accuracy (maj@1) rises by at least 5 points.",
        PAPER,
        at_least("gain_maj@1", "ei", 0.05),
    ),
    Claim("ppo_improves", "PPO raises maj@1 of its supervised start.", PAPER, rises("gain_maj@1", "ppo")),
    Claim(
        "rcrl_improves",
        "Return-conditioned RL raises maj@1 of its supervised start.",
        PAPER,
        rises("gain_maj@1", "rcrl"),
    ),
    Claim(
        "ei_keeps_coverage",
        "Expert Iteration keeps coverage: pass@K does not fall more than 2 points below the supervised start's.",
        PAPER,
        of(gained("pass"), "change of pass@K", at_least("change of pass@K", "ei", -0.02)),
    ),
    Claim(
        "sft_keeps_accuracy",
        "More and more supervised epochs do not lower maj@1 (by more than 2 points).",
        PAPER,
        of(since_first_epoch("maj@1"), "change of maj@1", at_least("change of maj@1", "sft", -0.02)),
    ),
    Claim(
        "sft_narrows",
        "More and more supervised epochs narrow the solutions: unique right ones per question fall after their peak "
        "(Spearman at most −0.7).",
        PAPER,
        of(
            lambda result: trend_after_peak(interim("unique", result))(result),
            "trend after the peak",
            at_most("trend after the peak", "sft", -0.7),
        ),
    ),
    Claim(
        "sft_loses_coverage",
        "More and more supervised epochs lower the coverage of many samples (pass@k, of the pools while training).",
        PAPER,
        of(
            lambda result: since_first_epoch(interim("pass", result))(result),
            "change of pass@k",
            at_most("change of pass@k", "sft", 0.0),
        ),
    ),
    Claim(
        "ei_beats_more_sft",
        "Reinforcement raises coverage where more supervised epochs lower it: Expert Iteration ends with a higher "
        "pass@K than supervised fine-tuning.",
        PAPER,
        of(at_largest("pass"), "pass@K", better("pass@K", "ei", than="sft")),
    ),
    Claim(
        "start_matters_little",
        "After reinforcement, a start without supervised fine-tuning is less than 10 points of maj@1 behind one with "
        "it.",
        PAPER,
        not_worse("maj@1", "ei_pretrained", than="ei", margin=0.10),
    ),
    Claim(
        "dense_reward_same_end",
        "Dense rewards do not change the end result: PPO with them is not more than 2 points of maj@1 better than "
        "without.",
        PAPER,
        not_worse("maj@1", "ppo", than="ppo_dense", margin=0.02),
    ),
    Claim(
        "exploration_is_the_limit",
        "Exploration is the bottleneck: PPO's pass@K does not exceed that of its lightly trained start by more than 2 "
        "points.",
        PAPER,
        of(gained("pass"), "change of pass@K", at_most("change of pass@K", "ppo", 0.02)),
    ),
    Claim(
        "outcome_model_ranks",
        "The outcome model tells right from wrong samples of the same held-out question: mean AUC at least 0.75.",
        SPECIFICATION,
        at_least("outcome_model_auc", "ei", 0.75),
    ),
    Claim(
        "rerank_as_good_as_vote",
        "Choosing by the outcome model (rerank@K) is as good as a vote (maj@K), within 1 point: for samples of a "
        "supervised policy, as the model was trained on.",
        SPECIFICATION,
        of(between("rerank", "maj"), "rerank@K − maj@K", at_least("rerank@K − maj@K", "sft", -0.01)),
    ),
    Claim(
        "rerank_survives_ei",
        "The same for samples of a policy that Expert Iteration has improved since.",
        SPECIFICATION,
        of(between("rerank", "maj"), "rerank@K − maj@K", at_least("rerank@K − maj@K", "ei", -0.01)),
    ),
)

PUBLISHED = (
    Published(
        "Gain of Expert Iteration over supervised fine-tuning, maj@1, 7B and 13B",
        "about 7 and 5 points",
        f"{PAPER}, as noted by others from the PDF",
        arm="ei",
        figure="gain_maj@1",
    ),
    Published(
        "Gap in maj@1 between starts with and without supervised fine-tuning, after reinforcement",
        "less than 10 points",
        f"{PAPER}, as noted by others from the PDF",
    ),
    Published("Rollouts that Expert Iteration and PPO need, at most", "of the order of 10⁶", f"{PAPER}, introduction"),
    Published(
        "Unique right solutions per question after 2 and after 4 supervised epochs",
        "3.7 and 2.9",
        f"{PAPER}, as noted by others from the PDF",
        arm="sft",
        figure="unique_equation",
    ),
)
