"""The section of learning curves: every figure over training, as the mean over seeds with its interval."""

from __future__ import annotations

from typing import Any

from tutelage.lab.drawing import plots
from tutelage.lab.report import summary
from tutelage.lab.report.gather import Material
from tutelage.lab.report.markup import Markup, element
from tutelage.lab.report.tables import table
from tutelage.lab.study import Study

_FIRST_METRICS = 6
_MOST_METRICS = 30


def section(material: Material, arms: list[str], study: Study | None) -> Markup:
    """The headline large, the other evaluation figures and the metrics small, all with one legend."""
    work = summary.work_per_update(material)
    evaluated = _courses(material, arms, "evaluation", study.headline if study else "")
    measured = _courses(material, arms, "metrics", "")
    heading = element("h2", "Learning curves", id="curves")
    if not evaluated and not measured:
        nothing = element("p", "No metrics have been recorded yet.")
        return element("section", heading, nothing, aria_labelledby="curves")
    parts: list[Any] = [heading, element("p", _explained(evaluated + measured, work), class_="soft small")]
    if evaluated:
        figure, courses = evaluated[0]
        parts.append(_headline(figure, courses, arms, work))
    if len(arms) > 1:
        parts.append(_legend(arms))
    if len(evaluated) > 1:
        parts += [element("h3", "Evaluation"), _small(evaluated[1:], arms, "evaluation")]
    if measured:
        shown, rest = measured[:_FIRST_METRICS], measured[_FIRST_METRICS:_MOST_METRICS]
        parts += [element("h3", "Training metrics"), _small(shown, arms, "metrics")]
        if rest:
            more = _small(rest, arms, "more-metrics")
            parts.append(element("details", element("summary", f"{len(rest)} more metrics"), more))
        if len(measured) > _MOST_METRICS:
            dropped = len(measured) - _MOST_METRICS
            parts.append(element("p", f"{dropped} further metrics are in metrics.jsonl.", class_="soft small"))
    return element("section", parts, aria_labelledby="curves")


Courses = dict[str, summary.Course]


def _courses(material: Material, arms: list[str], kind: str, headline: str) -> list[tuple[str, Courses]]:
    found = []
    for figure in summary.figures(material, kind, headline):
        by_arm = {arm: summary.course(material.results(arm), kind, figure) for arm in arms}
        known = {arm: course for arm, course in by_arm.items() if course is not None}
        if known:
            found.append((figure, known))
    return found


def _explained(all_courses: list[tuple[str, Courses]], work: tuple[str, float] | None) -> str:
    courses = [course for _, by_arm in all_courses for course in by_arm.values()]
    fewest, most = min(c.num_seeds for c in courses), max(c.num_seeds for c in courses)
    words = "Mean over seeds; the band is its 95 % bootstrap interval. "
    if most == 1:
        words = "One seed: a single curve has no interval. "
    elif fewest == 1:
        words += "An arm with one seed has no band. "
    words += "The horizontal axis counts updates"
    words += f"; the axis on top counts {work[0]} of one seed. " if work else ". "
    binned = max(course.binned for course in courses)
    return words + (f"Long records are shown as means of up to {binned} neighbouring points." if binned > 1 else "")


def _lines(courses: Courses, arms: list[str]) -> list[plots.Curve]:
    return [
        plots.Curve(arm, course.steps, course.interval.estimate, course.interval.low, course.interval.high, index)
        for index, arm in enumerate(arms)
        if (course := courses.get(arm)) is not None
    ]


def _headline(figure: str, courses: Courses, arms: list[str], work: tuple[str, float] | None) -> Markup:
    """Drawn twice, because letters that are legible on a desk are too small on a phone; each sees one."""
    lines = _lines(courses, arms)
    height = max(360, 90 + 16 * len(lines))
    wide = plots.curves(lines, title=figure, x_label="updates", work=work, size=(900, height), name="headline")
    narrow = plots.curves(
        lines, title=figure, x_label="updates", work=work, size=(360, 280), labels=False, name="headline-narrow"
    )
    rows = [
        element(
            "tr",
            element("th", arm, scope="row"),
            [element("td", f"{value:.4g}", class_="n") for value in _sampled(courses[arm])],
        )
        for arm in arms
        if arm in courses
    ]
    longest = max(courses.values(), key=lambda course: course.steps.size)
    head = ["Arm", *(f"update {step:g}" for step in longest.steps[_picked(longest)])]
    numbers = element(
        "details", element("summary", "The curve in numbers"), table(head, rows, label=f"{figure} over training")
    )
    return Markup(
        element("div", element("div", Markup(wide), class_="wide-only"), _phone(narrow), class_="wide") + numbers
    )


def _phone(svg: str) -> Markup:
    return element("div", Markup(svg), class_="narrow-only")


def _picked(course: summary.Course) -> list[int]:
    """Up to six points, the first and the last among them."""
    count = course.steps.size
    return sorted({round(k * (count - 1) / 5) for k in range(6)})


def _sampled(course: summary.Course) -> list[float]:
    return course.interval.estimate[_picked(course)].tolist()


def _small(entries: list[tuple[str, Courses]], arms: list[str], name: str) -> Markup:
    drawn = [
        element(
            "figure",
            Markup(
                plots.curves(_lines(courses, arms), title=figure, labels=False, size=(330, 210), name=f"{name}-{index}")
            ),
        )
        for index, (figure, courses) in enumerate(entries)
    ]
    return element("div", drawn, class_="plots")


def _legend(arms: list[str]) -> Markup:
    items = []
    for index, arm in enumerate(arms):
        dash = plots.dash(index)
        stroke = None if dash == "solid" else " ".join(f"{2.2 * part:g}" for part in dash[1])
        line = element(
            "line", x1=1, x2=27, y1=5, y2=5, stroke=plots.colour(index), stroke_width=2.6, stroke_dasharray=stroke
        )
        items.append(element("li", element("svg", line, viewBox="0 0 28 10", aria_hidden="true"), arm))
    return element("ul", items, class_="legend", aria_label="Arms")
