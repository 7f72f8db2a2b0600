"""Questions to practise on and to be tested on, from every source: all different, apart, and the same each time."""

import dataclasses
import hashlib
import importlib.util
import json
import random
import subprocess
import sys
from fractions import Fraction
from types import ModuleType

import pytest

from tutelage.lab.configuration import fields
from tutelage.lab.errors import BadInput
from tutelage.posttraining.grading.answers import Answer, grade
from tutelage.posttraining.grading.arithmetic import evaluate
from tutelage.posttraining.grading.solutions import steps
from tutelage.posttraining.questions import sources as question_sources
from tutelage.posttraining.questions.question import Question, distinct, load_questions, read_rows
from tutelage.posttraining.questions.sources import worked
from tutelage.posttraining.questions.tasks import SOURCES, TaskConfig, load_tasks
from tutelage.posttraining.wordmath.problems import split_of
from tutelage.posttraining.wordmath.solutions import mark_steps

SMALL = TaskConfig(num_train=60, num_test=30, num_demonstrations=20)
HASH = """
import hashlib, sys
from tutelage.posttraining.questions.tasks import TaskConfig, load_tasks
made = load_tasks(TaskConfig(num_train=60, num_test=30, num_demonstrations=20, perturbation="question", seed=4))
texts = [q.text + q.solution for q in [*made.train, *(q for q, _ in made.demonstrations), *made.test]]
print(hashlib.sha256("".join(texts).encode()).hexdigest())
"""


def gsm8k_rows(count, start=0):
    """In the published form, with a calculator's annotations, thousands commas and a last line."""
    made = []
    for n in range(start, start + count):
        answer = f"It is {n}*1000 = <<{n}*1000={n * 1000}>>{n * 1000:,} and one more: <<{n}000+1={n}001>>\n#### {n},001"
        made.append({"question": f"A thousand times {n} and one more?", "answer": answer})
    return made


def svamp_rows(count, start=0):
    rows = []
    for n in range(start, start + count):
        body, asked = f"Paul had {n} apples and ate 3", "How many are left?"
        rows.append({"ID": f"chal-{n}", "Body": body, "Question": asked, "Equation": f"( {n}.0 - 3.0 )"})
        rows[-1] |= {"Answer": n - 3.0, "Type": "Subtraction"}
    return rows


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def listed(path, rows):
    path.write_text(json.dumps(rows, indent=4))
    return str(path)


def check(made, num_train, num_test, num_demonstrations):
    """What every `Tasks` promises."""
    assert (len(made.train), len(made.test), len(made.demonstrations)) == (num_train, num_test, num_demonstrations)
    plain = [" ".join(question.text.casefold().split()) for question in [*made.train, *made.test]]
    assert len(set(plain)) == len(plain)
    train = {question.id for question in made.train}
    assert all(question.id in train for question, _ in made.demonstrations)
    assert len({question.id for question, _ in made.demonstrations}) == num_demonstrations
    for question, solution in made.demonstrations:
        assert grade(solution, str(question.answer.value))


def test_wordmath_gives_solved_problems_of_both_splits():
    made = load_tasks(SMALL)
    check(made, 60, 30, 20)
    share = SMALL.difficulty.test_share
    assert all(split_of(question.problem, share) == "train" for question in made.train)
    assert all(split_of(question.problem, share) == "test" for question in made.test)
    for question in [*made.train, *made.test]:
        assert question.text == question.problem.question
        marks = mark_steps(question.problem, question.solution)
        assert len(marks) == len(question.problem.steps)
        assert all(marks)
    assert all(solution == question.solution for question, solution in made.demonstrations)
    # A demonstration is any of the right solutions, not always the first order and phrasing.
    assert len({solution.split(" ")[0] for _, solution in made.demonstrations if solution[:2] in ("So", "Ne")}) == 2


def test_what_rewards_need_to_know_is_that_of_the_problem():
    for question in load_tasks(SMALL).train:
        read = Question.of(question.text, question.solution)
        assert sorted(read.results) == sorted(question.results)
        assert sorted(read.numbers) == sorted(question.numbers)
        assert read.answer == question.answer


