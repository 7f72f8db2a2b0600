"""Arms and presets: each task of the publication × attentions, as data."""

from __future__ import annotations

from typing import Any

from tutelage.attention.config import AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.attention.tasks import contextual_retrieval_config
from tutelage.attention.tasks.pictures import image_mix_config, sort_of_clevr_config, triangles_config
from tutelage.lab.configuration import arm, differences, flatten, override
from tutelage.lab.study import Arm, Preset
from tutelage.studies.compositional_attention.config import Config

Changes = dict[str, Any]
MHA = {"attention.kind": "multihead"}


def _published(task: str, module: Any, **more: Any) -> Changes:
    """What a task's published attention, network and optimiser change."""
    defaults = {"attention": AttentionConfig(), "network": NetworkConfig(), "optimizer": OptimizerConfig()}
    changes: Changes = {"task": task}
    for part, default in defaults.items():
        changed = differences(flatten(default), flatten(getattr(module, f"PUBLISHED_{part.upper()}")))
        changes |= {f"{part}.{path}": value for path, (_, value) in changed.items()}
    return changes | more


TASKS: dict[str, tuple[str, Changes]] = {
    "retrieval": (
        "contextual retrieval",
        _published("contextual_retrieval", contextual_retrieval_config, **{"contextual_retrieval.withhold": False}),
    ),
    "clevr": ("Sort-of-CLEVR", _published("sort_of_clevr", sort_of_clevr_config)),
    "triangles": ("equilateral triangles", _published("triangles", triangles_config)),
    "images": ("several image tasks at once", _published("image_mix", image_mix_config)),
    "relations": (
        "relations between unseen glyphs",
        {
            "task": "relational",
            "attention.searches": 8,
            "network.width": 128,
            "network.iterations": 1,
            "network.d_feedforward": 512,
            "optimizer.learning_rate": 5e-4,
            "optimizer.batch_size": 32,
        },
    ),
    "scan": (
        "SCAN commands, longer ones unseen",
        {
            "task": "scan",
            "network.width": 128,
            "network.iterations": 3,
            "optimizer.learning_rate": 1e-3,
            "optimizer.batch_size": 128,
            "optimizer.clip": 1.0,
        },
    ),
    "recall": (
        "recall of one attribute of a key, pairings unseen",
        {
            "task": "associative_recall",
            "network.width": 64,
            "network.iterations": 2,
            "network.dropout": 0.0,
            "optimizer.learning_rate": 1e-3,
            "optimizer.curve": "cosine",
        },
    ),
    "language": (
        "a language model of bytes",
        {
            "task": "byte_language",
            "attention.searches": 8,
            "attention.retrievals": 8,
            "network.width": 512,
            "network.d_feedforward": 2048,
            "network.iterations": 6,
            "optimizer.learning_rate": 4e-3,
            "optimizer.curve": "inverse_sqrt",
            "optimizer.warmup": 4000,
            "optimizer.beta2": 0.98,
            "optimizer.weight_decay": 0.01,
            "optimizer.batch_size": 16,
        },
    ),
}
"""Short name of a task: what it is, and the publication's settings for it."""

EVERYWHERE: dict[str, tuple[str, str, Changes]] = {
    "": ("compositional attention", "system", {}),
    "_mha": ("multi-head attention of equal sizes", "baseline", MHA),
    "_mha_equal": ("multi-head attention of equally many parameters", "baseline", {**MHA, "equal_parameters": True}),
}
"""Suffix of an arm: what attends, its role, and the changes."""
RELATIVES: dict[str, tuple[str, str, Changes]] = {
    "_gqa": ("grouped-query attention", "baseline", {"attention.kind": "grouped_query", "attention.retrievals": 1}),
    "_moh": (
        "mixture-of-heads attention",
        "baseline",
        {"attention.kind": "mixture_of_heads", "attention.searches": 4, "attention.top_k": 2},
    ),
    "_switch": ("heads with routed values (SwitchHead)", "baseline", {"attention.kind": "switch_head"}),
    "_linear": ("competition linear: the content alone", "ablation", {"attention.competition": "linear"}),
    "_mlp": ("competition by an MLP", "ablation", {"attention.competition": "mlp"}),
    "_static": ("competition by free keys", "ablation", {"attention.competition": "static"}),
    "_composed": ("value queries made of search queries", "ablation", {"attention.compose_query": True}),
    "_gumbel": ("Gumbel-softmax over retrievals", "ablation", {"attention.gumbel": True}),
    "_own_keys": ("value keys of each retrieval's own", "ablation", {"attention.per_retrieval_key": True}),
    "_top1": ("only the winning retrieval", "ablation", {"attention.top_k": 1}),
}
WITHHELD: Changes = {"contextual_retrieval.withhold": True}
NARROW: Changes = {"attention.d_value": 2}
"""Two retrievals with room for one scalar each: a wide one carries all values of a token, and the layers after it can
sort them out without a competition."""
SEARCHES, RETRIEVALS = (1, 4, 8), (1, 2, 4, 8)


