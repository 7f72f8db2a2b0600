"""TRL's `GRPOTrainer`, whole steps of it, on the model and questions of `benchmarks/reason_rl.py`, as it is.

`generation` is what the trainer does before the loss: sampling, scoring, advantages, and the reference's
log-probabilities where the KL divergence has a weight.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

import torch
import transformers
import trl
from datasets import Dataset
from right_answer import right_answer
from stopwatch import peak_memory, report

parser = argparse.ArgumentParser()
parser.add_argument("--work", required=True)
given = json.loads(parser.parse_args().work)
torch.set_num_threads(1)
scratch = tempfile.TemporaryDirectory()
tokenizer = transformers.AutoTokenizer.from_pretrained(given["model"])
model = transformers.AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
rows = [json.loads(line) for line in Path(given["model"], "questions.jsonl").read_text().splitlines()]
number = given["questions"] * (given["steps"] + 1)
rows = (rows * (number // len(rows) + 1))[:number]
data = Dataset.from_dict(
    {
        "prompt": [f"{row['question']}\n" for row in rows],
        "answer": [int(re.findall(r"-?\d+", row["answer"])[-1]) for row in rows],
    }
)
config = trl.GRPOConfig(
    output_dir=scratch.name,
    per_device_train_batch_size=given["questions"] * given["samples"],
    num_generations=given["samples"],
    max_completion_length=given["new_tokens"],
    max_steps=given["steps"] + 1,
    learning_rate=given["learning_rate"],
    lr_scheduler_type="constant",
    beta=given["kl"],
    loss_type="grpo",
    temperature=1.0,
    use_vllm=False,
    disable_dropout=True,
    gradient_checkpointing=False,
    bf16=False,
    use_cpu=True,
    seed=given["seed"],
    report_to="none",
    save_strategy="no",
    logging_strategy="no",
    disable_tqdm=True,
)
repeats = given["samples"]
generating: list[float] = []
drawn: list[dict[str, float]] = []
steps: list[dict[str, float]] = []


class Timed(transformers.TrainerCallback):
    """One entry per step; the first, which warms up, is dropped at the end."""

    def on_step_begin(self, *_, **__):
        self.start = time.process_time()

    def on_step_end(self, *_, **__):
        steps.append({"step": time.process_time() - self.start, "generation": generating[-1], **drawn[-1]})


class Trainer(trl.GRPOTrainer):
    def _generate_and_score_completions(self, inputs):
        start = time.process_time()
        outputs = super()._generate_and_score_completions(inputs)
        generating.append(time.process_time() - start)
        mask = outputs["completion_mask"]
        assert len(mask) == given["questions"] * given["samples"], len(mask)
        drawn.append({"tokens": float(mask.sum()), "prompt_tokens": float(outputs["prompt_mask"].sum()) / repeats})
        return outputs


def reward(completions: list[str], answer: list[int], **_) -> list[float]:
    return [right_answer(text, each) for text, each in zip(completions, answer, strict=True)]


Trainer(
    model=model,
    reward_funcs=reward,
    args=config,
    train_dataset=data,
    processing_class=tokenizer,
    callbacks=[Timed()],
).train()
report(
    parts=steps[1:],
    peak_memory_bytes=peak_memory(),
    versions={"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
)
