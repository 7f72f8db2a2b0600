"""Zero-shot evaluation of the study: held-out levels, the suite of mazes, the worst of many random levels."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from tutelage.backends.jax_program import Evaluate
from tutelage.curricula.ued import UEDState
from tutelage.curricula.zero_shot import robustness, solved_rates, worst_case_rate
from tutelage.envs import maze
from tutelage.envs.environment import Environment, Task
from tutelage.nn.actor_critic import ActorCritic
from tutelage.rl.evaluation import evaluate
from tutelage.studies.minimax.config import Config

HELD_OUT_KEY = 2311_12716
"""Seed of the held-out levels: the same for every arm and seed, and never used for training."""
SUITE_SIDE = 19
"""Mazes of the suite up to this side share one map and one program; beyond the border is wall anyway."""


class Suite(NamedTuple):
    """Test mazes of one map size as one batch.

    Attributes:
        names: the M mazes.
        levels: leaves [M, E, ...]: E copies of a fixed maze, E draws of a procedural one, always the same ones.
        env: a world of that size and horizon.
    """

    names: tuple[str, ...]
    levels: maze.Level
    env: Environment


def suites(config: Config, num_episodes: int) -> list[Suite]:
    """The mazes of the suite in batches: all of ordinary size embedded in one map, the largest one by itself."""
    choice = config.evaluation.suite
    sources = {
        name: source
        for name, source in maze.suite().items()
        if choice == "all"
        or (choice == "standard" and source.height <= SUITE_SIDE)
        or (choice == "fixed" and source.fixed)
    }
    batches = []
    for is_large in (False, True):
        chosen = {name: source for name, source in sources.items() if (source.height > SUITE_SIDE) == is_large}
        if chosen:
            batches.append(_suite(config, chosen, num_episodes))
    return batches


def _suite(config: Config, sources: dict[str, maze.LevelSource], num_episodes: int) -> Suite:
    side = max(max(source.height, source.width) for source in sources.values())

    @jax.jit
    def draw(keys: Key[Array, "M E"]) -> maze.Level:
        rows = [
            jax.vmap(lambda key, source=source: maze.pad(source.sample(key), side, side))(row)
            for source, row in zip(sources.values(), keys, strict=True)
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

    levels = draw(jax.random.split(jax.random.key(HELD_OUT_KEY), (len(sources), num_episodes)))
    horizon = max(source.max_steps for source in sources.values())
    world = dataclasses.replace(config.maze, height=side, width=side, max_steps=horizon)
    return Suite(tuple(sources), levels, maze.make_maze(world))


def evaluated_students(config: Config) -> int:
    """PAIRED's answer is its protagonist, the first student; elsewhere students are equals and figures are means."""
    return 1 if config.teacher.kind == "paired" else config.rollout.num_students


def evaluators(config: Config, env: Environment) -> tuple[Evaluate, Evaluate]:
    """`(state, key) -> figures` while training and at the end, on worlds like `env`.

    Both play held-out levels and the suite; the last one plays more episodes, and the worst of many random levels.
    """
    chosen = config.evaluation
    in_maze = config.domain == "maze"

    @functools.cache
    def levels_to_play() -> tuple[Task, list[Suite]]:
        # Drawn when the first evaluation is traced, not before the first update, which need not wait for them; as
        # values all the same, not as a part of the evaluation that would be drawn again each time.
        with jax.ensure_compile_time_eval():
            keys = jax.random.split(jax.random.key(HELD_OUT_KEY), chosen.num_held_out)
            held_out = jax.jit(jax.vmap(env.sample_task))(keys)
            number = max(chosen.num_episodes, chosen.final_episodes)
            return held_out, suites(config, number) if in_maze else []

    def figures(net: ActorCritic, key: Key[Array, ""], final: bool) -> dict[str, Array]:
        held_out, batches = levels_to_play()
        k_held, k_suite, k_robust = jax.random.split(key, 3)
        result = evaluate(k_held, net, env, held_out, 1)
        found = {"held_out_return": result.returns.mean()}
        if in_maze:
            found["held_out_solved"] = (result.returns > 0).mean(dtype=jnp.float32)
        number = chosen.final_episodes if final else chosen.num_episodes
        solved = {}
        for index, batch in enumerate(batches):
            levels = jax.tree.map(lambda leaf: leaf[:, :number].reshape(-1, *leaf.shape[2:]), batch.levels)
            rates = solved_rates(jax.random.fold_in(k_suite, index), net, batch.env, levels, 1)
            solved |= dict(zip(batch.names, rates.reshape(-1, number).mean(axis=1), strict=True))
        if solved:
            found["suite_solved"] = jnp.stack(list(solved.values())).mean()
            found |= {f"solved/{name}": rate for name, rate in solved.items()}
        if final and in_maze and chosen.robust_levels > 0:
            robust = robustness(k_robust, net, env, chosen.robust_levels, chosen.robust_episodes)
            found["robust_mean"] = robust.measured.mean()
            found["robust_cvar"] = worst_case_rate(robust, chosen.robust_alpha)
        return found

    def of_all(state: UEDState, key: Key[Array, ""], final: bool) -> dict[str, Array]:
        number = evaluated_students(config)
        nets = jax.tree.map(lambda leaf: leaf[:number], state.learners.net)
        if number == 1:
            return figures(jax.tree.map(lambda leaf: leaf[0], nets), key, final)
        rows = (nets, jax.random.split(key, number))
        return jax.tree.map(jnp.mean, jax.lax.map(lambda row: figures(row[0], row[1], final), rows))

    return lambda state, key: of_all(state, key, False), lambda state, key: of_all(state, key, True)
