"""What the paper says and what its specification asks, judged from our own runs."""

from __future__ import annotations

from tutelage.lab.study import Claim, Published
from tutelage.measures.claims import at_least, at_most, times

PAPER = "Riemer et al. 2022, arXiv 2112.07066"
DEMONSTRATED = "after Riemer et al. 2022, arXiv 2112.07066; demonstrated here, on MinAtar"
SPECIFICATION = "specification of the quick preset"
BOOTSTRAPPERS = {
    "q_learning": "Q-learning",
    "replay": "Q-learning with replay",
    "dyna": "Dyna-Q",
    "n_step": "model-based n-step learning",
}


def _between(
    name: str,
    figure: str,
    arm: str,
    low: float,
    high: float,
    sentence: str,
    source: str = SPECIFICATION,
    min_seeds: int = 1,
) -> tuple[Claim, Claim]:
    """Two claims: a figure is not below `low`, and not above `high`. Exact figures have no spread over seeds."""
    return (
        Claim(
            f"{name}_at_least",
            f"{sentence}: at least {low:g}.",
            source,
            at_least(figure, arm, low, min_seeds=min_seeds),
        ),
        Claim(
            f"{name}_at_most", f"{sentence}: at most {high:g}.", source, at_most(figure, arm, high, min_seeds=min_seeds)
        ),
    )


CLAIMS = (
    Claim(
        "rho_learns",
        "On-policy ρ-learning's reward rate over the last quarter of 20 000 steps is at least 0.235 (ρ* = 0.273; the "
        "ε-greedy optimum has 0.249).",
        SPECIFICATION,
        at_least("last_rate", "on_policy_rho", 0.235),
    ),
    *(
        Claim(
            f"half_the_regret_{arm}",
            f"On-policy ρ-learning has at most half the gain regret of {name}.",
            PAPER,
            times("gain_regret", arm, "on_policy_rho", 2.0),
        )
        for arm, name in BOOTSTRAPPERS.items()
    ),
    *_between(
        "bottlenecks_polynomial",
        "t_mix_exponent",
        "bottlenecks",
        1.7,
        2.1,
        "With K rooms in sequence the mixing time of the optimal policy grows as a power of K",
    ),
    *_between(
        "rooms_polynomial",
        "t_mix_exponent",
        "rooms",
        2.0,
        2.4,
        "With rooms of L×L it grows as a power of L",
    ),
    Claim(
        "random_order_mixes",
        "In random order more rooms do not slow mixing down: the exponent is at most 0.2.",
        SPECIFICATION,
        at_most("t_mix_exponent", "bottlenecks_random", 0.2, min_seeds=1),
    ),
    Claim(
        "myopia",
        "Discounting is myopic: the discount at which the better of two loops is first preferred is where the planner "
        "changes its mind, for every length.",
        PAPER,
        at_least("flips", "myopia", 1.0, min_seeds=1),
    ),
    *_between(
        "horizon_grows",
        "scaled_gap",
        "myopia",
        1.25,
        1.27,
        "The horizon that is needed grows in proportion to the loop: n (1 − γ*) tends to 1.2564",
    ),
    *_between(
        "switching_linear",
        "switching_exponent",
        "minatar_sweep",
        0.8,
        1.2,
        "With games in turns the return mixing time grows about linearly in the switching time τ: its power",
        DEMONSTRATED,
        3,
    ),
    *_between(
        "tasks_linear",
        "tasks_power",
        "minatar_sweep",
        0.8,
        1.2,
        "From two games in turns to all of them it grows about in proportion to their number |Z|: the power of |Z| "
        "that the measured ratio is",
        DEMONSTRATED,
        3,
    ),
    Claim(
        "games_are_forgotten",
        "A policy that learns games in turns forgets: at least a tenth of a game's best return is lost in the others' "
        "turns.",
        DEMONSTRATED,
        at_least("forgotten", "minatar_switching", 0.1),
    ),
)

PUBLISHED: tuple[Published, ...] = ()
"""None: the paper's tables were not at hand when this was written, and figures from memory are not printed."""
