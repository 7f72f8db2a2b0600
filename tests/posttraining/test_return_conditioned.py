"""Return-conditioned learning: where marks stand, what of them is learnt, and that conditioning works."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tiny_models
import torch

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.sampling.rows import Row
from tutelage.lm.training.adapters import add_lora
from tutelage.lm.training.pretraining import PretrainConfig, TokenizerConfig, new_model, train_tokenizer
from tutelage.lm.training.sft import SFTConfig, sft
from tutelage.posttraining.config import OutcomeModelConfig, ReturnConditionedConfig
from tutelage.posttraining.control_tokens import Controls, add_control_tokens, conditioned, control_ids, set_rows
from tutelage.posttraining.outcome.model import OutcomeModel
from tutelage.posttraining.policy import Policy
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.return_conditioned import Labelled, ReturnConditioned, _with_share
from tutelage.posttraining.rollouts import Rollouts, graded

QUESTIONS = [Question.of(f"Say {n}.", f"#### {n}") for n in range(4)]
SAMPLING = Sampling(max_new_tokens=24)
FAST = SFTConfig(num_epochs=6, batch_size=16, learning_rate=3e-3)
WRITTEN = [f"Say {n}.\n Question: Answer: \n{m} + 0 = {m}\n#### {m}" for n in range(4) for m in range(8)]


def policy(template: str = "Question: {question}\nAnswer:\n") -> Policy:
    """A nano model that knows nothing, over words and numbers."""
    tokenizer = train_tokenizer(WRITTEN, TokenizerConfig(vocabulary=80))
    model = new_model(len(tokenizer), PretrainConfig(size="nano", context=96), seed=0)
    return Policy(model.eval(), tokenizer, template)


class Canned(Rollouts):
    """Gives the texts it was told, the same in every round; `None` is a truncated one."""

    def __init__(self, texts: list[list[str | None]]) -> None:
        super().__init__(SAMPLING)
        self.texts, self.asked = texts, []

    def draw(self, policy, questions, num_samples, *, round=0, stage="train", prefixes=None):
        self.asked.append((policy, round))
        self.drawn += len(questions) * num_samples
        return [
            [rolled(policy, question, text, number, round) for number, text in enumerate(row)]
            for question, row in zip(questions, self.texts, strict=True)
        ]


def rolled(policy: Policy, question: Question, text: str | None, number: int = 0, round: int = 0) -> Rollout:
    ids = policy.example(question, text or "0").response
    finish = "length" if text is None else "stop"
    zeros = np.zeros(len(ids), np.float32)
    made = Rollout(
        question.id, policy.prompt(question), ids, zeros, text or "0", finish, sample_index=number, round=round
    )
    return graded(question, made)


def marked(learner: ReturnConditioned, example) -> str:
    """The example as text with marks; what is not learnt of the response in small brackets."""
    names = {token: name for name, token in zip("GB", control_ids(learner.policy.tokenizer))}
    pieces = []
    for token, learnt in zip(example.response.tolist(), example.learnt.tolist()):
        text = names.get(token) or learner.policy.tokenizer.decode([token])
        pieces.append(text if learnt else f"({text})")
    return names[int(example.prompt[-1])] + "|" + "".join(pieces)


def learner_of(texts, level="solution", **changes) -> ReturnConditioned:
    config = ReturnConditionedConfig(level=level, num_samples=len(texts[0]), sft=FAST, **changes)
    return ReturnConditioned(policy(), QUESTIONS[: len(texts)], Canned(texts), config)


TEXTS = [["0 + 0 = 0\n#### 0", "1 + 0 = 1\n#### 1", "0 + 0 = 0\n#### 0"], ["#### 1", None, "1 + 1 = 2\n2\n#### 2"]]


def test_a_mark_ends_the_prompt_of_a_solution() -> None:
    learner = learner_of(TEXTS)
    state, figures = learner.update(learner.init())
    data = [
        Labelled(q, learner.policy.example(QUESTIONS[q], text).response, (good,))
        for q, text, good in [
            (0, TEXTS[0][0], True),
            (0, TEXTS[0][1], False),
            (1, "#### 1", True),
            (1, TEXTS[1][2], False),
        ]
    ]
    found = learner.examples(data)
    assert [marked(learner, each) for each in found] == [
        "G|0 + 0 = 0\n#### 0<eos>",
        "B|1 + 0 = 1\n#### 1<eos>",
        "G|#### 1<eos>",
        "B|1 + 1 = 2\n2\n#### 2<eos>",
    ]
    start = learner._start.prompt(QUESTIONS[0]).tolist()
    assert found[0].prompt.tolist() == [*start, control_ids(learner.policy.tokenizer)[0]]
    assert found[0].prompt.tolist() == learner.policy.prompt(QUESTIONS[0]).tolist()
    assert figures["examples"] == 4  # one twice, one without its end
    assert figures["duplicates"] == pytest.approx(1 / 5)
    assert figures["truncated"] == pytest.approx(1 / 6)
    assert figures["good"] == pytest.approx(3 / 5)
    assert figures["correct"] == pytest.approx(3 / 6)
    assert figures["rollouts"] == 6
    assert all(isinstance(value, float) and np.isfinite(value) for value in figures.values())
    assert state["data"]["questions"].tolist() == [0, 0, 1, 1]


class Judge(OutcomeModel):
    """Believes in a prefix until it has said 2; by the characters that it is asked about."""

    def scores_at(self, questions, rollouts, ends):
        self.asked = [[row.text[:end] for end in some] for row, some in zip(rollouts, ends, strict=True)]
        return [np.array([0.2 if "2" in text else 0.8 for text in texts]) for texts in self.asked]

    def scores(self, questions, rollouts):
        return np.array([0.2 if "2" in rollout.text else 0.8 for rollout in rollouts])


@pytest.mark.parametrize("learn_control", [False, True])
def test_marks_stand_before_every_line_by_what_the_outcome_model_says_at_its_end(learn_control: bool) -> None:
    texts = [["0 + 0 = 0\n1 + 1 = 2\n#### 2", "0\n\n#### 0\n"]]
    start = policy()
    judge = Judge.of(start)
    config = ReturnConditionedConfig(
        level="step", labels="outcome_model", num_samples=2, sft=FAST, learn_control=learn_control
    )
    learner = ReturnConditioned(start, QUESTIONS[:1], Canned(texts), config, outcome_model=judge)
    state, figures = learner.update(learner.init())
    assert judge.asked == [
        ["0 + 0 = 0", "0 + 0 = 0\n1 + 1 = 2", "0 + 0 = 0\n1 + 1 = 2\n#### 2"],
        ["0", "0", "0\n\n#### 0", "0\n\n#### 0\n"],
    ]
    assert state["data"]["good"].tolist() == [True, False, False, True, True, True, True]
    ids = [learner.policy.example(QUESTIONS[0], text).response for text in texts[0]]
    data = [Labelled(0, ids[0], (True, False, False)), Labelled(0, ids[1], (True, True, True, True))]
    wanted = ["G|0 + 0 = 0\n(B)1 + 1 = 2\n(B)#### 2<eos>", "G|0\n(G)\n(G)#### 0\n(G)<eos>"]
    if learn_control:
        wanted = [each.replace("(", "").replace(")", "") for each in wanted]
    assert [marked(learner, each) for each in learner.examples(data)] == wanted
    assert figures["good"] == pytest.approx(5 / 7)
    assert figures["good_examples"] == pytest.approx(1 / 2)


def test_every_step_of_a_solution_may_be_marked_by_its_answer() -> None:
    learner = learner_of(TEXTS, "step")
    state, _ = learner.update(learner.init())
    assert state["data"]["segments"].tolist() == [2, 2, 1, 3]
    assert state["data"]["good"].tolist() == [True, True, False, False, True, False, False, False]


def test_at_the_level_of_solutions_the_outcome_model_judges_the_whole() -> None:
    start = policy()
    config = ReturnConditionedConfig(labels="outcome_model", num_samples=3, threshold=0.9, sft=FAST)
    learner = ReturnConditioned(start, QUESTIONS[:2], Canned(TEXTS), config, outcome_model=Judge.of(start))
    with pytest.raises(BadInput, match=r"none reaches threshold = 0\.9; lower it"):
        learner.update(learner.init())
    config = replace(config, threshold=0.8)
    learner = ReturnConditioned(start, QUESTIONS[:2], Canned(TEXTS), config, outcome_model=Judge.of(start))
    state, _ = learner.update(learner.init())
    assert state["data"]["good"].tolist() == [True, True, True, False]


def test_good_is_forced_at_every_step_boundary_and_never_stands_in_the_text() -> None:
    learner = learner_of(TEXTS, "step")
    learner.update(learner.init())
    good, bad = control_ids(learner.policy.tokenizer)
    controls = Controls(learner.policy.tokenizer)
    rows = [row for group in learner.policy.sample(QUESTIONS, 16, SAMPLING, 3) for row in group]
    boundaries = 0
    for row in rows:
        tokens = row.tokens.tolist()
        for before, after in pairwise(tokens):
            if controls.ends(before):
                assert after == good
                boundaries += 1
        text = learner.policy.text(tokens)
        assert "[GOOD]" not in text
        assert "[BAD]" not in text
        plain = [token for token in tokens if token not in (good, bad)]
        assert text == learner._start.tokenizer.decode(plain, skip_special_tokens=True)
        assert learner.policy.tokenizer.decode([good]) == "[GOOD]"
    assert boundaries > 20


def test_a_line_ends_with_a_token_that_holds_a_new_line_and_only_white_space_after_it() -> None:
    tokenizer = add_control_tokens(tiny_models.tokenizer())
    controls = Controls(tokenizer)
    new_line = tokenizer.encode("\n", add_special_tokens=False)
    word = tokenizer.encode("fox", add_special_tokens=False)
    assert controls.ends(new_line[0])
    assert not any(map(controls.ends, [*word, *controls.ids, tokenizer.eos_token_id]))
    tokens = np.array([*word, *new_line, *new_line, *word, *new_line])
    n = len(word)
    assert controls.starts(tokens).tolist() == [0, n + 1, n + 2]
    forced = conditioned(Policy(tiny_models.speaking(), tokenizer), "step").allowed
    assert forced is not None
    row = Row(np.array([5, new_line[0]]), SAMPLING)
    assert forced(row) == [controls.ids[0]]  # a solution that is gone on with
    row.tokens = word
    assert forced(row) is None


def test_forced_marks_do_not_count_as_the_policys_own_samples_in_later_rounds() -> None:
    """A later round is drawn conditioned on [GOOD]; its marks are taken out before it is labelled and marked anew."""

    class Marked(Canned):
        def draw(self, policy, questions, num_samples, **rest):
            groups = super().draw(policy, questions, num_samples, **rest)
            if not policy.suffix:
                return groups
            good, _ = control_ids(policy.tokenizer)
            put = Controls(policy.tokenizer).starts
            return [
                [replace(e, completion=np.insert(e.completion, put(e.completion)[1:], good)) for e in g] for g in groups
            ]

    config = ReturnConditionedConfig(level="step", num_samples=3, sft=FAST)
    rollouts = Marked(TEXTS)
    learner = ReturnConditioned(policy(), QUESTIONS[:2], rollouts, config)
    state, _ = learner.update(learner.init())
    first = {name: tensor.clone() for name, tensor in state["data"].items()}
    state, figures = learner.update(state)
    assert [round for _, round in rollouts.asked] == [0, 1]
    assert not rollouts.asked[0][0].suffix
    assert rollouts.asked[1][0].suffix == learner.policy.suffix
    assert all(torch.equal(tensor, first[name]) for name, tensor in state["data"].items())  # the same ones again
    assert figures["duplicates"] == 1
    assert figures["rollouts"] == 12


def test_new_marks_begin_as_the_mean_of_all_tokens_and_old_rows_stay() -> None:
    start = policy()
    old = start.model.get_input_embeddings().weight.detach().clone()
    before = copy.deepcopy(start.tokenizer.get_vocab())
    learner = ReturnConditioned(start, QUESTIONS, Canned(TEXTS), ReturnConditionedConfig(sft=FAST))
    learner._condition(True)
    learner._refit()
    new = learner.policy.model.get_input_embeddings().weight
    good, bad = control_ids(learner.policy.tokenizer)
    assert (good, bad) == (len(old), len(old) + 1)
    assert torch.equal(new[:good], old)
    torch.testing.assert_close(new[[good, bad]], old.mean(0).expand(2, -1))
    assert learner.policy.model.get_output_embeddings().weight is new
    assert start.tokenizer.get_vocab() == before  # the caller's own is as it was
    assert start.model.get_input_embeddings().weight.shape == old.shape
    padded = tiny_models.speaking(vocab_size=400, tie_word_embeddings=False)
    rows = padded.lm_head.weight.detach().clone()
    set_rows(padded, tiny_models.tokenizer(), control_ids(add_control_tokens(tiny_models.tokenizer())))
    size = len(tiny_models.tokenizer())
    torch.testing.assert_close(padded.lm_head.weight[size : size + 2], rows[:size].mean(0).expand(2, -1))
    assert torch.equal(padded.lm_head.weight[:size], rows[:size])
    assert torch.equal(padded.lm_head.weight[size + 2 :], rows[size + 2 :])


def test_the_share_of_good_examples_is_reached_by_leaving_as_few_out_as_can_be() -> None:
    draw = np.random.default_rng(0)
    for good, bad, share in [(10, 30, 0.5), (30, 10, 0.5), (10, 30, 0.75), (7, 3, 0.25), (5, 5, 0.0), (4, 0, 0.5)]:
        data = [Labelled(n, np.array([n]), (n < good, True)) for n in range(good + bad)]
        kept = _with_share(data, share, draw)
        found = sum(all(each.good) for each in kept), sum(not all(each.good) for each in kept)
        fits = [
            (g, b)
            for g in range(good + 1)
            for b in range(bad + 1)
            if not share or not bad or abs(g - share * (g + b)) <= 0.49
        ]
        assert found == max(fits, key=sum)
        assert [each.question for each in kept] == sorted(each.question for each in kept)


KINDS = ("0 + 0 = 0\n#### 0", "6 + 0 = 6\n#### 6")


@functools.cache
def two_kinds() -> tuple[Policy, list[Question]]:
    """A model that gives one of two solutions, each half of the time, whatever is asked; one is right."""
    start, questions = policy(), [Question.of(f"Say 0 {n}.", "#### 0") for n in range(4)]
    shown = [start.example(question, text) for question in questions for text in KINDS]
    sft(start.model, shown, SFTConfig(num_epochs=300, batch_size=8, learning_rate=3e-3), 0)
    start.model.eval()
    return start, questions


def right_share(policy: Policy, questions: list[Question]) -> float:
    drawn = Rollouts(SAMPLING, seed=9).draw(policy, questions, 64, stage="test")
    return float(np.mean([rollout.scores["correct"] for group in drawn for rollout in group]))


@pytest.mark.parametrize("level", [pytest.param("solution", marks=pytest.mark.slow), "step"])
def test_asked_for_good_it_gives_the_good_kind_and_asked_for_bad_the_bad(level: str) -> None:
    start, questions = two_kinds()
    assert 0.3 < right_share(start, questions) < 0.7
    sampled = Rollouts(SAMPLING, seed=0)
    config = ReturnConditionedConfig(
        level=level,
        num_samples=32,
        deduplicate=False,
        sft=replace(FAST, num_epochs=10, batch_size=8, learning_rate=4e-3),
    )
    learner = ReturnConditioned(start, questions, sampled, config, seed=0)
    _, figures = learner.update(learner.init())
    assert 0.3 < figures["good"] < 0.7
    assert right_share(learner.policy, questions) > 0.9
    _, bad = control_ids(learner.policy.tokenizer)
    assert right_share(replace(learner.policy, suffix=(bad,)), questions) < 0.1
    assert 0.3 < right_share(start, questions) < 0.7  # the caller's model is as it was


def test_a_state_goes_on_in_a_new_learner_to_the_same_bits(tmp_path) -> None:
    start, questions = two_kinds()
    config = ReturnConditionedConfig(level="step", num_samples=4, sft=replace(FAST, num_epochs=1))

    def learner(folder: str) -> ReturnConditioned:
        return ReturnConditioned(start, questions, Rollouts(SAMPLING, 1, tmp_path / folder), config, seed=5)

    whole = learner("one")
    state = whole.init()
    for _ in range(3):
        state, figures = whole.update(state)
    wanted = to_arrays(state)
    first = learner("two")
    half, _ = first.update(first.init())
    first.rollouts.close()
    second = learner("two")
    half = from_arrays(to_arrays(half))
    second.enter(half)
    assert second.policy.suffix == whole.policy.suffix
    for _ in range(2):
        half, again = second.update(half)
    assert again == figures
    found = to_arrays(half)
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])
    before = {name: weight.clone() for name, weight in start.model.state_dict().items()}
    fresh = learner("three")
    second.enter(from_arrays(to_arrays(fresh.init())))  # back to the start, rows of the marks gone
    assert second.policy.suffix == ()
    assert all(torch.equal(weight, before[name]) for name, weight in second.policy.model.state_dict().items())
    for each in (whole, second, fresh):
        each.rollouts.close()


def test_it_fine_tunes_the_base_and_demonstrations_are_good() -> None:
    start = policy()
    base = copy.deepcopy(start.model)
    with torch.no_grad():
        base.model.norm.weight.mul_(2)
    config = ReturnConditionedConfig(num_samples=3, refit="base", sft=replace(FAST, learning_rate=1e-12))
    extra = Question.of("Say 7.", "#### 7")
    learner = ReturnConditioned(
        start, QUESTIONS[:2], Canned(TEXTS), config, base=base, demonstrations=[(extra, "7"), (QUESTIONS[0], "#### 0")]
    )
    state, figures = learner.update(learner.init())
    torch.testing.assert_close(learner.policy.model.model.norm.weight, base.model.norm.weight)
    assert figures["examples"] == 4 + 2
    assert [each.good for each in learner._shown] == [(True,), (True,)]
    assert learner.questions == [*QUESTIONS[:2], extra]
    assert len(state["data"]["questions"]) == 4


def test_an_adapter_is_worked_into_the_copy() -> None:
    start = policy()
    wrapped = add_lora(copy.deepcopy(start.model), rank=2)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    learner = ReturnConditioned(
        replace(start, model=wrapped.eval()),
        QUESTIONS[:2],
        Canned(TEXTS),
        ReturnConditionedConfig(num_samples=3, sft=FAST),
    )
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        torch.testing.assert_close(learner.policy.model(ids).logits, wrapped(ids).logits, atol=1e-5, rtol=1e-4)
    learner.update(learner.init())
    assert hasattr(wrapped, "peft_config")


def test_a_saved_policy_is_asked_for_good_again(tmp_path) -> None:
    from tutelage.lm import folders

    learner = learner_of(TEXTS, "step")
    learner.update(learner.init())
    folders.save(learner.policy.model, learner.policy.tokenizer, tmp_path / "rcrl")
    again = conditioned(Policy(*folders.load(tmp_path / "rcrl")), "step")
    assert again.suffix == learner.policy.suffix
    ours, theirs = (each.sample(QUESTIONS, 4, SAMPLING, 1) for each in (learner.policy, again))
    assert [[row.tokens.tolist() for row in group] for group in ours] == [
        [row.tokens.tolist() for row in group] for group in theirs
    ]


def split_tokenizer():
    """Has the marks in its vocabulary, but splits their text."""
    tokenizer = train_tokenizer([*WRITTEN, "[GOOD] [BAD]"], TokenizerConfig(vocabulary=90))
    tokenizer.get_vocab = lambda: {"[GOOD]": 3, "[BAD]": 4}
    return tokenizer


def shown_tokenizer():
    tokenizer = train_tokenizer(WRITTEN, TokenizerConfig(vocabulary=80))
    tokenizer.add_tokens(["[GOOD]", "[BAD]"])
    return tokenizer


def made(start=None, questions=QUESTIONS, orm=None, base=None, **changes):
    start = start or policy()
    return ReturnConditioned(
        start, questions, Canned(TEXTS), ReturnConditionedConfig(**changes), outcome_model=orm, base=base
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: control_ids(tiny_models.tokenizer()), r"control token '\[GOOD\]': not in the tokenizer's vocabulary"),
        (lambda: control_ids(split_tokenizer()), r"control token '\[GOOD\]': split by the tokenizer into 3 tokens"),
        (lambda: control_ids(shown_tokenizer()), r"control token '\[GOOD\]': shows in decoded text"),
        (lambda: conditioned(policy(), "step"), r"control token '\[GOOD\]': not in"),
        (lambda: conditioned(policy(), "steps"), "level: 'steps'; must be one of .*did you mean 'step'"),
        (lambda: made(replace(policy(), tokenizer=shown_tokenizer())), "shows in decoded text"),
        (lambda: made(level="steps"), "level = 'steps'.*did you mean 'step'"),
        (lambda: made(level="step", labels="outcome_model"), "labels = 'outcome_model': needs an outcome_model"),
        (lambda: made(orm=OutcomeModel.of(policy(), OutcomeModelConfig())), "labels = 'answer': does not use"),
        (lambda: made(refit="base"), "refit = 'base': needs"),
        (lambda: made(refit="base", base={}), "base: its 'model.embed_tokens.weight' is not that"),
        (lambda: made(questions=[]), "questions: there are none"),
        (lambda: made(questions=[Question.of("a [BAD] one", "1")]), r"row 0 contains the control token '\[BAD\]'"),
        (lambda: made(policy("[GOOD] {question}")), r"template: must not contain the control token '\[GOOD\]'"),
        (lambda: made(sft=SFTConfig(freeze=0.5)), r"sft\.freeze = 0\.5: must be 0"),
        (lambda: made(good_share=1.0), r"good_share = 1\.0: must be in \[0, 1\)"),
        (lambda: made(threshold=2.0), r"threshold = 2\.0"),
        (lambda: made(num_samples=0), "num_samples = 0"),
    ],
)
def test_bad_input_is_one_line(call, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_round_without_anything_good_stops_with_rates_and_advice_and_its_state_can_be_used_again() -> None:
    learner = learner_of([["#### 3", None], ["#### 3", "#### 0"]])
    state = learner.init()
    with pytest.raises(BadInput, match=r"round 1: nothing good to learn: 0\.00% .* 25% cut off; give easier") as caught:
        learner.update(state)
    assert "\n" not in str(caught.value)
    learner.rollouts.texts = [["#### 0", "#### 1"], ["#### 3", "#### 0"]]
    state, _ = learner.update(state)
    assert state["step"] == 1
    with pytest.raises(BadInput, match="has begun"):
        learner.init()


def test_many_truncated_samples_are_warned_of_with_their_rate_and_not_learnt() -> None:
    learner = learner_of([["#### 0", None, None, "#### 1"]])
    with pytest.warns(UserWarning, match="max_new_tokens = 24: 50% of the samples"):
        _, figures = learner.update(learner.init())
    assert figures["examples"] == 2


def test_used_up_and_foreign_states_are_refused() -> None:
    learner = learner_of(TEXTS)
    old = learner.init()
    learner.update(old)
    with pytest.raises(BadInput, match="used up"):
        learner.update(old)
    with pytest.raises(BadInput, match="not one of this model"):
        learner.enter({"step": 0, "model": {}, "rollouts": 0})
