"""Settings of the worlds, free of any framework so that command lines can read them at once."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.errors import BadInput
from tutelage.lab.settings import setting


@dataclass(frozen=True)
class MazeConfig:
    """AMaze: a MiniGrid maze whose walls, agent and goal are free (Dennis et al. 2020, arXiv 2012.02096)."""

    height: int = setting(13, "Cells from top to bottom, without the border.", interval="[2, 1024]", source="minimax")
    width: int = setting(13, "Cells from left to right, without the border.", interval="[2, 1024]", source="minimax")
    num_walls: int = setting(
        60,
        "Wall cells drawn for a random level, with replacement, so that fewer are distinct.",
        interval="[0, inf)",
        unit="cells",
        source="minimax dr.json",
    )
    sample_num_walls: bool = setting(
        False, "Draw the number of walls of each random level uniformly from [0, num_walls).", source="minimax"
    )
    max_steps: int = setting(
        250, "Steps after which an episode of a generated level ends.", interval="[1, inf)", source="minimax"
    )
    view: int = setting(
        5, "Side of the square field of view in front of the agent; odd.", interval="[3, inf)", source="minimax"
    )
    num_actions: int = setting(
        7,
        "7: MiniGrid's actions, of which the last four do nothing; 3: only turn left, turn right, go forward.",
        interval="[3, 7]",
        source="minimax",
    )
    see_agent: bool = setting(False, "Show the agent in its own field of view.", source="minimax dr.json")
    normalize: bool = setting(True, "Divide the channels of an observed cell by 10.", source="minimax dr.json")


@dataclass(frozen=True)
class EditorConfig:
    """The teacher's world in PAIRED: it places walls, then the goal, then the agent (arXiv 2012.02096)."""

    num_walls: int = setting(
        60, "Steps in which the teacher places a wall; they may overlap.", interval="[0, inf)", source="minimax"
    )
    noise: int = setting(
        50, "Uniform random numbers that the teacher sees.", interval="[1, inf)", source="minimax paired.json"
    )


def check(config: MazeConfig, editor: EditorConfig | None = None) -> None:
    """Refuse settings that only together make no maze.

    Raises:
        BadInput: the walls leave no room for agent and goal, the view has no middle column, or there are neither 3
            nor 7 actions.
    """
    room = config.height * config.width - 2
    if config.num_walls >= room:
        raise BadInput(
            f"num_walls = {config.num_walls} leaves no room for agent and goal in {config.height}×{config.width} "
            f"cells; allowed is less than {room}"
        )
    if editor is not None and editor.num_walls >= room:
        raise BadInput(
            f"editor num_walls = {editor.num_walls} leaves no room for agent and goal in "
            f"{config.height}×{config.width} cells; allowed is less than {room}"
        )
    if config.view % 2 == 0:
        raise BadInput(f"view = {config.view} has no middle column for the agent; allowed are odd numbers from 3")
    if config.num_actions not in (3, 7):
        raise BadInput(
            f"num_actions = {config.num_actions} is not an action set; allowed are 3 (turn left, turn right, forward) "
            "and 7 (MiniGrid)"
        )
