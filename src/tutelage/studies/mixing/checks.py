"""What the settings of this study may not be together, refused before any work."""

from __future__ import annotations

from tutelage.lab.errors import BadInput
from tutelage.studies.mixing.config import Config


def check(config: Config) -> list[str]:
    """Refuse what no single field shows; return warnings, one line each.

    Raises:
        BadInput: one line naming the field, its value and what is allowed.
    """
    if len(config.world.goals) % 2:
        raise BadInput(f"world.goals = {config.world.goals}: must be pairs x, y")
    if config.task == "life":
        return []
    if config.task in ("game_sweep", "game_turns"):
        return _check_games(config)
    values, updates = config.sweep.values, config.schedule.num_updates
    if not values:
        raise BadInput("sweep.values: there is none; at least one is needed")
    if updates != len(values):
        raise BadInput(f"schedule.num_updates = {updates}: must be the number of sweep.values, {len(values)}")
    return []


def _check_games(config: Config) -> list[str]:
    games = config.games
    number, updates, long = len(games.names), games.training.num_updates, games.training.updates_per_task
    if number < 2 or len(set(games.names)) < number:
        raise BadInput(f"games.names = {games.names}: must be two games or more, all different")
    if config.schedule.num_updates != updates:
        raise BadInput(
            f"schedule.num_updates = {config.schedule.num_updates}: must be games.training.num_updates, {updates}"
        )
    if games.training.num_envs % games.training.ppo.num_minibatches:
        raise BadInput(
            f"games.training.num_envs = {games.training.num_envs}: must be a multiple of "
            f"games.training.ppo.num_minibatches, {games.training.ppo.num_minibatches}"
        )
    if config.task == "game_turns":
        if updates % long:
            raise BadInput(
                f"games.training.num_updates = {updates}: must be a multiple of games.training.updates_per_task, {long}"
            )
        missing = updates // long < number
        return [f"{updates // long} turns are too few for each of {number} games to have one"] if missing else []
    most, longest = max(games.sweep.num_tasks, default=0), max(games.sweep.switch_every, default=0)
    if not 0 < most <= number:
        raise BadInput(f"games.sweep.num_tasks = {games.sweep.num_tasks}: must be some of 1 to {number}, the games")
    if not 0 < longest <= games.sweep.num_steps:
        raise BadInput(
            f"games.sweep.switch_every = {games.sweep.switch_every}: must be some of 1 to games.sweep.num_steps, "
            f"{games.sweep.num_steps}"
        )
    if games.sweep.num_rollouts < most:
        return [f"games.sweep.num_rollouts = {games.sweep.num_rollouts}: fewer than {most} leave out a beginning"]
    return []
