"""Every number of the relational tasks on glyphs."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.errors import BadInput
from tutelage.lab.settings import setting

SOURCE = "Webb, Sinha & Cohen 2021, arXiv 2012.14601"
GLYPHS = 100
RELATIONS = ("same_different", "match_to_sample", "distribution_of_three", "identity_rules")
NEEDED = {"same_different": 2, "match_to_sample": 5, "distribution_of_three": 4, "identity_rules": 4}
"""Different glyphs that one problem may show."""


@dataclass(frozen=True)
class RelationalConfig:
    """One of four relations between glyphs, learnt on some glyphs and tested on others."""

    relation: str = setting("same_different", "What is asked about the glyphs.", choices=RELATIONS, source=SOURCE)
    withheld: int = setting(
        85,
        "m of 100 glyphs that are never trained on; 0: problems are held out instead.",
        interval="[0, 98]",
        unit="glyphs",
        source=SOURCE,
    )
    num_train: int = setting(10_000, "Of an epoch.", interval="[1, inf)", unit="problems", source=SOURCE)
    num_test: int = setting(10_000, "Of the figure.", interval="[1, inf)", unit="problems", source=SOURCE)
    context_norm: bool = setting(
        True, "Each feature is normalised over the images of a problem (over each pair in match_to_sample)."
    )


def check(config: RelationalConfig) -> None:
    """Raises `BadInput` where the glyphs of training, or those withheld, are too few for a problem."""
    need = NEEDED[config.relation]
    if config.withheld > GLYPHS - need or 0 < config.withheld < need:
        raise BadInput(
            f"withheld = {config.withheld}: {config.relation} shows up to {need} different glyphs, so it must be 0 or "
            f"in [{need}, {GLYPHS - need}]"
        )
