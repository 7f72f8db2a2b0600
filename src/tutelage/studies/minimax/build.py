"""From a configuration to the running system: composes, computes little."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from tutelage.backends.jax_program import jax_program
from tutelage.curricula.accel import accel
from tutelage.curricula.domain_randomization import domain_randomization
from tutelage.curricula.paired import paired
from tutelage.curricula.plr import plr
from tutelage.curricula.sfl import sfl
from tutelage.curricula.teacher import Teacher
from tutelage.curricula.ued import UED, UEDState
from tutelage.curricula.zero_shot import robustness, solved_rates, worst_case_rate
from tutelage.envs import maze
from tutelage.envs.classic import acrobot, cartpole, pendulum
from tutelage.envs.config import EditorConfig
from tutelage.envs.environment import Environment, Task
from tutelage.lab.program import Program
from tutelage.nn import encoders
from tutelage.nn.actor_critic import ActorCritic, actor_critic
from tutelage.rl.evaluation import evaluate
from tutelage.rl.ppo import ppo
from tutelage.studies.minimax.config import Config

HELD_OUT_KEY = 2311_12716
"""Seed of the held-out levels: the same for every arm and seed, and never used for training."""
SUITE_SIZE = 19
"""All mazes of the suite but the 101×101 one are embedded in a map of this side."""


def environment(config: Config) -> Environment:
    """The students' world, whose random tasks are what the teacher draws."""
    match config.domain:
        case "cartpole":
            return cartpole(config.cartpole)
        case "pendulum":
            return pendulum(config.pendulum)
        case "acrobot":
            return acrobot(config.acrobot)
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
            return domain_randomization(env, number)
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


def suite_tasks(config: Config) -> tuple[list[str], Task]:
    """Names of M mazes, and their levels with leading axis M·E: E copies of a fixed maze, E draws of a procedural."""
    names = maze.FIXED if config.evaluation.suite == "fixed" else maze.FIXED + maze.PROCEDURAL
    number = config.evaluation.num_episodes
    keys = jax.random.split(jax.random.key(HELD_OUT_KEY), (len(names), number))
    levels = [
        maze.pad(maze.suite_level(name, key), SUITE_SIZE, SUITE_SIZE)
        for name, row in zip(names, keys, strict=True)
        for key in row
    ]
    return list(names), maze.stack(levels)


def evaluator(config: Config) -> Any:
    """`(state, key) -> figures`: held-out levels, the suite, and the worst of many random levels."""
    env = environment(dataclasses.replace(config, num_training_walls=-1))
    chosen = config.evaluation
    held_out = jax.vmap(env.sample_task)(jax.random.split(jax.random.key(HELD_OUT_KEY), chosen.num_held_out))
    in_maze = config.domain == "maze"
    names, levels = suite_tasks(config) if in_maze and chosen.suite != "none" else ([], None)
    suite_maze = dataclasses.replace(config.maze, height=SUITE_SIZE, width=SUITE_SIZE)
    if levels is not None:
        suite_maze = dataclasses.replace(suite_maze, max_steps=int(levels.max_steps.max()))
    suite_env = maze.make_maze(suite_maze)

    def figures(net: ActorCritic, key: Key[Array, ""]) -> dict[str, Array]:
        k_held, k_suite, k_robust = jax.random.split(key, 3)
        result = evaluate(k_held, net, env, held_out, 1)
        found = {"held_out_return": result.returns.mean()}
        if in_maze:
            found["held_out_solved"] = (result.returns > 0).mean(dtype=jnp.float32)
        if names:
            rates = solved_rates(k_suite, net, suite_env, levels, 1).reshape(len(names), -1).mean(axis=1)
            found["suite_solved"] = rates.mean()
            found |= {f"solved/{name}": rate for name, rate in zip(names, rates, strict=True)}
        if in_maze and chosen.robust_levels > 0:
            robust = robustness(k_robust, net, env, chosen.robust_levels, chosen.robust_episodes)
            found["robust_mean"] = robust.measured.mean()
            found["robust_cvar"] = worst_case_rate(robust, chosen.robust_alpha)
        return found

    def evaluate_all(state: UEDState, key: Key[Array, ""]) -> dict[str, Array]:
        number = evaluated_students(config)
        nets = jax.tree.map(lambda leaf: leaf[:number], state.learners.net)
        if number == 1:
            return figures(jax.tree.map(lambda leaf: leaf[0], nets), key)
        keys = jax.random.split(key, number)
        return jax.tree.map(jnp.mean, jax.lax.map(lambda row: figures(*row), (nets, keys)))

    return evaluate_all


def build(config: Config, seeds: Sequence[int]) -> Program:
    """The compiled system for these seeds."""
    ued = system(config)
    return jax_program(ued.init, ued.update, evaluator(config), seeds=seeds)
