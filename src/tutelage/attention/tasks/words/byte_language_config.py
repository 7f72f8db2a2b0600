"""Every number of the language-modelling task."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.errors import BadInput
from tutelage.lab.settings import setting

PAPER = "arXiv 2110.09419, official code"
UNITS = ("bytes", "words")


@dataclass(frozen=True)
class ByteLanguageConfig:
    """A text, what its units are, and how much of it a model sees at once."""

    path: str = setting(
        "", "Folder with wiki.train.tokens and wiki.test.tokens (or .raw); empty: Python's standard library."
    )
    units: str = setting("bytes", "What is predicted: bytes of the file, or WikiText's words.", choices=UNITS)
    vocabulary: int = setting(
        0, "Most frequent words that are known, with <unk> for the others; 0: all of training.", interval="[0, inf)"
    )
    context: int = setting(512, "Units of a training example.", interval="[2, inf)", source=PAPER)
    evaluation_context: int = setting(
        400, "Units before that are only read, where there are so many.", interval="[0, inf)", source=PAPER
    )
    num_test: int = setting(65_536, "Units that are predicted, from the start; 0: all.", interval="[0, inf)")


def check(config: ByteLanguageConfig) -> None:
    """Raises `BadInput` for settings that contradict each other."""
    if config.evaluation_context >= config.context:
        raise BadInput(
            f"evaluation_context = {config.evaluation_context}: must be below context = {config.context}, "
            "or nothing is predicted"
        )
    if config.units == "words" and not config.path:
        raise BadInput("units = 'words': must be 'bytes' where path is empty, as only WikiText is divided into words")
    if config.vocabulary and config.units != "words":
        raise BadInput(f"vocabulary = {config.vocabulary}: must be 0 with units = 'bytes', of which there are 256")
