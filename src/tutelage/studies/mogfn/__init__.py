"""Multi-Objective GFlowNets: one sampler that answers every preference over several objectives, and active learning.

The composition of one paper, its baselines and its ablations. `study.map` says where each of their equations lives.

Deviations from the publication and its code, each on purpose: - the Tchebycheff scalarisation rewards nearness to the
ideal; the published code rewards the distance from it; - a preference of its own for every trajectory; the published
sequence code has one for a batch (arm `one_preference`); - ℓ(x) = max(β log R, ℓ_min) is floored after tempering, the
published sequence code floors R at 1e-80 before; ℓ_min is 75 below the least positive reward of sequences, where the
published molecule code has −75 for all; - every parameter is trained; in the published sequence code the embedding of
the condition is not; - all cells of the grid exist; the published grid ends at an edge
(`hypergrid.terminate_at_edge`); - active learning: the exponent has a floor above zero, log Z reads the start, starts
are drawn for every update, the acquisition has 32 samples and a smooth logarithm; - top-k takes the best k (the
published fragment metrics take the worst); - sEH needs a predictor of the user's; NUPACK is replaced by ViennaRNA,
FoldX tasks by Ehrlich functions.
"""

from __future__ import annotations

from tutelage.lab.study import Paper, Study
from tutelage.studies.mogfn.arms import ARMS, PRESETS
from tutelage.studies.mogfn.checks import check
from tutelage.studies.mogfn.claims import CLAIMS, PUBLISHED
from tutelage.studies.mogfn.config import Config, work
from tutelage.studies.mogfn.tools import TOOLS

study = Study(
    name="mogfn",
    paper=Paper(
        "Multi-Objective GFlowNets",
        "Jain, Raparthy, Hernandez-Garcia, Rector-Brooks, Y. Bengio, Miret, E. Bengio",
        2023,
        "2210.12765",
    ),
    question="How do I get diverse designs for every trade-off between several objectives?",
    summary="One sampler that answers every preference over several objectives with diverse objects of high reward.",
    config=Config,
    arms=ARMS,
    presets=PRESETS,
    claims=CLAIMS,
    published=PUBLISHED,
    map={
        "Target family π(x | w, β) ∝ R(x | w)^β, exact": "tutelage.gflownets.exact.law:target_law",
        "Scalarisations": "tutelage.gflownets.objectives:log_scalar",
        "Reward exponent, floored after tempering": "tutelage.gflownets.objectives:tempered",
        "Preferences and exponents: laws": "tutelage.gflownets.condition:draw_conditions",
        "Thermometer encoding": "tutelage.gflownets.condition:thermometer",
        "MDP as a pointed DAG": "tutelage.gflownets.environment:Environment",
        "MOGFN-PC": "tutelage.gflownets.learning.gflownet:gflownet",
        "Trajectory balance": "tutelage.gflownets.learning.losses:trajectory_balance",
        "Sub-trajectory balance": "tutelage.gflownets.learning.losses:subtrajectory_balance",
        "Detailed balance": "tutelage.gflownets.learning.losses:detailed_balance",
        "Flow matching": "tutelage.gflownets.learning.losses:flow_matching",
        "VarGrad": "tutelage.gflownets.learning.losses:vargrad",
        "Hindsight preferences": "tutelage.gflownets.learning.replay_buffer:hindsight_preference",
        "Exact terminal law": "tutelage.gflownets.exact.law:terminal_law",
        "Exact flows": "tutelage.gflownets.exact.law:optimal_flows",
        "HyperGrid": "tutelage.gflownets.worlds.hypergrid:hypergrid",
        "N-grams, exact front": "tutelage.gflownets.worlds.ngrams:ngram_front",
        "Ehrlich functions": "tutelage.gflownets.worlds.ehrlich:ehrlich",
        "DNA aptamers": "tutelage.gflownets.worlds.aptamers:aptamers",
        "Fragments": "tutelage.gflownets.worlds.molecules.fragments:fragments",
        "QM9-like molecules": "tutelage.gflownets.worlds.molecules.atoms:atoms",
        "MOReinforce": "tutelage.gflownets.baselines.moreinforce:moreinforce",
        "Envelope Q-learning": "tutelage.gflownets.baselines.envelope_q:envelope_q",
        "MARS": "tutelage.gflownets.baselines.mars:mars",
        "MOGFN-AL": "tutelage.gflownets.active.learning:active_learning",
        "Surrogate: deep kernel": "tutelage.gflownets.active.surrogate:Surrogate",
        "Expected hypervolume improvement": "tutelage.gflownets.active.acquisition:log_ehvi",
        "Hypervolume": "tutelage.measures.pareto:hypervolume",
        "IGD+": "tutelage.measures.pareto:igd_plus",
        "R2": "tutelage.measures.pareto:r2",
        "PC-ent": "tutelage.measures.pareto:pc_ent",
        "Top-k reward and diversity": "tutelage.gflownets.figures:sample_figures",
    },
    check=check,
    build="tutelage.studies.mogfn.build:build",
    work=work,
    exhibits="tutelage.studies.mogfn.exhibits:exhibits",
    panels="tutelage.studies.mogfn.panels:panels",
    tools=TOOLS,
    headline="hypervolume",
    main_arm="mogfn",
    jobs=0,
)
