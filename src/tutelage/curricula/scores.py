"""Scores of a level: how much a student would learn there, estimated from one rollout.

A rollout holds several episodes on the same level, the last of them usually cut off; only completed ones count. A level
with none gets the score −∞, which every reader takes for "nothing is known: ignore it".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tutelage.curricula.teacher import Outcomes
from tutelage.lab.errors import BadInput, nearest
from tutelage.rl.trajectory import Trajectory


class Episodes(NamedTuple):
    """The completed episodes of a rollout of N levels, E copies of each side by side (row n·E + e).

    Attributes:
        weight: share of each step in the mean over episodes of the mean over time: 1 / (length · completed) inside a
            completed episode, else 0. Sums to 1 over the steps of a level that has any.
        completed, mean_return, max_return, success_rate: as in `Outcomes`.
    """

    weight: Float[Array, "T M"]
    completed: Int[Array, "N"]
    mean_return: Float[Array, "N"]
    max_return: Float[Array, "N"]
    success_rate: Float[Array, "N"]

    def mean(self, x: Float[Array, "T M"]) -> Float[Array, "N"]:
        """The mean of `x` over time inside each completed episode, then over episodes and copies."""
        return jnp.sum(self.weight * x, axis=0).reshape(self.completed.shape[0], -1).sum(axis=-1)


class Evidence(NamedTuple):
    """All that a score may read.

    Attributes:
        advantage: GAE(λ) of the rollout.
        known_max: largest return ever seen on each level before this rollout; −inf if none.
        optimal_return: best possible return on each level, from the exact solver; None where there is no solver.
    """

    episodes: Episodes
    trajectory: Trajectory
    advantage: Float[Array, "T M"]
    known_max: Float[Array, "N"]
    optimal_return: Float[Array, "N"] | None


def episodes(reward: Float[Array, "T M"], last: Bool[Array, "T M"], *, num_copies: int = 1) -> Episodes:
    """Lengths, undiscounted returns and successes (return > 0) of the episodes that ended inside the rollout.

    The rollout must begin with the first step of an episode. M = N · num_copies.
    """
    num_steps = last.shape[0]
    num_levels = last.shape[1] // num_copies
    time = jnp.arange(num_steps, dtype=jnp.int32)[:, None]

    # The episode of step t starts after the last end before t and ends at the first end from t on; T: never.
    ends = jnp.where(last, time, -1)
    ended_before = jnp.concatenate([jnp.full_like(ends[:1], -1), ends[:-1]])
    start = jax.lax.cummax(ended_before, axis=0) + 1
    end = jax.lax.cummin(jnp.where(last, time, num_steps), axis=0, reverse=True)

    def add(return_so_far, step):
        step_reward, step_last = step
        return_so_far = return_so_far + step_reward
        return jnp.where(step_last, 0.0, return_so_far), return_so_far

    _, returns = jax.lax.scan(add, jnp.zeros_like(reward[0]), (reward, last))

    def over_level(x: Array) -> Array:
        return x.reshape(num_steps, num_levels, num_copies)

    completed = over_level(last).sum(axis=(0, 2), dtype=jnp.int32)
    count = jnp.maximum(completed, 1).astype(jnp.float32)
    length = (end - start + 1).astype(jnp.float32)
    weight = jnp.where(end < num_steps, 1 / (length * jnp.repeat(count, num_copies)), 0.0)
    return Episodes(
        weight=weight,
        completed=completed,
        mean_return=over_level(jnp.where(last, returns, 0.0)).sum(axis=(0, 2)) / count,
        max_return=over_level(jnp.where(last, returns, -jnp.inf)).max(axis=(0, 2)),
        success_rate=over_level(last & (returns > 0)).sum(axis=(0, 2), dtype=jnp.int32) / count,
    )


def mean_return(evidence: Evidence) -> Float[Array, "N"]:
    """The mean return: large where the student does well."""
    return evidence.episodes.mean_return


def neg_return(evidence: Evidence) -> Float[Array, "N"]:
    """Minus the mean return: what the minimax adversary maximises."""
    return -evidence.episodes.mean_return


def l1_value_loss(evidence: Evidence) -> Float[Array, "N"]:
    """mean |Â|, the value error of the first PLR (Jiang et al. 2021, arXiv 2010.03934)."""
    return evidence.episodes.mean(jnp.abs(evidence.advantage))


def positive_value_loss(evidence: Evidence) -> Float[Array, "N"]:
    """mean max(Â, 0), an estimate of regret (Jiang et al. 2021, arXiv 2110.02439, equation 6)."""
    return evidence.episodes.mean(jnp.maximum(evidence.advantage, 0.0))


def max_mc(evidence: Evidence) -> Float[Array, "N"]:
    """mean (R_max − V_t), where R_max is the largest return ever obtained on the level, this rollout included.

    R_max is undiscounted and V_t a discounted estimate, so the score is negative where V_t exceeds it.

    References: Jiang et al. (2021), arXiv 2110.02439.
    """
    known = running_max(evidence.known_max, evidence.episodes.max_return)
    # The weights of a level sum to 1; where it has no episode R_max may be −∞, which must not meet a weight of 0.
    return jnp.where(jnp.isfinite(known), known, 0.0) - evidence.episodes.mean(evidence.trajectory.value)


def value_disagreement(evidence: Evidence) -> Float[Array, "N"]:
    """mean over time of the standard deviation between the value heads; 0 for a single head."""
    return evidence.episodes.mean(evidence.trajectory.values.std(axis=-1))


def learnability(evidence: Evidence) -> Float[Array, "N"]:
    """p(1 − p) of the success rate p (Rutherford et al. 2024, arXiv 2408.15099): largest where p = ½."""
    return evidence.episodes.success_rate * (1 - evidence.episodes.success_rate)


def true_regret(evidence: Evidence) -> Float[Array, "N"]:
    """The best possible return less the mean return: the regret that the other scores estimate."""
    if evidence.optimal_return is None:
        raise BadInput("score = 'true_regret' needs the optimal return of each level: the environment has no `solve`")
    return evidence.optimal_return - evidence.episodes.mean_return


SCORES: dict[str, Callable[[Evidence], Float[Array, "N"]]] = {
    "return": mean_return,
    "neg_return": neg_return,
    "l1_value_loss": l1_value_loss,
    "positive_value_loss": positive_value_loss,
    "max_mc": max_mc,
    "value_disagreement": value_disagreement,
    "learnability": learnability,
    "true_regret": true_regret,
}


def running_max(known_max: Float[Array, "*n"], max_return: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The largest return ever seen, −∞ while no episode was ever completed (never 0, which a return may undercut)."""
    return jnp.maximum(known_max, max_return)


