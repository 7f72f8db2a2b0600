"""What every run stands on: the base, the supervised start, the outcome model; made once, kept in the cache.

Each is named by a hash of all that it was made from, so runs of different arms share them and none is ever stale.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tutelage.lab.storage import atomic
from tutelage.lab.storage.cache import cache_folder, made
from tutelage.lab.storage.checkpoint import config_hash
from tutelage.lm import folders
from tutelage.lm.pools import Rollout
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.tokens import fingerprint
from tutelage.lm.training.pretraining import pretrain
from tutelage.posttraining.outcome.continuations import continuation_labels
from tutelage.posttraining.outcome.model import OutcomeModel
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.questions.tasks import Tasks, load_tasks
from tutelage.posttraining.rollouts import Rollouts
from tutelage.posttraining.solution_figures import equation_keys, figures
from tutelage.posttraining.supervised import SupervisedEpochs
from tutelage.posttraining.wordmath import corpus as wordmath_corpus
from tutelage.studies.reason_rl.config import Config

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Start:
    """Everything that a run of one configuration and seed begins with; each part is made when it is first asked for."""

    config: Config
    seed: int

    @cached_property
    def tasks(self) -> Tasks:
        """The questions, the same for every arm and seed."""
        return load_tasks(self.config.task)

    @property
    def device(self) -> str:
        """Where models run."""
        chosen = self.config.base.device
        return chosen if chosen != "auto" else "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def template(self) -> str:
        """How a question is asked in training and testing."""
        return self.config.base.template.replace("\\n", "\n")

    @cached_property
    def few_shot_template(self) -> str:
        """The same with solved training questions in front; empty if there are to be none."""
        shown = self.tasks.demonstrations[: self.config.base.few_shot]
        asked = [self.template.replace("{question}", question.text) + solution for question, solution in shown]
        return "\n\n".join([*asked, self.template]) if shown else ""

    @cached_property
    def base(self) -> str:
        """Folder or hub id of the pretrained model."""
        base, difficulty = self.config.base, self.config.task.difficulty
        if base.name:
            return base.name
        tokenizer = wordmath_corpus.tokenizer(difficulty.max_value, digits=base.corpus.digits)
        parts = {"corpus": asdict(base.corpus), "seed": base.seed, "tokenizer": fingerprint(tokenizer)}
        identity = config_hash(asdict(base.pretrain) | parts | asdict(difficulty))

        def make(folder: Path) -> None:
            texts = wordmath_corpus.corpus(base.corpus, difficulty, base.seed)
            _say("making the small base model: minutes, this once")
            pretrain(texts, folder, base.pretrain, base.seed, tokenizer=tokenizer, quiet=True)

        return str(_made("bases", identity, make))

    @cached_property
    def folder(self) -> str:
        """Folder or hub id of the model that the algorithm starts from."""
        if self.config.start == "pretrained":
            return self.base

        def make(folder: Path) -> None:
            policy = self.load(self.base)
            learner = SupervisedEpochs(policy, self.tasks.demonstrations, self.config.demonstration, self.seed)
            state = learner.init()
            for _ in range(learner.num_updates):
                state, _ = learner.update(state)
            folders.save(policy.model, policy.tokenizer, folder)

        parts = {"demonstrations": _texts(self.tasks.demonstrations), "fit": asdict(self.config.demonstration)}
        return str(_made("starts", self._identity(parts), make))

    def load(self, name: str, template: str = "") -> Policy:
        """A model as a policy of its own, on the device."""
        model, tokenizer = folders.load(name, dtype=DTYPES[self.config.base.dtype], device=self.device)
        return Policy(model, tokenizer, template or self.template)

    def outcome_model(self, *, stepwise: bool = False) -> OutcomeModel:
        """Judges solutions; trained on samples of the supervised start, whatever this run starts from."""
        origin = Start(replace(self.config, start="sft"), self.seed)
        config, sampling = self.config.outcome, self.config.sampling
        if stepwise:  # only prefixes that end a step are labelled
            config = replace(config, tokens="step_ends")
        continuations = self.config.reward.continuations if stepwise else 0

        def make(folder: Path) -> None:
            policy = origin.load(origin.folder)
            # Beside the folder: found again after a kill.
            pool = folder.with_name(f".rollouts{folder.name}")
            rollouts = Rollouts(_sampling(sampling.temperature, sampling.max_new_tokens), self.seed, pool)
            questions = self.tasks.train
            groups = rollouts.draw(policy, questions, config.num_samples, stage="outcome")
            labels = None
            if stepwise:
                labels = continuation_labels(policy, questions, groups, rollouts, continuations)
            found = OutcomeModel.train(policy, questions, groups, config, self.seed, labels=labels)
            found.save(folder)
            rollouts.close()
            shutil.rmtree(pool)

        parts = {"start": Path(origin.folder).name, "outcome": asdict(config), "sampling": asdict(sampling)}
        parts |= {"continuations": continuations, "questions": _references(self.tasks.train)}
        return OutcomeModel.load(_made("outcome-models", self._identity(parts), make), device=self.device)

    def tested(self) -> Mapping[str, Any]:
        """The start's own test: `figures`, and `keys`, the equation keys of its right solutions by question."""

        def make(folder: Path) -> None:
            greedy, pool = test(
                self, self.load(self.folder, self.starting_template), 0, self.config.evaluation.num_samples
            )
            content = {
                "figures": figures(self.tasks.test, pool, greedy, ks=powers(self.config.evaluation.num_samples)),
                "keys": [_texts_of(keys) for keys in equation_keys(pool)],
            }
            atomic.write_json(folder / "tested.json", content)

        parts = {"start": Path(self.folder).name, "evaluation": asdict(self.config.evaluation)}
        parts |= {"sampling": asdict(self.config.sampling), "template": self.starting_template}
        parts |= {"questions": _references(self.tasks.test)}
        found = _made("tests", self._identity(parts), make)
        return json.loads((found / "tested.json").read_bytes())

    @property
    def starting_template(self) -> str:
        """How the start itself is asked: few-shot where it was never shown the task."""
        return self.few_shot_template if self.config.start == "pretrained" else ""

    def _identity(self, parts: Mapping[str, Any]) -> str:
        about = {"base": self.base, "seed": self.seed, "template": self.template, "dtype": self.config.base.dtype}
        if (given := Path(self.config.base.name)).is_dir() and self.config.base.name:  # which may be filled anew
            stats = [(path.name, path.stat()) for path in sorted(given.iterdir()) if path.is_file()]
            about["files"] = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
        return config_hash(about | dict(parts))


