"""From a configuration to the running system: composes, computes little."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from tutelage.backends.jax_program import Evaluate, jax_program
from tutelage.curricula.accel import accel
from tutelage.curricula.domain_randomization import dr
from tutelage.curricula.paired import paired
from tutelage.curricula.plr import plr
from tutelage.curricula.sfl import sfl
from tutelage.curricula.teacher import Teacher
from tutelage.curricula.ued import UED, UEDState
from tutelage.curricula.zero_shot import robustness, solved_rates, worst_case_rate
from tutelage.envs import maze
from tutelage.envs.classic.acrobot import make_acrobot
from tutelage.envs.classic.cartpole import make_cartpole
from tutelage.envs.classic.pendulum import make_pendulum
from tutelage.envs.config import EditorConfig
from tutelage.envs.environment import Environment
from tutelage.lab.program import Program
from tutelage.nn import encoders
from tutelage.nn.actor_critic import ActorCritic, actor_critic
from tutelage.rl.evaluation import evaluate
from tutelage.rl.ppo import ppo
from tutelage.studies.minimax.config import Config

HELD_OUT_KEY = 2311_12716
"""Seed of the held-out levels: the same for every arm and seed, and never used for training."""
SUITE_SIDE = 19
"""Mazes of the suite up to this side share one map and one program; beyond the border is wall anyway."""


def environment(config: Config) -> Environment:
    """The students' world, whose random tasks are what the teacher draws."""
    match config.domain:
        case "cartpole":
            return make_cartpole(config.cartpole)
        case "pendulum":
            return make_pendulum(config.pendulum)
        case "acrobot":
            return make_acrobot(config.acrobot)
    walls = config.num_training_walls
    training = config.maze if walls < 0 else dataclasses.replace(config.maze, num_walls=walls)
    return maze.make_maze(training)


def student_maker(config: Config, env: Environment) -> Any:
    """`key -> ActorCritic` for the students' world."""
    example = jax.eval_shape(lambda k: env.reset(k, env.sample_task(k))[1], jax.random.key(0))

    def make(key: Key[Array, ""]) -> ActorCritic:
        k_encoder, k_net = jax.random.split(key)
        if config.domain == "maze":
            encoder = encoders.maze_encoder(k_encoder, config.network, config.maze.view, maze.channels(config.maze))
        else:
            encoder = encoders.vector_encoder(k_encoder, config.network, example)
        return actor_critic(k_net, config.network, encoder, env.actions)

    return make


def teacher(config: Config, env: Environment) -> Teacher:
    """Who chooses the tasks."""
    number, choice = config.rollout.num_tasks, config.teacher
    match choice.kind:
        case "dr":
            return dr(env, number)
        case "plr":
            return plr(choice.replay, env, number)
        case "accel":
            return accel(choice.replay, choice.edit, env, number)
        case "sfl":
            return sfl(choice.sfl, env, number)
    adversary = choice.adversary
    editor_config = EditorConfig(num_walls=adversary.budget, noise=adversary.noise)
    editor = maze.make_editor(config.maze, editor_config)

    def make(key: Key[Array, ""]) -> ActorCritic:
        k_encoder, k_net = jax.random.split(key)
        encoder = encoders.design_encoder(
            k_encoder,
            height=config.maze.height + 2,
            width=config.maze.width + 2,
            num_filters=adversary.net.num_filters,
            num_steps=editor.horizon,
            noise=adversary.noise,
        )
        return actor_critic(k_net, adversary.net, encoder, editor.actions)

    return paired(choice, editor, maze.level_of, make, number, num_students=config.rollout.num_students)


