"""What the paper says and what its specification asks, judged from our own runs."""

from __future__ import annotations

from tutelage.lab.study import Claim, Published
from tutelage.measures.claims import at_least, at_most, better, times

PAPER = "Jain et al. 2023, arXiv 2210.12765"
SPECIFICATION = "specification of the quick preset"
MARGIN = 0.97
"""Of the hypervolume: three per cent are what counts as "not lower"."""

CLAIMS = (
    *(
        Claim(
            f"exact_law_{beta}",
            f"On the grid the sampler's law is close to the one asked for at β = {beta}: Σ|P − π| is at most 0.12 in "
            "the mean over 11 preferences.",
            SPECIFICATION,
            at_most(f"l1@{beta}", "grid", 0.12),
        )
        for beta in (1, 4, 16)
    ),
    *(
        Claim(
            f"partition_function_{beta}",
            f"log Z of the condition is the exact one within 0.3 for every preference at β = {beta}.",
            SPECIFICATION,
            at_most(f"log_z_error@{beta}", "grid", 0.3),
        )
        for beta in (1, 4, 16)
    ),
    *(
        Claim(
            f"exact_law_worst_{beta}",
            f"Nor is it far off for any of these preferences at β = {beta}: at most 0.25.",
            SPECIFICATION,
            at_most(f"l1_max@{beta}", "grid", 0.25),
        )
        for beta in (1, 4, 16)
    ),
    Claim(
        "preferences_are_answered",
        "What is asked for is what comes: a weight and the mean reward of its objective correlate by at least 0.9.",
        SPECIFICATION,
        at_least("conditioning", "mogfn", 0.9),
    ),
    Claim(
        "preferences_matter",
        "Answering a preference by the samples of another one loses at least a fifth of the mean scalar reward.",
        SPECIFICATION,
        at_least("shuffle_loss", "mogfn", 0.2),
    ),
    Claim(
        "more_diverse_than_reinforce",
        "The ten best samples of a preference are at least twice as far apart as those of MOReinforce.",
        PAPER,
        times("topk_diversity", "mogfn", "moreinforce", 2.0),
    ),
    *(
        Claim(
            f"hypervolume_{baseline}",
            f"With as many evaluations its hypervolume is not more than 3 % below that of {name}.",
            PAPER,
            times("hypervolume", "mogfn", baseline, MARGIN),
        )
        for baseline, name in (
            ("moreinforce", "MOReinforce"),
            ("a2c", "conditional A2C"),
            ("soft_q", "conditional soft Q-learning"),
            ("envelope_q", "envelope Q-learning"),
            ("mars", "Markov chains (MARS)"),
            ("genetic", "a genetic algorithm"),
            ("nsga2", "NSGA-II"),
        )
    ),
    *(
        Claim(
            f"diversity_{baseline}",
            f"Its ten best samples of a preference are farther apart than those of {name}.",
            PAPER,
            better("topk_diversity", "mogfn", than=baseline),
        )
        for baseline, name in (
            ("a2c", "conditional A2C"),
            ("envelope_q", "envelope Q-learning"),
            ("mars", "Markov chains (MARS)"),
            ("genetic", "a genetic algorithm"),
            ("nsga2", "NSGA-II"),
        )
    ),
    Claim(
        "active_learning_pays",
        "After the same number of evaluations MOGFN-AL has at least 1.15 times the hypervolume of random mutation of "
        "the front (as a share of the exact front's: what the first few objects dominate is next to nothing).",
        SPECIFICATION,
        times("hypervolume_share", "al", "al_mutation", 1.15),
    ),
    Claim(
        "active_learning_beats_lambo",
        "MOGFN-AL reaches a higher hypervolume than mutants of the front that climb the same acquisition (LaMBO-like).",
        f"{PAPER}, as its specification recalls it",
        better("hypervolume_share", "al", than="al_lambo"),
    ),
    Claim(
        "every_query_is_new",
        "No object is evaluated twice.",
        SPECIFICATION,
        at_least("new", "al", 1.0),
    ),
)

PUBLISHED: tuple[Published, ...] = ()
"""None: the paper's tables were not at hand when this was written, and figures from memory are not printed."""
