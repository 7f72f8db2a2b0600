"""The tools of reason_rl and their arguments."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting
from tutelage.lab.study import Tool

ROWS = (
    "JSON lines (or a JSON list), an object for each question: the reference under `answer`, and its samples, a list "
    "of texts or one text."
)


@dataclass(frozen=True)
class GradeArguments:
    """Arguments of `reason_rl grade`."""

    file: str = setting("", ROWS, word=True, needed=True)
    answer: str = setting("answer", "Name of the reference: a number, or a worked solution that ends in one.")
    samples: str = setting("", "Name of the samples; empty: the first usual one (samples, completion, response, …).")
    symbolic: bool = setting(False, "What is no number is compared as an expression, by math-verify.")
    timeout: float = setting(
        30.0, "The most that one symbolic comparison may take.", interval="(0, inf)", unit="seconds"
    )
    show: int = setting(3, "Unparsed samples to show.", interval="[0, inf)")
    out: str = setting("", "File for the graded rows, .jsonl or .csv.")
    json: bool = setting(False, "Print JSON, for programs.")


@dataclass(frozen=True)
class CurvesArguments:
    """Arguments of `reason_rl curves`."""

    file: str = setting(
        "",
        ROWS + " Or, of any task, graded by you: `correct`, a list of true and false, and, for votes, `answers`.",
        word=True,
        needed=True,
    )
    answer: str = setting("answer", "Name of the reference: a number, or a worked solution that ends in one.")
    samples: str = setting("", "Name of the samples; empty: the first usual one (samples, completions, responses, …).")
    scores: str = setting("scores", "Name of the samples' scores (of a verifier, say), for rerank@k; used if there.")
    limit: int = setting(0, "Samples of each question that are used, the first ones; 0: all.", interval="[0, inf)")
    ks: tuple[int, ...] = setting((), "Sizes of the draws; empty: powers of two, and all.", interval="[1, inf)")
    out: str = setting("", "File for a page with the curves (.html).")
    json: bool = setting(False, "Print JSON, for programs.")


TOOLS = {
    "grade": Tool(
        "Are anybody's answers to questions with known ones right? Numbers exactly; what is no one number is unparsed.",
        GradeArguments,
        "tutelage.studies.reason_rl.grading:grade",
    ),
    "curves": Tool(
        "pass@k, maj@k and rerank@k of anybody's samples, exact for every k, with intervals over questions.",
        CurvesArguments,
        "tutelage.studies.reason_rl.grading:curves",
    ),
}