@pytest.mark.parametrize("kind", ["distractor", "order", "question"])
def test_only_test_questions_are_perturbed(kind):
    plain, changed = load_tasks(SMALL), load_tasks(dataclasses.replace(SMALL, perturbation=kind))
    assert plain.train == changed.train
    assert not {question.text for question in plain.test} & {question.text for question in changed.test}
    if kind != "question":  # the computations, and so the splits, stay what they are: the same problems, changed
        assert [q.problem.computation for q in plain.test] == [q.problem.computation for q in changed.test]
    for question in changed.test:
        assert all(mark_steps(question.problem, question.solution))


def test_another_process_loads_the_same():
    made = load_tasks(dataclasses.replace(SMALL, perturbation="question", seed=4))
    texts = [q.text + q.solution for q in [*made.train, *(q for q, _ in made.demonstrations), *made.test]]
    theirs = subprocess.run([sys.executable, "-c", HASH], check=True, capture_output=True, text=True)
    assert theirs.stdout.strip() == hashlib.sha256("".join(texts).encode()).hexdigest()
    assert load_tasks(dataclasses.replace(SMALL, seed=5)).train != load_tasks(SMALL).train


def test_the_test_questions_do_not_depend_on_how_many_there_are_to_practise_on():
    assert load_tasks(SMALL).test == load_tasks(dataclasses.replace(SMALL, num_train=200)).test


def test_gsm8k_from_local_files(tmp_path):
    train, test = lines(tmp_path / "train.jsonl", gsm8k_rows(40)), lines(tmp_path / "test.jsonl", gsm8k_rows(9, 100))
    config = TaskConfig("gsm8k", train, test, num_train=25, num_test=0, num_demonstrations=10)
    made = load_tasks(config)
    check(made, 25, 9, 10)
    assert [question.answer.value for question in made.test] == [n * 1000 + 1 for n in range(100, 109)]
    for question in made.train:
        n = question.numbers[0]
        assert question.results == (n * 1000, n * 1000 + 1)
        assert all(step.correct for step in steps(question.solution))
    everything = load_tasks(dataclasses.replace(config, num_train=0))
    assert [q.text for q in everything.train] == [row["question"] for row in gsm8k_rows(40)]
    assert {q.id for q in load_tasks(dataclasses.replace(config, seed=1)).train} != {q.id for q in made.train}


@pytest.mark.parametrize("source", ["gsm8k", "file"])
def test_a_file_without_a_test_file_is_split_once_for_all(source, tmp_path):
    rows = gsm8k_rows(30)
    path = lines(tmp_path / "a.jsonl", [*rows, *rows[:5]])  # five questions stand in it twice
    config = TaskConfig(source, path, num_train=0, num_test=8, num_demonstrations=0, seed=2)
    made = load_tasks(config)
    check(made, 22, 8, 0)
    assert made == load_tasks(config)
    assert [q.id for q in load_tasks(dataclasses.replace(config, num_train=5)).test] == [q.id for q in made.test]


def test_svamp_from_a_local_file_with_its_equation_worked(tmp_path):
    path = listed(tmp_path / "SVAMP.json", svamp_rows(20, 5))
    made = load_tasks(TaskConfig("svamp", path, num_train=12, num_test=6, num_demonstrations=12))
    check(made, 12, 6, 12)
    for question in [*made.train, *made.test]:
        n = question.numbers[0]
        assert question.text == f"Paul had {n} apples and ate 3 How many are left?"
        assert question.solution == f"{n} - 3 = {n - 3}\n#### {n - 3}"
        assert question.results == (n - 3,) == (question.answer.value,)
        assert question.numbers == (n, 3)


