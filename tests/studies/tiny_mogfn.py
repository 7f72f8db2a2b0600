"""The study of mogfn at the smallest sizes that still do everything, for tests and for killing."""

from __future__ import annotations

import dataclasses
from typing import Any

from tutelage.lab.configuration import override
from tutelage.lab.study import Preset
from tutelage.studies.mogfn import study as full
from tutelage.studies.mogfn.config import Config

NETWORK = {"width": 8, "layers": 1, "heads": 2, "z_width": 4}
TINY = {
    "hypergrid.side": 3,
    "ngrams.alphabet": "AVC",
    "ngrams.min_len": 3,
    "ngrams.max_len": 4,
    "ngrams.scale": 2.0,
    "ehrlich.num_states": 4,
    "ehrlich.length": 4,
    "ehrlich.num_motifs": 1,
    "ehrlich.motif_length": 2,
    "ehrlich.quantization": 2,
    "ehrlich.banned_share": 0.25,
    "aptamers.min_len": 10,
    "aptamers.max_len": 10,
    "fragments.max_fragments": 2,
    "atoms.max_atoms": 3,
    **{f"{part}.network.{name}": size for part in ("gflownet", "active.gflownet") for name, size in NETWORK.items()},
    "gflownet.batch_size": 8,
    "gflownet.preference.bins": 4,
    "gflownet.beta.bins": 4,
    "gflownet.loss.num_copies": 2,
    "baselines.soft_q.target_period": 2,
    "baselines.envelope_q.num_weights": 3,
    "baselines.envelope_q.target_period": 2,
    "baselines.envelope_q.replay_size": 16,
    "baselines.envelope_q.replay_batch": 2,
    "baselines.mars.grid_bins": 3,
    "baselines.mars.anneal_updates": 2,
    "baselines.mars.history": 2,
    "baselines.mars.thin": 1,
    "baselines.genetic.grid_bins": 3,
    "baselines.random.grid_bins": 3,
    "baselines.random.elites": 2,
    "evaluation.bins": 3,
    "evaluation.final_bins": 4,
    "evaluation.num_samples": 4,
    "evaluation.top_k": 2,
    "evaluation.exact_bins": 3,
    "evaluation.exact_betas": (1.0, 4.0),
    "evaluation.held_out": 6,
    "active.rounds": 3,
    "active.queries": 2,
    "active.initial": 6,
    "active.pool": 2,
    "active.opt_steps": 2,
    "active.eval_samples": 4,
    "active.generations": 2,
    "active.surrogate.encoder.embed": 4,
    "active.surrogate.encoder.latent": 2,
    "active.surrogate.encoder.kernel": 3,
    "active.surrogate.encoder.blocks": 1,
    "active.surrogate.steps": 4,
    "active.surrogate.patience": 2,
    "active.acquisition.num_samples": 4,
    "active.acquisition.front": 4,
    "active.gflownet.batch_size": 4,
    "active.gflownet.preference.bins": 4,
    "active.gflownet.loss.num_copies": 2,
    "schedule.num_updates": 4,
    "schedule.log_every": 2,
    "schedule.evaluate_every": 2,
}
ACTIVE = {"schedule.log_every": 1, "schedule.evaluate_every": 1, "ngrams.max_len": 6, "ngrams.min_len": 6}


def shrunk(config: Config, longer: dict[str, Any]) -> Config:
    """An arm's configuration at the smallest size; what only some arms switch on stays off in the others."""
    own = ACTIVE if config.method == "active" else {}
    if config.gflownet.exploration.replay_size:
        own = own | {"gflownet.exploration.replay_size": 16}
    return override(config, TINY | own | longer)


def tiny(arm: str, **changes: object) -> Config:
    """An arm at the smallest size; `changes` are paths with `__` for the dot."""
    config = shrunk(full.arms[arm].configure(full.config()), {})
    return override(config, {path.replace("__", "."): value for path, value in changes.items()})


def killed(config: Config) -> Config:
    """Long enough to be killed many times."""
    if config.method == "active":
        return shrunk(config, {"active.rounds": 60, "schedule.num_updates": 61, "schedule.evaluate_every": 20})
    return shrunk(config, {"schedule.num_updates": 8000, "schedule.evaluate_every": 2000})


study = dataclasses.replace(
    full,
    presets={
        **full.presets,
        "tiny": Preset("For tests.", lambda config: shrunk(config, {})),
        "killed": Preset("Long enough to be killed many times.", killed),
    },
)
