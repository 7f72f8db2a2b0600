"""What is to be learnt: questions to practise on, some of them with worked solutions, and questions to be tested on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.lab.configuration import validate
from tutelage.lab.errors import BadInput
from tutelage.lab.settings import part, setting
from tutelage.posttraining.grading.answers import read_answer
from tutelage.posttraining.questions import sources as question_sources
from tutelage.posttraining.questions.question import Question, check_disjoint, distinct, load_questions
from tutelage.posttraining.questions.sources import GSM8K, SVAMP, is_file
from tutelage.posttraining.wordmath.problems import PERTURBATIONS, Difficulty, Problem, problems
from tutelage.posttraining.wordmath.solutions import solve

SOURCES = ("wordmath", "gsm8k", "svamp", "reasoning_gym", "file")
_GENERATED = ("wordmath", "reasoning_gym")


@dataclass(frozen=True)
class TaskConfig:
    """Which questions."""

    source: str = setting(
        "wordmath",
        "wordmath and reasoning_gym are generated; gsm8k and svamp come from files in their form, or from the hub; "
        "file: JSON lines with a question and an answer.",
        choices=SOURCES,
    )
    train: str = setting(
        "",
        "Training questions: a file, or a hub's data set (owner/name or owner/name:config). Empty: the source's own.",
    )
    test: str = setting(
        "", "Test questions, likewise. Empty: the data set's test split; for a file, questions held out from it."
    )
    num_train: int = setting(1000, "Training questions; 0 for all there are.", interval="[0, inf)")
    num_test: int = setting(200, "Test questions; 0 for all there are.", interval="[0, inf)")
    num_demonstrations: int = setting(
        100, "Training questions whose solution is shown, for supervised finetuning.", interval="[0, inf)"
    )
    task: str = setting("gsm_symbolic", "Which of reasoning_gym's tasks; its answers must be numbers.")
    perturbation: str = setting(
        "none",
        "How test questions of wordmath differ from training questions.",
        choices=("none", *PERTURBATIONS),
        source="Patel et al. (2021), arXiv 2103.07191",
    )
    seed: int = setting(0, "Of generated questions, and of which ones are taken.", interval="[0, inf)")
    difficulty: Difficulty = part(Difficulty)


@dataclass(frozen=True)
class Tasks:
    """Questions, all different, and no test question among the training questions.

    Attributes:
        train: to practise on. demonstrations: some of them, each with a right solution. test: held back.
    """

    train: list[Question]
    demonstrations: list[tuple[Question, str]]
    test: list[Question]


def load_tasks(config: TaskConfig) -> Tasks:
    """The questions that a configuration asks for: the same for the same files and settings, in every process.

    Raises:
        BadInput: settings out of range or at odds with each other; more questions than there are; files or hub data
            that cannot be read; a row (its index is given) without a reference answer that can be parsed; test
            questions among the training questions.
    """
    validate(config)
    _check(config)
    if config.source == "wordmath":
        train, test = _wordmath(config)
    elif config.source == "reasoning_gym":
        train, test = _reasoning_gym(config)
    else:
        train, test = _loaded(config)
    check_disjoint(train, test)
    train = _some("num_train", train, config.num_train, config.seed)
    test = _some("num_test", test, config.num_test, config.seed)
    shown = (
        _some("num_demonstrations", train, config.num_demonstrations, config.seed) if config.num_demonstrations else []
    )
    return Tasks(train, [(question, _shown(question)) for question in shown], test)


def _shown(question: Question) -> str:
    """The solution as it is learnt: a bare answer behind the marker, without which no sample's answer is read."""
    return question.solution if read_answer(question.solution) is not None else f"#### {question.solution.strip()}"


