"""Expert iteration: exact in the tabular limit, equal to its parts done by hand, and unharmed by a kill."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from posttraining.guessing import QUESTIONS, TEMPLATE, guessing, pretrained, solution, tokenizer, untrained, weights

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Pool, Rollout
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.training.config import SFTConfig
from tutelage.lm.training.sft import SFT, sft
from tutelage.posttraining import expert_iteration as module
from tutelage.posttraining import policy as policies
from tutelage.posttraining.config import ExpertIterationConfig, rest_em, rft
from tutelage.posttraining.expert_iteration import ExpertIteration
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rollouts import BLOCK, Rollouts, each
from tutelage.posttraining.selection import Dataset, distinct, passing, union

SAMPLING = Sampling(max_new_tokens=24)
FIT = SFTConfig(num_epochs=2, batch_size=8, learning_rate=1e-3)
CONFIG = ExpertIterationConfig(num_samples=8, sft=FIT)
DEMONSTRATIONS = [(question, solution(int(question.answer.value))) for question in QUESTIONS[:2]]
MANY = [
    *QUESTIONS,
    *(
        Question.of("+".join(digits), f"#### {sum(map(int, digits))}")
        for length in (3, 4, 5)
        for digits in itertools.product("12", repeat=length)
    ),
][: BLOCK + 6]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several blocks of few samples."""
    monkeypatch.setattr("tutelage.posttraining.rollouts.ROWS", 1)


def base() -> dict[str, torch.Tensor]:
    """Weights that are not the start's."""
    return pretrained().state_dict()


def learner(config: ExpertIterationConfig = CONFIG, folder: Path | None = None, **rest: Any) -> ExpertIteration:
    questions = rest.pop("questions", QUESTIONS)
    return ExpertIteration(guessing(), base(), questions, Rollouts(SAMPLING, 1, folder), config, 7, **rest)


def run(some: ExpertIteration, rounds: int) -> tuple[dict, list[dict[str, float]]]:
    state, figures = some.init(), []
    try:
        for _ in range(rounds):
            state, found = some.update(state)
            figures.append(found)
    finally:
        some.rollouts.close()
    return state, figures


# Ground truth: a softmax table over sequences, of which every probability is a fraction.

SUCCESS = {(0, 2): 1, (1, 0, 2): 1, (1, 1, 2): 0, (0, 0, 2): 1, (0, 1, 2): 0, (1, 2): 0, (2,): 0}
TABLE = {
    (): [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)],
    (0,): [Fraction(1, 8), Fraction(1, 2), Fraction(3, 8)],
    (1,): [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)],
}
"""Next token given a prefix; 2 ends a sequence, and so does the third token."""


def probability(sequence: tuple[int, ...]) -> Fraction:
    return math.prod(
        (TABLE.get(sequence[:place], [0, 0, Fraction(1)])[token] for place, token in enumerate(sequence)),
        start=Fraction(1),
    )


