"""`reason_rl grade` and `curves` on anybody's samples: figures by hand, and one line for what is no such file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tutelage.cli import main

ROWS = [
    {
        "question": "2 + 2?",
        "answer": "#### 4",
        "samples": ["so #### 4", "#### 5", "I do not know", "Answer: 4."],
        "scores": [0.9, 0.2, 0.1, 0.8],
    },
    {
        "question": "3 * 3?",
        "answer": 9,
        "samples": ["#### 9", "#### 9", "#### 6", "#### 6"],
        "scores": [0.1, 0.2, 0.9, 0.3],
    },
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written("samples.jsonl", ROWS)


def written(name: str, rows: list) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def output(capsys, *arguments: str) -> dict:
    assert main(["reason_rl", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_grade_by_hand(capsys):
    found = output(capsys, "grade", "samples.jsonl", "--out", "graded.jsonl")
    means = {name: value["mean"] for name, value in found.items() if isinstance(value, dict)}
    assert (found["questions"], found["samples"]) == (2, 8)
    assert means == {"correct": 0.5, "any_correct": 1.0, "unparsed": 0.125, "without_marker": 0.125}
    first, second = map(json.loads, Path("graded.jsonl").read_text().splitlines())
    assert first["votes"] == ["4", "5", None, "4"] and first["correct"] == [True, False, False, True]
    assert second["correct"] == [True, True, False, False] and second["question"] == "3 * 3?"
    assert main(["reason_rl", "grade", "samples.jsonl"]) == 0
    assert "unparsed: …I do not know" in capsys.readouterr().out


def test_one_text_for_each_question_under_another_name(capsys):
    written("one.jsonl", [{"target": "1/2", "response": "The answer is 0.5"}, {"target": "3", "response": "#### 2"}])
    assert output(capsys, "grade", "one.jsonl", "--answer", "target")["correct"]["mean"] == 0.5


def test_curves_by_hand(capsys):
    """pass@2 = 1 − C(2, 2)/C(4, 2); maj@4 = (1 + 1/2)/2, as the second's answers tie; rerank@4 takes the best."""
    found = output(capsys, "curves", "samples.jsonl", "--out", "page.html")
    assert found["ks"] == [1, 2, 4]
    assert [round(each["estimate"], 6) for each in found["pass@k"]] == [0.5, 0.833333, 1.0]
    assert found["maj@k"][-1]["estimate"] == 0.75
    assert found["rerank@k"][-1]["estimate"] == 0.5
    page = Path("page.html").read_text(encoding="utf-8")
    assert "<svg" in page and "rerank@k" in page and "<script" not in page
    assert main(["reason_rl", "curves", "samples.jsonl", "--ks", "3"]) == 0
    assert "2 questions, 4 samples each" in capsys.readouterr().out


def test_grades_of_ones_own_need_no_texts(capsys):
    written("code.jsonl", [{"correct": [1, 0, 0]}, {"correct": [True, True, False]}])
    found = output(capsys, "curves", "code.jsonl")
    assert set(found) == {"questions", "samples", "ks", "pass@k"}
    assert found["pass@k"][0]["estimate"] == 0.5
    written("votes.jsonl", [{"correct": [1, 0, 0], "answers": ["a", {"b": 1}, {"b": 1}]}])
    assert output(capsys, "curves", "votes.jsonl")["maj@k"][-1]["estimate"] == 0.0


def test_the_first_samples_of_each_question(capsys):
    written("uneven.jsonl", [ROWS[0], {**ROWS[1], "samples": ["#### 9"] * 3, "scores": None}])
    assert main(["reason_rl", "curves", "uneven.jsonl"]) == 2
    assert "questions have 3 to 4 samples; must be equally many (--limit 3 uses the first 3" in capsys.readouterr().err
    assert output(capsys, "curves", "uneven.jsonl", "--limit", "3")["samples"] == 3


@pytest.mark.parametrize(
    ("rows", "arguments", "line"),
    [
        ([[1]], "grade rows.jsonl", "rows.jsonl: row 0 has nothing; say by --samples which are the samples"),
        ([{"answer": "1", "said": "1"}], "grade rows.jsonl", "rows.jsonl: row 0 has answer, said; say by --samples"),
        (
            ROWS,
            "grade rows.jsonl --samples sample",
            "rows.jsonl: row 0: 'sample' must be a text or a list of texts; did you",
        ),
        (
            ROWS,
            "grade rows.jsonl --answer question",
            "rows.jsonl: row 0: reference answer: no single number in '2 + 2?'",
        ),
        (ROWS, "grade rows.jsonl --out graded.xlsx", "graded.xlsx: must end in .jsonl or .csv"),
        (ROWS, "grade rows.jsonl --out no/graded.csv", "no/graded.csv: there is no folder no"),
        (ROWS, "curves rows.jsonl --ks 1,9", "ks = 1, 9: must be at most the 4 samples of a question"),
        (ROWS, "curves rows.jsonl --limit 5", "limit = 5: row 0 of rows.jsonl has 4 samples"),
        ([{**ROWS[0], "scores": [1]}], "curves rows.jsonl", "rows.jsonl: row 0: 'scores' must be a list of 4 numbers"),
        ([{**ROWS[0], "scores": ["x"] * 4}], "curves rows.jsonl", "rows.jsonl: row 0: 'scores' must be finite numbers"),
        ([{"correct": [2]}], "curves rows.jsonl", "rows.jsonl: row 0: 'correct' must be a list of true and false"),
        ([{"correct": [1], "answers": []}], "curves rows.jsonl", "rows.jsonl: row 0: 'answers' must be a list of 1"),
    ],
)
def test_bad_input_is_one_line(capsys, rows, arguments, line):
    written("rows.jsonl", rows)
    assert main(["reason_rl", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tutelage: {line}") and error.count("\n") == 1
    assert not Path("graded.xlsx").exists()


@pytest.mark.slow
def test_expressions_by_math_verify(capsys):
    written("symbolic.jsonl", [{"answer": "x^2 + 1", "samples": ["#### 1 + x^2", "#### x^2", "#### 2"]}])
    found = output(capsys, "grade", "symbolic.jsonl", "--symbolic")
    assert found["correct"]["mean"] == pytest.approx(1 / 3)
