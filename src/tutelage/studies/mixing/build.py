"""From a configuration to the running system: composes, computes little."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from tutelage.backends.jax_host_program import jax_host_program
from tutelage.backends.jax_program import jax_program
from tutelage.continual.agents.agent import Life, begin, live
from tutelage.continual.agents.making import make_agent
from tutelage.continual.discounted import solve_discounted, two_loop_threshold
from tutelage.continual.hitting import diameter
from tutelage.continual.mixing_time import mixing_time
from tutelage.continual.planning import solve_gain
from tutelage.continual.stationary import gain
from tutelage.continual.tabular import World, induced
from tutelage.continual.worlds.making import make_world
from tutelage.lab.program import Last, Program
from tutelage.measures.mixing import scaling_exponent
from tutelage.studies.mixing.config import Config
from tutelage.studies.mixing.games import game_sweep, game_turns

MEASURED = ("gain", "t_mix", "diameter")
"""Columns of a sweep."""


class LifeState(NamedTuple):
    """An agent's life and what it has brought.

    Attributes:
        life: agent, place, key.
        total: sum of all rewards.
        recent: mean reward of each of the last updates, f32 [window]; the newest last.
        updates: how many there were.
    """

    life: Life
    total: Float[Array, ""]
    recent: Float[Array, "window"]
    updates: Int[Array, ""]


class SweepState(NamedTuple):
    """The members measured so far: f32 [members, 3] (`MEASURED`), and how many they are."""

    rows: Float[Array, "members 3"]
    done: Int[Array, ""]


@functools.lru_cache(maxsize=8)
def world_of(config: Any) -> World:
    """The world of a `WorldConfig`, made once."""
    return make_world(config)


@functools.lru_cache(maxsize=8)
def best_gain(config: Any) -> float:
    """ρ* of a `WorldConfig`, exactly."""
    return float(solve_gain(world_of(config).mdp).rho)


def build(config: Config, seeds: Sequence[int]) -> Program:
    """The running system for these seeds."""
    match config.task:
        case "life":
            return _life(config, seeds)
        case "sweep":
            return _sweep(config, seeds)
        case "game_sweep":
            return game_sweep(config, seeds)
        case "game_turns":
            return game_turns(config, seeds)
        case _:
            return _myopia(config, seeds)


def _life(config: Config, seeds: Sequence[int]) -> Program:
    world = world_of(config.world)
    agent = make_agent(config.agent, *world.mdp.R.shape)
    steps, window = config.life.steps_per_update, config.life.window

    def init(key: Key[Array, ""]) -> LifeState:
        return LifeState(begin(world, agent, key), jnp.zeros(()), jnp.zeros(window), jnp.zeros((), jnp.int32))

    def update(state: LifeState) -> tuple[LifeState, Mapping[str, Any]]:
        life, rewards = live(world, agent, state.life, steps)
        rate = rewards.mean(dtype=jnp.float32)
        recent = jnp.concatenate([state.recent[1:], rate[None]])
        after = LifeState(life, state.total + steps * rate, recent, state.updates + jnp.int32(1))
        return after, {"reward_rate": rate, "steps": Last(after.updates * steps)}

    def evaluate(state: LifeState, key: Key[Array, ""]) -> dict[str, Array]:
        del key
        lived = jnp.minimum(state.updates, window)
        taken = state.updates.astype(jnp.float32) * steps
        with jax.ensure_compile_time_eval():
            best = best_gain(config.world)
        return {
            "reward_rate": state.total / jnp.maximum(taken, 1),
            "last_rate": state.recent.sum() / jnp.maximum(lived, 1),
            "gain_regret": taken * best - state.total,
            "rho_star": jnp.float32(best),
            "steps": taken,
        }

    # Side by side every step of these would plan, as some seed always begins an episode.
    mode = "loop" if config.agent.kind in ("ucrl2", "psrl") else "vmap"
    return jax_program(init, update, evaluate, seeds=seeds, mode=mode)


def member(config: Config, index: int) -> Any:
    """The `WorldConfig` of a sweep's member."""
    return dataclasses.replace(config.world, **{config.sweep.scale: config.sweep.values[index]})


