"""Arms and presets: names for changes of the configuration, as data.

Arms named `grid…` build cells of a grid, those named `al…` learn actively, those of molecules and aptamers say so; all
others write sequences for bigrams, the paper's first task after the grid.
"""

from __future__ import annotations

import math
from typing import Any

from tutelage.lab.configuration import arm, override
from tutelage.lab.study import Arm, Preset
from tutelage.studies.mogfn.config import Config

SEQUENCES = {
    "problem": "ngrams",
    "gflownet.network.kind": "transformer",
    "gflownet.network.z_layers": 0,
    "gflownet.network.z_width": 64,
    "gflownet.beta.value": 32.0,
}
GRID = {
    "problem": "hypergrid",
    "gflownet.network.kind": "mlp",
    "gflownet.preference.alpha": 1.5,
    "gflownet.beta.kind": "gamma",
    "gflownet.beta.shape": 2.0,
    "gflownet.beta.scale": 1.0,
}
MOLECULES = {
    "gflownet.network.kind": "mlp",
    "gflownet.preference.alpha": 1.5,
    "gflownet.preference.bins": 16,
    "gflownet.beta.kind": "uniform",
    "gflownet.beta.low": 0.5,
    "gflownet.beta.high": 32.0,
    "gflownet.beta.bins": 32,
}
ACTIVE = {"problem": "ngrams", "method": "active"}


def _baseline(summary: str, method: str, changes: dict[str, Any] | None = None) -> Arm:
    return arm(summary, {**SEQUENCES, "method": method, **(changes or {})}, "baseline")


def _ablation(summary: str, base: dict[str, Any], changes: dict[str, Any]) -> Arm:
    return arm(summary, {**base, **changes}, "ablation")


ARMS = {
    "mogfn": arm("MOGFN-PC: one sampler for all preferences, trained by trajectory balance.", SEQUENCES),
    "grid": arm("The same on a grid that is small enough to know the exact law.", GRID),
    "al": arm("MOGFN-AL: a GFlowNet of edits proposes what to evaluate next.", ACTIVE),
    "moreinforce": _baseline("REINFORCE conditioned on the preference, for the largest reward.", "moreinforce"),
    "a2c": _baseline("Advantage actor–critic conditioned on the preference.", "a2c"),
    "soft_q": _baseline("Soft Q-learning conditioned on the preference.", "soft_q"),
    "envelope_q": _baseline("Envelope Q-learning: a vector of values, one network for all preferences.", "envelope_q"),
    "mars": _baseline("MARS-like: annealed Markov chains over finished objects.", "mars"),
    "nsga2": _baseline("NSGA-II (pymoo; extra 'mo').", "nsga2"),
    "genetic": _baseline("A genetic algorithm without a model.", "genetic"),
    "random": _baseline("Uniform legal actions, and an archive of the best.", "random"),
    "al_conditional": _ablation(
        "MOGFN-AL whose sampler is conditioned on preferences.", ACTIVE, {"active.gflownet.preference.use": True}
    ),
    "al_lambo": arm(
        "LaMBO-like: mutants of the front climb the acquisition.", {**ACTIVE, "active.proposer": "lambo"}, "baseline"
    ),
    "al_mutation": arm(
        "Random mutants of the front, without a model.", {**ACTIVE, "active.proposer": "mutation"}, "baseline"
    ),
    "al_genetic": arm(
        "A genetic algorithm with the same evaluations, without a model.",
        {**ACTIVE, "active.proposer": "genetic"},
        "baseline",
    ),
    "al_nsga2": arm(
        "NSGA-II with the same evaluations (pymoo; extra 'mo').", {**ACTIVE, "active.proposer": "nsga2"}, "baseline"
    ),
    "weighted_log_sum": _ablation(
        "Objectives scalarised by the weighted sum of their logarithms.",
        SEQUENCES,
        {"gflownet.reward.scalarisation": "weighted_log_sum"},
    ),
    "tchebycheff": _ablation(
        "Objectives scalarised by 1 − the weighted Tchebycheff distance from the ideal.",
        SEQUENCES,
        {"gflownet.reward.scalarisation": "tchebycheff"},
    ),
    "alpha_0.1": _ablation(
        "Preferences near the corners: Dirichlet(0.1).", SEQUENCES, {"gflownet.preference.alpha": 0.1}
    ),
    "alpha_10": _ablation(
        "Preferences near the middle: Dirichlet(10).", SEQUENCES, {"gflownet.preference.alpha": 10.0}
    ),
    "beta_low": _ablation("A quarter of the exponent.", SEQUENCES, {"gflownet.beta.value": 8.0}),
    "beta_high": _ablation("Three times the exponent.", SEQUENCES, {"gflownet.beta.value": 96.0}),
    "raw_preferences": _ablation(
        "Weights as numbers, without a thermometer.", SEQUENCES, {"gflownet.preference.encoding": "raw"}
    ),
    "unconditional": _ablation(
        "A sampler that never sees a preference.", SEQUENCES, {"gflownet.preference.use": False}
    ),
    "one_preference": _ablation(
        "One preference for a whole batch, as in the published sequence code.",
        SEQUENCES,
        {"gflownet.preference.prefs_per_batch": 1},
    ),
    "replay": _ablation(
        "Half of a batch from a buffer, half of that under the direction of its own rewards.",
        SEQUENCES,
        {
            "gflownet.exploration.replay_size": 4096,
            "gflownet.exploration.hindsight_share": 0.5,
        },
    ),
    "grid_subtb": _ablation("Sub-trajectory balance on the grid.", GRID, {"gflownet.loss.kind": "subtb"}),
    "grid_db": _ablation("Detailed balance on the grid.", GRID, {"gflownet.loss.kind": "db"}),
    "grid_fm": _ablation("Flow matching on the grid.", GRID, {"gflownet.loss.kind": "fm"}),
    "grid_vargrad": _ablation("Trajectory balance without log Z on the grid.", GRID, {"gflownet.loss.kind": "vargrad"}),
    "grid_raw": _ablation(
        "Weights as numbers, without a thermometer, on the grid.", GRID, {"gflownet.preference.encoding": "raw"}
    ),
    "ehrlich": arm(
        "Two Ehrlich functions over the same banned transitions.", {**SEQUENCES, "problem": "ehrlich"}, "system"
    ),
    "aptamers": arm(
        "DNA aptamers folded by ViennaRNA (extra 'mo').",
        {**SEQUENCES, "problem": "aptamers", "gflownet.beta.value": 80.0},
    ),
    "fragments": arm(
        "Molecules of building blocks: QED, synthesisability, weight (RDKit; extra 'mo').",
        {**MOLECULES, "problem": "fragments"},
    ),
    "atoms": arm(
        "Molecules of up to nine heavy atoms: QED, synthesisability, weight (RDKit; extra 'mo').",
        {**MOLECULES, "problem": "atoms"},
    ),
}

