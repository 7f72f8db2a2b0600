"""From the metrics of a chunk's updates to one number each, for programs whose updates run in Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.lab.program import Figures, Last, Max, Sometimes, Sum


def number(name: str, metric: Any) -> Any:
    """The metric (a number or an array of one element) as a plain float, in its wrapper if it has one."""
    wrapped = isinstance(metric, Last | Sum | Max | Sometimes)
    value = metric.value if wrapped else metric
    try:
        # Of PyTorch's tensors, which would warn of their gradient.
        plain = float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        shape = f"has shape {tuple(value.shape)}" if hasattr(value, "shape") else f"is {value!r:.80}"
        raise TypeError(f"{name!r} {shape}: must be one number; reduce it yourself") from error
    return type(metric)(plain) if wrapped else plain


def reduced(chunk: Sequence[Mapping[str, Any]]) -> Figures:
    """One number for each name, over the updates of the chunk that have it; metrics as `number` gives them."""
    figures: dict[str, float] = {}
    for name in dict.fromkeys(name for metrics in chunk for name in metrics):
        found = [metrics[name] for metrics in chunk if name in metrics]
        values = [metric if isinstance(metric, float) else metric.value for metric in found]
        match found[-1]:
            case Last(value):
                figures[name] = value
            case Sum():
                figures[name] = sum(values)
            case Max():
                figures[name] = math.nan if any(map(math.isnan, values)) else max(values)
            case Sometimes():
                if known := [value for value in values if not math.isnan(value)]:
                    figures[name] = sum(known) / len(known)
            case _:
                figures[name] = sum(values) / len(values)
    return figures
