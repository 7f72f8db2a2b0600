"""A run's agent in mazes of one's own: text in, solved rates and walks out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tutelage.curricula.zero_shot import solved_rates
from tutelage.envs import maze
from tutelage.envs.maze import render
from tutelage.envs.maze.solver import shortest_path
from tutelage.envs.maze.text import parse_levels
from tutelage.lab.errors import BadInput
from tutelage.lab.files import read_text
from tutelage.lab.program import Program
from tutelage.lab.report.printed import print_tables
from tutelage.lab.storage import record as records
from tutelage.lab.study import Exhibit
from tutelage.rl.evaluation import record
from tutelage.studies.loading import load_run
from tutelage.studies.minimax.config import Config
from tutelage.studies.minimax.tools import PlayArguments


def play(arguments: PlayArguments) -> None:
    """Evaluate the newest checkpoint of a run on a text of mazes, print the table, write the walks.

    Raises:
        BadInput: no run of this study, no such file, or a text that is not one of mazes.
    """
    text = read_text(arguments.levels)
    run = load_run(arguments.run, of="minimax")
    for note in run.notes:
        print(note)
    exhibits = played(run.config, run.program, run.state, text, arguments.levels, arguments.episodes, arguments.seed)
    print_tables(exhibits)
    if arguments.out:
        out = Path(arguments.out)
        out.mkdir(parents=True, exist_ok=True)
        records.write_exhibits(out, exhibits)
        print(f"walks: {out}")


def played(
    config: Config, program: Program, state: Any, text: str, source: str, num_episodes: int, seed: int
) -> list[Exhibit]:
    """Evaluate the first seed's first student on the levels of a text (`tutelage.envs.maze.text`).

    Returns a table (level, solved rate, shortest solution) and an animated walk for each level.

    Raises:
        BadInput: the run's world has no text levels, or the text is not one (naming line and column).
    """
    if config.domain != "maze":
        raise BadInput(f"domain = {config.domain!r} of this run has no levels as text; allowed is 'maze'")
    levels = parse_levels(text, max_steps=config.maze.max_steps, source=source)
    net = jax.tree.map(lambda leaf: leaf[0], program.seed_state(state, 0).learners.net)
    batch = maze.stack(list(levels.values()))
    height, width = batch.wall.shape[1:]
    world = dataclasses.replace(config.maze, height=height, width=width, max_steps=int(batch.max_steps.max()))
    env = maze.make_maze(world)
    k_rates, k_walks = jax.random.split(jax.random.key(seed))
    rates = np.asarray(jax.jit(lambda k: solved_rates(k, net, env, batch, num_episodes))(k_rates))
    best = np.asarray(jax.vmap(shortest_path)(batch))
    episodes = jax.jit(jax.vmap(lambda k, level: record(k, net, env, level)))(
        jax.random.split(k_walks, len(levels)), batch
    )
    rows = [("level", f"solved of {num_episodes} episodes", "shortest solution (actions)", "one walk")]
    walks = []
    for index, (name, level) in enumerate(levels.items()):
        episode = jax.tree.map(lambda leaf, index=index: leaf[index], episodes)
        length, solved = int(episode.length), float(episode.reward.sum()) > 0
        outcome = f"solved in {length} steps" if solved else f"not solved in {length} steps"
        is_solvable = best[index] <= int(level.max_steps)
        rows.append((name, f"{rates[index]:.0%}", str(best[index]) if is_solvable else "none in time", outcome))
        picture = render.svg(level, render.walk_of(episode.state, length), title=name, view=config.maze.view)
        walks.append(Exhibit(f"walk-{index + 1}", name, outcome, svg=picture))
    return [Exhibit("levels", "Your levels", f"Levels of {source}.", rows=tuple(rows)), *walks]
