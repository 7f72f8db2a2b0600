"""TRL's GRPO training step on the model and prompts of `benchmarks/lm_update.py`, as it is, in two parts.

`update` is everything of a step but the generation of completions: loss, gradient, clipping, optimizer.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset
from stopwatch import peak_memory, report

parser = argparse.ArgumentParser()
parser.add_argument("--work", required=True)
given = json.loads(parser.parse_args().work)
torch.set_num_threads(1)
tokenizer = transformers.AutoTokenizer.from_pretrained(given["model"])
model = transformers.AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
prompts = json.loads(Path(given["model"], "prompts.json").read_text())
config = trl.GRPOConfig(
    output_dir=str(Path(given["model"], "trl")),
    per_device_train_batch_size=given["questions"] * given["samples"],
    num_generations=given["samples"],
    max_completion_length=given["new_tokens"],
    max_steps=given["steps"] + 1,
    learning_rate=1e-4,
    gradient_checkpointing=False,
    bf16=False,
    use_cpu=True,
    report_to="none",
    save_strategy="no",
    logging_strategy="no",
    disable_tqdm=True,
)
generating: list[float] = []
shapes: list[list[int]] = []
steps: list[dict[str, float]] = []


class Timed(transformers.TrainerCallback):
    """One entry per step; the first, which warms up, is dropped at the end."""

    def on_step_begin(self, *_, **__):
        self.start = time.process_time()

    def on_step_end(self, *_, **__):
        steps.append({"step": time.process_time() - self.start, "generation": generating[-1]})


class Trainer(trl.GRPOTrainer):
    def _generate_and_score_completions(self, inputs):
        start = time.process_time()
        outputs = super()._generate_and_score_completions(inputs)
        generating.append(time.process_time() - start)
        shapes.append([*outputs["prompt_ids"].shape, *outputs["completion_ids"].shape])
        return outputs


def reward(completions: list[str], **_) -> list[float]:
    return [float(len(text) % 7) for text in completions]


rows = Dataset.from_dict({"prompt": [tokenizer.decode(ids) for ids in prompts] * (given["steps"] + 1)})
Trainer(
    model=model,
    reward_funcs=reward,
    args=config,
    train_dataset=rows,
    processing_class=tokenizer,
    callbacks=[Timed()],
).train()
report(
    parts=[{**step, "update": step["step"] - step["generation"]} for step in steps[1:]],
    shapes=shapes,
    peak_memory_bytes=peak_memory(),
    versions={"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
)
