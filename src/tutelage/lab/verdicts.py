"""`claims.json`: what became of each claim of a study, written once and read by the report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.lab.errors import BadInput
from tutelage.lab.storage import atomic
from tutelage.lab.study import Claim, Judgement

FORMAT = 1
_TEXTS = ("name", "sentence", "source", "statistic", "reason")
_NUMBERS = ("estimate", "low", "high", "threshold")


@dataclass(frozen=True)
class Verdict:
    """A claim as it was judged: its words and the judgement."""

    name: str
    sentence: str
    source: str
    judgement: Judgement


def verdicts_of(judged: Iterable[tuple[Claim, Judgement]]) -> list[Verdict]:
    """The judged claims without their judges, ready to be written."""
    return [Verdict(claim.name, claim.sentence, claim.source, judgement) for claim, judgement in judged]


def write_claims(path: Path, verdicts: Iterable[Verdict]) -> None:
    """Write `claims.json` atomically. NaN and infinities become null: JSON has no word for them."""
    records = [_to_json(verdict) for verdict in verdicts]
    atomic.write_json(path, {"format": FORMAT, "claims": records})


def read_claims(path: Path) -> list[Verdict]:
    """Read `claims.json`, which may come from anywhere. Raises `BadInput` naming the file and what is wrong in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path.name}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path.name}: not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("claims"), list):
        raise BadInput(f"{path.name}: not a claims file of format {FORMAT}")
    return [_from_json(record, f"{path.name}: claim {index}") for index, record in enumerate(content["claims"], 1)]


def _to_json(verdict: Verdict) -> dict[str, Any]:
    judgement = verdict.judgement
    numbers = {name: getattr(judgement, name) for name in _NUMBERS}
    return {
        "name": verdict.name,
        "sentence": verdict.sentence,
        "source": verdict.source,
        "verdict": judgement.verdict,
        "statistic": judgement.statistic,
        **{name: float(value) if math.isfinite(value) else None for name, value in numbers.items()},
        "side": judgement.side,
        "num_seeds": judgement.num_seeds,
        "reason": judgement.reason,
    }


def _from_json(record: Any, where: str) -> Verdict:
    if not isinstance(record, dict):
        raise BadInput(f"{where}: not an object")
    for name in _TEXTS:
        if not isinstance(record.get(name), str):
            raise BadInput(f"{where}: {name} is missing or no text")
    for name in _NUMBERS:
        value = record.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadInput(f"{where}: {name} is neither a number nor null")
    for name, allowed in (("verdict", ("holds", "fails", "undecided")), ("side", ("above", "below", ""))):
        if record.get(name) not in allowed:
            raise BadInput(f"{where}: {name} is {record.get(name)!r}; allowed are {', '.join(map(repr, allowed))}")
    if isinstance(record.get("num_seeds"), bool) or not isinstance(record.get("num_seeds"), int):
        raise BadInput(f"{where}: num_seeds is missing or no whole number")
    numbers = {name: float("nan") if record.get(name) is None else float(record[name]) for name in _NUMBERS}
    judgement = Judgement(
        verdict=record["verdict"],
        statistic=record["statistic"],
        reason=record["reason"],
        side=record["side"],
        num_seeds=record["num_seeds"],
        **numbers,
    )
    return Verdict(record["name"], record["sentence"], record["source"], judgement)
