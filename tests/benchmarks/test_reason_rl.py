"""The benchmark of learning from feedback: our sides at a very small size, and what it makes of records."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    """Import a script of `benchmarks/` as a module, as scripts there import each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / "peers"))
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture
def ours(module, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Our driver, with few questions."""
    driver = module("ours_reason_rl")
    monkeypatch.setattr(driver, "QUESTIONS", 12)
    return driver


@pytest.fixture
def knowing(ours, tmp_path: Path) -> Path:
    """A model that answers 3 to everything, and six questions to which that is the answer."""
    from tutelage.lm import folders
    from tutelage.lm.training.config import SFTConfig
    from tutelage.lm.training.sft import sft
    from tutelage.posttraining.policy import Policy
    from tutelage.posttraining.questions.question import load_questions
    from tutelage.posttraining.wordmath.corpus import TEMPLATE

    folder = tmp_path / "model"
    ours.prepare(folder, size="nano", documents=0)
    questions = load_questions(folder / "questions.jsonl")[:6]
    model, tokenizer = folders.load(folder)
    policy = Policy(model, tokenizer, TEMPLATE)
    shown = [policy.example(question, "#### 3") for question in questions]
    sft(model, shown, SFTConfig(num_epochs=40, batch_size=6, learning_rate=1e-2))
    folders.save(model, tokenizer, folder)
    rows = [json.dumps({"question": question.text, "answer": "#### 3"}) for question in questions]
    (folder / "questions.jsonl").write_text("\n".join(rows))
    return folder


@pytest.mark.parametrize(
    ("text", "right"),
    [("a\n#### 12", 1), ("#### 1\n#### 12.", 1), ("####12", 1), ("#### 13", 0), ("12", 0), ("#### x 12", 0), ("", 0)],
)
def test_the_reward_that_all_contestants_share(module, text: str, right: int):
    assert module("right_answer").right_answer(text, 12) == right


def test_questions_have_the_lengths_that_are_promised(ours, tmp_path: Path):
    """And their token ids are the same for a peer, which is given text."""
    from transformers import AutoTokenizer

    from tutelage.posttraining.policy import Policy
    from tutelage.posttraining.questions.question import load_questions
    from tutelage.posttraining.wordmath.corpus import TEMPLATE

    ours.prepare(tmp_path / "model", size="nano", documents=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    questions = load_questions(tmp_path / "model" / "questions.jsonl")
    assert len({question.id for question in questions}) == ours.QUESTIONS
    fewest, most = ours.PROMPT_TOKENS
    for question in questions:
        ids = Policy(None, tokenizer, TEMPLATE).prompt(question).tolist()
        assert fewest <= len(ids) <= most
        assert tokenizer(f"{question.text}\n")["input_ids"] == ids


@pytest.mark.parametrize("kl", [0.0, 0.05])
def test_our_step_is_timed_whole_and_in_parts(ours, knowing: Path, kl: float):
    work = {"model": str(knowing), "questions": 2, "samples": 3, "new_tokens": 5, "steps": 2, "seed": 0, "kl": kl}
    parts = ours.step(work | {"learning_rate": 1e-4})
    assert len(parts) == 2
    for part in parts:
        assert 0 < part["generation"] < part["step"]
        assert 6 <= part["tokens"] <= 30
        assert 48 <= part["prompt_tokens"] <= 80
        assert part["reward"] > 0.5


@pytest.mark.parametrize("side", ["ours", "stock"])
def test_a_round_does_the_same_on_both_sides(ours, knowing: Path, side: str):
    """The samples are right and nearly always alike for a question, so about one of each is learnt."""
    work = {"model": str(knowing), "questions": 6, "samples": 2, "new_tokens": 5, "seed": 0}
    [part] = getattr(ours, side)(work | {"epochs": 2, "batch": 4, "learning_rate": 1e-3})
    assert part["rollouts"] == 12
    assert part["correct"] > 0.8
    assert 6 <= part["learnt"] < 9
    split = [part[name] for name in ("sampling", "grading and selection", "fine-tuning")]
    assert all(seconds > 0 for seconds in split)
    assert sum(split) == pytest.approx(part["round"], rel=0.05)


def test_tables_of_steps_rounds_and_updates_by_hand(module):
    bench = module("reason_rl")

    def record(name: str, parts: list[dict[str, float]], **rest: float) -> dict:
        return {"name": name, "peak_memory_bytes": 2_000_000, "versions": {"torch": "2"}, "parts": parts, **rest}

    def cells(table: str) -> list[list[str]]:
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]

    slow, fast = ({"step": factor, "generation": factor / 2, "tokens": 70.0} for factor in (3.0, 1.0))
    records = [record(name, [part] * 2, kl=kl) for kl in bench.KL for name, part in (("a", fast), ("b", slow))]
    records[0]["name"] = records[2]["name"] = "tutelage"
    rows = cells(bench.step_table({"records": records}))
    assert [row[1] for row in rows] == ["tutelage", "b"] * 2
    assert rows[1] == ["0", "b", "3.00 (3.00–3.00)", "1.50 (1.50–1.50)", "70", "2", "3.00"]

    work = {"questions": 2, "samples": 5, "new_tokens": 32}
    names = ("sampling", "grading and selection", "fine-tuning", "round")
    sides = [record(n, [dict.fromkeys((*names, "correct", "learnt"), s)]) for n, s in (("tutelage", 2.0), ("x", 5.0))]
    rows = cells(bench.round_table({"work": work, "records": sides}))
    assert rows[3] == ["round, CPU-s", "2.00 (2.00–2.00)", "5.00 (5.00–5.00)", "2.50"]
    assert rows[4][1:] == ["5.00 (5.00–5.00)", "2.00 (2.00–2.00)", "0.40"]

    seconds = {"tutelage: update": [1.0], "tutelage: plain": [1.5]}
    rows = cells(bench.update_table({"work": work, "seconds": {"32": seconds}}))
    assert rows[1] == ["32", "tutelage: plain", "1.50 (1.50–1.50)", "1.50", f"{64 / (32 + 32 / 5):.2f}"]

    found = {"step": {"records": records}, "round": {"work": work, "records": sides}}
    text = bench.page({"machine": {"cpu": "c", "cores": 2, "load_average": [0.5]}, "command": "x", "parts": found})
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## One GRPO step",
        "## One round of expert iteration",
    ]


def test_growth_gives_the_exponent_from_point_to_point(module):
    growth = module("growth_reason_rl")
    points = [
        {"axis": axis, "size": size, "label": label, "seconds": [float(size**2)], "generation": [size**2 / 4]}
        | {"memory": 10**6}
        for axis, sizes in {**growth.AXES, "parameters": (10, 20, 40, 80)}.items()
        for size, label in zip(sizes, growth.SIZES if axis == "parameters" else map(str, sizes))
    ]
    found = {"points": points}
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in growth.table(found).splitlines()[2:]]
    assert rows[0] == ["samples = 4", "16.00 (16.00–16.00)", "25%", "", "1"]
    assert [row[3] for row in rows] == ["", "2.00", "2.00", "", "2.00", "2.00", "", "2.00", "2.00", "2.00"]
    assert rows[-1][0] == "parameters (small) = 80"
    [svg] = growth.figures(found).values()
    assert all(axis in svg for axis in (*growth.AXES, "parameters"))
    assert growth.figures(None) == {}


def test_operations_of_the_floor_are_two_for_each_weight_and_token(module, tmp_path: Path):
    """Forward; and twice as many backward. Attention beside it: two products of the tokens before and the width."""
    import torch

    from tutelage.lm.training.config import PretrainConfig
    from tutelage.lm.training.pretraining import new_model

    model = new_model(100, PretrainConfig(size="nano"))
    linear = {name: m.weight.numel() for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    body, vocabulary = sum(linear.values()) - linear["lm_head"], linear["lm_head"]
    floor = module("floor_reason_rl")
    sizes = {"prompts": 2, "prompt": 7, "rows": 6, "length": 10, "longest": 10}
    counted = floor.products(model.config.to_dict(), **sizes)
    done = {part: sum(p.operations for p in counted if p.part == part) for part in ("sampling", "forward", "backward")}
    attention = 2 * 2 * 2 * 48 * 60 * (7 + 5)  # layers · products · operations · width · tokens · tokens before
    assert done["forward"] == 2 * body * (14 + 60) + 2 * vocabulary * 60 + attention
    assert done["backward"] == 2 * done["forward"]
    assert done["sampling"] == 2 * body * (14 + 60) + 2 * vocabulary * 60 + attention
    took = [floor.product_seconds(product, 1e-4) for product in counted[:2]]
    assert all(seconds > 0 for seconds in took)
    listed = [{**vars(p), "operations": p.operations, "cpu_seconds": 0.5} for p in counted]
    table = floor.table({"sizes": sizes, "step": {"step": 90.0, "generation": 40.0}, "products": listed})
    last = [cell.strip() for cell in table.splitlines()[4].split("|")]
    assert last[1] == "step"
    assert last[5:8] == [f"{len(counted) / 2:.3f}", "90.000", f"{180 / len(counted):.1f}"]