def _arm(task: str, summary: str, changes: Changes, role: Literal["system", "baseline", "ablation"] = "system") -> Arm:
    words, settings = TASKS[task]
    summary = f"{words[0].upper()}{words[1:]}: {summary}."
    return arm(summary, {**settings, **changes}, role)


def _arms() -> dict[str, Arm]:
    arms = {
        task + suffix: _arm(task, words, changes, role)
        for task in TASKS
        for suffix, (words, role, changes) in EVERYWHERE.items()
    }
    arms |= {
        f"retrieval{suffix}": _arm("retrieval", words, changes, role)
        for suffix, (words, role, changes) in RELATIVES.items()
    }
    for suffix, (words, role, changes) in EVERYWHERE.items():
        arms[f"retrieval_withheld{suffix}"] = _arm(
            "retrieval",
            f"{words}, some combinations of cues unseen",
            {**changes, **WITHHELD},
            role,
        )
    for suffix, words, changes in (
        ("", "values of one scalar each", {}),
        ("_withheld", "values of one scalar each, some combinations of cues unseen", WITHHELD),
    ):
        arms[f"retrieval{suffix}_narrow"] = _arm("retrieval", words, {**changes, **NARROW}, "ablation")
    for count in SEARCHES:
        words = f"{count} search{'es' * (count > 1)}"
        arms[f"retrieval_s{count}"] = _arm("retrieval", words, {"attention.searches": count}, "ablation")
    for task in TASKS:
        standard = TASKS[task][1].get("attention.retrievals", 2)
        for count in RETRIEVALS:
            if count != standard:
                words = f"{count} retrieval{'s' * (count > 1)}"
                arms[f"{task}_r{count}"] = _arm(task, words, {"attention.retrievals": count}, "ablation")
    for cutoff in (24, 25, 26, 27, 28, 30):
        for suffix in ("", "_mha"):
            words, role, changes = EVERYWHERE[suffix]
            arms[f"scan_{cutoff}{suffix}"] = _arm(
                "scan", f"{words}, actions up to {cutoff} in training", {**changes, "scan.cutoff": cutoff}, role
            )
    arms["scan_relative"] = _arm("scan", "relative positions", {"attention.positions": "relative"}, "ablation")
    for relation in ("match_to_sample", "distribution_of_three", "identity_rules"):
        for suffix in ("", "_mha"):
            words, role, changes = EVERYWHERE[suffix]
            name = f"relations_{relation}{suffix}"
            arms[name] = _arm(
                "relations",
                f"{relation.replace('_', ' ')}, {words}",
                {**changes, "relational.relation": relation},
                role,
            )
    return arms


ARMS = _arms()