def _check(config: TaskConfig) -> None:
    """What settings can be said to be at odds before anything is read."""
    if config.source in _GENERATED:
        for name in ("train", "test"):
            if getattr(config, name):
                raise BadInput(f"{name}: {getattr(config, name)!r}; must be empty, {config.source} makes its questions")
        for name in ("num_train", "num_test"):
            if not getattr(config, name):
                raise BadInput(f"{name}: 0 for all; must be at least 1, {config.source} has no end")
    elif config.source == "file":
        if not config.train:
            raise BadInput("train: ''; must be a file of questions for source = 'file'")
        for name in ("train", "test"):
            if getattr(config, name) and not is_file(getattr(config, name)):
                raise BadInput(f"{name}: {getattr(config, name)!r}; no such file, as source = 'file' needs")
    if config.perturbation != "none" and config.source != "wordmath":
        raise BadInput(f"perturbation: {config.perturbation!r}; must be 'none' for source = {config.source!r}")
    if config.num_train and config.num_demonstrations > config.num_train:
        raise BadInput(
            f"num_demonstrations: {config.num_demonstrations}; must be at most num_train = {config.num_train}"
        )


def _wordmath(config: TaskConfig) -> tuple[list[Question], list[Question]]:
    changed = () if config.perturbation == "none" else (config.perturbation,)
    train = problems(config.difficulty, config.num_train, split="train", seed=config.seed)
    test = problems(
        config.difficulty,
        config.num_test,
        split="test",
        seed=config.seed,
        perturbations=changed,  # type: ignore[arg-type]
    )
    return [_solved(each, config.seed) for each in train], [_solved(each, config.seed) for each in test]


def _solved(problem: Problem, seed: int) -> Question:
    rng = random.Random(f"solution {seed} {problem.question}")
    return Question.of_problem(problem, solve(problem, rng).text)


def _reasoning_gym(config: TaskConfig) -> tuple[list[Question], list[Question]]:
    """Test questions first: they stay the same whatever the number of training questions."""
    wanted = config.num_test + config.num_train
    found: list[Question] = []
    drawn = question_sources.reasoning_gym(config.task, wanted, config.seed)
    # Tasks of small ranges repeat themselves; once they do nothing else, there is no more to find.
    while len(found) < wanted:
        known = len(found)
        found = distinct([*found, *itertools.islice(drawn, wanted)])
        if len(found) == known:
            break
    if len(found) >= wanted:
        return found[config.num_test : wanted], found[: config.num_test]
    raise BadInput(
        f"num_train: {config.num_train} and num_test: {config.num_test} of {config.task!r}; found {len(found)} "
        "different questions: ask for fewer"
    )


def _loaded(config: TaskConfig) -> tuple[list[Question], list[Question]]:
    own = {"gsm8k": GSM8K, "svamp": SVAMP}.get(config.source, "")
    train_name = config.train or own
    test_name = config.test or ("" if is_file(train_name) else train_name)
    train = _read(config.source, train_name, "train")
    if test_name:
        return train, _read(config.source, test_name, "test")
    if not 0 < config.num_test < len(train):
        raise BadInput(
            f"num_test: {config.num_test} of the {len(train)} questions in {train_name}; must be at least 1 and leave "
            "some to train on, or give test"
        )
    held = set(_places(len(train), config.num_test, config.seed))
    return (
        [question for place, question in enumerate(train) if place not in held],
        [train[place] for place in sorted(held)],
    )


def _read(source: str, name: str, split: str) -> list[Question]:
    if source == "file":
        return distinct(load_questions(Path(name).expanduser()))
    return distinct({"gsm8k": question_sources.gsm8k, "svamp": question_sources.svamp}[source](name, split))


def _some(name: str, questions: list[Question], count: int, seed: int) -> list[Question]:
    """That many of them (0: all), in their order."""
    if count > len(questions):
        raise BadInput(f"{name}: {count}; there are {len(questions)} different ones")
    return [questions[place] for place in _places(len(questions), count, seed)] if count else questions


def _places(size: int, count: int, seed: int) -> Sequence[int]:
    return sorted(random.Random(f"questions {seed}").sample(range(size), count))