def outcomes(
    trajectory: Trajectory,
    advantage: Float[Array, "T M"],
    score_name: str,
    known_max: Float[Array, "N"],
    optimal_return: Float[Array, "N"] | None = None,
    num_copies: int = 1,
) -> Outcomes:
    """What a teacher is told of one student's rollout on N levels, `num_copies` neighbouring rows for each.

    Raises:
        BadInput: `score_name` is not in `SCORES`, or is `true_regret` and `optimal_return` is None.
    """
    if score_name not in SCORES:
        raise BadInput(f"score = {score_name!r} is none of {', '.join(SCORES)}{nearest(score_name, SCORES)}")
    found = episodes(trajectory.reward, trajectory.last, num_copies=num_copies)
    score = SCORES[score_name](Evidence(found, trajectory, advantage, known_max, optimal_return))
    return Outcomes(
        completed=found.completed,
        mean_return=found.mean_return,
        max_return=found.max_return,
        success_rate=found.success_rate,
        score=jnp.where(found.completed > 0, score, -jnp.inf),
    )


def relative_regret(outcomes: Outcomes) -> Float[Array, "N"]:
    """max(0, best return of the antagonist (row 1) − mean return of the protagonist (row 0)), PAIRED's regret.

    −∞ where either of the two completed no episode.

    References: Dennis et al. (2020), arXiv 2012.02096, equation 2.
    """
    _require_pair(outcomes)
    return _where_all_completed(outcomes, jnp.maximum(outcomes.max_return[1] - outcomes.mean_return[0], 0.0))


def mean_relative_regret(outcomes: Outcomes) -> Float[Array, "N"]:
    """As `relative_regret` with the antagonist's mean return in place of its best."""
    _require_pair(outcomes)
    return _where_all_completed(outcomes, jnp.maximum(outcomes.mean_return[1] - outcomes.mean_return[0], 0.0))


def population_regret(outcomes: Outcomes) -> Float[Array, "N"]:
    """Best return over students and episodes − mean over students of their mean return (Dennis et al. 2020).

    −∞ where any student completed no episode.
    """
    return _where_all_completed(outcomes, outcomes.max_return.max(axis=0) - outcomes.mean_return.mean(axis=0))


REGRETS: dict[str, Callable[[Outcomes], Float[Array, "N"]]] = {
    "relative_regret": relative_regret,
    "mean_relative_regret": mean_relative_regret,
    "population_regret": population_regret,
}
"""Scores of a level for several students at once; they read `Outcomes` with a leading axis A."""


def _require_pair(outcomes: Outcomes) -> None:
    if outcomes.completed.shape[0] != 2:
        raise BadInput(
            f"relative regret is defined for 2 students (protagonist, antagonist), got {outcomes.completed.shape[0]}: "
            "use population_regret"
        )


def _where_all_completed(outcomes: Outcomes, regret: Float[Array, "N"]) -> Float[Array, "N"]:
    return jnp.where((outcomes.completed > 0).all(axis=0), regret, -jnp.inf)