def measured(config: Config, index: int) -> tuple[float, float, float]:
    """Gain, mixing time and diameter of a member (`MEASURED`); a mixing time may be infinite."""
    mdp = world_of(member(config, index)).mdp
    solution = solve_gain(mdp)
    uniform = np.full(mdp.R.shape, 1 / mdp.R.shape[1])
    chain = induced(mdp, uniform if config.sweep.policy == "uniform" else np.asarray(solution.policy))
    steps = mixing_time(chain, eps=config.sweep.eps, relaxation=False).steps
    return float(np.max(gain(chain))), float(steps), float(diameter(mdp))


def _sweep(config: Config, seeds: Sequence[int]) -> Program:
    number = len(config.sweep.values)

    def init(key: Key[Array, ""]) -> SweepState:
        del key
        return SweepState(jnp.zeros((number, len(MEASURED))), jnp.zeros((), jnp.int32))

    def update(state: SweepState) -> tuple[SweepState, Mapping[str, Any]]:
        index = int(state.done)
        found = measured(config, index)
        after = SweepState(state.rows.at[index].set(jnp.asarray(found)), state.done + jnp.int32(1))
        return after, dict(zip(MEASURED, found, strict=True)) | {"scale": float(config.sweep.values[index])}

    def evaluate(state: SweepState, key: Key[Array, ""], final: bool) -> dict[str, float]:
        del key, final
        rows = np.asarray(state.rows, np.float64)[: int(state.done)]
        scale = np.asarray(config.sweep.values[: len(rows)], np.float64)
        figures = {
            f"{name}@{value:g}": float(rows[row, column])
            for row, value in enumerate(scale)
            for column, name in enumerate(MEASURED)
        }
        if len(rows) >= 3:
            for column, name in ((1, "t_mix"), (2, "diameter")):
                fit = scaling_exponent(scale, rows[:, column])
                figures |= {
                    f"{name}_exponent": float(fit.exponent),
                    f"{name}_exponent_low": float(fit.low),
                    f"{name}_exponent_high": float(fit.high),
                }
        return figures

    return jax_host_program(init, update, evaluate, seeds=seeds)


def _myopia(config: Config, seeds: Sequence[int]) -> Program:
    """Thresholds γ* of the two loops: below them the discounted optimum takes the wrong one."""
    values = config.sweep.values

    def init(key: Key[Array, ""]) -> SweepState:
        del key
        return SweepState(jnp.zeros((len(values), 3)), jnp.zeros((), jnp.int32))

    def update(state: SweepState) -> tuple[SweepState, Mapping[str, Any]]:
        index = int(state.done)
        number = values[index]
        threshold = two_loop_threshold(number, 0.1, 0.2)
        world = dataclasses.replace(config.world, kind="two_loops", states=number)
        mdp = world_of(world).mdp
        below, above = (np.asarray(solve_discounted(mdp, threshold + shift).policy) for shift in (-1e-6, 1e-6))
        row = jnp.asarray([number * (1 - threshold), float((below != above).any()), best_gain(world)])
        after = SweepState(state.rows.at[index].set(row), state.done + jnp.int32(1))
        return after, {"threshold": threshold, "needed_horizon": 1 / (1 - threshold), "scale": float(number)}

    def evaluate(state: SweepState, key: Key[Array, ""], final: bool) -> dict[str, float]:
        del key, final
        rows = np.asarray(state.rows, np.float64)[: int(state.done)]
        if not len(rows):
            return {}
        figures = {f"scaled_gap@{value:g}": float(row[0]) for value, row in zip(values, rows, strict=False)}
        return figures | {"scaled_gap": float(rows[-1, 0]), "flips": float(rows[:, 1].mean())}

    return jax_host_program(init, update, evaluate, seeds=seeds)
