"""What the paper and its successors say, judged from our own runs; and the figures they print."""

from __future__ import annotations

from tutelage.lab.study import Claim, Published
from tutelage.measures.claims import at_least, better, correlation, not_worse

SUITE = "suite_solved"
HELD_OUT = "held_out_solved"
MARGIN = 0.05
"""Five percentage points of solved rate: what counts as "as good as" below."""

MINIMAX = "Jiang et al. 2023, arXiv 2311.12716"
PLR = "Jiang et al. 2021, arXiv 2110.02439"
ACCEL = "Parker-Holder et al. 2022, arXiv 2203.01302"
JAXUED = "Coward et al. 2024, JaxUED, arXiv 2403.13091"
SFL = "Rutherford et al. 2024, No Regrets, arXiv 2408.15099"

CLAIMS = (
    Claim(
        "dr_learns",
        "Domain randomisation learns the training distribution: at least 75 % of held-out random levels solved.",
        "specification of the quick preset",
        at_least(HELD_OUT, "dr", 0.75),
    ),
    Claim(
        "replay_generalises",
        "Robust level replay (PLR⊥) generalises to unseen mazes better than domain randomisation.",
        PLR,
        better(SUITE, "plr_robust", than="dr"),
    ),
    Claim(
        "accel_generalises",
        "Editing levels (ACCEL) generalises to unseen mazes better than replay alone (PLR⊥).",
        ACCEL,
        better(SUITE, "accel", than="plr_robust"),
    ),
    Claim(
        "parallel_plr_as_good",
        f"Parallel PLR is as good as PLR⊥ on unseen mazes (within {MARGIN:.0%}) at half the cycles.",
        MINIMAX,
        not_worse(SUITE, "plr_parallel", than="plr_robust", margin=MARGIN),
    ),
    Claim(
        "parallel_accel_as_good",
        f"Parallel ACCEL is as good as ACCEL on unseen mazes (within {MARGIN:.0%}).",
        MINIMAX,
        not_worse(SUITE, "accel_parallel", than="accel", margin=MARGIN),
    ),
    Claim(
        "accel_complexity_grows",
        "Starting from empty rooms, the levels that ACCEL replays become more complex: their shortest path rises "
        "over training (Spearman ≥ 0.7).",
        ACCEL,
        correlation(("metrics", "level/shortest_path"), "accel", at_least=0.7),
    ),
    Claim(
        "replay_beats_paired",
        "Curating random levels (PLR⊥) generalises better than generating them with an adversary (PAIRED).",
        PLR,
        better(SUITE, "plr_robust", than="paired"),
    ),
    Claim(
        "paired_beats_minimax",
        "Regret is a better aim for the adversary than the student's failure: PAIRED solves more unseen mazes than "
        "the minimax adversary.",
        "Dennis et al. 2020, arXiv 2012.02096",
        better(SUITE, "paired", than="minimax"),
    ),
    Claim(
        "dr_competitive",
        f"Domain randomisation is competitive: not worse than PLR⊥ on unseen mazes (within {MARGIN:.0%}).",
        JAXUED,
        not_worse(SUITE, "dr", than="plr_robust", margin=MARGIN),
    ),
    Claim(
        "learnability_is_robust",
        "Sampling for learnability is more robust than PLR⊥: a higher solved rate on the worst tenth of random "
        "solvable levels (CVaR).",
        SFL,
        better("robust_cvar", "sfl", than="plr_robust"),
    ),
)

PUBLISHED = (
    Published(
        "Wall-time speed-up over the PyTorch reference implementations, at equal batch",
        "> 120×",
        f"{MINIMAX}, abstract",
    ),
    Published(
        "Wall time of a full training run", "more than 100 hours before, under 3 hours on one GPU", f"{MINIMAX}, README"
    ),
    Published("Length of training", "30 000 PPO updates", f"{MINIMAX}, configurations"),
)
