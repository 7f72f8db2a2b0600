"""Continual learning where mixing times are polynomial: chains measured exactly, agents of the average reward.

The composition of one paper in its two versions: the gridworld families and ρ-learning agents of the first, measured
against the exact optimum; what mixing times say of policies and evaluations. Of the second, return
mixing times of trained policies as tasks grow in number and switch more slowly. `study.map` says where each piece is.

Deviations from the publication and its code, each on purpose: - gain regret T·ρ* − Σr against the exact optimal gain;
the official regret accrues an optimistic bound that depends on where the agent is, and is not comparable between
agents; - ρ of every single-state deviation by the row-perturbation identity, one inverse instead of a solve for each
candidate; - policies are changed functionally (in the official code candidates overwrite the live policy); - NCycle's
clock is part of the state, so that the process is Markov; its chains are periodic and never mix; - tables are
restricted to the closed class in which a policy stays; - the deep half is of MinAtar games with policies trained
here, instead of pretrained ones of Atari, which are not to be had; for those give the rewards of your own
(`tutelage.continual.deep.recorded`) to the same sweep.
"""

from __future__ import annotations

from tutelage.lab.study import Paper, Study
from tutelage.studies.mixing.arms import ARMS, PRESETS
from tutelage.studies.mixing.checks import check
from tutelage.studies.mixing.claims import CLAIMS, PUBLISHED
from tutelage.studies.mixing.config import Config, work
from tutelage.studies.mixing.tools import TOOLS

study = Study(
    name="mixing",
    paper=Paper(
        "Continual Learning In Environments With Polynomial Mixing Times",
        "Riemer, Raparthy, Cases, Subbaraj, Puelma Touzel, Rish",
        2022,
        "2112.07066",
    ),
    question="Is a run long enough to tell a policy's average reward, and who learns where none is?",
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
    build="tutelage.studies.mixing.build:build",
    work=work,
    exhibits="tutelage.studies.mixing.exhibits:exhibits",
    panels="tutelage.studies.mixing.panels:panels",
    tools=TOOLS,
    headline="reward_rate",
    main_arm="on_policy_rho",
    seeds="vmap",
    jobs=0,
)
