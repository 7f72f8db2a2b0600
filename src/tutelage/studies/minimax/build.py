"""From a configuration to the running system: composes, computes little."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jaxtyping import Array, Key

from tutelage.backends.jax_cache import enable_compilation_cache
from tutelage.backends.jax_program import jax_program
from tutelage.curricula.accel import accel
from tutelage.curricula.domain_randomization import dr
from tutelage.curricula.paired import OBJECTIVE_OF, paired
from tutelage.curricula.plr import plr
from tutelage.curricula.sfl import sfl
from tutelage.curricula.sharding import spread
from tutelage.curricula.teacher import Teacher
from tutelage.curricula.ued import UED
from tutelage.envs import maze
from tutelage.envs.classic.acrobot import make_acrobot
from tutelage.envs.classic.cartpole import make_cartpole
from tutelage.envs.classic.pendulum import make_pendulum
from tutelage.envs.config import EditorConfig
from tutelage.envs.environment import Environment
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Program
from tutelage.nn import encoders
from tutelage.nn.actor_critic import ActorCritic, actor_critic
from tutelage.rl.ppo import ppo
from tutelage.studies.minimax.config import Config, of_one_device
from tutelage.studies.minimax.evaluation import evaluators


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
    example = jax.eval_shape(
        lambda k, draw: env.reset(k, env.sample_task(draw))[1], *jax.random.split(jax.random.key(0))
    )

    def make(key: Key[Array, ""]) -> ActorCritic:
        k_encoder, k_net = jax.random.split(key)
        if config.domain == "maze":
            encoder = encoders.maze_encoder(
                k_encoder, config.network, config.maze.view, maze.view_channels(config.maze)
            )
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
        encoder = encoders.editor_encoder(
            k_encoder,
            height=config.maze.height + 2,
            width=config.maze.width + 2,
            num_filters=adversary.net.num_filters,
            num_steps=editor.horizon,
            noise=adversary.noise,
            time_embedding=adversary.net.direction_embedding,
            table=maze.channels(config.maze),
        )
        return actor_critic(k_net, adversary.net, encoder, editor.actions)

    return paired(
        adversary,
        editor,
        maze.level_of,
        make,
        number,
        num_students=config.rollout.num_students,
        num_updates=config.schedule.num_updates,
        objective=OBJECTIVE_OF[choice.kind],
        axis_name=axis_name(config),
    )


def axis_name(config: Config) -> str | None:
    """The name of the axis of devices, if there are several."""
    return "devices" if config.rollout.num_devices > 1 else None


def system(config: Config) -> UED:
    """The students, their world and their teacher; of several devices, the share of one."""
    config = of_one_device(config)
    env = environment(config)
    return UED(
        env=env,
        teacher=teacher(config, env),
        make_net=student_maker(config, env),
        ppo=ppo(config.ppo, num_updates=config.schedule.num_updates, axis_name=axis_name(config)),
        gamma=config.ppo.discount,
        gae_lambda=config.ppo.gae_lambda,
        num_students=config.rollout.num_students,
        num_steps=config.rollout.num_steps,
        num_copies=config.rollout.num_copies,
        score=config.teacher.replay.score,
        fresh_tasks=config.teacher.kind == "dr",
        num_probe_steps=config.teacher.sfl.rollout_steps,
        side_by_side=jax.default_backend() != "cpu",
        axis_name=axis_name(config),
    )


def build(config: Config, seeds: Sequence[int]) -> Program:
    """The compiled system for these seeds.

    Raises:
        BadInput: there are fewer devices than asked for.
    """
    number, seen = config.rollout.num_devices, jax.local_device_count()
    if number > seen:
        raise BadInput(f"rollout.num_devices = {number} is more than the devices that JAX sees here: {seen}")
    enable_compilation_cache()
    ued = system(config)
    during, final = evaluators(config, environment(dataclasses.replace(config, num_training_walls=-1)))
    if number == 1:
        return jax_program(ued.init, ued.update, during, final=final, seeds=seeds)
    wide = spread(ued, number)
    return jax_program(wide.init, wide.update, during, final=final, seeds=seeds, place=wide.place, num_devices=number)
