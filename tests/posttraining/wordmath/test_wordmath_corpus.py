"""The base's reading matter against the problems it is made from, and its tokenizer against the pieces."""

import copy
import hashlib
import itertools
import random
import re
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tutelage.lab.errors import BadInput
from tutelage.lm import folders
from tutelage.lm.training import pretraining
from tutelage.lm.training.pretraining import PretrainConfig, TokenizerConfig, pretrain, train_tokenizer
from tutelage.posttraining.grading.solutions import steps
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.wordmath.corpus import (
    FACTS_PER_SHEET,
    TEMPLATE,
    CorpusConfig,
    corpus,
    fact_sheet,
    tokenizer,
)
from tutelage.posttraining.wordmath.problems import Difficulty, Problem, Quantity, problems, split_of
from tutelage.posttraining.wordmath.solutions import mark_steps, solve
from tutelage.posttraining.wordmath.templates import pieces, vocabulary

HARD = Difficulty(max_steps=6, distractors=1, max_value=120)
HASH = """
import hashlib
from tutelage.posttraining.wordmath.problems import Difficulty
from tutelage.posttraining.wordmath.corpus import CorpusConfig, corpus
texts = corpus(CorpusConfig(documents=200, wrong_plan=0.3, fact_sheets=5), Difficulty(), seed=3)
print(hashlib.sha256("\\n\\n".join(texts).encode()).hexdigest())
"""

TOKENIZERS = {digits: tokenizer(30, digits=digits) for digits in (False, True)}


def replayed(problem, solution):
    """Places whose left side is not what the problem asks for, given what the solution has found so far."""
    values = {i: q.value for i, q in enumerate(problem.quantities) if not q.op}
    elsewhere = []
    for place, (index, step) in enumerate(zip(solution.order, steps(solution.text), strict=True)):
        quantity = problem.quantities[index]
        sides = [values[i] for i in quantity.operands] + ([] if quantity.literal is None else [quantity.literal])
        a, op, b = re.fullmatch(r"(\d+)([-+*/])(\d+)", step.left).groups()
        written = [int(a), int(b)]
        same = sorted(written) == sorted(sides) if op in "+*" else written == sides
        if op != quantity.op or not same:
            elsewhere.append(place)
        values[index] = int(step.value)
    return elsewhere


