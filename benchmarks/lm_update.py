"""The cost of one policy update on groups of completions, ours against TRL's: `python benchmarks/lm_update.py`.

8 prompts of 32 tokens, 16 completions each of 44, a Llama-architecture model of 0.8 million parameters, one thread,
float32. The update is loss (GRPO's clipped ratio), gradient, clipping and AdamW. Ours runs with the prompts read once
and with every sequence read whole, beside a loop of transformers' own parts; TRL's `GRPOTrainer` runs as it is, its
generation timed apart and left out.
Also: the bytes and seconds of a rollout pool (`--pool N`), and what two processes that each start a pool of two threads
cost on this machine (`--threads`).

    python benchmarks/lm_update.py --rounds 5 [--environments DIR]
    python benchmarks/lm_update.py --pool 1000000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import ENVIRONMENTS, HERE, PEERS, Contestant, Spread, in_turns, machine, make_environment, markdown, run

WORK: dict[str, Any] = {"questions": 8, "samples": 16, "prompt_tokens": 32, "new_tokens": 44, "steps": 4}


def prepare(folder: Path, work: dict[str, Any]) -> None:
    """The model, its tokenizer and the prompts, for all contestants."""
    import torch

    from tutelage.lm import folders
    from tutelage.lm.training.config import PretrainConfig, TokenizerConfig
    from tutelage.lm.training.pretraining import new_model, train_tokenizer

    words = [f" w{number:03d}"[:5] for number in range(508)]
    tokenizer = train_tokenizer([" ".join(words)], TokenizerConfig(kind="bpe", vocabulary=512))
    config = PretrainConfig(size="mini", context=max(256, work["prompt_tokens"] + work["new_tokens"]))
    folders.save(new_model(len(tokenizer), config), tokenizer, folder)
    shape = (work["questions"], work["prompt_tokens"])
    ids = torch.randint(40, 90, shape, generator=torch.Generator().manual_seed(0)).tolist()
    (folder / "prompts.json").write_text(json.dumps(ids))


def ours(given: dict[str, Any]) -> dict[str, Any]:
    """Seconds of our update, by way of reading the prompts; each step does all, in turn.

    `update` reads each prompt once, `plain` once per completion; `stock` does that with transformers alone, in the few
    lines that one writes first: whole rows, logits at every place.
    """
    sys.path.insert(0, str(PEERS))
    import torch
    from stopwatch import peak_memory

    from tutelage.lm import folders
    from tutelage.lm.training.losses import masked_mean
    from tutelage.lm.training.shared_prefix import read_completions

    torch.set_num_threads(1)
    model, _ = folders.load(given["model"])
    model.train()
    prompts = json.loads(Path(given["model"], "prompts.json").read_text())
    generator = torch.Generator().manual_seed(1)
    shape = (given["questions"], given["samples"], given["new_tokens"])
    completions = torch.randint(3, 512, shape, generator=generator).tolist()
    advantages = torch.randn(given["questions"] * given["samples"], 1, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    rows = torch.tensor([[*prompts[i], *row] for i, group in enumerate(completions) for row in group])

    def read(way: str) -> torch.Tensor:
        if way == "stock":
            logits = model(input_ids=rows).logits[:, given["prompt_tokens"] - 1 : -1]
            new = rows[:, given["prompt_tokens"] :, None]
            return logits.log_softmax(-1).gather(-1, new)[..., 0]
        return read_completions(model, prompts, completions, shared=way == "update").logprobs

    def update(way: str) -> float:
        start = time.process_time()
        logprobs = read(way)
        ratio = (logprobs - logprobs.detach()).exp()
        gain = torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
        masked_mean(-gain, torch.ones_like(gain, dtype=torch.bool), gain.numel()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - start

    parts = [{way: update(way) for way in ("update", "plain", "stock")} for _ in range(given["steps"] + 1)][1:]
    return {"parts": parts, "peak_memory_bytes": peak_memory(), "versions": {"torch": torch.__version__}}


def pool(number: int) -> dict[str, float]:
    """Bytes per rollout and rows per CPU-second of a pool of rollouts like those above, with their text."""
    import numpy as np

    from tutelage.lm.pools import Pool, PoolWriter, Rollout

    random = np.random.default_rng(0)
    n, samples = WORK["new_tokens"], WORK["samples"]
    ids, logprobs = random.integers(0, 512, (1000, n)), -random.random((1000, n), np.float32)
    prompts = [random.integers(0, 512, WORK["prompt_tokens"]) for _ in range(-(-number // samples))]
    text = "12 + 7 = 19\n19 * 3 = 57\n57 - 8 = 49\n#### 49"
    found: dict[str, float] = {}

    def timed(name: str, start: float) -> None:
        found[f"{name}: rollouts per CPU-s"] = number / (time.process_time() - start)

    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        with PoolWriter(folder) as writer:
            for row in range(number):
                place = row % 1000
                question, sample = divmod(row, samples)
                known = {"text": text, "reward": 1.0, "answer": "49", "policy": "base", "sample_index": sample}
                writer.append(Rollout(f"q{question}", prompts[question], ids[place], logprobs[place], **known))
        timed("append", start)
        start = time.process_time()
        with PoolWriter(folder):
            timed("open to append", start)
        start = time.process_time()
        read = Pool(folder)
        assert len(read) == number
        timed("open to read", start)
        start = time.process_time()
        assert sum(1 for _ in read) == number
        timed("read", start)
        found["bytes per rollout"] = read.size_on_disk() / number
        start = time.process_time()
        read.to_parquet(Path(folder, "pool.parquet"))
        timed("Parquet", start)
        found["bytes per rollout, Parquet"] = Path(folder, "pool.parquet").stat().st_size / number
    return found


def spinning(folder: str) -> dict[str, float]:
    """Wall and CPU seconds of two processes at once that train the model, each with one thread or with two."""
    code = """
