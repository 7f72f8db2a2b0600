"""Continual learning where mixing times are polynomial: chains measured exactly, agents of the average reward.

The composition of one paper in its two versions: the gridworld families and ρ-learning agents of the first, measured
against the exact optimum; what mixing times say of policies and evaluations. Of the second, return
mixing times of trained policies as tasks grow in number and switch more slowly. `study.map` says where each piece is.

Deviations from the publication and its code, each on purpose:
- gain regret T·ρ* − Σr against the exact optimal gain; the official regret accrues an optimistic bound that depends on
  where the agent is, and is not comparable between agents;
- ρ of every single-state deviation by the row-perturbation identity, one inverse instead of a solve for each candidate;
- policies are changed functionally (in the official code candidates overwrite the live policy);
- NCycle's clock is part of the state, so that the process is Markov; its chains are periodic and never mix;
- tables are restricted to the closed class in which a policy stays;
- the deep half is of MinAtar games with policies trained here, instead of pretrained ones of Atari, which are not to be
  had; for those give the rewards of your own (`tutelage.continual.deep.recorded`) to the same sweep.
"""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.lab.errors import BadInput
from tutelage.lab.program import Program, State
from tutelage.lab.study import Exhibit, Paper, RunResult, Study
from tutelage.studies.mixing.arms import ARMS, PRESETS
from tutelage.studies.mixing.claims import CLAIMS, PUBLISHED
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


def build(config: Config, seeds: Sequence[int]) -> Program:
    """The running system (imports JAX)."""
    from tutelage.studies.mixing.build import build

    return build(config, seeds)


def exhibits(config: Config, program: Program, state: State) -> list[Exhibit]:
    """Forgetting curves, maps of residence, fitted exponents."""
    from tutelage.studies.mixing.exhibits import exhibits

    return exhibits(config, program, state)


def panels(results: Sequence[RunResult]) -> list[Exhibit]:
    """The agents side by side."""
    from tutelage.studies.mixing.panels import panels

    return panels(results)


def work(config: Config) -> tuple[str, float]:
    """Steps of the world or games in one update; members of a family otherwise."""
    if config.task == "life":
        return "steps", float(config.life.steps_per_update)
    if config.task in ("game_sweep", "game_turns"):
        policies = len(config.games.names) if config.task == "game_sweep" else 1
        return "steps", float(config.games.steps_per_update * policies)
    return "worlds", 1.0


study = Study(
    name="mixing",
    paper=Paper(
        "Continual Learning In Environments With Polynomial Mixing Times",
        "Riemer, Raparthy, Cases, Subbaraj, Puelma Touzel, Rish",
        2022,
        "2112.07066",
    ),
    summary="How slowly a policy's chain forgets, how that grows with the world, and agents that do not bootstrap.",
    config=Config,
    arms=ARMS,
    presets=PRESETS,
    claims=CLAIMS,
    published=PUBLISHED,
    map={
        "Chains and processes as tables": "tutelage.continual.tabular:TabularMDP",
        "Stationary law, gain, bias": "tutelage.continual.stationary:gain_bias",
        "Mixing time t_mix(ε)": "tutelage.continual.mixing_time:mixing_time",
        "ε-return mixing time t_ret(ε)": "tutelage.continual.return_mixing:return_mixing_time",
        "Relaxation time": "tutelage.continual.mixing_time:relaxation_time",
        "Diameter": "tutelage.continual.hitting:diameter",
        "Residence time": "tutelage.continual.hitting:residence_time",
        "Optimal gain ρ*": "tutelage.continual.planning:solve_gain",
        "Myopia: threshold γ*": "tutelage.continual.discounted:myopia_threshold",
        "Row-perturbation identity": "tutelage.continual.deviations:row_deviations",
        "ScaleClass": "tutelage.continual.worlds.rooms:scale_class",
        "NBottleneck": "tutelage.continual.worlds.rooms:n_bottleneck",
        "NCycle": "tutelage.continual.worlds.rooms:n_cycle",
        "On-policy ρ-learning": "tutelage.continual.agents.rho_learning:on_policy_rho",
        "Off-policy ρ-learning": "tutelage.continual.agents.rho_learning:off_policy_rho",
        "ρ policy gradient": "tutelage.continual.agents.rho_gradient:rho_gradient",
        "Iterative ρ-learning": "tutelage.continual.agents.rho_learning:iterative_rho",
        "Tasks switched every τ steps": "tutelage.continual.deep.task_switching:task_switching",
        "t_ret over τ × |Z|": "tutelage.continual.deep.sweep:sweep",
        "Policies of MinAtar games": "tutelage.continual.deep.task_training:task_training",
        "Forgetting": "tutelage.measures.forgetting:forgetting",
        "Estimated return mixing, reports": "tutelage.measures.mixing:mixing_report",
        "Scaling exponents": "tutelage.measures.mixing:scaling_exponent",
    },
    check=check,
    build=build,
    work=work,
    exhibits=exhibits,
    panels=panels,
    headline="reward_rate",
    main_arm="on_policy_rho",
    seeds="vmap",
    jobs=0,
)
