"""Our side of `benchmarks/reason_rl.py`: `python ours_reason_rl.py --work JSON` prints one record.

`part` of the work says what runs: `step`, updates of the online learner; `round`, one round of expert iteration;
`stock_round`, the same round by `generate()` and a plain training loop, which is nobody's library but what one writes
without one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

import numpy as np
import torch
import transformers
from right_answer import right_answer
from stopwatch import peak_memory, report

from tutelage.lm import folders
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.training.config import PretrainConfig, SFTConfig
from tutelage.lm.training.pretraining import new_model, pretrain
from tutelage.posttraining import expert_iteration
from tutelage.posttraining.config import ExpertIterationConfig
from tutelage.posttraining.expert_iteration import ExpertIteration
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.policy_gradient.objective import OnlineConfig
from tutelage.posttraining.policy_gradient.online import Online
from tutelage.posttraining.questions.question import Question, load_questions
from tutelage.posttraining.rollouts import Rollouts, each
from tutelage.posttraining.wordmath import corpus as wordmath_corpus
from tutelage.posttraining.wordmath.corpus import TEMPLATE, CorpusConfig
from tutelage.posttraining.wordmath.problems import Difficulty, problems
from tutelage.posttraining.wordmath.solutions import solve

DIFFICULTY = Difficulty(max_steps=3, max_given=10, max_value=20, operations="+-", templates=1)
PROMPT_TOKENS = (24, 40)
"""Fewest and most tokens of a question that takes part, its first token included."""
QUESTIONS = 512


def prepare(folder: Path, *, size: str = "mini", documents: int = 3000) -> None:
    """A model of that size with its tokenizer and the questions, for all contestants; 0 documents: random weights."""
    tokenizer = wordmath_corpus.tokenizer(DIFFICULTY.max_value)
    config = PretrainConfig(size=size, context=128, batch_tokens=1024, num_epochs=1)
    if documents:
        corpus = wordmath_corpus.corpus(
            CorpusConfig(documents, noise=0.05, wrong_plan=0.05, fact_sheets=documents // 8), DIFFICULTY
        )
        pretrain(corpus, folder, config, tokenizer=tokenizer, quiet=True)
    else:
        folders.save(new_model(len(tokenizer), config), tokenizer, folder)
    rows = []
    for problem in problems(DIFFICULTY, 8 * QUESTIONS):
        length = 1 + len(tokenizer.encode(TEMPLATE.replace("{question}", problem.question), add_special_tokens=False))
        if PROMPT_TOKENS[0] <= length <= PROMPT_TOKENS[1] and len(rows) < QUESTIONS:
            rows.append({"question": problem.question, "answer": solve(problem, random.Random(0)).text})
    assert len(rows) == QUESTIONS
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


class Clock:
    """Processor seconds by the name of what ran."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[name] += time.process_time() - start

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, on the clock."""

        def run(*arguments: Any, **options: Any) -> Any:
            with self(name):
                return function(*arguments, **options)

        return run


def step(given: dict[str, Any]) -> list[dict[str, float]]:
    """Updates of the online learner, the first of them left out; seconds of each, and of the drawing in it."""
    policy, questions = _start(given)
    clock = Clock()
    rollouts = Rollouts(Sampling(max_new_tokens=given["new_tokens"]), seed=given["seed"])
    rollouts.draw = clock.timed("generation", rollouts.draw)  # type: ignore[method-assign]
    config = OnlineConfig(
        algorithm="grpo",
        num_questions=given["questions"],
        num_samples=given["samples"],
        num_epochs=1,
        num_minibatches=1,
        learning_rate=given["learning_rate"],
        beta2=0.999,
        kl=given["kl"],
        kl_in="loss",
    )
    reward = each(lambda question, text: right_answer(text, int(question.answer.value)))
    learner = Online(policy, questions, rollouts, reward, config, given["seed"])
    state, parts = learner.init(), []
    for _ in range(given["steps"] + 1):
        clock.seconds.clear()
        asked = sum(len(policy.prompt(question)) for question in learner.batch(state["step"]))
        with clock("step"):
            state, figures = learner.update(state)
        counted = {name: figures[name] for name in ("tokens", "reward", "truncated")} | {"prompt_tokens": float(asked)}
        parts.append({**clock.seconds, **counted})
    return parts[1:]


def ours(given: dict[str, Any]) -> list[dict[str, float]]:
    """One round of expert iteration, its parts on the clock."""
    policy, questions = _start(given)
    clock = Clock()
    rollouts = Rollouts(Sampling(max_new_tokens=given["new_tokens"]), seed=given["seed"])
    object.__setattr__(policy, "sample", clock.timed("sampling", policy.sample))
    config = ExpertIterationConfig(num_samples=given["samples"], sft=_tuning(given))
    learner = ExpertIteration(policy, policy.model, questions[: given["questions"]], rollouts, config, given["seed"])
    tuned = mock.patch.object(expert_iteration, "sft", clock.timed("fine-tuning", expert_iteration.sft))
    with tuned, clock("round"):
        _, figures = learner.update(learner.init())
    seconds = clock.seconds
    parts = {
        "sampling": seconds["sampling"],
        "grading and selection": seconds["round"] - seconds["sampling"] - seconds["fine-tuning"],
        "fine-tuning": seconds["fine-tuning"],
        "round": seconds["round"],
    }
    return [parts | {"rollouts": figures["rollouts"], "correct": figures["correct"], "learnt": figures["dataset"]}]


def stock(given: dict[str, Any]) -> list[dict[str, float]]:
    """The same round as one writes it with transformers alone: left-padded `generate()`, a plain training loop."""
    policy, questions = _start(given)
    model, tokenizer, clock = policy.model, policy.tokenizer, Clock()
    pad = tokenizer.pad_token_id
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(given["seed"])
    kept: list[tuple[list[int], tuple[int, ...]]] = []
    rollouts = right = 0
    for place in range(0, given["questions"], 32):
        asked = questions[place : min(place + 32, given["questions"])]
        with clock("round"), clock("sampling"):
            prompts = [policy.prompt(question).tolist() for question in asked]
            longest = max(map(len, prompts))
            ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
            with torch.inference_mode():
                out = model.generate(
                    ids,
                    attention_mask=(ids != pad).long(),
                    do_sample=True,
                    top_k=0,
                    num_return_sequences=given["samples"],
                    max_new_tokens=given["new_tokens"],
                )
        with clock("round"), clock("grading and selection"):
            new = out[:, longest:].tolist()
            texts = tokenizer.batch_decode(new, skip_special_tokens=True)
            for row, (tokens, text) in enumerate(zip(new, texts)):
                number = row // given["samples"]
                if tokenizer.eos_token_id in tokens:
                    tokens = tokens[: tokens.index(tokenizer.eos_token_id) + 1]
                    if right_answer(text, int(asked[number].answer.value)):
                        right += 1
                        kept.append((prompts[number], tuple(tokens)))
            rollouts += len(new)
    with clock("round"):
        with clock("grading and selection"):
            learnt = list({(tuple(prompt), tokens): None for prompt, tokens in kept})
        with clock("fine-tuning"):
            model.load_state_dict(base)
            _plain_loop(model, learnt, _tuning(given), given["seed"], pad)
    return [{**clock.seconds, "rollouts": rollouts, "correct": right / rollouts, "learnt": len(learnt)}]


def _plain_loop(
    model: Any, data: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], config: SFTConfig, seed: int, pad: int
) -> None:
    """Shuffled batches padded on the right, the model's own loss, AdamW under a cosine."""
    size, rng = config.batch_size, np.random.default_rng(seed)
    total = round(config.num_epochs * -(-len(data) // size))
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=0.0, fused=True)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, round(config.warmup * total), total)
    model.train()
    orders = [rng.permutation(len(data)) for _ in range(math.ceil(config.num_epochs))]
    batches = [order[place : place + size] for order in orders for place in range(0, len(data), size)]
    for batch in batches[:total]:
        rows = [data[index] for index in batch]
        width = max(len(prompt) + len(solution) for prompt, solution in rows)
        ids = torch.full((len(rows), width), pad)
        labels = torch.full((len(rows), width), -100)
        for row, (prompt, solution) in enumerate(rows):
            end = len(prompt) + len(solution)
            ids[row, :end] = torch.tensor(prompt + solution)
            labels[row, len(prompt) : end] = torch.tensor(solution)
        model(input_ids=ids, attention_mask=(ids != pad).long(), labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()


def _start(given: dict[str, Any]) -> tuple[Policy, list[Question]]:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*cut off")
    model, tokenizer = folders.load(given["model"])
    return Policy(model, tokenizer, TEMPLATE), load_questions(Path(given["model"], "questions.jsonl"))


def _tuning(given: dict[str, Any]) -> SFTConfig:
    return SFTConfig(num_epochs=given["epochs"], batch_size=given["batch"], learning_rate=given["learning_rate"])


PARTS = {"step": step, "round": ours, "stock_round": stock}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--work", required=True, help="sizes as JSON, and `model`: a folder made by `prepare`")
    given = parser.parse_args()
    parts = PARTS[given.part](json.loads(given.work))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    report(parts=parts, peak_memory_bytes=peak_memory(), versions=versions)


if __name__ == "__main__":
    main()
