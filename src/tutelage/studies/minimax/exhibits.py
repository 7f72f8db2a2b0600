"""Pictures and tables of a finished run: what the teacher taught, and the student in mazes nobody taught it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tutelage.curricula.lineage import descent
from tutelage.curricula.plr import ReplayState
from tutelage.curricula.ued import UEDState
from tutelage.curricula.zero_shot import robustness, worst_case_rate
from tutelage.envs import maze
from tutelage.envs.maze import render
from tutelage.envs.maze.solver import shortest_path
from tutelage.lab.program import Program
from tutelage.lab.study import Exhibit
from tutelage.nn.actor_critic import ActorCritic
from tutelage.rl.evaluation import Episode, record
from tutelage.studies.minimax.build import environment
from tutelage.studies.minimax.config import Config
from tutelage.studies.minimax.evaluation import suites

WALKS = ("Labyrinth", "SixteenRooms", "StandardMaze", "FourRooms", "PerfectMaze", "Crossing")
"""Mazes of the suite that the report walks through."""
ATTEMPTS = 8
"""Episodes tried for a walk; the first solved one is shown, and how many were solved is said."""
GALLERY = 10
SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Points of the robustness curve."""
LONGEST_WALK = 250
"""Steps of a walk that are kept: an animation of a thousand steps of being lost teaches nothing."""


def exhibits(config: Config, program: Program, state: Any) -> list[Exhibit]:
    """Everything the report shows of one run; nothing for worlds which have no pictures."""
    if config.domain != "maze":
        return []
    ued: UEDState = program.seed_state(state, 0)
    net = jax.tree.map(lambda leaf: leaf[0], ued.learners.net)
    key = jax.random.fold_in(jax.random.key(0), int(ued.updates))
    k_walks, k_robust = jax.random.split(key)
    shown = [*walks(config, net, k_walks), *robustness_curve(config, net, k_robust)]
    if not isinstance(ued.teacher, ReplayState):
        return shown
    # The first student's teacher, and of several devices the first one's: a lineage lives in one buffer.
    devices = config.rollout.num_devices
    first = (0, 0) if devices > 1 else (0,)
    teacher = jax.tree.map(lambda leaf: np.asarray(leaf)[first], ued.teacher)
    where = f"in the buffer of the first of {devices} devices" if devices > 1 else "in the buffer"
    return [*shown, *buffer_galleries(teacher, where)]


def robustness_curve(config: Config, net: ActorCritic, key: Key[Array, ""]) -> list[Exhibit]:
    """How bad the worst levels are: mean solved rate over the worst share α of fresh random solvable levels."""
    chosen = config.evaluation
    if chosen.robust_levels == 0:
        return []
    env = environment(dataclasses.replace(config, num_training_walls=-1))

    @jax.jit
    def measure(net: ActorCritic, key: Key[Array, ""]) -> Float[Array, "shares"]:
        robust = robustness(key, net, env, chosen.robust_levels, chosen.robust_episodes)
        return jnp.stack([worst_case_rate(robust, share) for share in SHARES])

    rates = np.asarray(measure(net, key))
    rows = [("worst share of levels", "mean solved rate")]
    rows += [(f"{share:.0%}", f"{rate:.1%}") for share, rate in zip(SHARES, rates, strict=True)]
    caption = (
        f"Of {chosen.robust_levels} fresh random solvable levels, chosen on {chosen.robust_episodes} episodes each and "
        f"measured on {chosen.robust_episodes} others (CVaR)."
    )
    return [Exhibit("robustness", "Robustness", caption, rows=tuple(rows))]


def walks(config: Config, net: ActorCritic, key: Key[Array, ""]) -> list[Exhibit]:
    """The student in mazes of the suite, as animations."""
    found = []
    for batch in suites(config, 1):
        env = batch.env
        play = jax.jit(lambda k, level, env=env: record(k, net, env, level))
        for index, name in enumerate(batch.names):
            if name in WALKS:
                level = jax.tree.map(lambda leaf, index=index: leaf[index, 0], batch.levels)
                found.append(_walk(config, play, name, level, jax.random.fold_in(key, index)))
    return found


def _walk(
    config: Config, play: Callable[[Array, maze.Level], Episode], name: str, level: maze.Level, key: Key[Array, ""]
) -> Exhibit:
    episodes = [play(k, level) for k in jax.random.split(key, ATTEMPTS)]
    solved = [float(episode.reward.sum()) > 0 for episode in episodes]
    shown = episodes[solved.index(True) if any(solved) else 0]
    length = int(shown.length)
    walk = render.walk_of(shown.state, min(length, LONGEST_WALK))
    outcome = f"solved in {length} steps" if any(solved) else f"not solved; the first {min(length, LONGEST_WALK)} steps"
    caption = (
        f"A maze that nobody trained on. This walk: {outcome}. Solved in {sum(solved)} of {ATTEMPTS} attempts; "
        f"the shortest solution takes {int(shortest_path(level))} steps."
    )
    source = maze.suite([name])[name]
    level = level._replace(wall=np.asarray(level.wall)[: source.height, : source.width])
    picture = render.svg(level, walk, title=f"Walk in {name}", view=config.maze.view)
    return Exhibit(f"walk-{name.lower()}", f"Walk: {name}", caption, svg=picture)


def buffer_galleries(teacher: ReplayState, where: str) -> list[Exhibit]:
    """The buffer at the end: what scored highest, what was replayed most, and where an edited level came from."""
    buffer = teacher.buffer
    size = int(buffer.size)
    if size == 0:
        return []
    scores, replays = buffer.score[:size], buffer.replays[:size]
    by_score, by_replays = np.argsort(-scores, kind="stable"), np.argsort(-replays, kind="stable")
    shown = [
        _gallery(
            buffer.level,
            by_score[:GALLERY],
            [f"score {scores[slot]:.2f}" for slot in by_score[:GALLERY]],
            Exhibit("levels-score", "Levels of the highest score", f"Of {size} levels {where} at the end."),
        ),
        _gallery(
            buffer.level,
            by_replays[:GALLERY],
            [f"{replays[slot]} times" for slot in by_replays[:GALLERY]],
            Exhibit("levels-replayed", "Levels replayed most", f"Of {size} levels {where} at the end."),
        ),
    ]
    generations = buffer.lineage.generation[:size]
    if generations.max() > 0:
        slot = int(by_score[np.argmax(generations[by_score[: max(size // 4, 1)]])])
        line = descent(buffer.lineage, buffer.level, slot)
        levels = [ancestor.level for ancestor in line]
        names = [f"generation {ancestor.generation}" for ancestor in line]
        shown.append(
            Exhibit(
                "lineage",
                "Lineage of an edited level",
                "From the random level at its root to the level of the latest generation among the quarter of the "
                "buffer with the highest scores.",
                svg=render.gallery(levels, names, title="Lineage of an edited level"),
            )
        )
    return shown


def _gallery(levels: maze.Level, slots: np.ndarray, captions: list[str], exhibit: Exhibit) -> Exhibit:
    chosen = [jax.tree.map(lambda leaf, slot=slot: leaf[slot], levels) for slot in slots]
    return dataclasses.replace(exhibit, svg=render.gallery(chosen, captions, title=exhibit.title))
