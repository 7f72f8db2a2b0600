"""Outcome models against literal row-by-row references, and stepwise labels against a policy that can be enumerated."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import tiny_models
import torch
import torch.nn.functional as F

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.sampling.rows import Sample
from tutelage.lm.training.pretraining import PretrainConfig, TokenizerConfig, new_model, train_tokenizer
from tutelage.posttraining.config import OutcomeModelConfig
from tutelage.posttraining.outcome.continuations import continuation_labels
from tutelage.posttraining.outcome.model import (
    OutcomeModel,
    batches,
    outcome_reward,
    stepwise_outcome_reward,
)
from tutelage.posttraining.outcome.training import OutcomeTraining, prefixes
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import Rollouts, correct, graded

QUESTIONS = [Question.of(f"What is {a} and {b}?", f"#### {a + b}") for a, b in [(1, 2), (3, 4), (5, 6), (2, 2), (4, 5)]]
TEXTS = [
    ["1 + 2 = 3\n#### 3", "1 + 2 = 4\n#### 4", "1 + 1 = 2\n2 + 1 = 3\n#### 3", "1 + 2 = 3\n#### 3", "#### 5"],
    ["3 + 4 = 7\n#### 7", "3 + 3 = 6\n6 + 1 = 7\n#### 8", "3 + 4 = 8\n#### 8", "seven\n#### 7"],
    ["5 + 6 = 11\n#### 11", "5 + 6 = 11\n#### 11"],
    ["2 + 2 = 5\n#### 5", "2 + 2 = 4\n4 + 0 = 4", "#### 4"],
    ["4 + 5 = 9\n#### 9", "4 + 5 = 8\n#### 8", "<<4+5=9>> so <<9+0=9>>\n#### 9"],
]


def rollout(policy: Policy, question: Question, text: str, number: int = 0, finish: str = "stop") -> Rollout:
    ids = policy.example(question, text).response
    ids = ids[:-1] if finish == "length" else ids
    zeros = np.zeros(len(ids), np.float32)
    made = Rollout(
        question.id, policy.prompt(question), ids, zeros, text=text, finish_reason=finish, sample_index=number
    )
    return graded(question, made)


def groups_of(policy: Policy, texts=TEXTS) -> list[list[Rollout]]:
    return [
        [rollout(policy, question, text, number) for number, text in enumerate(row)]
        for question, row in zip(QUESTIONS, texts)
    ]


def start() -> Policy:
    return Policy(tiny_models.speaking().eval(), tiny_models.tokenizer())


def untrained(seed: int = 0, **changes) -> OutcomeModel:
    """With a head that says something."""
    model = OutcomeModel.of(start(), OutcomeModelConfig(**changes))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        torch.nn.init.normal_(model.head.weight, std=0.3)
        torch.nn.init.normal_(model.head.bias)
    return model


def flat(groups):
    pairs = [(question, each) for question, group in zip(QUESTIONS, groups) for each in group]
    return [question for question, _ in pairs], [each for _, each in pairs]


def alone(model: OutcomeModel, question: Question, row: Rollout) -> torch.Tensor:
    """Logits `[T]` at the completion's tokens by transformers' own forward pass of this one sequence."""
    prompt = model.policy.prompt(question).tolist()
    ids = torch.tensor([prompt + row.completion.tolist()])
    hidden = model.policy.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, len(prompt) :]
    return hidden @ model.head.weight[0] + model.head.bias


def step_tokens(model: OutcomeModel, row: Rollout) -> list[int]:
    """Where each prefix ends: the first token with which the decoded text reaches its end; the last token for all."""
    found = []
    for end in prefixes(row.text)[:-1]:
        lengths = [len(model.policy.text(row.completion[: n + 1])) for n in range(len(row.completion))]
        found.append(next(place for place, length in enumerate(lengths) if length >= end))
    return [*found, len(row.completion) - 1]


def test_scores_are_those_of_a_plain_forward_pass_row_by_row() -> None:
    model = untrained()
    questions, rows = flat(groups_of(model.policy))
    scores, steps = model.scores(questions, rows), model.step_scores(questions, rows)
    for place, (question, row) in enumerate(zip(questions, rows)):
        with torch.no_grad():
            wanted = alone(model, question, row).sigmoid().numpy()
        assert scores[place] == pytest.approx(wanted[-1], abs=1e-5)
        np.testing.assert_allclose(steps[place], wanted[step_tokens(model, row)], atol=1e-5)
        assert len(steps[place]) == len(prefixes(row.text))
    assert np.ptp(scores) > 0.05


@pytest.mark.parametrize("micro_tokens", [1, 40, 300, 100_000])
def test_scores_do_not_depend_on_what_is_read_together(micro_tokens: int) -> None:
    model = untrained()
    questions, rows = flat(groups_of(model.policy))
    wanted = model.scores(questions, rows)
    model.config = replace(model.config, micro_tokens=micro_tokens)
    order = np.random.default_rng(0).permutation(len(rows))
    found = model.scores([questions[place] for place in order], [rows[place] for place in order])
    np.testing.assert_allclose(found, wanted[order], atol=1e-5)


def test_batches_hold_each_row_once_within_their_bound() -> None:
    draw = np.random.default_rng(0)
    heads = [draw.integers(0, 9, size) for size in (3, 5, 9)]
    prompts = [heads[place] for place in draw.integers(0, 3, 50)]
    rows = [draw.integers(0, 9, size) for size in draw.integers(1, 12, 50)]
    for bound in (1, 30, 100, 10_000):
        found = list(batches(prompts, rows, bound))
        assert sorted(row for batch in found for group in batch for row in group) == list(range(50))
        for batch in found:
            read = [row for group in batch for row in group]
            assert all(prompts[row].tolist() == prompts[group[0]].tolist() for group in batch for row in group)
            padded = len(batch) * max(len(prompts[row]) for row in read) + len(read) * max(
                len(rows[row]) for row in read
            )
            assert len(read) == 1 or padded <= bound
    assert len(list(batches(prompts, rows, 10_000))) == 1


def reference_weights(model: OutcomeModel, kept: list[Rollout], balance: bool) -> dict[int, float]:
    """By sample index: the weight of one solution, as subsampling the commoner kind would give it on average."""
    right = [row for row in kept if correct(row)]
    wrong = [row for row in kept if not correct(row)]
    if not balance:
        return {row.sample_index: 1.0 for row in kept}
    fewer = min(len(right), len(wrong))
    return {row.sample_index: fewer / len(kind) for kind in (right, wrong) for row in kind if fewer}


@pytest.mark.parametrize("tokens", ["step_ends", "every"])
@pytest.mark.parametrize("balance", [True, False])
def test_loss_and_gradient_are_those_of_a_literal_loop(tokens: str, balance: bool) -> None:
    """One update over everything: duplicates once, right and wrong balanced in each question, no regard for padding."""
    model = untrained(
        held_out=0.0, tokens=tokens, balance=balance, batch_size=99, group_size=99, max_grad_norm=0.0, micro_tokens=150
    )
    groups, twin = groups_of(model.policy), copy.deepcopy(model)
    training = OutcomeTraining(model, QUESTIONS, groups)
    training._per_update = len(training._chunks)  # all of it in one batch
    total, weight = torch.zeros(()), 0.0
    for question, group in zip(QUESTIONS, groups):
        kept = list({row.text: row for row in reversed(group)}.values())[::-1]
        for index, share in reference_weights(twin, kept, balance).items():
            row = group[index]
            logits = alone(twin, question, row)
            at = step_tokens(twin, row) if tokens == "step_ends" else list(range(len(row.completion)))
            target = torch.full((len(at),), float(correct(row)))
            total = total + share * F.binary_cross_entropy_with_logits(logits[at], target)
            weight += share
    wanted = torch.autograd.grad(total / weight, [*twin.policy.model.base_model.parameters(), *twin.head.parameters()])
    _, figures = training.update(training.init())
    assert figures["loss"] == pytest.approx(total.item() / weight, abs=1e-5)
    for found, exact in zip([*model.policy.model.base_model.parameters(), *model.head.parameters()], wanted):
        assert found.grad is not None
        torch.testing.assert_close(found.grad, exact, rtol=1e-3, atol=1e-6 + 1e-4 * float(exact.abs().max()))


def test_duplicates_are_dropped_and_right_and_wrong_weigh_the_same_in_every_question() -> None:
    model = untrained(held_out=0.0)
    training = OutcomeTraining(model, QUESTIONS, groups_of(model.policy))
    used = {items[0].question.id: items for items in training.items}
    assert set(used) == {question.id for question in QUESTIONS} - {QUESTIONS[2].id}  # both of its samples are right
    for question, texts in zip(QUESTIONS, TEXTS):
        items = used.get(question.id, [])
        if items:
            assert [item.rollout.text for item in items] == list(dict.fromkeys(texts))
            sums = [
                sum(float(item.weights.sum()) for item in items if correct(item.rollout) == kind) for kind in (0, 1)
            ]
            assert sums[0] == pytest.approx(sums[1])
            assert max(float(item.weights.sum()) for item in items) == pytest.approx(1.0)
    every = OutcomeTraining(
        untrained(held_out=0.0, deduplicate=False, balance=False), QUESTIONS, groups_of(model.policy)
    )
    assert every.about["examples"] == sum(map(len, TEXTS))
    assert training.about["duplicates"] == pytest.approx(2 / sum(map(len, TEXTS)))
    few = OutcomeTraining(untrained(held_out=0.0, num_samples=2, balance=False), QUESTIONS, groups_of(model.policy))
    assert {item.rollout.sample_index for items in few.items for item in items} == {0, 1}


def test_whole_questions_are_held_out_even_when_a_row_repeats_one() -> None:
    model = untrained(held_out=0.4, balance=False)
    questions, groups = [*QUESTIONS, QUESTIONS[0], QUESTIONS[1]], groups_of(model.policy)
    groups = [*groups, groups[0], groups[1]]
    for seed in range(6):
        training = OutcomeTraining(untrained(held_out=0.4, balance=False), questions, groups, seed)
        kept = {item.question.id for items in training.items for item in items}
        held = {questions[row].id for row in training.held_out}
        assert len(held) == 2
        assert not kept & held
        assert kept | held == {question.id for question in QUESTIONS}
        assert training.model.seen == kept
        with pytest.raises(BadInput, match="trained on"):
            training.model.check_unseen(questions)
        training.model.check_unseen([questions[row] for row in training.held_out])


def test_every_solution_comes_once_in_an_epoch_and_batches_mix_questions() -> None:
    model = untrained(held_out=0.0, balance=False, batch_size=6, group_size=2, num_epochs=2.0)
    training = OutcomeTraining(model, QUESTIONS, groups_of(model.policy))
    whole = sorted(item.rollout.id for items in training.items for item in items)
    chunks = len(training._chunks)
    assert chunks == sum(-(-len(items) // 2) for items in training.items)
    assert training.num_updates == -(-2 * chunks // 3)
    training._per_update = 1
    for epoch in range(2):
        read = [item.rollout.id for step in range(chunks) for item in training.batch(epoch * chunks + step)]
        assert sorted(read) == whole


def test_held_out_figures_are_those_of_the_plain_definitions() -> None:
    model = untrained(held_out=0.6)
    training = OutcomeTraining(model, QUESTIONS, groups_of(model.policy), seed=1)
    figures = training.evaluate(training.init())
    aucs, said, right = [], [], []
    for row in training.held_out:
        scores = model.scores([QUESTIONS[row]] * len(TEXTS[row]), training.groups[row])
        good = [s for s, each in zip(scores, training.groups[row]) if correct(each)]
        bad = [s for s, each in zip(scores, training.groups[row]) if not correct(each)]
        if good and bad:
            aucs.append(np.mean([(a > b) + 0.5 * (a == b) for a in good for b in bad]))
        said += [score > 0.5 for score in scores]
        right += [correct(each) for each in training.groups[row]]
    assert figures["auc"] == pytest.approx(np.mean(aucs))
    assert figures["accuracy"] == pytest.approx(np.mean(np.array(said) == np.array(right)))
    assert figures["majority"] == pytest.approx(max(np.mean(right), 1 - np.mean(right)))
    assert all(isinstance(value, float) for value in figures.values())


def test_rewards_stand_at_step_ends_and_differences_telescope_to_the_last_prediction() -> None:
    model = untrained()
    questions, rows = flat(groups_of(model.policy))
    cut = rollout(model.policy, QUESTIONS[0], "1 + 2 = 3\n####", finish="length")
    questions, rows = [*questions, QUESTIONS[0]], [*rows, cut]
    scores, steps = model.scores(questions, rows), model.step_scores(questions, rows)
    dense = stepwise_outcome_reward(model)(questions, rows)
    sums = stepwise_outcome_reward(model, potential=False)(questions, rows)
    for place, row in enumerate(rows):
        wanted = 0.0 if row is cut else scores[place]  # p_L − p_0, p_0 = 0
        assert sum(amount for _, amount in dense[place]) == pytest.approx(wanted, abs=1e-12)
        assert [end for end, _ in dense[place]] == prefixes(row.text) == [end for end, _ in sums[place]]
        plain = [*steps[place][:-1], wanted]
        assert [amount for _, amount in sums[place]] == pytest.approx(plain)
    sparse = outcome_reward(model)(questions, rows)
    assert [earned for [(_, earned)] in sparse] == pytest.approx([*scores[:-1], 0.0])
    assert [end for [(end, _)] in sparse] == [len(row.text) for row in rows]


def test_control_tokens_that_a_tokenizer_got_later_are_passed_over() -> None:
    model = untrained()
    row = rollout(model.policy, QUESTIONS[1], TEXTS[1][1])
    added = len(model.policy.tokenizer)
    marked = np.insert(row.completion, [0, 4, len(row.completion) - 1], added)
    other = replace(row, completion=marked, logprobs=np.zeros(len(marked), np.float32))
    assert model.scores([QUESTIONS[1]] * 2, [row, other]).tolist()[0] == model.scores([QUESTIONS[1]], [other])[0]
    [plain], [passed] = (model.step_scores([QUESTIONS[1]], [each]) for each in (row, other))
    assert plain.tolist() == passed.tolist()


def toy() -> tuple[Policy, list[Question], list[list[Rollout]]]:
    """Correctness is in the text: the right result is given in the question, a wrong one is another number."""
    draw = np.random.default_rng(0)
    numbers = draw.integers(0, 40, 60)
    questions = [Question.of(f"case {row}: say {n}", f"#### {n}") for row, n in enumerate(numbers)]
    texts = [f"case {row}: say {row} + 0 = {row}\n#### {row}" for row in range(60)]
    tokenizer = train_tokenizer([*texts, "Question: \nAnswer:\n"], TokenizerConfig(vocabulary=200))
    model = new_model(len(tokenizer), PretrainConfig(size="nano", context=64), seed=0)
    policy = Policy(model.eval(), tokenizer)
    groups = []
    for question, n in zip(questions, numbers):
        kinds = draw.random(8) < 0.4
        said = np.where(kinds, n, (n + draw.integers(1, 40, 8)) % 40)
        mark = np.where(kinds, "+", "say")
        texts = [f"{value} {sign} 0 = {value}\n#### {value}" for value, sign in zip(said, mark)]
        groups.append([rollout(policy, question, text, number) for number, text in enumerate(texts)])
    return policy, questions, groups


def test_it_learns_to_tell_right_from_wrong_on_questions_it_never_saw() -> None:
    policy, questions, groups = toy()
    before = {name: weight.clone() for name, weight in policy.model.state_dict().items()}
    config = OutcomeModelConfig(num_epochs=6, learning_rate=3e-3, held_out=0.2, batch_size=32)
    model = OutcomeModel.train(policy, questions, groups, config, seed=0)
    assert model.figures["auc"] >= 0.9
    assert model.figures["accuracy"] > model.figures["majority"]
    assert all(np.isfinite(value) for value in model.figures.values())
    assert all(torch.equal(weight, before[name]) for name, weight in policy.model.state_dict().items())


def test_a_training_that_was_put_on_disk_goes_on_to_the_same_bits() -> None:
    changes = {"num_epochs": 3.0, "batch_size": 6, "group_size": 2, "held_out": 0.2}

    def training() -> OutcomeTraining:
        return OutcomeTraining(untrained(**changes), QUESTIONS, groups_of(start()), seed=3)

    whole = training()
    state = whole.init()
    while state["step"] < whole.num_updates:
        state, figures = whole.update(state)
    first, second = training(), training()
    half = first.init()
    while half["step"] < first.num_updates // 2:
        half, _ = first.update(half)
    half = from_arrays(to_arrays(half))
    while half["step"] < second.num_updates:
        half, again = second.update(half)
    assert again == figures
    for one, other in zip(to_arrays(state).values(), to_arrays(half).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole.evaluate(state) == second.evaluate(half)


def test_saved_and_loaded_it_scores_the_same(tmp_path) -> None:
    model = untrained()
    model.figures, model.seen = {"auc": 0.75}, frozenset({QUESTIONS[0].id})
    questions, rows = flat(groups_of(model.policy))
    model.save(tmp_path / "orm")
    again = OutcomeModel.load(tmp_path / "orm")
    np.testing.assert_array_equal(again.scores(questions, rows), model.scores(questions, rows))
    assert (again.figures, again.seen, again.config) == (model.figures, model.seen, model.config)
    assert again.policy.template == model.policy.template
    model.save(tmp_path / "orm")  # replaced, whole
    (tmp_path / "orm" / "head.safetensors").write_bytes(b"torn")
    with pytest.raises(BadInput, match="not an outcome model"):
        OutcomeModel.load(tmp_path / "orm")
    with pytest.raises(BadInput, match="not an outcome model"):
        OutcomeModel.load(tmp_path / "nothing")


class Scripted(Policy):
    """Continues by what stands before: right from a right first step, one in two from none, never from a wrong one."""

    def sample(self, questions, num_samples, sampling, seed=0, prefixes=None):
        found = []
        for question, prefix in zip(questions, prefixes, strict=True):
            text, answer = self.text(prefix), question.answer.value
            self.seen.append((question.id, text, num_samples))
            good = "1 + 2 = 3" in text or "3 + 4 = 7" in text
            ends = [f"\n#### {answer}" if good and k == num_samples - 1 else "\n#### 99" for k in range(num_samples)]
            ids = [self.example(question, end).response for end in ends]
            found.append([Sample(each, np.zeros(len(each), np.float32), "stop") for each in ids])
        return found


@pytest.mark.parametrize("folder", [False, True])
def test_a_step_is_good_if_any_continuation_of_it_is_right(tmp_path, folder: bool) -> None:
    base = start()
    policy = Scripted(base.model, base.tokenizer)
    object.__setattr__(policy, "seen", [])
    groups = groups_of(policy)[:2]
    place = tmp_path / "pool" if folder else None
    rollouts = Rollouts(Sampling(max_new_tokens=16), seed=0, folder=place)
    labels = continuation_labels(policy, QUESTIONS[:2], groups, rollouts, 3)
    assert [[row.tolist() for row in group] for group in labels] == [
        [[1, 1], [0, 0], [0, 0, 1], [1, 1], [0]],
        [[1, 1], [0, 0, 0], [0, 0], [1]],
    ]
    wanted = {(QUESTIONS[0].id, text) for text in ("1 + 2 = 3", "1 + 2 = 4", "1 + 1 = 2", "1 + 1 = 2\n2 + 1 = 3")}
    wanted |= {(QUESTIONS[1].id, text) for text in ("3 + 4 = 7", "3 + 3 = 6", "3 + 3 = 6\n6 + 1 = 7", "3 + 4 = 8")}
    assert {(name, text) for name, text, _ in policy.seen} == wanted
    assert len(policy.seen) == len(wanted)  # equal prefixes once
    assert rollouts.drawn == 3 * len(wanted)
    rollouts.close()
    policy.seen.clear()
    afresh = Rollouts(rollouts.sampling, 0, place)
    again = continuation_labels(policy, QUESTIONS[:2], groups, afresh, 3)
    afresh.close()
    assert [[row.tolist() for row in group] for group in again] == [[row.tolist() for row in group] for group in labels]
    assert not (folder and policy.seen)  # all of it from the pool


def test_continuations_go_on_from_the_prefix_and_are_graded_with_it() -> None:
    """Greedy continuations of a prefix of a greedy solution are its rest, so their grade is its own."""
    policy = start()
    greedy = Rollouts(Sampling(max_new_tokens=12, temperature=0.0))
    [[whole]] = greedy.draw(policy, QUESTIONS[:1], 1)
    [[rest]] = greedy.draw(policy, QUESTIONS[:1], 1, prefixes=[whole.completion[:5].tolist()])
    assert rest.completion[:7].tolist() == whole.completion[5:].tolist()
    assert rest.prompt.tolist() == [*whole.prompt.tolist(), *whole.completion[:5].tolist()]
    eos = policy.tokenizer.eos_token_id
    marked = policy.tokenizer.encode("#### 3", add_special_tokens=False)
    ended = replace(rest, completion=np.array([eos]), text="", finish_reason="stop")
    assert correct(graded(QUESTIONS[0], ended, policy.text([*marked, eos])))
    assert not correct(graded(QUESTIONS[0], ended))


def test_labels_of_steps_are_learnt_in_place_of_the_outcome() -> None:
    model = untrained(held_out=0.0, batch_size=99, group_size=99, balance=True)
    groups = groups_of(model.policy)[:1]
    labels = [[[1, 1], [0, 0], [0, 0, 1], [1, 1], [0]]]
    [items] = OutcomeTraining(model, QUESTIONS[:1], groups, labels=labels).items
    assert [item.labels.tolist() for item in items] == [[1, 1], [0, 0], [0, 0, 1], [0]]
    right = sum(float(item.weights @ item.labels) for item in items)
    assert right == pytest.approx(sum(float(item.weights.sum()) for item in items) / 2) == pytest.approx(4 / 3)


@pytest.mark.parametrize("name", ["gpt2", "qwen2", "mamba"])
def test_other_architectures_score_as_their_plain_forward_pass(name: str) -> None:
    size = {"vocab_size": len(tiny_models.tokenizer())}
    model = OutcomeModel.of(Policy(tiny_models.tiny(name, **size).eval(), tiny_models.tokenizer()))
    torch.nn.init.constant_(model.head.weight, 0.1)
    texts = [["1 + 2 = 3", "#### 4"], ["7"]]
    rows = groups_of(model.policy, texts)
    questions, rows = flat(rows)
    if name == "mamba":
        with pytest.warns(UserWarning, match="once per completion"):
            found = model.scores(questions, rows)
    else:
        found = model.scores(questions, rows)
    with torch.no_grad():
        wanted = [alone(model, question, row)[-1].sigmoid().item() for question, row in zip(questions, rows)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def bad(call, **changes):
    return lambda: call(untrained(**{"held_out": 0.0, **changes}))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (bad(lambda m: OutcomeTraining(m, QUESTIONS, [])), "groups: 0 for 5 questions"),
        (
            bad(lambda m: OutcomeTraining(m, QUESTIONS[:1], [[replace(groups_of(m.policy)[0][0], scores={})]])),
            "question 0 is not graded",
        ),
        (bad(lambda m: OutcomeTraining(m, QUESTIONS[2:3], groups_of(m.policy)[2:3])), "set balance = False"),
        (bad(lambda m: OutcomeTraining(m, QUESTIONS[:1], [[]]), balance=False), "nothing to learn from 0"),
        (bad(lambda m: OutcomeTraining(m, [], []), held_out=1.0), "held_out = 1.0"),
        (bad(lambda m: OutcomeTraining(m, [], []), tokens="steps"), "tokens = 'steps'.*step_ends"),
        (bad(lambda m: OutcomeTraining(m, [], []), group_size=65), "group_size = 65: must be at most batch_size = 64"),
        (
            bad(lambda m: OutcomeTraining(m, QUESTIONS[:1], groups_of(m.policy)[:1], labels=[[[1]] * 5])),
            "question 0, rollout 0: must be 2 numbers",
        ),
        (
            bad(lambda m: OutcomeTraining(m, QUESTIONS[2:3], groups_of(m.policy)[2:3], labels=[[[1, 2]] * 2])),
            "rollout 0: must be 2 numbers 0 or 1",
        ),
        (
            bad(lambda m: OutcomeTraining(m, QUESTIONS[:1], groups_of(m.policy)[:1], labels=[[]])),
            "labels: must be one list",
        ),
        (
            bad(lambda m: OutcomeTraining(m, QUESTIONS[:1], groups_of(m.policy)[:1], labels=[]), tokens="every"),
            "tokens = 'every': must be 'step_ends'",
        ),
        (bad(lambda m: m.scores(QUESTIONS, [])), "5 for 0 rollouts"),
        (
            bad(lambda m: continuation_labels(m.policy, [], [], Rollouts(Sampling()), 0)),
            "num_continuations = 0",
        ),
    ],
)
def test_bad_input_is_one_line(call, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_used_up_or_foreign_state_is_refused() -> None:
    model = untrained(held_out=0.0)
    training = OutcomeTraining(model, QUESTIONS, groups_of(model.policy))
    old = training.init()
    training.update(old)
    with pytest.raises(BadInput, match="used up"):
        training.update(old)
    with pytest.raises(BadInput, match="not one of this model"):
        training.update({"model": {}, "head": {}, "optimizer": {}, "step": 0})
    with pytest.raises(BadInput, match="has begun"):
        training.init()
