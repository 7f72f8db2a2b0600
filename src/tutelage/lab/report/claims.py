"""The section of claims: what the paper says, what became of it here, and the figures that the paper prints."""

from __future__ import annotations

import math

from tutelage.lab.report import numbers, summary
from tutelage.lab.report.gather import Material
from tutelage.lab.report.markup import Markup, element, name
from tutelage.lab.report.strips import claim_strip
from tutelage.lab.report.tables import table
from tutelage.lab.study import Judgement, Published
from tutelage.lab.verdicts import Verdict

SIGNS = {"holds": "✓ holds", "fails": "✕ fails", "undecided": "? undecided"}
_ORDER = ("holds", "fails", "undecided")


def section(material: Material, published: tuple[Published, ...]) -> Markup:
    """Claims with their verdicts, then the published figures beside ours."""
    verdicts = sorted(material.verdicts, key=lambda verdict: _ORDER.index(verdict.judgement.verdict))
    if verdicts:
        legend = element(
            "p",
            "A claim holds when its whole 95 % bootstrap interval over seeds lies on the shaded side of the dashed "
            "threshold, fails when all of it lies on the other side, and is undecided in between or with too few "
            "seeds. With few seeds such an interval is too narrow (5 seeds cover the truth about 84 times in 100).",
            class_="soft small",
        )
        body = [legend, element("ul", [_claim(verdict) for verdict in verdicts], class_="claims")]
    elif material.judged:
        body = [element("p", "This study makes no claims.")]
    else:
        study = next((run.study for run in material.runs), "STUDY")
        body = [
            element(
                "p",
                "Claims are judged over all arms and seeds of a study folder, not over single runs: ",
                element("code", f"tutelage study {study}"),
                ".",
            )
        ]
    return element(
        "section", element("h2", "Claims", id="claims"), body, _published(material, published), aria_labelledby="claims"
    )


def tally(verdicts: list[Verdict]) -> str:
    """`5 hold · 1 fails · 2 undecided`."""
    counts = {word: sum(verdict.judgement.verdict == word for verdict in verdicts) for word in _ORDER}
    words = {
        "holds": "holds" if counts["holds"] == 1 else "hold",
        "fails": "fails" if counts["fails"] == 1 else "fail",
        "undecided": "undecided",
    }
    return " · ".join(f"{count} {words[word]}" for word, count in counts.items() if count) or "none judged"


def _claim(verdict: Verdict) -> Markup:
    judgement = verdict.judgement
    chip = element("span", SIGNS[judgement.verdict], class_=f"chip {judgement.verdict}")
    details = [
        element("p", verdict.sentence, class_="said"),
        element("p", verdict.source, class_="soft small why"),
        element("p", judgement.statistic, class_="small why") if judgement.statistic else None,
        element("p", _because(judgement), class_="soft small why"),
    ]
    return element(
        "li",
        element("div", chip),
        element("div", details),
        element("div", claim_strip(judgement), _measured(judgement), class_="measured"),
    )


def _because(judgement: Judgement) -> str:
    reason = judgement.reason[:1].upper() + judgement.reason[1:]
    return reason + ("" if reason.endswith(".") or not reason else ".")


def _measured(judgement: Judgement) -> Markup | None:
    if not math.isfinite(judgement.estimate):
        return None
    estimate, low, high = numbers.alike([judgement.estimate, judgement.low, judgement.high])
    interval = "" if not math.isfinite(judgement.low) or low == high == estimate else f" [{low}, {high}]"
    count = judgement.num_seeds
    seeds = f"{count} {'seed' if count == 1 else 'seeds'}" if count else ""
    return element("div", element("b", estimate), interval, element("div", seeds, class_="soft small"))


def _published(material: Material, published: tuple[Published, ...]) -> Markup | None:
    if not published:
        return None
    rows = [
        element(
            "tr",
            element("th", entry.quantity, scope="row", class_="long"),
            element("td", entry.value, element("small", entry.source), class_="long"),
            element("td", _ours(material, entry), class_="n"),
        )
        for entry in published
    ]
    heading = element("h3", "Published figures beside ours")
    return Markup(heading + table(["Quantity", "Published", "Here"], rows, label="Published figures", numeric=2))


def _ours(material: Material, entry: Published) -> Markup | str:
    if not entry.figure:
        return element("span", "not measured here", class_="soft")
    found = summary.final(material.results(entry.arm), entry.figure)
    if found is None:
        return element("span", "no such figure in these runs", class_="soft")
    estimate, low, high = numbers.alike([found.estimate, found.low, found.high])
    shown = f"[{low}, {high}]" if len(found.values) > 1 else "one seed"
    return Markup(element("b", estimate) + element("small", shown, " · ", name(entry.arm), " ", name(entry.figure)))