def system(config: Config) -> UED:
    """The students, their world and their teacher."""
    env = environment(config)
    return UED(
        env=env,
        teacher=teacher(config, env),
        make_net=student_maker(config, env),
        ppo=ppo(config.ppo, num_updates=config.schedule.num_updates),
        gamma=config.ppo.discount,
        gae_lambda=config.ppo.gae_lambda,
        num_students=config.rollout.num_students,
        num_steps=config.rollout.num_steps,
        num_copies=config.rollout.num_copies,
        score=config.teacher.replay.score,
        fresh_tasks=config.teacher.kind == "dr",
        num_probe_steps=config.teacher.sfl.rollout_steps,
        side_by_side=jax.default_backend() != "cpu",
    )


def evaluated_students(config: Config) -> int:
    """PAIRED's answer is its protagonist, the first student; elsewhere students are equals and figures are means."""
    return 1 if config.teacher.kind == "paired" else config.rollout.num_students


class Suite(NamedTuple):
    """Test mazes of one map size as one batch.

    Attributes:
        names: the M mazes.
        levels: leading axis M·E: E copies of a fixed maze, E draws of a procedural one.
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
    keys = jax.random.split(jax.random.key(HELD_OUT_KEY), (len(sources), num_episodes))

    @jax.jit
    def draw(keys: Key[Array, "M E"]) -> maze.Level:
        # A fixed maze plays E times, a procedural one is drawn E times, always the same ones.
        parts = [
            jax.vmap(lambda key, source=source: maze.pad(source.sample(key), side, side))(row)
            for source, row in zip(sources.values(), keys, strict=True)
        ]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)

    horizon = max(source.max_steps for source in sources.values())
    world = dataclasses.replace(config.maze, height=side, width=side, max_steps=horizon)
    return Suite(tuple(sources), draw(keys), maze.make_maze(world))


def evaluator(config: Config, *, final: bool) -> Evaluate:
    """`(state, key) -> figures`: held-out levels and the suite; at the end also the worst of many random levels."""
    env = environment(dataclasses.replace(config, num_training_walls=-1))
    chosen = config.evaluation
    held_out = jax.jit(jax.vmap(env.sample_task))(jax.random.split(jax.random.key(HELD_OUT_KEY), chosen.num_held_out))
    in_maze = config.domain == "maze"
    batches = suites(config, chosen.final_episodes if final else chosen.num_episodes) if in_maze else []

    def figures(net: ActorCritic, key: Key[Array, ""]) -> dict[str, Array]:
        k_held, k_suite, k_robust = jax.random.split(key, 3)
        result = evaluate(k_held, net, env, held_out, 1)
        found = {"held_out_return": result.returns.mean()}
        if in_maze:
            found["held_out_solved"] = (result.returns > 0).mean(dtype=jnp.float32)
        solved = {}
        for batch, k in zip(batches, jax.random.split(k_suite, len(batches)), strict=True):
            rates = solved_rates(k, net, batch.env, batch.levels, 1).reshape(len(batch.names), -1).mean(axis=1)
            solved |= {f"solved/{name}": rate for name, rate in zip(batch.names, rates, strict=True)}
        if solved:
            found |= {"suite_solved": jnp.stack(list(solved.values())).mean(), **solved}
        if final and in_maze and chosen.robust_levels > 0:
            robust = robustness(k_robust, net, env, chosen.robust_levels, chosen.robust_episodes)
            found["robust_mean"] = robust.measured.mean()
            found["robust_cvar"] = worst_case_rate(robust, chosen.robust_alpha)
        return found

    def evaluate_all(state: UEDState, key: Key[Array, ""]) -> dict[str, Array]:
        number = evaluated_students(config)
        nets = jax.tree.map(lambda leaf: leaf[:number], state.learners.net)
        if number == 1:
            return figures(jax.tree.map(lambda leaf: leaf[0], nets), key)
        return jax.tree.map(jnp.mean, jax.lax.map(lambda row: figures(*row), (nets, jax.random.split(key, number))))

    return evaluate_all


def build(config: Config, seeds: Sequence[int]) -> Program:
    """The compiled system for these seeds."""
    ued = system(config)
    return jax_program(
        ued.init, ued.update, evaluator(config, final=False), final=evaluator(config, final=True), seeds=seeds
    )
