"""Our sampler against transformers' `generate()` on the same work: `python benchmarks/lm.py [--save]`.

A random Llama of 0.8M parameters (d = 128, 4 layers, 4 heads), prompts of 24–40 tokens, up to 44 new ones, K samples
of each prompt at temperature 1, one thread. `generate()` has its best settings for this: one left-padded batch,
`num_return_sequences`, dynamic cache, the same end tokens. With `stop` a row ends with probability 1/32 per token, as
answers do; with `fixed` every row takes all 44. Only tokens up to the end token count. The two run in turns, in one
process; the figures are tokens per processor second, median (least–most) over rounds, and the ratio within each round.

The floor is what the matrix products of the linear layers alone would take, at the speed that such products have here.

    python benchmarks/lm.py --work 64x16 --kv-heads 1 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import transformers
from harness import HERE, Spread, machine, markdown
from transformers import LlamaConfig, LlamaForCausalLM

from tutelage.lm.sampling.decoding import sample
from tutelage.lm.sampling.next_token import Sampling

VOCABULARY, NEW = 512, 44
STOPS = tuple(range(1, 1 + VOCABULARY // 32))


def model(kv_heads: int) -> LlamaForCausalLM:
    """The model of the comparison; small weights, so that the end tokens come at random."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def prompts(number: int) -> list[list[int]]:
    rng = np.random.default_rng(number)
    return [rng.integers(20, VOCABULARY, rng.integers(24, 41)).tolist() for _ in range(number)]


def ours(net: LlamaForCausalLM, questions: list[list[int]], k: int, stops: tuple[int, ...], seed: int) -> int:
    """Tokens that came out."""
    sampling = Sampling(max_new_tokens=NEW, stop_ids=stops)
    return sum(
        len(row.tokens) for rows in sample(net, questions, num_samples=k, sampling=sampling, seed=seed) for row in rows
    )


def theirs(net: LlamaForCausalLM, questions: list[list[int]], k: int, stops: tuple[int, ...], seed: int) -> int:
    """The same with `generate()`."""
    torch.manual_seed(seed)
    longest = max(map(len, questions))
    ids = torch.zeros(len(questions), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, question in enumerate(questions):
        ids[row, longest - len(question) :] = torch.tensor(question)
        mask[row, longest - len(question) :] = 1
    with torch.inference_mode():
        out = net.generate(  # type: ignore[operator]
            ids,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            num_return_sequences=k,
            max_new_tokens=NEW,
            eos_token_id=list(stops) or None,
            pad_token_id=0,
        )
    new = out[:, longest:].numpy()
    hit = np.isin(new, stops)
    return int(np.where(hit.any(1), hit.argmax(1) + 1, new.shape[1]).sum())


def floor(net: LlamaForCausalLM, rows: int) -> float:
    """Tokens per processor second if only the linear layers' products took time, `rows` rows at once."""
    shapes = [layer.weight for layer in net.modules() if isinstance(layer, torch.nn.Linear)]
    inputs = {weight.shape[1]: torch.randn(rows, weight.shape[1]) for weight in shapes}

    def products() -> None:
        for weight in shapes:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    with torch.inference_mode():
        products()
        began = time.process_time()
        for _ in range(20):
            products()
        return 20 * rows / (time.process_time() - began)


def rate(run: Callable[..., int], *given: Any) -> float:
    """Tokens per processor second."""
    began = time.process_time()
    return run(*given) / (time.process_time() - began)


def compare(given: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {"machine": machine(), "command": shlex.join(["python", *sys.argv]), "rounds": []}
    result["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    for kv_heads in given.kv_heads:
        net = model(kv_heads)
        for work in given.work:
            questions, k = prompts(int(work.split("x")[0])), int(work.split("x")[1])
            for ends, stops in (("stop", STOPS), ("fixed", ())):
                ours(net, questions[:2], 2, stops, 0)
                theirs(net, questions[:2], 2, stops, 0)
                for seed in range(given.rounds):
                    figures = {"ours": rate(ours, net, questions, k, stops, seed)}
                    figures["generate"] = rate(theirs, net, questions, k, stops, seed)
                    figures["floor"] = floor(net, 1024)
                    case = {"kv_heads": kv_heads, "work": work, "ends": ends, "round": seed}
                    result["rounds"].append({**case, "load": machine()["load_average"][0], **figures})
                    print(case, {name: round(value) for name, value in figures.items()}, file=sys.stderr, flush=True)
    return result


def page(result: dict[str, Any]) -> str:
    cases: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in result["rounds"]:
        cases.setdefault((record["work"], record["kv_heads"], record["ends"]), []).append(record)
    rows = []
    for case, records in cases.items():
        spreads = [str(Spread.of([record[name] for record in records])) for name in ("ours", "generate", "floor")]
        ratio = str(Spread.of([record["ours"] / record["generate"] for record in records]))
        rows.append([*map(str, case), *spreads, ratio])
    head = ["prompts × samples", "key heads", "ends", "ours", "generate()", "products alone", "ours / generate()"]
    about = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    lines = f"{about['cpu']}, {about['cores']} cores, load {about['load_average'][0]:.1f} at the start; {versions}."
    return f"`{result['command']}`\n\n{lines} Tokens per processor second, one thread.\n\n{markdown(head, rows)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", nargs="+", default=["8x16", "64x16", "32x96"], metavar="PROMPTSxSAMPLES")
    parser.add_argument("--kv-heads", nargs="+", type=int, default=[4, 1], choices=(1, 2, 4))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true", help="write docs/results/lm_sampler.json and .md")
    parser.add_argument("--sampler-only", action="store_true", help="leave out the update against TRL (lm_update.py)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    result = compare(given)
    text = page(result)
    print(text)
    if given.save:
        folder = HERE.parent / "docs" / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lm_sampler.json").write_text(json.dumps(result, indent=1) + "\n")
        (folder / "lm_sampler.md").write_text(f"# The sampler against generate()\n\n{text}")
    if not given.sampler_only:
        subprocess.run([sys.executable, str(HERE / "lm_update.py"), "--rounds", str(given.rounds)], check=True)


if __name__ == "__main__":
    main()
