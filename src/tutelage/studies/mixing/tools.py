"""The tools of mixing and their arguments."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting
from tutelage.lab.study import Tool

FILES = (".npy", ".npz", ".csv")
"""Files of rewards: an array [N, T], or one line for each rollout."""


@dataclass(frozen=True)
class ReportArguments:
    """Arguments of `mixing report`."""

    record: str = setting(
        "",
        "A run folder, or one that holds run folders of one arm: a figure's series of every seed is one rollout. Or a "
        f"file ({', '.join(FILES)}) of rewards [rollouts, steps].",
        word=True,
        needed=True,
    )
    figure: str = setting(
        "", "The figure (of a run) or array (of an .npz); empty: the reward, or the only one that there is."
    )
    window: int = setting(0, "Steps over which you average; 0: the whole record.", interval="[0, inf)", unit="steps")
    skip: int = setting(0, "Steps at the beginning to leave out, say of learning.", interval="[0, inf)", unit="steps")
    eps: float = setting(0.1, "Allowed deviation of an average, as a share of the long-run one.", interval="(0, inf)")
    absolute: bool = setting(False, "The deviation is in units of reward.")
    quantile: float = setting(1.0, "Share of the rollouts that must have settled.", interval="(0, 1]")
    json: bool = setting(False, "Print JSON, for programs.")


TOOLS = {
    "report": Tool(
        "Is a record of rewards, of a run or in a file, long enough to tell its long-run average? In mixing times.",
        ReportArguments,
        "tutelage.studies.mixing.report:report",
    ),
}
