"""How fast our step could be on this machine: the part `floor` of `benchmarks/reason_rl.py`.

Whatever else an implementation does, it multiplies these matrices: two operations for every weight that a token meets
going forward, four more going backward, and attention's products over the tokens before it. So we count them, measure
at what rate torch multiplies *these* shapes here on one thread, and add up. Tokens that are padding are not counted,
each prompt is read once, and rows are as many as are alive on average.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from floor import least
from harness import HERE, Contestant, Spread, markdown, run

STEP: dict[str, Any] = {"questions": 8, "samples": 16, "new_tokens": 44, "steps": 4, "learning_rate": 1e-4, "kl": 0.0}
SECONDS = 0.2
"""Processor seconds spent on measuring one shape."""


@dataclass(frozen=True)
class Product:
    """`batch` products [m, k] @ [k, n] at once, `count` times a step."""

    part: str
    name: str
    m: int
    k: int
    n: int
    count: float
    batch: int = 1

    @property
    def operations(self) -> float:
        """Floating-point operations in a step: a multiplication and an addition per entry."""
        return 2.0 * self.m * self.k * self.n * self.batch * self.count


def products(config: Mapping[str, Any], *, prompts: int, prompt: int, rows: int, length: int, longest: int) -> list:
    """Every matrix product of one step of a Llama-architecture model.

    Args:
        config: `hidden_size`, `intermediate_size`, `num_hidden_layers`, `num_attention_heads`, `num_key_value_heads`,
            `vocab_size` of the model.
        prompts, prompt: how many, and their mean tokens. rows, length: completions, and their mean tokens.
        longest: tokens of the longest completion: passes of the sampler.
    """
    d, heads = config["hidden_size"], config["num_attention_heads"]
    keys, head = config["num_key_value_heads"], config["hidden_size"] // config["num_attention_heads"]
    layers, inner, vocabulary = config["num_hidden_layers"], config["intermediate_size"], config["vocab_size"]
    linear = [
        ("queries and output", d, heads * head, 2 * layers),
        ("keys and values", d, keys * head, 2 * layers),
        ("gate and up", d, inner, 2 * layers),
        ("down", inner, d, layers),
    ]
    alive, context = max(1, round(rows * length / longest)), prompt + length // 2
    found = []
    for name, inputs, outputs, count in linear:
        found.append(Product("sampling", f"{name}, prompts", prompts * prompt, inputs, outputs, count))
        found.append(Product("sampling", name, alive, inputs, outputs, count * longest))
    found.append(Product("sampling", "vocabulary", alive, d, vocabulary, longest))
    for name, k, n in (("scores", head, context), ("values", context, head)):
        found.append(Product("sampling", f"attention's {name}", heads // keys, k, n, layers * longest, alive * keys))
    tokens = prompts * prompt + rows * length
    passes = [(name, tokens, *shape) for name, *shape in linear] + [("vocabulary", rows * length, d, vocabulary, 1)]
    for name, many, inputs, outputs, count in passes:
        found.append(Product("forward", name, many, inputs, outputs, count))
        found.append(Product("backward", f"{name}: gradient of inputs", many, outputs, inputs, count))
        found.append(Product("backward", f"{name}: gradient of weights", inputs, many, outputs, count))
    for name, k, n in (("scores", head, context), ("values", context, head)):
        batch = rows * heads
        found.append(Product("forward", f"attention's {name}", length, k, n, layers, batch))
        found.append(Product("backward", f"attention's {name}: first gradient", length, n, k, layers, batch))
        found.append(Product("backward", f"attention's {name}: second gradient", k, length, n, layers, batch))
    return found


def product_seconds(product: Product, seconds: float = SECONDS) -> float:
    """Processor seconds that this product takes in a step, at the rate measured for its shape."""
    import torch

    shape = () if product.batch == 1 else (product.batch,)
    a, b = torch.randn(*shape, product.m, product.k), torch.randn(*shape, product.k, product.n)
    out = torch.empty(*shape, product.m, product.n)
    multiply = torch.mm if product.batch == 1 else torch.bmm
    with torch.inference_mode():
        return least(lambda: multiply(a, b, out=out), seconds) * product.count


def measure(given: argparse.Namespace, model: Path) -> dict[str, Any]:
    """Our step as it is, and the products of the same work."""
    import torch

    torch.set_num_threads(1)
    driver = Contestant("tutelage", (sys.executable, str(HERE / "ours_reason_rl.py"), "--part", "step"))
    record = run(driver, ["--work", json.dumps(STEP | {"seed": 0, "model": str(model)})], timeout=given.timeout)
    mean = {name: Spread.of([part[name] for part in record["parts"]]).median for name in record["parts"][0]}
    rows = STEP["questions"] * STEP["samples"]
    sizes = {
        "prompts": STEP["questions"],
        "prompt": round(mean["prompt_tokens"] / STEP["questions"]),
        "rows": rows,
        "length": round(mean["tokens"] / rows),
        "longest": STEP["new_tokens"],
    }
    config = json.loads((model / "config.json").read_text())
    counted = products(config, **sizes)
    took = [product_seconds(product) for product in counted]
    listed = [{**vars(p), "operations": p.operations, "cpu_seconds": t} for p, t in zip(counted, took, strict=True)]
    return {"sizes": sizes, "step": mean, "products": listed}


def table(found: Mapping[str, Any]) -> str:
    """Operations, rates and seconds by part, beside what our step took."""
    step, sizes = found["step"], found["sizes"]
    taken = {"sampling": step["generation"], "update": step["step"] - step["generation"], "step": step["step"]}
    groups = {"sampling": ("sampling",), "update": ("forward", "backward")}
    groups["step"] = groups["sampling"] + groups["update"]
    tokens, rows = sizes["rows"] * sizes["length"], []
    for name, parts in groups.items():
        mine = [product for product in found["products"] if product["part"] in parts]
        operations, seconds = (sum(each[key] for each in mine) for key in ("operations", "cpu_seconds"))
        cells = [f"{operations / 1e9:.2f}", f"{operations / tokens / 1e6:.2f}", f"{operations / seconds / 1e9:.0f}"]
        rows.append([name, *cells, f"{seconds:.3f}", f"{taken[name]:.3f}", f"{taken[name] / seconds:.1f}"])
    head = ["", "Gop", "Mop per new token", "Gop/s", "floor, CPU-s", "ours, CPU-s", "ours / floor"]
    about = ", ".join(f"{name} {value}" for name, value in sizes.items())
    return f"{markdown(head, rows)}\n\nSizes (means): {about}."
