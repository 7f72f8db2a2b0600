"""Every number of associative recall."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.errors import BadInput
from tutelage.lab.settings import setting

ATTRIBUTES = ("colour", "shape", "size")
LARGEST_VOCABULARY = 64


@dataclass(frozen=True)
class AssociativeRecallConfig:
    """Items to remember, and questions about them."""

    items: int = setting(6, "Keys of a sequence, each with its three values.", interval="[1, inf)")
    queries: int = setting(4, "Questions of a sequence, each about another key.", interval="[1, inf)")
    keys: int = setting(4, "Keys of each of the three types.", interval="[1, inf)")
    values: int = setting(8, "Values of each attribute.", interval="[2, inf)")
    num_test: int = setting(1000, "Of each figure.", interval="[1, inf)", unit="sequences")

    @property
    def vocabulary(self) -> int:
        """Names of attributes, keys and values."""
        return len(ATTRIBUTES) * (1 + self.keys + self.values)


def check(config: AssociativeRecallConfig) -> None:
    """Raises `BadInput` where keys or questions are too few, or the vocabulary has more than 64 tokens."""
    if config.items > len(ATTRIBUTES) * config.keys:
        raise BadInput(
            f"items = {config.items}: must be at most the number of keys, 3 × {config.keys} = {3 * config.keys}"
        )
    if config.queries > config.items:
        raise BadInput(f"queries = {config.queries}: must be at most items = {config.items}, as each asks another key")
    if config.vocabulary > LARGEST_VOCABULARY:
        raise BadInput(
            f"keys = {config.keys} and values = {config.values} make a vocabulary of {config.vocabulary}: "
            f"must be at most {LARGEST_VOCABULARY}, so keys + values at most {LARGEST_VOCABULARY // 3 - 1}"
        )