import os, sys, time, torch
from tutelage.lm import folders
torch.set_num_threads(int(sys.argv[2]))
model, _ = folders.load(sys.argv[1])
ids = torch.randint(3, 500, (32, 64))
def step(): model(input_ids=ids, labels=ids).loss.backward()
step()
wall, cpu = time.perf_counter(), time.process_time()
for _ in range(10): step()
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
    found: dict[str, float] = {}
    for threads in (1, 2):
        command = [sys.executable, "-c", code, folder, str(threads)]
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        costs = [[float(part) for part in process.communicate()[0].split()] for process in both]
        for name, column in zip(("wall", "CPU"), zip(*costs)):
            found[f"two processes of {threads} thread(s): {name} seconds of 10 steps"] = max(column)
    return found


def measure(
    work: dict[str, Any], rounds: int, environments: Path | None, *, timeout: float = 600.0
) -> dict[str, list[float]]:
    """Processor seconds of every step by contestant and part, ours first; TRL's only with a place for environments."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        prepare(folder, work)
        entrants = [Contestant("tutelage", (sys.executable, str(HERE / "lm_update.py")))]
        if environments is not None:
            peer = (str(make_environment("trl", environments)), str(PEERS / "trl_update.py"))
            entrants.append(Contestant("trl", peer))
        arguments = ["--work", json.dumps(work | {"model": str(folder)})]
        for _, entrant in in_turns(entrants, rounds):
            record = run(entrant, arguments, timeout=timeout)
            for shape in record.get("shapes", ()):  # as wide as ours, up to a merged token or two
                assert abs(shape[1] - work["prompt_tokens"]) <= 2, shape
                assert shape[0] == shape[2] == work["questions"] * work["samples"], shape
                assert shape[3] == work["new_tokens"], shape
            for part in record["parts"]:
                for name, value in part.items():
                    seconds.setdefault(f"{entrant.name}: {name}", []).append(value)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="where the peer's environment is made")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds that one run may take")
    parser.add_argument("--pool", type=int, default=0, metavar="N", help="measure a pool of N rollouts instead")
    parser.add_argument("--threads", action="store_true", help="measure threads instead")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(ours(json.loads(given.work))))
        return
    if given.pool:
        print(json.dumps(pool(given.pool), indent=2))
        return
    if given.threads:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "model")
            prepare(folder, WORK)
            print(json.dumps(spinning(str(folder)), indent=2))
        return
    seconds = measure(WORK, given.rounds, given.environments, timeout=given.timeout)
    base = Spread.of(seconds["tutelage: update"])
    rows = [
        [name, str(spread := Spread.of(values)), f"{spread.median / base.median:.2f}"]
        for name, values in seconds.items()
    ]
    print(markdown(["CPU-seconds of one step", "median (least–most)", "/ ours"], rows))
    print(json.dumps(machine()))


if __name__ == "__main__":
    main()