@pytest.mark.parametrize(
    ("equation", "lines"),
    [
        ("( 76.0 - 25.0 )", "76 - 25 = 51\n#### 51"),
        ("( ( 8.0 + 3.0 ) * 2.0 )", "8 + 3 = 11\n11 * 2 = 22\n#### 22"),
        ("( 3.0 * ( 8.0 - 10.0 ) )", "8 - 10 = -2\n3 * -2 = -6\n#### -6"),
        ("( ( 7.0 / 2.0 ) - ( 1.25 + 2.0 ) )", "7 / 2 = 3.5\n1.25 + 2 = 3.25\n3.5 - 3.25 = 0.25\n#### 0.25"),
        ("5.0", "#### 5"),
        ("( 10.0 / 3.0 )", None),
        ("2( 3.0 + 4.0 )", None),
        ("-( 3.0 + 4.0 )", None),
        ("( 3.0 + 4.0 )5", None),
        ("( 1.0 / 0.0 )", None),
        ("( 1.0 / 0.0", None),
        ("X = 3", None),
        ("", None),
    ],
)
def test_equations_are_worked_from_the_inside_out(equation, lines):
    assert worked(equation) == lines
    if lines is not None:
        assert all(step.correct for step in steps(lines))
        assert grade(lines, str(evaluate(equation)))


