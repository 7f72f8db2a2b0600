"""compositional_attention: where to look and what to take as two pools, instead of heads that tie them.

The composition of one paper and its neighbours. `study.map` says where each of their parts lives.

Deviations from the publication, each on purpose:
- competition by dot product is the default; the official SCAN code runs `linear`, whose output does not depend on the
  value query, and here that is an ablation which says so;
- one fused computation which never holds all of A is the default beside the literal one, to which it is equal;
- rows in which nothing may be attended to give zeros instead of NaN; dropout on A is in one place for all layers;
- positions are the usual sines; the official ones, with their exponent applied twice, are `network.legacy_positions`;
- the generators of Sort-of-CLEVR and of triangles have the official ones' errors mended (their docstrings list them);
- quick presets are smaller and shorter, with larger learning rates.
"""

from __future__ import annotations

from tutelage.lab.study import Paper, Study
from tutelage.studies.compositional_attention.arms import ARMS, PRESETS
from tutelage.studies.compositional_attention.checks import check
from tutelage.studies.compositional_attention.claims import CLAIMS, PUBLISHED
from tutelage.studies.compositional_attention.config import Config, work
from tutelage.studies.compositional_attention.tools import TOOLS

study = Study(
    name="compositional_attention",
    paper=Paper(
        "Compositional Attention: Disentangling Search and Retrieval",
        "Mittal, Raparthy, Rish, Bengio, Lajoie",
        2022,
        "2110.09419",
    ),
    question="Do attention heads waste parameters by tying where to look to what to take?",
    summary="Attention whose searches choose among shared retrievals, against heads that tie the two.",
    config=Config,
    arms=ARMS,
    presets=PRESETS,
    claims=CLAIMS,
    published=PUBLISHED,
    map={
        "Compositional attention": "tutelage.attention.compositional.layer:CompositionalAttention",
        "Value competition": "tutelage.attention.compositional.competition:Competition",
        "Fused computation": "tutelage.attention.compositional.fused:found",
        "Universal transformer encoder": "tutelage.attention.blocks:Encoder",
        "Multi-head attention": "tutelage.attention.baselines.multihead:MultiHead",
        "Equal parameters": "tutelage.attention.equal_parameters:equal_parameters",
        "What searches and retrievals do": "tutelage.attention.inspection:explain",
        "Contextual retrieval": "tutelage.attention.tasks.contextual_retrieval:ContextualRetrieval",
        "Sort-of-CLEVR": "tutelage.attention.tasks.pictures.sort_of_clevr:SortOfClevr",
        "Equilateral triangles": "tutelage.attention.tasks.pictures.triangles:Triangles",
        "Multi-task images": "tutelage.attention.tasks.pictures.image_mix:ImageMix",
        "ESBN relational tasks": "tutelage.attention.tasks.relational:Relational",
        "SCAN": "tutelage.attention.tasks.words.scan:Scan",
        "Associative recall": "tutelage.attention.tasks.words.associative_recall:AssociativeRecall",
        "Language modelling": "tutelage.attention.tasks.words.byte_language:ByteLanguage",
        "JAX twin": "tutelage.nn.compositional_attention:CompositionalAttention",
        "Multi-head attention contained (F4)": "tutelage.attention.conversion:from_multihead",
    },
    check=check,
    build="tutelage.studies.compositional_attention.build:build",
    work=work,
    exhibits="tutelage.studies.compositional_attention.exhibits:exhibits",
    panels="tutelage.studies.compositional_attention.panels:panels",
    tools=TOOLS,
    extra="lm",
    headline="l1_iid",
    main_arm="retrieval",
    jobs=0,
)