QUICK = {
    "hypergrid.side": 8,
    "ngrams.alphabet": "AVCX",
    "ngrams.min_len": 15,
    "ngrams.max_len": 18,
    "ngrams.scale": 9.0,
    "gflownet.optimizer.final_learning_rate": 6e-5,
    "evaluation.bins": 5,
    "evaluation.final_bins": 11,
    "evaluation.held_out": 256,
}


ROOM = 75.0
"""How far the floor of ℓ is below the least reward: as far as the published one is below a reward of 1."""


def least_reward(config: Config) -> float:
    """The smallest positive R(x | w) under the even preference, where rewards come in steps; 1 where they do not.

    Under any preference the first step of the weightiest objective is worth at least as much.
    """
    match config.problem:
        case "ngrams":
            return 1.0 / (config.ngrams.scale * len(config.ngrams.motifs))
        case "ehrlich":
            return float(config.ehrlich.quantization) ** -config.ehrlich.num_motifs / config.ehrlich.num_objectives
        case "aptamers":
            chosen = config.aptamers
            return 1.0 / (max(chosen.pins_scale, chosen.pairs_scale) * len(chosen.objectives))
        case _:
            return 1.0


def _with_floor(config: Config) -> Config:
    """Puts ℓ_min below β log of the least reward: at −75 and β = 96 all R < 0.46 would be alike, and so all sequences
    that a sampler finds before it has learnt anything."""
    lowest = config.gflownet.beta.value * math.log(least_reward(config)) - ROOM
    return override(config, {"gflownet.reward.floor": float(round(lowest))})


QUICK_RATES = {"moreinforce": 3e-4, "a2c": 3e-4}
"""Step sizes of those that are worse at the others' 1e-3: they settle on one answer too early."""

QUICK_PERIOD = 10
"""Updates between two target networks: in 800 updates of the published 100 each, what a last letter is worth would come
only eight letters back."""