def test(
    start: Start, policy: Policy, step: int, num_samples: int, folder: Path | None = None
) -> tuple[list[Rollout], list[list[Rollout]]]:
    """Greedy answers and a pool of samples of the test questions, from (seed, step)."""
    answers = greedy(start, policy, start.tasks.test, step, folder)
    rollouts = _rollouts(start, start.config.evaluation.temperature, folder, "test")
    pool = rollouts.draw(policy, start.tasks.test, num_samples, round=step, stage="test")
    rollouts.close()
    return answers, pool


def greedy(
    start: Start, policy: Policy, questions: Sequence[Question], step: int = 0, folder: Path | None = None
) -> list[Rollout]:
    """The likeliest answer to each question."""
    rollouts = _rollouts(start, 0.0, folder, "greedy")
    groups = rollouts.draw(policy, questions, 1, round=step, stage="greedy")
    rollouts.close()
    return [group[0] for group in groups]


def _rollouts(start: Start, temperature: float, folder: Path | None, name: str) -> Rollouts:
    sampling = _sampling(temperature, start.config.sampling.max_new_tokens)
    return Rollouts(sampling, start.seed, None if folder is None else folder / name)


def powers(number: int) -> list[int]:
    """2, 4, 8, … and the number itself."""
    return sorted({2**power for power in range(1, number.bit_length()) if 2**power <= number} | {number})


def _texts_of(keys: Sequence[Any]) -> list[str]:
    """Equation keys of one question as texts, each once."""
    return sorted({"|".join(key) for key in keys if key})


def _made(kind: str, identity: str, make: Callable[[Path], object]) -> Path:
    home = cache_folder(f"reason_rl/{kind}") or Path("runs") / ".cache" / kind
    return made(home, identity, make, _say)


def _say(line: str) -> None:
    print(f"tutelage: {line}", file=sys.stderr, flush=True)


def _sampling(temperature: float, max_new_tokens: int) -> Sampling:
    return Sampling(max_new_tokens=max_new_tokens, temperature=temperature)


def _references(questions: Sequence[Question]) -> list[list[str]]:
    """Questions with the answers that samples are graded by, and the solutions whose steps tell them."""
    return [[question.text, str(question.answer), question.solution] for question in questions]


def _texts(demonstrations: Sequence[tuple[Question, str]]) -> list[list[str]]:
    return [[question.text, solution] for question, solution in demonstrations]
