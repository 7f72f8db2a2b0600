import json
import random
import re
from fractions import Fraction

import pytest

from tutelage.lab.errors import BadInput
from tutelage.posttraining.grading.answers import Answer
from tutelage.posttraining.questions.question import Question, check_disjoint, load_questions
from tutelage.posttraining.wordmath.problems import Difficulty, problems
from tutelage.posttraining.wordmath.solutions import solve

NATALIA = {
    "question": "Natalia sold clips to 48 of her friends in April, and then half as many in May. How many in all?",
    "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips.\n#### 72",
}


def written(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n\n")
    return path


def test_rows_are_read_with_their_steps(tmp_path):
    rows = load_questions(written(tmp_path / "train.jsonl", NATALIA, {"question": "Half of 3?", "answer": "#### 1.5"}))
    assert rows[0].answer.value == 72
    assert rows[0].results == (24, 72)
    assert rows[0].numbers == (48,)
    assert rows[1].answer == Answer(Fraction(3, 2))


def test_other_field_names_and_bare_numbers(tmp_path):
    [row] = load_questions(written(tmp_path / "a.jsonl", {"q": "1+1?", "a": 2}), question="q", answer="a")
    assert (row.text, row.answer.value) == ("1+1?", 2)


def test_generated_problems_are_questions_too():
    [problem] = problems(Difficulty(min_steps=3), 1)
    solution = solve(problem, random.Random(0)).text
    ours, read = Question.of_problem(problem, solution), Question.of(problem.question, solution)
    assert (ours.answer, sorted(ours.results), sorted(ours.numbers)) == (
        read.answer,
        sorted(read.results),
        sorted(read.numbers),
    )


@pytest.mark.parametrize(
    "row, says",
    [
        ({"question": "a?", "answer": "seven"}, "row 1: reference answer: no single number in 'seven'"),
        ({"question": "a?", "answer": "5 #### "}, "row 1: reference answer: no single number"),
        ({"question": "a?", "anwser": "#### 1"}, "row 1: no text under 'answer'; did you mean 'anwser'?"),
        ({"question": " ", "answer": "#### 1"}, "row 1: 'question' is empty; must be text"),
        ({"question": ["a"], "answer": "#### 1"}, "row 1: 'question' is list; must be text"),
        ("[1]", "row 1: got list; must be an object"),
        ("{", "row 1: not JSON"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, says):
    with pytest.raises(BadInput) as raised:
        load_questions(written(tmp_path / "x.jsonl", NATALIA, row))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        load_questions(tmp_path / "none.jsonl")
    with pytest.raises(BadInput, match="has no rows"):
        load_questions(written(tmp_path / "empty.jsonl"))


def test_overlap_of_test_and_train_is_named():
    train = [Question.of("How many?", "#### 1"), Question.of("How few?", "#### 1")]
    check_disjoint(train, [Question.of("Which?", "#### 1")])
    with pytest.raises(
        BadInput, match="1 are training questions too; the first is test row 1, training row 1: 'how  few"
    ):
        check_disjoint(train, [Question.of("Which?", "#### 1"), Question.of("how  few?", "#### 1")])


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    file = tmp_path / "questions.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"question": "2 + 2?", "answer": "4"}\n')
    assert [question.text for question in load_questions(file)] == ["2 + 2?"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"question": null, "answer": "4"}', "'question' is null; must be text or a number"),
        ('{"question": ["2 + 2?"], "answer": "4"}', "'question' is list; must be text or a number"),
        ('{"question": true, "answer": "4"}', "'question' is bool; must be text or a number"),
        ('{"question": " ", "answer": "4"}', "'question' is empty; must be text or a number"),
        ('{"questoin": "2 + 2?", "answer": "4"}', "no text under 'question'; did you mean 'questoin'?"),
    ],
)
def test_what_is_under_a_name_is_said(tmp_path, row, words):
    file = tmp_path / "questions.jsonl"
    file.write_text(row + "\n")
    with pytest.raises(BadInput, match=re.escape(words)):
        load_questions(file)