@given(st.integers(0, 10**6), st.sampled_from([0.2, 1.0]), st.sampled_from([0.0, 0.4]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_plans_are_wrong_exactly_where_said_and_what_follows_uses_their_results(seed, wrong_plan, noise, annotated):
    [made] = problems(HARD, 1, seed=seed)
    solution = solve(
        made, random.Random(seed), noise=noise, wrong_plan=wrong_plan, max_value=HARD.max_value, annotated=annotated
    )
    found = steps(solution.text)
    assert replayed(made, solution) == list(solution.misplanned)
    assert [place for place, step in enumerate(found) if not step.correct] == list(solution.wrong)
    assert all(1 <= step.value <= HARD.max_value for step in found)
    assert solution.text.endswith(f"#### {found[-1].value}")
    marks = mark_steps(made, solution.text)
    assert not any(marks[place] for place in solution.misplanned)
    first = min((*solution.misplanned, *solution.wrong), default=len(marks))
    assert all(marks[:first])


def test_every_wrong_turn_of_a_small_problem_is_taken_equally_often():
    told = [Quantity("Ada", 6, literal=6), Quantity("Ben", 9, literal=9)]
    made = Problem((*told, Quantity("Cleo", 9, "+", (0,), 3)), 2, (0, 1, 2), "eggs")
    rng, count = random.Random(0), 6000
    turns = Counter()
    for _ in range(count):
        [step] = steps(solve(made, rng, wrong_plan=1.0, max_value=20).text)
        a, op, b = re.fullmatch(r"(\d+)([-+*/])(\d+)", step.left).groups()
        turns[op, *(sorted((int(a), int(b))) if op in "+*" else (int(a), int(b))), int(step.value)] += 1
    # Another operation (6 - 3, 6 * 3, 6 / 3), another number of the question (6 + 6, 6 + 9), another operand (9 + 3).
    assert set(turns) == {
        ("-", 6, 3, 3),
        ("*", 3, 6, 18),
        ("/", 6, 3, 2),
        ("+", 6, 6, 12),
        ("+", 6, 9, 15),
        ("+", 3, 9, 12),
    }
    assert all(abs(number - count / 6) < 5 * (count * 5 / 36) ** 0.5 for number in turns.values())


def test_wrong_plans_have_the_share_that_was_asked_for_and_none_by_default():
    rng = random.Random(0)
    made = problems(Difficulty(max_steps=6), 600)
    solutions = [solve(each, rng, wrong_plan=0.2) for each in made]
    share = sum(len(s.misplanned) for s in solutions) / sum(len(s.order) for s in solutions)
    assert 0.17 < share < 0.22
    assert [solve(each, random.Random(1)) for each in made] == [
        solve(each, random.Random(1), wrong_plan=0.0) for each in made
    ]


def test_documents_are_training_problems_each_once_with_the_noise_asked_for():
    config = CorpusConfig(documents=1500, noise=0.15, wrong_plan=0.1, fact_sheets=40)
    difficulty = Difficulty()
    texts = corpus(config, difficulty, seed=5)
    assert len(texts) == 1540
    known = {each.question: each for each in problems(difficulty, 1500, seed=5 + 2**32)}
    found = [text.partition("\n")[::2] for text in texts[:1500]]
    assert {question for question, _ in found} == known.keys()
    assert all(split_of(each, difficulty.test_share) == "train" for each in known.values())
    read = [step for _, solution in found for step in steps(solution)]
    assert 0.12 < 1 - sum(step.correct for step in read) / len(read) < 0.16
    marks = [mark for question, solution in found for mark in mark_steps(known[question], solution)[:1]]
    assert 0.2 < 1 - sum(marks) / len(marks) < 0.26  # the first step: 1 - 0.85 * 0.9
    clean = corpus(CorpusConfig(documents=300, noise=0, wrong_plan=0, fact_sheets=0), difficulty, seed=5)
    assert all(all(mark_steps(known[text.partition("\n")[0]], text.partition("\n")[2])) for text in clean)


def test_no_test_computation_is_read_and_a_task_of_the_same_seed_has_other_problems():
    difficulty = Difficulty(max_steps=2)
    read = {text.partition("\n")[0] for text in corpus(CorpusConfig(documents=2000, fact_sheets=0), difficulty)}
    test = problems(difficulty, 400, split="test")
    assert not read & {each.question for each in test}
    train = {each.question for each in problems(Difficulty(), 300)}
    assert len(train & {text.partition("\n")[0] for text in corpus(CorpusConfig(documents=300), Difficulty())}) < 30


@pytest.mark.parametrize("difficulty", [Difficulty(), Difficulty(operations="*/", max_factor=300, max_value=40)])
def test_facts_are_right_and_in_range(difficulty):
    rng = random.Random(0)
    seen = Counter()
    for _ in range(300):
        sheet = fact_sheet(difficulty, rng)
        found = steps(sheet)
        assert len(found) == FACTS_PER_SHEET == len(sheet.split("\n"))
        assert all(step.correct and 1 <= step.value <= difficulty.max_value for step in found)
        assert all(1 <= number <= difficulty.max_value for step in found for number in step.operands)
        seen.update(re.sub(r"\d", "", step.left) for step in found)
    assert set(seen) == set(difficulty.operations)
    assert min(seen.values()) > 0.8 * max(seen.values())


def test_the_corpus_is_the_same_in_another_process():
    texts = corpus(CorpusConfig(documents=200, wrong_plan=0.3, fact_sheets=5), Difficulty(), seed=3)
    ours = hashlib.sha256("\n\n".join(texts).encode()).hexdigest()
    theirs = subprocess.run([sys.executable, "-c", HASH], check=True, capture_output=True, text=True)
    assert theirs.stdout.strip() == ours
    other = corpus(CorpusConfig(documents=200, wrong_plan=0.3, fact_sheets=5), Difficulty(), seed=4)
    assert not set(texts) & set(other)


@pytest.mark.parametrize(
    ("field", "value"), [("documents", 150), ("noise", 0.6), ("wrong_plan", 0.6), ("fact_sheets", 7)]
)
def test_every_setting_changes_the_corpus(field, value):
    plain = {"documents": 100, "noise": 0.15, "wrong_plan": 0.1, "fact_sheets": 3}
    assert corpus(CorpusConfig(**plain), Difficulty()) != corpus(CorpusConfig(**plain | {field: value}), Difficulty())


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (CorpusConfig(noise=1.5), "noise = 1.5: must be in [0, 1]"),
        (CorpusConfig(wrong_plan=-0.1), "wrong_plan = -0.1: must be in [0, 1]"),
        (CorpusConfig(documents=0), "documents = 0: must be in [1, inf)"),
    ],
)
def test_settings_outside_their_range_are_bad_input(config, says):
    with pytest.raises(BadInput) as raised:
        corpus(config, Difficulty())
    assert says in str(raised.value)


