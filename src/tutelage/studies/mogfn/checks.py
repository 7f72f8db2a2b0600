"""What is refused before any work, and what is warned about; free of any framework."""

from __future__ import annotations

import importlib.util

from tutelage.gflownets.active.config import check_active
from tutelage.gflownets.config import beta_range, check_sampler
from tutelage.gflownets.learning.batch import check_batch
from tutelage.gflownets.worlds.aptamers_config import check_aptamers
from tutelage.gflownets.worlds.config import check_ehrlich, check_hypergrid, check_ngrams
from tutelage.gflownets.worlds.molecules.config import check_atoms, check_fragments
from tutelage.lab.errors import BadInput, under
from tutelage.studies.mogfn.config import Config

SEQUENCES = ("ngrams", "ehrlich", "aptamers")
MOLECULES = ("fragments", "atoms")
NEEDS = {"aptamers": "RNA", "fragments": "rdkit", "atoms": "rdkit", "nsga2": "pymoo"}
"""Packages of the extra 'mo' by problem or method."""


def check(config: Config) -> list[str]:
    """Refuse what no single field shows; return warnings, one line each.

    Raises:
        BadInput: one line naming the field, its value and what is allowed.
    """
    for field, value in (("problem", config.problem), ("method", config.method)):
        if value in NEEDS and importlib.util.find_spec(NEEDS[value]) is None:
            raise BadInput(f"{field} = {value!r}: needs the package {NEEDS[value]}: pip install 'tutelage[mo]'")
    with under(config.problem):
        _check_problem(config)
    chosen = config.evaluation
    if chosen.top_k > chosen.num_samples:
        raise BadInput(
            f"evaluation.top_k = {chosen.top_k}: must be at most evaluation.num_samples = {chosen.num_samples}"
        )
    if config.method == "active":
        _check_active(config)
        return []
    return _check_sampler(config)


def _check_problem(config: Config) -> None:
    match config.problem:
        case "hypergrid":
            check_hypergrid(config.hypergrid)
        case "ngrams":
            check_ngrams(config.ngrams)
        case "ehrlich":
            check_ehrlich(config.ehrlich)
        case "aptamers":
            check_aptamers(config.aptamers)
        case "fragments":
            check_fragments(config.fragments)
            if config.fragments.blocks:
                from tutelage.gflownets.worlds.molecules.blocks import read_blocks

                read_blocks(config.fragments.blocks)
        case _:
            check_atoms(config.atoms)
    if "seh" in objectives(config):
        raise BadInput(
            "objectives: 'seh' needs a predictor of your own, which no configuration can name: "
            f"call tutelage.gflownets.worlds.{config.problem}.{config.problem}(config, seh=function)"
        )


def objectives(config: Config) -> tuple[str, ...]:
    """Names of what the chosen problem measures."""
    match config.problem:
        case "ngrams":
            return config.ngrams.motifs
        case "ehrlich":
            return tuple(f"f{number + 1}" for number in range(config.ehrlich.num_objectives))
        case _:
            return getattr(config, config.problem).objectives


def _check_active(config: Config) -> None:
    if config.problem not in SEQUENCES:
        raise BadInput(
            f"problem = {config.problem!r}: method 'active' edits sequences; allowed are {', '.join(SEQUENCES)}"
        )
    active = config.active
    if config.schedule.num_updates > active.rounds + 1:
        raise BadInput(
            f"schedule.num_updates = {config.schedule.num_updates}: must be at most active.rounds + 1 = "
            f"{active.rounds + 1}, the initial design and a round each"
        )
    length = config.ehrlich.length if config.problem == "ehrlich" else getattr(config, config.problem).max_len
    with under("active"):
        check_active(active, len(objectives(config)), length)


def _check_sampler(config: Config) -> list[str]:
    sampler = config.gflownet
    needed = "transformer" if config.problem in SEQUENCES else "mlp"
    if sampler.network.kind != needed:
        raise BadInput(
            f"gflownet.network.kind = {sampler.network.kind!r}: must be {needed!r} for problem {config.problem!r}"
        )
    with under("gflownet"):
        check_sampler(sampler)
        if config.method == "gflownet":
            check_batch(sampler)
    if config.evaluation.beta:
        low, high = beta_range(sampler.beta)
        if not low <= config.evaluation.beta <= high:
            raise BadInput(
                f"evaluation.beta = {config.evaluation.beta:g}: must be in [{low:g}, {high:g}], as training has, or 0"
            )
    if sampler.loss.kind == "fm" and config.method == "gflownet":
        if config.problem in MOLECULES:
            raise BadInput(
                f"gflownet.loss.kind = 'fm': must be one of tb, subtb, db, vargrad for problem {config.problem!r}, "
                "which does not list the parents of a state"
            )
        if config.problem in SEQUENCES:
            return ["gflownet.loss.kind = 'fm' looks at all parents of a state; a sequence has one, so it is 'db' here"]
    if sampler.exploration.replay_size == 0 and sampler.exploration.hindsight_share > 0:
        return ["gflownet.exploration.hindsight_share > 0 does nothing without a replay buffer (replay_size = 0)"]
    return []