@pytest.mark.parametrize("equation", ["( 9.0 - 4.0 )", "( 10.0 / 3.0 )", "nine", None])
def test_an_equation_that_does_not_give_the_answer_is_not_shown(equation, tmp_path):
    row = {"Body": "Ada had 9.", "Question": "And now?", "Answer": 6.0, "Equation": equation}
    [question] = question_sources.svamp(listed(tmp_path / "a.json", [row]))
    assert (question.solution, question.answer) == ("#### 6", Answer(Fraction(6)))


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the package datasets, which asks for what the real hub has."""
    module = ModuleType("datasets")
    asked = []

    def load_dataset(path, config=None, split=None):
        asked.append((path, config, split))
        if path == "openai/gsm8k" and config == "main":
            return gsm8k_rows(30) if split == "train" else gsm8k_rows(9, 100)
        if path == "ChilleD/SVAMP" and config is None:
            return svamp_rows(30, 5) if split == "train" else svamp_rows(9, 100)
        raise ConnectionError(f"Couldn't reach {path!r} on the Hub\n(LocalEntryNotFoundError)")

    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return asked


@pytest.mark.parametrize(
    ("source", "name", "config"), [("gsm8k", "openai/gsm8k", "main"), ("svamp", "ChilleD/SVAMP", None)]
)
def test_the_hub_has_both_splits(source, name, config, hub):
    made = load_tasks(TaskConfig(source, num_train=0, num_test=0, num_demonstrations=5))
    check(made, 30, 9, 5)
    assert hub == [(name, config, "train"), (name, config, "test")]


def test_a_hub_out_of_reach_is_bad_input_in_one_line(hub):
    with pytest.raises(BadInput) as raised:
        load_tasks(TaskConfig("gsm8k", "some/thing:part"))
    assert str(raised.value).startswith("some/thing:part: cannot be loaded from the hub; give a local file instead: ")
    assert "\n" not in str(raised.value)
    assert hub == [("some/thing", "part", "train")]


def test_without_the_package_for_the_hub_a_file_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"openai/gsm8k:main: no such file; .*pip install datasets"):
        load_tasks(TaskConfig("gsm8k"))


class Entries:
    """A stand-in for a reasoning_gym data set: entry i follows from seed + i alone, and some come twice."""

    def __init__(self, task, size, seed):
        self.task, self.size, self.seed = task, size, seed

    def __getitem__(self, index):
        assert index < self.size
        rng = random.Random(self.seed + index)
        a, b = rng.randrange(30), rng.randrange(30)
        answer, cot = str(a + b), f"She has {a} + {b} = {a + b}.\n#### {a + b}"
        if self.task == "words":
            answer = "b, a" if index == 2 else answer
        if self.task == "two_numbers":
            return {"question": "roots?", "answer": "-1.5, 2", "metadata": {}}
        metadata = {"answer_cot": cot if self.task == "told" else "#### 77"} if self.task != "bare" else {}
        return {"question": f"{a} + {b} =\n", "answer": answer, "metadata": metadata}


@pytest.fixture
def gym(monkeypatch):
    module, factory = ModuleType("reasoning_gym"), ModuleType("reasoning_gym.factory")

    def create_dataset(task, size, seed):
        if task == "composite":
            raise AssertionError("Must specify at least one dataset")
        return Entries(task, size, seed)

    module.create_dataset = create_dataset
    factory.DATASETS = dict.fromkeys(("told", "bare", "mistold", "words", "two_numbers", "composite"))
    monkeypatch.setitem(sys.modules, "reasoning_gym", module)
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", factory)


GYM = TaskConfig("reasoning_gym", num_train=200, num_test=50, num_demonstrations=40, task="told")


def test_generated_tasks_of_reasoning_gym(gym):
    made = load_tasks(GYM)
    check(made, 200, 50, 40)
    for question in [*made.train, *made.test]:
        a, b = question.numbers
        assert question.text == f"{a} + {b} ="
        assert question.solution == f"She has {a} + {b} = {a + b}.\n#### {a + b}"
        assert question.results == (a + b,)
    assert load_tasks(dataclasses.replace(GYM, num_train=60)).test == made.test
    assert not {q.id for q in load_tasks(dataclasses.replace(GYM, seed=1)).test} >= {q.id for q in made.test}


@pytest.mark.parametrize("task", ["bare", "mistold"])
def test_without_a_worked_solution_that_fits_the_answer_stands_alone(gym, task):
    for question, solution in load_tasks(dataclasses.replace(GYM, task=task)).demonstrations:
        assert solution == f"#### {sum(question.numbers)}"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"task": "words"},
            "task: 'words' of reasoning_gym: entry 2 has the answer 'b, a', which is not an exact number",
        ),
        ({"task": "two_numbers"}, "entry 0 has the answer '-1.5, 2', which is not an exact number"),
        ({"task": "tolld"}, "task: 'tolld'; must be one of reasoning_gym's; did you mean 'told'?"),
        ({"task": "composite"}, "task: 'composite' of reasoning_gym needs settings of its own: Must specify"),
        ({"num_train": 2000}, "num_train: 2000 and num_test: 50 of 'told'; found 900 different questions"),
    ],
)
def test_tasks_of_reasoning_gym_that_cannot_be_graded_are_refused(gym, change, says):
    with pytest.raises(BadInput) as raised:
        load_tasks(dataclasses.replace(GYM, **change))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_the_package_reasoning_gym_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(BadInput, match="needs the package reasoning_gym: pip install"):
        load_tasks(GYM)


# One of its dependencies needs a C compiler, so it is not among what the tests install.
if importlib.util.find_spec("reasoning_gym"):

    @pytest.mark.parametrize("task", ["gsm_symbolic", "chain_sum"])
    def test_the_real_reasoning_gym_where_it_is_installed(task):
        config = TaskConfig("reasoning_gym", num_train=60, num_test=20, num_demonstrations=20, task=task)
        made = load_tasks(config)
        check(made, 60, 20, 20)
        assert made == load_tasks(config)
        if task == "gsm_symbolic":
            assert all("\n####" in solution for _, solution in made.demonstrations)
        else:
            for question in made.train:
                sides = question.text.split(":")[-1].replace("=", "")
                assert question.answer.value == evaluate(sides)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"source": "gsm"}, "did you mean 'gsm8k'?"),
        ({"perturbation": "ordre"}, "did you mean 'order'?"),
        ({"num_train": 0}, "num_train: 0 for all; must be at least 1, wordmath has no end"),
        ({"num_test": 0}, "num_test: 0 for all; must be at least 1, wordmath has no end"),
        ({"num_demonstrations": 61}, "num_demonstrations: 61; must be at most num_train = 60"),
        ({"train": "a.jsonl"}, "train: 'a.jsonl'; must be empty, wordmath makes its questions"),
        ({"source": "reasoning_gym", "test": "a.jsonl"}, "test: 'a.jsonl'; must be empty, reasoning_gym makes"),
        ({"source": "file"}, "train: ''; must be a file of questions for source = 'file'"),
        ({"source": "file", "train": "some/hub"}, "train: 'some/hub'; no such file, as source = 'file' needs"),
        ({"source": "file", "train": "none.jsonl"}, "none.jsonl: no such file"),
        ({"source": "gsm8k", "perturbation": "order"}, "perturbation: 'order'; must be 'none' for source = 'gsm8k'"),
        ({"seed": -1}, "seed = -1: must be in [0, inf)"),
    ],
)
def test_settings_at_odds_are_bad_input(change, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as raised:
        load_tasks(dataclasses.replace(SMALL, **change))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "rows", "change", "says"),
    [
        (
            "gsm8k",
            [*gsm8k_rows(3), {"question": "a?", "answer": "#### many"}],
            {},
            "row 3: reference answer: no single",
        ),
        (
            "gsm8k",
            [*gsm8k_rows(3), {"question": "a?", "anwser": "1"}],
            {},
            "row 3: no text under 'answer'; did you mean",
        ),
        ("file", [*gsm8k_rows(3), 7], {}, "row 3: got int; must be an object"),
        ("svamp", [*svamp_rows(2), {"Body": "a", "Question": "b?"}], {}, "row 2: no text under 'Answer'"),
        ("svamp", [*svamp_rows(2), svamp_rows(1)[0] | {"Answer": "x"}], {}, "row 2: Answer: no single number in 'x'"),
        ("gsm8k", gsm8k_rows(10), {"num_test": 10}, "num_test: 10 of the 10 questions in"),
        ("gsm8k", gsm8k_rows(10), {"num_test": 0}, "num_test: 0 of the 10 questions in"),
        ("gsm8k", gsm8k_rows(10), {"num_train": 9}, "num_train: 9; there are 8 different ones"),
        ("gsm8k", gsm8k_rows(10), {"num_train": 0, "num_demonstrations": 9}, "num_demonstrations: 9; there are 8"),
    ],
)
def test_bad_rows_and_too_few_of_them_are_bad_input(source, rows, change, says, tmp_path):
    path = lines(tmp_path / "a.jsonl", rows)
    config = TaskConfig(source, path, num_train=2, num_test=2, num_demonstrations=1)
    with pytest.raises(BadInput) as raised:
        load_tasks(dataclasses.replace(config, **change))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_test_questions_among_the_training_questions_are_bad_input(tmp_path):
    again = gsm8k_rows(1, 7)[0] | {"question": "a thousand times 7  and ONE more?"}
    train, test = lines(tmp_path / "a.jsonl", gsm8k_rows(20)), lines(tmp_path / "b.jsonl", [*gsm8k_rows(5, 50), again])
    with pytest.raises(BadInput, match="test questions: 1 are training questions too; the first is test row 5"):
        load_tasks(TaskConfig("gsm8k", train, test, num_train=1, num_test=1, num_demonstrations=0))


def test_rows_are_read_from_lists_and_lines_with_any_line_separator_in_them(tmp_path):
    rows = [{"question": "one\u2028two\x85?", "answer": "#### 1"}, {"question": "b?", "answer": 2}]
    whole, lined = tmp_path / "a.json", tmp_path / "a.jsonl"
    whole.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    lined.write_text("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8", newline="")
    assert read_rows(whole) == read_rows(lined) == rows
    assert load_questions(whole) == load_questions(lined)
    whole.write_text("[1,")
    with pytest.raises(BadInput, match="not JSON; must be a list of objects, or one object per line"):
        read_rows(whole)


def test_the_first_of_equal_questions_is_kept_in_order():
    found = [Question.of(text, f"#### {n}") for n, text in enumerate(["b?", "a?", " B?", "c?", "A?"])]
    assert [question.answer.value for question in distinct(found)] == [0, 1, 3]


def test_every_setting_is_described():
    described = fields(TaskConfig)
    assert described["source"].choices == SOURCES
    assert "difficulty.max_steps" in described


def test_a_bare_answer_is_shown_as_the_grader_reads_it(tmp_path):
    """Whoever learns `42` alone is never right: an answer counts behind its marker."""
    file = tmp_path / "bare.jsonl"
    file.write_text("\n".join(json.dumps({"question": f"{n} + 1?", "answer": str(n + 1)}) for n in range(9)))
    made = load_tasks(TaskConfig("file", str(file), num_train=5, num_test=3, num_demonstrations=5))
    assert all(grade(solution, str(question.answer.value)) for question, solution in made.demonstrations)
