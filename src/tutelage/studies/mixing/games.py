"""The deep half as programs: a policy for each MinAtar game, measured as they take turns; one that learns in turns.

The policies of a finished run, in the hands of its user:

    run = load_run("runs/games")
    policy = policies_of(run)["Breakout"]  # (observation, key) -> action
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from tutelage.backends.jax_program import jax_program
from tutelage.continual.deep.sweep import Policy, reward_stream, sampled
from tutelage.continual.deep.task_training import TrainingState, average_returns, task_training
from tutelage.envs.adapters.minatar import minatar_games
from tutelage.lab.errors import BadInput
from tutelage.lab.program import Last, Program
from tutelage.studies.loading import LoadedRun
from tutelage.studies.mixing import game_figures
from tutelage.studies.mixing.config import Config

TASKS = ("game_sweep", "game_turns")


class GamesState(NamedTuple):
    """A training for each game."""

    games: tuple[TrainingState, ...]


class TurnsState(NamedTuple):
    """One training on all games, and how well it did on each of them after each turn.

    Attributes:
        training: network, optimiser, worlds.
        table: mean return of every game after every turn so far, f32 [turns, games]; 0 where a turn is to come.
        measuring: the key of those returns, apart from that of the training.
    """

    training: TrainingState
    table: Float[Array, "turns Z"]
    measuring: Key[Array, ""]


def game_sweep(config: Config, seeds: Sequence[int]) -> Program:
    """A policy for each game; at an evaluation the return mixing times of the games in turns, over τ × |Z|."""
    games = config.games
    envs = minatar_games(games.names)
    trainings = [task_training([env], games.training) for env in envs]

    def init(key: Key[Array, ""]) -> GamesState:
        keys = jax.random.split(key, len(envs))
        return GamesState(tuple(training.init(k) for training, k in zip(trainings, keys)))

    def update(state: GamesState) -> tuple[GamesState, Mapping[str, Any]]:
        after, metrics = [], {}
        for name, env, training, of_game in zip(games.names, envs, trainings, state.games):
            new, found = training.update(of_game)
            after.append(new)
            metrics |= _renamed(found, {f"reward/{env.name}": f"reward/{name}"}, f"{name}/")
        return GamesState(tuple(after)), metrics | {"steps": Last(after[0].updates * games.steps_per_update)}

    def evaluate(state: GamesState, key: Key[Array, ""]) -> dict[str, Array]:
        asked = games.sweep
        return {
            name: reward_stream(
                k, env, sampled(of_game.learner.net), asked.num_rollouts, asked.num_steps, burn_in=asked.burn_in
            )
            for name, env, of_game, k in zip(games.names, envs, state.games, jax.random.split(key, len(envs)))
        }

    def measure(streams: dict[str, Any]) -> dict[str, float]:
        # The order of the turns is that of the names; a dictionary comes back from the device sorted by its keys.
        return game_figures.of_streams({name: streams[name] for name in games.names}, games.sweep)

    return jax_program(init, update, evaluate, seeds=seeds, measure=measure)


def game_turns(config: Config, seeds: Sequence[int]) -> Program:
    """One policy that learns the games in turns."""
    games = config.games
    envs = minatar_games(games.names)
    training = task_training(envs, games.training)
    long = games.training.updates_per_task
    turns = games.training.num_updates // long
    renamed = {f"reward/{env.name}": f"reward/{name}" for name, env in zip(games.names, envs)}

    def init(key: Key[Array, ""]) -> TurnsState:
        k_training, k_measuring = jax.random.split(key)
        return TurnsState(training.init(k_training), jnp.zeros((turns, len(envs))), k_measuring)

    def update(state: TurnsState) -> tuple[TurnsState, Mapping[str, Any]]:
        after, metrics = training.update(state.training)
        turn = after.updates // long - 1

        def filled() -> Float[Array, "turns Z"]:
            key = jax.random.fold_in(state.measuring, turn)
            return state.table.at[turn].set(average_returns(key, after.learner.net, envs, games.episodes))

        table = jax.lax.cond(after.updates % long == 0, filled, lambda: state.table)
        steps = Last(after.updates * games.steps_per_update)
        return TurnsState(after, table, state.measuring), _renamed(metrics, renamed, "") | {"steps": steps}

    def evaluate(state: TurnsState, key: Key[Array, ""]) -> dict[str, Array]:
        del key  # what there is to measure was measured when the turns ended
        return {"table": state.table, "updates": state.training.updates}

    def measure(found: dict[str, Any]) -> dict[str, float]:
        updates = int(found["updates"])
        figures = game_figures.of_turns(games.names, found["table"][: updates // long])
        return figures | {"steps": float(updates * games.steps_per_update)}

    # Side by side every update would play all games, and the episodes that end a turn as well.
    return jax_program(init, update, evaluate, seeds=seeds, mode="loop", measure=measure)


def policies_of(run: LoadedRun, *, index: int = 0) -> dict[str, Policy]:
    """The policy of each game, as it stands in a run: `(observation, key) -> action`, actions drawn.

    A policy that learnt the games in turns is that of all of them.

    Args:
        run: of an arm with games, finished or not (`studies.loading.load_run`).
        index: which of the run's seeds, by its place.

    Raises:
        BadInput: a run of another study or without games, or a place beyond its seeds.
    """
    if run.study.name != "mixing" or run.config.task not in TASKS:
        raise BadInput("this run has no games; must be of mixing/minatar_sweep or mixing/minatar_switching")
    number = len(run.program.seeds)
    if not 0 <= index < number:
        raise BadInput(f"index = {index}: the run has {number} seeds; must be in [0, {number - 1}]")
    state, names = run.program.seed_state(run.state, index), run.config.games.names
    if run.config.task == "game_turns":
        return dict.fromkeys(names, sampled(state.training.learner.net))
    return {name: sampled(of_game.learner.net) for name, of_game in zip(names, state.games)}


def _renamed(metrics: Mapping[str, Any], names: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """Rewards by the games' names, and PPO's figures with a prefix."""
    return {names.get(name, prefix + name): metric for name, metric in metrics.items()}