@pytest.mark.parametrize("digits", [False, True])
def test_tokens_are_the_pieces_none_unknown_and_decoding_gives_the_text_back(digits, tmp_path):
    ours = tokenizer(120, digits=digits)
    assert ours.convert_ids_to_tokens(range(len(ours))) == [
        *("<pad>", "<bos>", "<eos>", "<unk>"),
        *vocabulary(120, digits=digits),
    ]
    special = (ours.pad_token_id, ours.bos_token_id, ours.eos_token_id, ours.unk_token_id)
    assert special == (0, 1, 2, 3)
    ours.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    rng = random.Random(0)
    for each in problems(HARD, 1500, perturbations=("question",)):
        solution = solve(each, rng, noise=0.2, wrong_plan=0.2, max_value=120, annotated=rng.random() < 0.5)
        text = f"{each.question}\n{solution.text}"
        ids = ours.encode(text, add_special_tokens=False)
        assert ours.convert_ids_to_tokens(ids) == pieces(text, digits=digits)
        assert 3 not in ids
        assert ours.decode(ids) == again.decode(ids) == text
        assert ours.encode(text) == again.encode(text) == [1, *ids]
    for sheet in itertools.islice(iter(lambda: fact_sheet(HARD, rng), ""), 100):
        assert ours.decode(ours.encode(sheet), skip_special_tokens=True) == sheet


@given(st.text(st.sampled_from("aZé٣3_ \n\t#<?.-日"), max_size=20), st.booleans())
@settings(max_examples=300, deadline=None)
def test_foreign_letters_and_digits_are_cut_as_pieces_are(text, digits):
    assert len(TOKENIZERS[digits].encode(text)) == 1 + len(pieces(text, digits=digits))


def test_a_policy_is_asked_as_the_documents_begin():
    [each] = problems(Difficulty(), 1)
    solution = solve(each, random.Random(0)).text
    ours = tokenizer(99)
    question = Question.of_problem(each, solution)
    example = Policy(None, ours, TEMPLATE).example(question, solution)
    [whole] = pretraining.documents(ours, [f"{each.question}\n{solution}"], 1000)
    assert [*example.prompt, *example.response] == [*whole.prompt, *whole.response]


def test_a_base_is_made_with_a_ready_tokenizer_and_known_by_all_of_it(tmp_path, monkeypatch):
    texts = corpus(CorpusConfig(documents=60, fact_sheets=5), Difficulty())
    small = PretrainConfig(size="nano", batch_tokens=1024, num_epochs=1.0)
    ours = tokenizer(99)
    monkeypatch.setattr(pretraining, "train_tokenizer", lambda *_: pytest.fail("a tokenizer was trained"))
    figures = pretrain(texts, tmp_path / "base", small, tokenizer=ours, quiet=True)
    model, read = folders.load(tmp_path / "base")
    assert read.get_vocab() == ours.get_vocab()
    assert model.get_input_embeddings().weight.shape[0] == len(ours)
    assert pretrain(texts, tmp_path / "base", small, tokenizer=ours, quiet=True) == figures
    ending = copy.deepcopy(ours)
    ending.add_bos_token = ending.add_eos_token = True  # the same vocabulary, other ids
    for other in (tokenizer(98), ending, None):
        with pytest.raises(BadInput, match="made from other text or settings"):
            pretrain(texts, tmp_path / "base", small, tokenizer=other, quiet=True)


def test_a_model_ends_with_the_token_of_its_tokenizer(tmp_path):
    ours = train_tokenizer(["a b c d e f g"], TokenizerConfig(kind="character"))
    ours.add_special_tokens({"eos_token": "<end>"})
    pretrain(["a b c d"], tmp_path / "base", PretrainConfig(size="nano", num_epochs=1.0), tokenizer=ours, quiet=True)
    model, _ = folders.load(tmp_path / "base")
    assert (model.config.eos_token_id, model.generation_config.eos_token_id) == (len(ours) - 1,) * 2
    assert model.get_input_embeddings().weight.shape[0] == len(ours)


@pytest.mark.parametrize("name", ["bos", "eos"])
def test_a_tokenizer_without_begin_or_end_is_bad_input(name, tmp_path):
    ours = tokenizer(20)
    setattr(ours, f"{name}_token", None)
    with pytest.raises(BadInput, match=f"tokenizer: has no {name} token"):
        pretrain(["Ada"], tmp_path / "base", tokenizer=ours, quiet=True)
