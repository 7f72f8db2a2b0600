"""The tools of minimax and their arguments."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.settings import setting
from tutelage.lab.study import Tool


@dataclass(frozen=True)
class PlayArguments:
    """Arguments of `minimax play`."""

    run: str = setting("", "Folder of a run, finished or not.", word=True, needed=True)
    levels: str = setting(
        "", "Text file of mazes: '#' wall, '.' free, 'G' goal, '>v<^' agent; a blank line between two.", needed=True
    )
    episodes: int = setting(20, "Episodes on each maze.", interval="[1, inf)", unit="episodes")
    seed: int = setting(0, "Seed of the episodes.", interval="[0, 4294967295]")
    out: str = setting("", "Folder for the animated walks (SVG); empty: print the table only.")


TOOLS = {
    "play": Tool(
        "A run's agent in mazes of your own, given as text: how often it solves each, and its walks.",
        PlayArguments,
        "tutelage.studies.minimax.play:play",
    ),
}
