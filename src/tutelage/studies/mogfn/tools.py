"""The tools of mogfn and their arguments."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting
from tutelage.lab.study import Tool


@dataclass(frozen=True)
class SampleArguments:
    """Arguments of `mogfn sample`."""

    run: str = setting("", "Folder of a run, finished or not.", word=True, needed=True)
    preference: tuple[float, ...] = setting(
        (), "Weight of each objective, with commas between them; ≥ 0, their sum is 1.", interval="[0, 1]", needed=True
    )
    number: int = setting(10, "Objects to draw.", interval="[1, 10000000]", unit="objects")
    beta: float = setting(0.0, "Exponent of the reward; 0: that of the run's evaluation.", interval="[0, inf)")
    seed: int = setting(0, "Seed of the draw.", interval="[0, 4294967295]")
    place: int = setting(0, "Which of the run's seeds, by its place.", interval="[0, inf)")
    distinct: bool = setting(False, "Leave out objects that were drawn before.")
    out: str = setting("", "File for all of them, .jsonl or .csv; the terminal shows the best.")


TOOLS = {
    "sample": Tool(
        "Objects for a preference over the objectives, from a run's trained sampler, with what each is worth.",
        SampleArguments,
        "tutelage.studies.mogfn.sampling:sample",
    ),
}