def _quick(config: Config) -> Config:
    """Minutes on two cores: grids by an MLP of 128, sequences by a transformer of 32, eight rounds of queries."""
    changes: dict[str, Any] = dict(QUICK)
    if config.problem == "hypergrid":
        changes |= {
            "gflownet.beta.kind": "uniform",
            "gflownet.beta.low": 1.0,
            "gflownet.beta.high": 16.0,
            "gflownet.preference.alpha": 1.0,
            "gflownet.network.width": 128,
            "gflownet.network.layers": 2,
            "gflownet.optimizer.learning_rate": 3e-3,
            "schedule.num_updates": 5000,
            "schedule.log_every": 250,
            "schedule.evaluate_every": 1250,
        }
    elif config.method == "active":
        changes |= ACTIVE_QUICK
    else:
        changes |= {
            "gflownet.network.width": 32,
            "gflownet.network.layers": 2,
            "gflownet.network.heads": 4,
            "gflownet.optimizer.learning_rate": QUICK_RATES.get(config.method, 1e-3),
            "gflownet.optimizer.z_learning_rate": 1e-3,
            "gflownet.optimizer.max_grad_norm": 10.0,
            "schedule.num_updates": 800,
            "schedule.log_every": 40,
            "schedule.evaluate_every": 200,
            "baselines.soft_q.target_period": QUICK_PERIOD,
            "baselines.envelope_q.target_period": QUICK_PERIOD,
        }
    return _with_floor(override(config, changes))


ACTIVE_QUICK = {
    "ngrams.min_len": 10,
    "ngrams.max_len": 10,
    "ngrams.scale": 5.0,
    "active.rounds": 8,
    "active.queries": 8,
    "active.initial": 16,
    "active.pool": 8,
    "active.max_edits": 4,
    "active.eval_samples": 50,
    "active.opt_steps": 200,
    "active.elites": 16,
    "active.warm": False,
    "active.surrogate.encoder.embed": 32,
    "active.surrogate.encoder.latent": 8,
    "active.surrogate.encoder.blocks": 1,
    "active.surrogate.steps": 150,
    "active.acquisition.num_samples": 16,
    "active.acquisition.front": 16,
    "active.gflownet.network.width": 32,
    "active.gflownet.network.layers": 1,
    "active.gflownet.network.heads": 4,
    "active.gflownet.optimizer.learning_rate": 3e-3,
    "active.gflownet.optimizer.z_learning_rate": 1e-2,
    "active.gflownet.beta.value": 8.0,
    "active.gflownet.loss.kind": "vargrad",
    "active.beta_decay": 1.0,
    "active.beta_floor": 2.0,
    "schedule.num_updates": 9,
    "schedule.log_every": 1,
    "schedule.evaluate_every": 1,
}
STANDARD = {
    "schedule.num_updates": 10_000,
    "schedule.log_every": 100,
    "schedule.evaluate_every": 1000,
    "hypergrid.side": 32,
}
PAPER = {
    "gflownet.optimizer.learning_rate": 1e-4,
    "gflownet.optimizer.z_learning_rate": 1e-3,
    "gflownet.optimizer.max_grad_norm": 10.0,
}


def _sized(config: Config, changes: dict[str, Any], active: dict[str, Any]) -> Config:
    if config.method == "active":
        every = {"schedule.num_updates": 65, "schedule.log_every": 1, "schedule.evaluate_every": 1}
        return override(config, every | active)
    network: dict[str, Any] = {"gflownet.network.width": 64, "gflownet.network.layers": 3}
    if config.problem == "ngrams":
        # As published for bigrams of 36 letters, 96; in the arms with more or less of it, as much more or less.
        network["gflownet.beta.value"] = 3.0 * config.gflownet.beta.value
    return _with_floor(override(config, {**STANDARD, **network, **changes}))


PRESETS = {
    "quick": Preset(
        "Grid of 8×8, sequences of 18 letters from four: minutes on two CPU cores.",
        _quick,
        arms=(
            *("mogfn", "grid", "moreinforce", "a2c", "soft_q", "envelope_q", "mars", "nsga2", "genetic"),
            *("al", "al_lambo", "al_mutation"),
        ),
        seeds=3,
    ),
    "standard": Preset(
        "Sequences of 36 letters from twenty, a grid of 32×32: at most an hour on one GPU.",
        lambda config: _sized(config, {"gflownet.optimizer.learning_rate": 1e-3}, {"active.elites": 32}),
        seeds=3,
    ),
    "paper": Preset("The publication's settings.", lambda config: _sized(config, PAPER, {}), seeds=3),
}
