"""Every number of an attention layer, of the network around it and of its training."""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.lab.errors import BadInput, nearest
from tutelage.lab.settings import setting

PAPER = "arXiv 2110.09419"
KINDS = ("compositional", "multihead", "grouped_query", "mixture_of_heads", "switch_head")
COMPETITIONS = ("dot", "linear", "mlp", "static")
POSITIONS = ("none", "rotary", "relative")
BACKENDS = ("auto", "stacked", "expanded", "literal")
INITIALISATIONS = ("xavier", "pytorch")
CURVES = ("constant", "cosine", "inverse_sqrt")


@dataclass(frozen=True)
class AttentionConfig:
    """One attention layer: searches (where to look), retrievals (what to take) and their competition.

    The baselines read what they have: `searches` are their heads, `retrievals` the key and value groups of
    grouped-query attention and the value experts of SwitchHead-style routing.
    """

    kind: str = setting("compositional", "Which attention.", choices=KINDS)
    searches: int = setting(4, "S: query-key pairs; heads of the baselines.", interval="[1, inf)", source=PAPER)
    retrievals: int = setting(2, "R: values to choose from.", interval="[1, inf)", source=PAPER)
    d_search: int = setting(0, "S·d, all searches together; 0: the layer's width.", interval="[0, inf)")
    d_value: int = setting(
        0, "R·d_v, all retrievals together; 0: R times width / S, the head size of multi-head.", interval="[0, inf)"
    )
    d_select: int = setting(32, "e: size of value queries and value keys.", interval="[1, inf)", source=PAPER)
    competition: str = setting(
        "dot",
        "How retrievals compete: dot product with a value query; linear or mlp on query and retrieval joined; static: "
        "free keys, whatever was retrieved. With linear the query cancels (content-only competition).",
        choices=COMPETITIONS,
    )
    per_retrieval_key: bool = setting(False, "Each retrieval has a value-key map of its own.")
    compose_query: bool = setting(False, "Value queries are made of the search queries instead of the input.")
    gumbel: bool = setting(False, "Gumbel-softmax over retrievals in training.")
    temperature: float = setting(1.0, "Of the softmax over retrievals.", interval="(0, inf)")
    top_k: int = setting(
        0,
        "Only so many retrievals may win; 0: all. Of mixture_of_heads: routed heads in use; of switch_head: experts.",
        interval="[0, inf)",
    )
    bias: bool = setting(True, "Projections have biases.")
    dropout: float = setting(0.0, "Of attention weights A.", interval="[0, 1)")
    exclude_self: bool = setting(False, "No token may attend to itself.")
    join_input: bool = setting(False, "A projection of the input, of size d_v, is joined before the output projection.")
    positions: str = setting("none", "Positions inside the scores.", choices=POSITIONS)
    backend: str = setting(
        "auto",
        "stacked: one fused call per search, retrievals side by side in the value; expanded: one fused call per pair; "
        "literal: all of A; auto: the measured best.",
        choices=BACKENDS,
    )
    shared_heads: int = setting(
        0, "Of mixture_of_heads: so many heads are in use whatever the token.", interval="[0, inf)"
    )
    initialisation: str = setting(
        "xavier",
        "xavier: uniform by both sizes, biases 0, the competition's smaller by 1/√2; pytorch: as linear maps begin "
        "there, uniform in ±1/√(size of the input).",
        choices=INITIALISATIONS,
        source="official code: xavier for SCAN, pytorch for contextual retrieval",
    )