QUICK: dict[str, Changes] = {
    "contextual_retrieval": {
        "optimizer.learning_rate": 1e-3,
        "optimizer.curve": "cosine",
        "schedule.num_updates": contextual_retrieval_config.QUICK_UPDATES,
        "attention.initialisation": "xavier",  # over three seeds, the official code's needs longer to learn
        "contextual_retrieval.test_examples": 2048,
    },
    "sort_of_clevr": {
        "network.width": 64,
        "network.iterations": 2,
        "network.dropout": 0.0,
        "optimizer.learning_rate": 1e-3,
        "optimizer.curve": "cosine",
        "sort_of_clevr.train_images": 2000,
        "schedule.num_updates": 1500,
    },
    "triangles": {
        "network.width": 64,
        "network.iterations": 2,
        "network.dropout": 0.0,
        "optimizer.learning_rate": 1e-3,
        "triangles.size": 32,
        "triangles.min_side": 10.0,
        "triangles.test_images": 1000,
        "schedule.num_updates": 600,
    },
    "image_mix": {
        "network.width": 64,
        "network.iterations": 2,
        "network.dropout": 0.0,
        "optimizer.learning_rate": 1e-3,
        "optimizer.curve": "cosine",
        "image_mix.sources": image_mix_config.DRAWN_SOURCES,
        "image_mix.test_images": 500,
        "schedule.num_updates": 600,
    },
    "relational": {
        "network.width": 64,
        "relational.num_train": 2000,
        "relational.num_test": 1000,
        "schedule.num_updates": 315,
    },
    "scan": {
        "network.iterations": 2,
        "network.dropout": 0.0,
        "scan.cutoff": 26,
        "scan.num_test": 500,
        "optimizer.curve": "cosine",
        "optimizer.warmup": 100,
        "optimizer.batch_size": 32,
        "schedule.num_updates": 3000,
    },
    "associative_recall": {"optimizer.batch_size": 64, "schedule.num_updates": 1500},
    "byte_language": {
        "attention.searches": 4,
        "network.width": 64,
        "network.d_feedforward": 128,
        "network.iterations": 2,
        "optimizer.warmup": 50,
        "byte_language.context": 128,
        "byte_language.evaluation_context": 64,
        "byte_language.num_test": 16_384,
        "schedule.num_updates": 400,
    },
}
"""By task: what makes it a matter of minutes on one core."""
STANDARD: dict[str, Changes] = {
    "contextual_retrieval": {"schedule.num_updates": 30_000},
    "sort_of_clevr": {"schedule.num_updates": 30_000},
    "triangles": {"schedule.num_updates": 20_000},
    "image_mix": {"schedule.num_updates": 30_000},
    "relational": {"schedule.num_updates": 15_650},
    "scan": {"schedule.num_updates": 20_000},
    "associative_recall": {"schedule.num_updates": 10_000},
    "byte_language": {"network.width": 256, "network.d_feedforward": 1024, "schedule.num_updates": 20_000},
}
PUBLISHED: dict[str, Changes] = {
    "contextual_retrieval": {"schedule.num_updates": 100_000},
    "sort_of_clevr": {"schedule.num_updates": sort_of_clevr_config.PUBLISHED_UPDATES},
    "triangles": {"schedule.num_updates": triangles_config.PUBLISHED_UPDATES},
    "image_mix": {"schedule.num_updates": image_mix_config.PUBLISHED_UPDATES},
    "relational": {"schedule.num_updates": 15_650},
    "scan": {"schedule.num_updates": 50_000},
    "associative_recall": {"schedule.num_updates": 20_000},
    "byte_language": {"schedule.num_updates": 50_000},
}


def _scaled(of_task: dict[str, Changes]) -> Any:
    """The task's changes, but what an arm has set for itself stays."""

    def configure(config: Config) -> Config:
        name = next(short for short, (_, settings) in TASKS.items() if settings["task"] == config.task)
        standard = override(Config(), TASKS[name][1])
        own = differences(flatten(standard), flatten(config))
        changes = {path: value for path, value in of_task[config.task].items() if path not in own}
        updates = changes.get("schedule.num_updates", config.schedule.num_updates)
        every = {"schedule.log_every": max(updates // 100, 1), "schedule.evaluate_every": max(updates // 8, 1)}
        return override(config, {**changes, **every})

    return configure


PRESETS = {
    "quick": Preset(
        "Small networks: minutes on two CPU cores.",
        _scaled(QUICK),
        arms=(
            *("retrieval", "retrieval_mha", "retrieval_mha_equal", "retrieval_linear", "retrieval_r1"),
            *("retrieval_gqa", "retrieval_moh", "retrieval_switch"),
            *("retrieval_narrow", "retrieval_withheld", "retrieval_withheld_mha", "retrieval_withheld_narrow"),
        ),
        seeds=3,
        jobs=0,
    ),
    "standard": Preset("The publication's networks, at most an hour of one GPU each.", _scaled(STANDARD), seeds=5),
    "paper": Preset("The publication's settings.", _scaled(PUBLISHED), seeds=5),
}