def fitted(sequences: list[tuple[int, ...]]) -> dict[tuple[int, ...], float]:
    """Maximum likelihood of an autoregressive softmax table, by L-BFGS on its logits."""
    logits = {
        prefix: torch.zeros(3, dtype=torch.float64, requires_grad=True)
        for prefix in [*TABLE, (0, 0), (1, 0), (0, 1), (1, 1)]
    }
    counts = Counter(sequences)

    def logp(sequence: tuple[int, ...]) -> torch.Tensor:
        return sum(logits[sequence[:place]].log_softmax(0)[token] for place, token in enumerate(sequence))  # type: ignore[return-value]

    optimizer = torch.optim.LBFGS(
        list(logits.values()), max_iter=3000, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = -sum(number * logp(sequence) for sequence, number in counts.items()) / len(sequences)
        loss.backward()  # type: ignore[union-attr]
        return loss.detach()  # type: ignore[union-attr]

    optimizer.step(closure)
    with torch.no_grad():
        return {sequence: float(logp(sequence).exp()) for sequence in SUCCESS}


def every_sample() -> list[Rollout]:
    """K samples with exactly the frequencies of the policy: the limit of ever more samples."""
    size = math.lcm(*(probability(sequence).denominator for sequence in SUCCESS))
    assert sum(probability(sequence) for sequence in SUCCESS) == 1
    return [
        Rollout(
            "q",
            np.array([0]),
            np.array(sequence),
            np.zeros(len(sequence), np.float32),
            scores={"correct": float(right)},
        )
        for sequence, right in SUCCESS.items()
        for _ in range(int(probability(sequence) * size))
    ]


def test_a_round_of_ever_more_samples_is_the_policy_conditioned_on_success() -> None:
    """What is kept without deduplication has the frequencies of π(y|R=1) exactly, and its best fit is that policy."""
    [kept] = passing(QUESTIONS[:1], [every_sample()])
    data = union(Dataset.of([]), Dataset.of([(0, r.completion) for r in distinct(kept, "none")]), "none")
    total = sum(probability(sequence) for sequence, right in SUCCESS.items() if right)
    conditioned = {s: probability(s) / total if right else Fraction(0) for s, right in SUCCESS.items()}
    found = [tuple(tokens.tolist()) for tokens in data.solutions]
    assert {s: Fraction(found.count(s), len(found)) for s in SUCCESS} == conditioned
    for sequence, value in fitted(found).items():
        assert value == pytest.approx(float(conditioned[sequence]), abs=1e-6)


def test_deduplicated_the_limit_is_uniform_over_right_solutions() -> None:
    [kept] = passing(QUESTIONS[:1], [every_sample()])
    values = fitted([tuple(r.completion.tolist()) for r in distinct(kept, "exact")])
    assert values == pytest.approx({s: right / sum(SUCCESS.values()) for s, right in SUCCESS.items()}, abs=1e-6)


@pytest.mark.slow
def test_a_round_of_a_transformer_comes_near_the_policy_conditioned_on_success() -> None:
    """The whole round, sampler, grader and fit: total variation from the start's π(y|R=1) over all that it can say."""
    start, question = guessing(), QUESTIONS[1]
    from tutelage.lm.training.shared_prefix import read_completions

    drawn = Rollouts(SAMPLING, 11).draw(start, [question], 4000, stage="support")[0]
    right = sorted({tuple(r.completion.tolist()) for r in drawn if r.scores["correct"]})
    prompt = start.prompt(question).tolist()

    def shares(model) -> torch.Tensor:
        with torch.no_grad():
            return read_completions(model, [prompt], [right]).logprobs.sum(-1).exp()

    before = shares(start.model)
    config = ExpertIterationConfig(
        num_samples=4000, deduplicate="none", sft=SFTConfig(num_epochs=25, batch_size=64, learning_rate=5e-3)
    )
    some = ExpertIteration(start, untrained(), [question], Rollouts(SAMPLING, 1), config)
    run(some, 1)
    assert 0.1 < before.sum() < 0.7
    distance = 0.5 * (shares(some.policy.model) - before / before.sum()).abs().sum()
    assert distance < 0.05


# A round against its parts done by hand.


def by_hand(
    rounds: int, level: str, *, cumulative: bool = True, cap: int = 0, folder: Path
) -> list[list[tuple[str, tuple[int, ...]]]]:
    """D after each round, from what the pool holds, by sets and lists alone (levels `exact` and `none`)."""
    texts = {question.id: question.text for question in QUESTIONS}
    policy = guessing()
    data = [(q.text, tuple(policy.example(q, s).response.tolist())) for q, s in DEMONSTRATIONS]
    found = []
    for round in range(rounds):
        data = data if cumulative else []
        taken: Counter[str] = Counter()
        for question in QUESTIONS:
            group = [r for r in Pool(folder) if r.round == round and texts[r.question] == question.text]
            for r in sorted(group, key=lambda r: r.sample_index):
                entry = (question.text, tuple(r.completion.tolist()))
                good = r.scores["correct"] == 1 and r.finish_reason == "stop"
                if good and (level == "none" or entry not in data) and (not cap or taken[question.text] < cap):
                    data.append(entry)
                    taken[question.text] += 1
        found.append(list(data))
    return found


def contents(some: ExpertIteration, state: dict) -> list[tuple[str, tuple[int, ...]]]:
    return [(some.questions[q].text, tuple(s.tolist())) for q, s in Dataset.from_tensors(state["data"]).pairs()]


@pytest.mark.parametrize(
    "change",
    [{}, {"deduplicate": "none"}, {"cumulative": False}, {"deduplicate": "none", "cumulative": False, "cap": 2}],
)
def test_the_data_of_every_round_equal_brute_force_over_the_pool(tmp_path: Path, change: dict) -> None:
    config = replace(CONFIG, **change)
    some = learner(config, tmp_path, demonstrations=DEMONSTRATIONS)
    state, found, figures = some.init(), [], []
    for _ in range(3):
        state, figure = some.update(state)
        found.append(contents(some, state))
        figures.append(figure)
    some.rollouts.close()
    wanted = by_hand(3, config.deduplicate, cumulative=config.cumulative, cap=config.cap, folder=tmp_path)
    assert found == wanted
    sizes = [len(DEMONSTRATIONS), *map(len, wanted)]
    assert [f["dataset"] for f in figures] == sizes[1:]
    if config.cumulative:
        assert [f["new"] for f in figures] == np.diff(sizes).tolist()
        assert found[2][: sizes[2]] == found[1]
    else:
        assert [f["new"] for f in figures] == sizes[1:]


def test_figures_count_what_the_pool_holds(tmp_path: Path) -> None:
    some = learner(folder=tmp_path)
    _, figures = run(some, 2)
    for round, figure in enumerate(figures):
        drawn = [r for r in Pool(tmp_path) if r.round == round]
        right = [r for r in drawn if r.scores["correct"]]
        distinct_tokens = {(r.question, r.completion.tobytes()) for r in right}
        assert len(drawn) == 32
        assert figure["correct"] == len(right) / 32
        assert figure["kept"] == len(right)
        assert figure["solved_questions"] == len({r.question for r in right}) / 4
        assert figure["truncated"] == sum(r.finish_reason == "length" for r in drawn) / 32
        assert figure["unique"] == figure["unique_exact"] == len(distinct_tokens) / 4
        assert figure["duplicates_exact"] == len(right) - len(distinct_tokens)
        assert figure["duplicates_equation"] == len(right) and figure["unique_equation"] == 0  # no equations in them
        assert figure["rollouts"] == 32 * (round + 1)
        assert all(isinstance(value, float) and math.isfinite(value) for value in figure.values())


def test_a_round_fits_the_base_and_not_the_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its first step the model holds the base's weights to the bit; after, those of one fit of the base."""
    starts: list[torch.Tensor] = []

    class Watched(SFT):
        def init(self):
            starts.append(weights(self.model).clone())
            return super().init()

    monkeypatch.setattr("tutelage.lm.training.sft.SFT", Watched)
    some = learner(demonstrations=DEMONSTRATIONS)
    state, _ = run(some, 2)
    assert len(starts) == 2
    assert all(torch.equal(start, weights(pretrained())) for start in starts)
    data = Dataset.from_tensors(state["data"])
    seed = int(np.random.SeedSequence([7, 1]).generate_state(1)[0])
    alone = pretrained()
    sft(alone, data.examples(guessing(), some.questions), FIT, seed)
    assert torch.equal(weights(some.policy.model), weights(alone))


def test_continue_goes_on_from_the_sampler() -> None:
    some = learner(replace(CONFIG, refit="continue"))
    state, _ = run(some, 1)
    alone = guessing().model
    seed = int(np.random.SeedSequence([7, 0]).generate_state(1)[0])
    sft(alone, Dataset.from_tensors(state["data"]).examples(guessing(), QUESTIONS), FIT, seed)
    assert torch.equal(weights(some.policy.model), weights(alone))


def test_a_base_that_is_the_policys_own_model_is_copied() -> None:
    policy = guessing()
    before = weights(policy.model).clone()
    some = ExpertIteration(policy, policy.model, QUESTIONS, Rollouts(SAMPLING, 1), CONFIG)
    run(some, 1)
    assert not torch.equal(weights(policy.model), before)
    policy.model.load_state_dict(some._base)
    assert torch.equal(weights(policy.model), before)


def test_a_reward_chooses_among_the_right_ones(tmp_path: Path) -> None:
    short = each(lambda question, text: float(not text.startswith("so")))
    some = learner(replace(CONFIG, filter="both", threshold=1.0), tmp_path, reward=short)
    state, [figures] = run(some, 1)
    data = Dataset.from_tensors(state["data"])
    texts = [some.policy.text(tokens) for tokens in data.solutions]
    assert texts and not any(text.startswith("so") for text in texts)
    good = [r for r in Pool(tmp_path) if r.scores["correct"] and not r.text.startswith("so")]
    assert figures["kept"] == len(good) < figures["correct"] * 32


def test_cut_off_samples_are_never_learnt_and_more_than_a_fifth_of_them_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even ones that already show the right answer: they end where the budget did."""
    fitted_on: list = []
    plain = module.sft
    monkeypatch.setattr(
        module, "sft", lambda model, examples, *rest: fitted_on.extend(examples) or plain(model, examples, *rest)
    )
    short = Rollouts(Sampling(max_new_tokens=9), 1)  # `3` + newline + `#### 3` + end, but not with `so ` before it
    some = ExpertIteration(guessing(), base(), QUESTIONS, short, CONFIG)
    with pytest.warns(UserWarning, match=r"max_new_tokens = 9: \d\d% of the samples were cut off"):
        _, [figures] = run(some, 1)
    assert 0.2 < figures["truncated"] < 1
    assert fitted_on and all(example.response[-1] == tokenizer().eos_token_id for example in fitted_on)


def test_a_round_without_a_right_sample_stops_with_rates_and_advice_and_leaves_the_state() -> None:
    hopeless = [Question.of(question.text, "#### 77") for question in QUESTIONS]
    some = learner(questions=hopeless, demonstrations=DEMONSTRATIONS)
    state = some.init()
    before = weights(some.policy.model).clone()
    with pytest.raises(BadInput) as error:
        some.update(state)
    assert "round 1: nothing to learn: 0.00% of 32 samples are right" in str(error.value)
    assert all(advice in str(error.value) for advice in ("easier questions", "larger num_samples", "worked examples"))
    assert "\n" not in str(error.value)
    assert state["step"] == 0 and torch.equal(weights(some.policy.model), before)


@pytest.mark.parametrize(
    "change, advice",
    [({"filter": "both", "threshold": 2.0}, "threshold = 2; lower it"), ({"deduplicate": "equation"}, "another level")],
)
def test_right_samples_that_are_all_refused_stop_with_other_advice(change: dict, advice: str) -> None:
    some = learner(replace(CONFIG, **change), reward=each(lambda question, text: 1.0))
    with pytest.raises(BadInput, match=advice):
        run(some, 1)


def test_worked_examples_are_in_the_first_rounds_prompts_only_and_never_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted_on: list = []
    plain = module.sft
    monkeypatch.setattr(
        module, "sft", lambda model, examples, *rest: fitted_on.append(examples) or plain(model, examples, *rest)
    )
    shots = "1+1?\n2\n#### 2\n" + TEMPLATE
    some = learner(folder=tmp_path, sampling_template=shots)
    run(some, 2)
    policy = guessing()
    asked = replace(policy, template=shots)
    plainly = {question.id: policy.prompt(question).tolist() for question in QUESTIONS}
    with_shots = {question.id: asked.prompt(question).tolist() for question in QUESTIONS}
    for r in Pool(tmp_path):
        assert r.prompt.tolist() == (plainly if r.round else with_shots)[r.question]
    assert len(fitted_on) == 2
    assert all(e.prompt.tolist() in plainly.values() for examples in fitted_on for e in examples)


def test_a_part_of_the_questions_is_drawn_anew_every_round(tmp_path: Path) -> None:
    some = learner(replace(CONFIG, questions_per_round=2, num_samples=24), tmp_path)
    assert len({tuple(some.asked(step)) for step in range(20)}) > 3
    run(some, 2)
    for round in range(2):
        assert {r.question for r in Pool(tmp_path) if r.round == round} == {QUESTIONS[i].id for i in some.asked(round)}


def test_demonstrations_of_other_questions_are_learnt_but_not_sampled(tmp_path: Path) -> None:
    some = learner(questions=QUESTIONS[1:], folder=tmp_path, demonstrations=DEMONSTRATIONS)
    state, _ = run(some, 1)
    assert {r.question for r in Pool(tmp_path)} == {question.id for question in QUESTIONS[1:]}
    assert contents(some, state)[:2] == [
        (q.text, tuple(some.policy.example(q, s).response.tolist())) for q, s in DEMONSTRATIONS
    ]


def test_ready_settings_are_those_of_the_papers(tmp_path: Path) -> None:
    one = rft(replace(CONFIG, filter="both", cumulative=False, refit="continue"))
    assert (one.filter, one.deduplicate, one.cumulative, one.refit) == ("correct", "equation", True, "base")
    many = rest_em(CONFIG)
    assert (many.deduplicate, many.cap, many.cumulative, many.refit) == ("none", 10, False, "base")
    assert one.num_samples == many.num_samples == 8 and one.sft is FIT


# Kills.


def test_rounds_go_on_from_disk_to_the_same_bits_in_a_new_learner(tmp_path: Path) -> None:
    config = replace(CONFIG, questions_per_round=3)
    whole = learner(config, demonstrations=DEMONSTRATIONS)
    ended, figures = run(whole, 3)
    half = learner(config, tmp_path, demonstrations=DEMONSTRATIONS)
    state, _ = run(half, 1)
    arrays = to_arrays(state)
    torch.manual_seed(99)
    resumed = learner(config, tmp_path, demonstrations=DEMONSTRATIONS)
    state = from_arrays(arrays)
    for round in (1, 2):
        state, figure = resumed.update(state)
        assert figure == figures[round]
    resumed.rollouts.close()
    assert torch.equal(weights(resumed.policy.model), weights(whole.policy.model))
    ours, theirs = to_arrays(state), to_arrays(ended)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_round_that_was_killed_half_way_samples_no_finished_question_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, num_samples=3)
    whole = learner(config, questions=MANY)
    _, figures = run(whole, 2)
    asked: list[int] = []
    sample = policies.sample

    def counting(model, prompts, **rest):
        asked.append(len(prompts))
        if len(asked) == 4:  # the second block of the second round
            raise KeyboardInterrupt
        return sample(model, prompts, **rest)

    monkeypatch.setattr(policies, "sample", counting)
    killed = learner(config, tmp_path, questions=MANY)
    state, _ = killed.update(killed.init())
    arrays = to_arrays(state)
    with pytest.raises(KeyboardInterrupt):
        killed.update(state)
    killed.rollouts.close()
    assert asked == [BLOCK, 6, BLOCK, 6]
    assert len(Pool(tmp_path)) == 3 * (len(MANY) + BLOCK)
    asked[:] = []
    resumed = learner(config, tmp_path, questions=MANY)
    state, figure = resumed.update(from_arrays(arrays))
    resumed.rollouts.close()
    assert asked == [6]
    assert figure == figures[1]
    assert torch.equal(weights(resumed.policy.model), weights(whole.policy.model))
    assert len(Pool(tmp_path)) == 3 * 2 * len(MANY)


def test_entering_a_state_puts_the_policy_where_it_says_and_uses_up_the_live_one() -> None:
    some = learner()
    state, _ = some.update(some.init())
    kept, there = from_arrays(to_arrays(state)), weights(some.policy.model).clone()
    later, _ = some.update(state)
    assert not state
    some.enter(later)
    assert not torch.equal(weights(some.policy.model), there)
    some.enter(kept)
    assert torch.equal(weights(some.policy.model), there)
    with pytest.raises(BadInput, match="was used up"):
        some.update(later)


# Bad input, before any work.


@pytest.mark.parametrize(
    "change, rest, message",
    [
        ({"num_samples": 0}, {}, r"num_samples = 0: must be in \[1, inf\)"),
        ({"refit": "bases"}, {}, "refit = 'bases': must be one of 'base', 'continue'; did you mean 'base'"),
        ({"deduplicate": "text"}, {}, "deduplicate = 'text': must be one of 'exact', 'normalised', 'equation', 'none'"),
        ({"filter": "reward"}, {}, "filter = 'reward': needs a reward"),
        ({"questions_per_round": 5}, {}, "questions_per_round = 5: there are only 4"),
        ({"sft": SFTConfig(max_length=500)}, {"demonstrations": DEMONSTRATIONS}, "max_length = 500: must be at most"),
        ({}, {"questions": []}, "questions: there are none"),
        ({}, {"sampling_template": "no place"}, "template: 'no place'; must have"),
        ({}, {"demonstrations": [(QUESTIONS[0], "1" * 80)]}, "example 0: its response of 81 tokens leaves no room"),
    ],
)
def test_bad_input_is_named_before_any_work(
    change: dict, rest: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "sample", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(BadInput, match=message):
        learner(replace(CONFIG, **change), **rest)


def test_a_base_of_another_model_and_greedy_samples_are_refused() -> None:
    with pytest.raises(BadInput, match=r"base: its 'model.embed_tokens.weight' is not that of the policy's model"):
        ExpertIteration(guessing(), untrained(hidden_size=16), QUESTIONS, Rollouts(SAMPLING), CONFIG)
    with pytest.raises(BadInput, match=r"base: its 'lm_head.weight'"):
        ExpertIteration(
            guessing(),
            {k: v for k, v in base().items() if k != "lm_head.weight"},
            QUESTIONS,
            Rollouts(SAMPLING),
            CONFIG,
        )
    with pytest.raises(BadInput, match="temperature = 0: 8 samples"):
        ExpertIteration(guessing(), base(), QUESTIONS, Rollouts(Sampling(temperature=0)), CONFIG)


def test_a_used_up_state_a_foreign_one_and_a_second_start_are_refused() -> None:
    some = learner()
    first = some.init()
    some.update(first)
    with pytest.raises(BadInput, match="was used up"):
        some.update(first)
    with pytest.raises(BadInput, match="init: this learner has begun"):
        some.init()
    with pytest.raises(BadInput, match="is not one of this model"):
        some.enter({"model": {"x": torch.zeros(1)}, "step": 0})


def test_a_start_that_another_state_was_loaded_over_is_no_start() -> None:
    state, _ = (first := learner()).update(first.init())
    some = learner()
    some.enter(from_arrays(to_arrays(state)))
    with pytest.raises(BadInput, match="init: this learner has begun"):
        some.init()


def test_settings_can_be_listed_without_loading_a_framework() -> None:
    import subprocess
    import sys

    code = "import sys, tutelage.posttraining.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
