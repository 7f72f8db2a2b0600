"""The study compositional_attention at a size that a test can train in a second, with the same arms."""

from dataclasses import replace

from tutelage import studies
from tutelage.lab import configuration
from tutelage.lab.study import Preset

loaded = studies.load("compositional_attention")

SMALL = {
    "network.width": 16,
    "network.iterations": 1,
    "network.d_feedforward": 32,
    "attention.d_select": 4,
    "optimizer.batch_size": 8,
    "contextual_retrieval.test_examples": 64,
    "sort_of_clevr.train_images": 8,
    "sort_of_clevr.test_images": 6,
    "sort_of_clevr.questions": 3,
    "triangles.size": 32,
    "triangles.min_side": 10.0,
    "triangles.test_images": 16,
    "image_mix.sources": ("digits", "triangles"),
    "image_mix.test_images": 20,
    "relational.num_train": 64,
    "relational.num_test": 32,
    "scan.num_test": 16,
    "associative_recall.num_test": 20,
    "byte_language.context": 16,
    "byte_language.evaluation_context": 8,
    "byte_language.num_test": 64,
}


def small(config):
    """Everything small, but a number of searches or retrievals that an arm has set stays."""
    config = configuration.override(config, SMALL)
    return configuration.override(config, {"schedule.num_updates": 2, "schedule.log_every": 1})


def killed(config):
    """Long enough to be killed in."""
    longer = {"schedule.num_updates": 600, "schedule.log_every": 10, "schedule.checkpoint_every": 10}
    return configuration.override(small(config), longer)


study = replace(
    loaded,
    presets={
        **loaded.presets,
        "tiny": Preset("for tests", small, seeds=1),
        "killed": Preset("for kill tests", killed, seeds=1),
    },
)