@dataclass(frozen=True)
class NetworkConfig:
    """What is around the attention: pre-norm blocks, iterated or stacked."""

    width: int = setting(256, "D: size of a token.", interval="[1, inf)")
    iterations: int = setting(4, "Blocks one after another.", interval="[1, inf)", source=PAPER)
    shared: bool = setting(True, "All blocks are one and the same (universal transformer).", source=PAPER)
    d_feedforward: int = setting(0, "Hidden size of the feed-forward part; 0: twice the width.", interval="[0, inf)")
    dropout: float = setting(0.1, "In blocks, outside attention.", interval="[0, 1)", source=PAPER)
    legacy_positions: bool = setting(False, "The official code's sines, with their exponent applied twice.")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam and its learning rate over time."""

    learning_rate: float = setting(1e-4, "Its peak.", interval="(0, inf)", source=PAPER)
    curve: str = setting("constant", "Of the learning rate after warm-up.", choices=CURVES)
    warmup: int = setting(0, "Updates of linear warm-up.", interval="[0, inf)", unit="updates")
    beta2: float = setting(0.999, "Decay of the second moment.", interval="[0, 1)")
    weight_decay: float = setting(0.0, "Decoupled (AdamW).", interval="[0, inf)")
    clip: float = setting(0.0, "Largest norm of the gradient; 0: any.", interval="[0, inf)")
    balance: float = setting(
        0.01,
        "Weight of the load-balance loss of routed heads, in models that have some.",
        interval="[0, inf)",
        source="arXiv 2410.11842",
    )
    batch_size: int = setting(256, "Examples of one update.", interval="[1, inf)")


def head_sizes(config: AttentionConfig, width: int) -> tuple[int, int]:
    """(d, d_v): the sizes of one search and of one retrieval in a layer of that width.

    Raises:
        BadInput: S does not divide d_search (or the width), or R (S of baselines with a value in every head) d_value.
    """
    d_search = config.d_search or width
    d = _share(d_search, config.searches, "d_search" if config.d_search else "width", "searches")
    if config.d_value:
        of = "searches" if config.kind in ("multihead", "mixture_of_heads") else "retrievals"
        return d, _share(config.d_value, getattr(config, of), "d_value", of)
    return d, _share(width, config.searches, "width", "searches")


def check_attention(config: AttentionConfig, width: int) -> None:
    """Refuse what no layer of that width can be.

    Raises:
        BadInput: values that are out of range, sizes that do not divide, or settings that contradict each other.
    """
    for name, low in (("searches", 1), ("retrievals", 1), ("d_search", 0), ("d_value", 0), ("top_k", 0)):
        if getattr(config, name) < low:
            raise BadInput(f"{name} = {getattr(config, name)}: must be at least {low}")
    choices = {"kind": KINDS, "competition": COMPETITIONS, "positions": POSITIONS, "backend": BACKENDS}
    choices |= {"initialisation": INITIALISATIONS}
    for name, known in choices.items():
        value = getattr(config, name)
        if value not in known:
            raise BadInput(f"{name} = {value!r}: must be one of {', '.join(known)}{nearest(str(value), known)}")
    if not 0 <= config.dropout < 1:
        raise BadInput(f"dropout = {config.dropout:g}: must be in [0, 1)")
    match config.kind:
        case "compositional":
            _check_competition(config)
        case "grouped_query" if config.searches % config.retrievals:
            divisors = ", ".join(str(each) for each in range(1, config.searches + 1) if config.searches % each == 0)
            raise BadInput(
                f"retrievals = {config.retrievals}: must divide searches = {config.searches}, so be one of {divisors}"
            )
        case "mixture_of_heads":
            routed = config.searches - config.shared_heads
            if routed < 0:
                raise BadInput(f"shared_heads = {config.shared_heads}: must be at most searches = {config.searches}")
            if config.top_k > routed:
                raise BadInput(f"top_k = {config.top_k}: must be at most searches - shared_heads = {routed}")
        case "switch_head" if config.top_k > config.retrievals:
            raise BadInput(f"top_k = {config.top_k}: must be at most retrievals = {config.retrievals}")
    d, _ = head_sizes(config, width)
    if config.positions == "rotary" and d % 2:
        raise BadInput(f"positions = 'rotary' with searches of size d = {d}: d must be even, such as {d + 1}")


def _check_competition(config: AttentionConfig) -> None:
    if not isinstance(config.d_select, int) or config.d_select < 1:
        raise BadInput(
            f"d_select = {config.d_select}: competition {config.competition!r} needs e, the size of value queries and "
            "keys, at least 1 (the paper has 32)"
        )
    if not config.temperature > 0:
        raise BadInput(f"temperature = {config.temperature:g}: must be above 0")
    if config.top_k > config.retrievals:
        raise BadInput(f"top_k = {config.top_k}: must be at most retrievals = {config.retrievals}; 0 is all")
    if config.per_retrieval_key and config.competition != "dot":
        raise BadInput(f"per_retrieval_key = True with competition {config.competition!r}: only 'dot' has value keys")


def _share(size: int, parts: int, name: str, of: str) -> int:
    if size % parts:
        low = size // parts * parts
        near = f"{low} or {low + parts}" if low else f"{parts}"
        raise BadInput(f"{name} = {size}: must be a multiple of {of} = {parts}, such as {near}")
    return size // parts
