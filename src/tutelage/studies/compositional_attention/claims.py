"""What the paper says and what its specification asks, judged from our own runs."""

from __future__ import annotations

from tutelage.lab.study import Claim, Published
from tutelage.measures.claims import at_least, at_most, better, not_worse, times

PAPER = "Mittal et al. 2022, arXiv 2110.09419"
SPECIFICATION = "specification of the quick preset"

HEADLINES = {
    "clevr": ("accuracy_ternary", "ternary questions of Sort-of-CLEVR", True),
    "triangles": ("accuracy", "equilateral triangles", True),
    "images": ("accuracy", "several image tasks at once", True),
    "relations": ("accuracy", "distribution of three among glyphs that training never showed", True),
    "scan": ("accuracy_ood", "SCAN commands whose actions are longer than any in training", True),
    "recall": ("accuracy_ood", "pairings of key and attribute that training never showed", True),
    "language": ("perplexity", "a language model's perplexity", False),
}
"""Of each task the figure that its claim is about, what it is, and whether more is better."""
JUDGED_ON = {"relations": "relations_distribution_of_three"}
"""The arm of a task's claim, if not the task's first: same or different is too easy to tell attentions apart."""

CLAIMS = (
    Claim(
        "retrieval_is_learnt",
        "Compositional attention learns contextual retrieval: its L1 is at most 0.36 (predicting 0 has 0.75).",
        SPECIFICATION,
        at_most("l1_iid", "retrieval", 0.36),
    ),
    Claim(
        "retrieval_beats_mha",
        "On contextual retrieval its L1 is at most 0.95 of that of multi-head attention of equal sizes.",
        SPECIFICATION,
        times("l1_iid", "retrieval_mha", "retrieval", 1 / 0.95),
    ),
    Claim(
        "retrieval_beats_equal_parameters",
        "It is better than multi-head attention of equally many parameters.",
        PAPER,
        better("l1_iid", "retrieval", "retrieval_mha_equal", higher=False),
    ),
    Claim(
        "retrieval_recombines",
        "It is better than multi-head attention on combinations of cues that training never showed.",
        PAPER,
        better("l1_ood", "retrieval_withheld", "retrieval_withheld_mha", higher=False),
    ),
    Claim(
        "query_matters",
        "What is taken depends on the value query: the dot product is better than the competition of content alone.",
        SPECIFICATION,
        better("l1_iid", "retrieval", "retrieval_linear", higher=False),
    ),
    Claim(
        "retrievals_matter",
        "Two retrievals are better than one value shared by all searches.",
        PAPER,
        better("l1_iid", "retrieval", "retrieval_r1", higher=False),
    ),
    Claim(
        "retrievals_follow_cues",
        "The strongest retrieval names the cue on at least 0.9 of tokens, up to one permutation for each search.",
        SPECIFICATION,
        at_least("cue_accuracy", "retrieval", 0.9),
    ),
    Claim(
        "narrow_retrievals_follow_cues",
        "It does where a retrieval has room for one scalar only, so that it cannot carry all values of a token.",
        "demonstrated here",
        at_least("cue_accuracy", "retrieval_narrow", 0.9),
    ),
    Claim(
        "narrow_retrievals_recombine",
        "With such retrievals it is better than multi-head attention on combinations of cues that training never "
        "showed, with fewer parameters.",
        "demonstrated here",
        better("l1_ood", "retrieval_withheld_narrow", "retrieval_withheld_mha", higher=False),
    ),
    *(
        Claim(
            f"{task}_beats_mha",
            f"Compositional attention is better than multi-head attention of equal sizes: {words}.",
            PAPER,
            better(figure, JUDGED_ON.get(task, task), f"{JUDGED_ON.get(task, task)}_mha", higher=higher),
        )
        for task, (figure, words, higher) in HEADLINES.items()
    ),
    Claim(
        "fewer_retrievals_suffice",
        "Fewer retrievals than searches suffice: two for four are not worse than four, within 2 points of accuracy on "
        "ternary questions.",
        PAPER,
        not_worse("accuracy_ternary", "clevr", "clevr_r4", 0.02),
    ),
)

PUBLISHED: tuple[Published, ...] = ()
"""None: the paper's tables were not at hand when this was written, and figures from memory are not printed."""
