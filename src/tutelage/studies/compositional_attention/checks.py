"""What the settings of this study may not be together, refused before any work."""

from __future__ import annotations

from tutelage.attention.config import check_attention
from tutelage.attention.tasks import checks
from tutelage.lab.errors import BadInput, under
from tutelage.studies.compositional_attention.config import Config


def check(config: Config) -> list[str]:
    """Refuse what no single field shows; return warnings, one line each.

    Raises:
        BadInput: one line naming the field, its value and what is allowed.
    """
    try:
        check_attention(config.attention, config.network.width)
    except BadInput as error:
        part = "network" if str(error).startswith("width") else "attention"
        raise BadInput(f"{part}.{error}") from error
    with under(config.task):
        checks.check(config.task, getattr(config, config.task))
    if config.equal_parameters and config.attention.kind == "compositional":
        raise BadInput("equal_parameters = True with attention.kind = 'compositional': only a baseline is sized to it")
    if config.attention.kind == "compositional" and config.attention.competition == "linear":
        return ["attention.competition = 'linear': the value query has no effect (content-only competition)"]
    return []
