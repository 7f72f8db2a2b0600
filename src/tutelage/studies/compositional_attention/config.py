"""Every number of the study. Defaults are the publication's for contextual retrieval; arms set those of other tasks."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.attention.config import AttentionConfig, NetworkConfig, OptimizerConfig
from tutelage.attention.tasks.contextual_retrieval_config import ContextualRetrievalConfig
from tutelage.attention.tasks.pictures.image_mix_config import ImageMixConfig
from tutelage.attention.tasks.pictures.sort_of_clevr_config import SortOfClevrConfig
from tutelage.attention.tasks.pictures.triangles_config import TrianglesConfig
from tutelage.attention.tasks.relational_config import RelationalConfig
from tutelage.attention.tasks.words.associative_recall_config import AssociativeRecallConfig
from tutelage.attention.tasks.words.byte_language_config import ByteLanguageConfig
from tutelage.attention.tasks.words.scan_config import ScanConfig
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting

TASKS = (
    "contextual_retrieval",
    "sort_of_clevr",
    "triangles",
    "image_mix",
    "relational",
    "scan",
    "associative_recall",
    "byte_language",
)


@dataclass(frozen=True)
class Config:
    """A task, the attention that is to learn it, the network around it."""

    task: str = setting("contextual_retrieval", "What is learnt.", choices=TASKS)
    attention: AttentionConfig = part(AttentionConfig)
    equal_parameters: bool = setting(
        False, "A baseline's heads are sized to have the parameters of the compositional layer of the same settings."
    )
    network: NetworkConfig = part(NetworkConfig)
    optimizer: OptimizerConfig = part(OptimizerConfig)
    device: str = setting("auto", "Where models run; auto: a GPU if there is one.", choices=("auto", "cpu", "cuda"))
    contextual_retrieval: ContextualRetrievalConfig = part(ContextualRetrievalConfig)
    sort_of_clevr: SortOfClevrConfig = part(SortOfClevrConfig)
    triangles: TrianglesConfig = part(TrianglesConfig)
    image_mix: ImageMixConfig = part(ImageMixConfig)
    relational: RelationalConfig = part(RelationalConfig)
    scan: ScanConfig = part(ScanConfig)
    associative_recall: AssociativeRecallConfig = part(AssociativeRecallConfig)
    byte_language: ByteLanguageConfig = part(ByteLanguageConfig)
    schedule: Schedule = part(Schedule)


def work(config: Config) -> tuple[str, float]:
    """Examples read in one update."""
    return "examples", float(config.optimizer.batch_size)
