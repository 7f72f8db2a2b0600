"""Contextual retrieval: its numbers, and those of the published model around it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tutelage.attention.config import PAPER, AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.lab.errors import BadInput
from tutelage.lab.settings import setting

# fmt: off
COEFFICIENTS = (
    -0.71347752, -0.6062312, 0.66062073, -0.61213017, -0.82631877, 0.75908621, -0.36274866, 0.84383333, -0.37908235,
    0.46539368, 0.98675292, 0.20388434, -0.78718797, -0.74316581, 0.11539548, 0.35559215, 0.32584524, 0.58590426,
    0.95284985, -0.77999937, -0.660806, -0.35542737, 0.93532822, 0.75049373, -0.27825577,
)
"""Of the published task, one of each search: drawn once from U(-1, 1) (official code)."""
# fmt: on


@dataclass(frozen=True)
class ContextualRetrievalConfig:
    """Which tokens, how many searches among them and values at them, and which cues are withheld."""

    tokens: int = setting(10, "N: tokens of an example.", interval="[2, inf)", source=PAPER)
    searches: int = setting(2, "v_s: scalars by which a token's nearest is sought.", interval="[1, 25]", source=PAPER)
    values: int = setting(2, "v_p: scalars of a token that can be retrieved.", interval="[1, inf)", source=PAPER)
    coefficients: bool = setting(True, "Retrieved values are weighted; otherwise added.", source=PAPER)
    withhold: bool = setting(True, "Some combinations of cues (a fifth of them) are never in training.", source=PAPER)
    test_examples: int = setting(
        25_600, "Fresh examples of an evaluation, of each kind.", interval="[1, inf)", source="official code"
    )


PUBLISHED_ATTENTION = AttentionConfig(
    searches=2,
    retrievals=2,
    d_select=32,
    exclude_self=True,
    join_input=True,
    backend="literal",
    initialisation="pytorch",
)
"""At width 64: value queries as large as search queries, no token attends to itself, the input is joined. Of ten tokens
all of A is small, and the literal computation the fastest."""
PUBLISHED_NETWORK = NetworkConfig(width=64, iterations=1, dropout=0.0)
PUBLISHED_OPTIMIZER = OptimizerConfig(learning_rate=1e-4, batch_size=256)
QUICK_OPTIMIZER = OptimizerConfig(learning_rate=1e-3, curve="cosine", batch_size=256)
QUICK_UPDATES = 2_000


def check(config: ContextualRetrievalConfig) -> None:
    """Raises `BadInput` where combinations of cues are to be withheld and there are too few or too many."""
    if config.withhold:
        combinations(config)


def combinations(config: ContextualRetrievalConfig) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """(in training, withheld): combinations of one cue for each search, in the official split.

    Of all v_p^v_s in lexicographic order those at even places are in training, then those at odd places, from the
    first, until training has four fifths (rounded down) of all.

    Raises:
        BadInput: fewer than two combinations, or more than a million.
    """
    count = config.values**config.searches
    if not 2 <= count <= 1_000_000:
        raise BadInput(
            f"values = {config.values} with searches = {config.searches}: {count} combinations of cues cannot be "
            "split; must be 2 to 1000000, or withhold = False"
        )
    every = list(itertools.product(range(config.values), repeat=config.searches))
    even, odd = every[::2], every[1::2]
    fill = max(int(0.8 * count) - len(even), 0)
    return even + odd[:fill], odd[fill:]
