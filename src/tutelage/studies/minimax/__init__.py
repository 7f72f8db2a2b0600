"""minimax: efficient baselines for autocurricula in JAX.

The composition of one paper and its relatives. `study.map` says where each of their equations lives.

Deviations from the publication, each on purpose:
- the buffer keeps the *running* maximum return of a level (the paper's code keeps the last rollout's);
- the largest return of a level starts at −∞ over completed episodes, not at 0;
- easy/hard editing indexes the batch, not the buffer; populations of replay students work;
- an update is one gradient step; the cycles without one that robust replay needs run inside it
  (docs/decisions/0002-one-update-is-one-gradient-step.md);
- sequential ACCEL rolls out the edited levels in a cycle of their own after a replayed one.
"""

from __future__ import annotations

from tutelage.lab.study import Paper, Study
from tutelage.studies.minimax.arms import ARMS, PRESETS
from tutelage.studies.minimax.checks import check
from tutelage.studies.minimax.claims import CLAIMS, PUBLISHED
from tutelage.studies.minimax.config import Config, work
from tutelage.studies.minimax.tools import TOOLS

study = Study(
    name="minimax",
    paper=Paper(
        "minimax: Efficient Baselines for Autocurricula in JAX",
        "Jiang, Dennis, Grefenstette, Rocktäschel",
        2023,
        "2311.12716",
    ),
    question="On which levels should an agent train, so that it solves levels nobody made for it?",
    summary="A teacher chooses the mazes in which a student learns, so that it solves mazes nobody trained it on.",
    config=Config,
    arms=ARMS,
    presets=PRESETS,
    claims=CLAIMS,
    published=PUBLISHED,
    map={
        "AMaze: dynamics and observation": "tutelage.envs.maze.dynamics:make_maze",
        "Random levels": "tutelage.envs.maze.generator:random_level",
        "Mutation of levels (ACCEL)": "tutelage.envs.maze.mutation:mutate",
        "Exact solver": "tutelage.envs.maze.solver:best_return",
        "Teacher's world (PAIRED)": "tutelage.envs.maze.editor:make_editor",
        "One cycle; one update": "tutelage.curricula.ued:UED",
        "Scores: MaxMC, PVL, L1, learnability, true regret": "tutelage.curricula.scores:outcomes",
        "Replay distribution P = (1-rho) P_S + rho P_C": "tutelage.curricula.replay:weights",
        "Insertion, replacement, deduplication": "tutelage.curricula.replay:insert",
        "PLR, PLR⊥, parallel PLR": "tutelage.curricula.plr:plr",
        "ACCEL, parallel ACCEL": "tutelage.curricula.accel:accel",
        "Several devices": "tutelage.curricula.sharding:spread",
        "Domain randomisation": "tutelage.curricula.domain_randomization:dr",
        "PAIRED, population PAIRED, minimax adversary": "tutelage.curricula.paired:paired",
        "SFL": "tutelage.curricula.sfl:sfl",
        "Student": "tutelage.nn.actor_critic:ActorCritic",
        "GAE": "tutelage.rl.returns:gae",
        "PPO loss": "tutelage.rl.ppo:loss",
        "Robustness: CVaR of solved rates": "tutelage.curricula.zero_shot:worst_case_rate",
    },
    check=check,
    build="tutelage.studies.minimax.build:build",
    work=work,
    exhibits="tutelage.studies.minimax.exhibits:exhibits",
    tools=TOOLS,
    headline="suite_solved",
    main_arm="accel",
)
