"""The online learner against a literal loop, against exact gradients, and against itself cut up and interrupted."""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from posttraining import nano

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Rollout
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.training import shared_prefix
from tutelage.posttraining.config import OnlineConfig
from tutelage.posttraining.policy import Policy, spans
from tutelage.posttraining.policy_gradient import online
from tutelage.posttraining.policy_gradient.enumeration import exact_objective, model_logprobs, outputs_of
from tutelage.posttraining.policy_gradient.experience import Experience, token_rewards
from tutelage.posttraining.policy_gradient.online import Online
from tutelage.posttraining.questions.question import Question
from tutelage.posttraining.rewards import Earned, place
from tutelage.posttraining.rollouts import Rollouts, each

QUESTIONS = nano.questions("ab", "b", "abc", "cabd", "ac", "bce")
SMALL = {"num_questions": 3, "num_samples": 4, "num_epochs": 2, "num_minibatches": 1, "learning_rate": 3e-3}


def value_of(question: Question, text: str) -> float:
    return text.count("d") - 0.3 * text.count("a") + 0.1 * len(text)


def dense(questions: Sequence[Question], rollouts: Sequence[Rollout]) -> list[Earned]:
    """Something for every letter, and at the end."""
    return [
        [(t + 1, 0.1 * "abcde".index(letter)) for t, letter in enumerate(r.text)] + [(len(r.text), float(len(r.text)))]
        for r in rollouts
    ]


def learner(policy: Policy | None = None, reward=dense, *, seed: int = 0, folder=None, **changes) -> Online:
    config = OnlineConfig(**{**SMALL, **changes})
    rollouts = Rollouts(Sampling(max_new_tokens=6), seed=5, folder=folder)
    return Online(policy or nano.policy(), QUESTIONS, rollouts, reward, config, seed)


@pytest.fixture(autouse=True)
def _truncation_is_no_news():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="max_new_tokens = .* cut off")
        yield


def weights(found: Online) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in found.policy.model.parameters()])


def moved_state(found: Online, seed: int = 1) -> dict:
    """A first state whose policy is no longer the start, so that the divergence from it counts."""
    state = from_arrays(to_arrays(found.init()))
    generator = torch.Generator().manual_seed(seed)
    for tensors in (state["policy"], state["values"]):
        for name, tensor in tensors.items():
            tensors[name] = tensor + 0.1 * torch.randn(tensor.shape, generator=generator)
    return state


class Given(Rollouts):
    """Outputs that are dealt, not drawn."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__(sampling)
        self.next: list[list[tuple[int, ...]]] = []

    def draw(self, policy, questions, num_samples, *, round=0, stage="train"):
        found = []
        for question, outputs in zip(questions, self.next, strict=True):
            prompt, group = policy.prompt(question), []
            for place_, output in enumerate(outputs):
                ids, end = np.array(output), "stop" if output[-1] == 0 else "length"
                told = np.zeros(len(ids), np.float32)
                text = policy.text(ids)
                group.append(
                    Rollout(question.id, prompt, ids, told, text, end, scores={"correct": 0.0}, sample_index=place_)
                )
            found.append(group)
        return found


@pytest.mark.parametrize(("algorithm", "size", "factor"), [("ppo", 1, 1.0), ("rloo", 2, 1.0), ("dr_grpo", 2, 0.5)])
def test_updates_summed_over_all_groups_of_outputs_are_the_exact_gradient(algorithm, size, factor):
    """Of E[R] − β KL, from the gradients that the optimiser of a real learner was given, on a Llama.

    PPO with a trace of 1 and a value function that is anything.
    """
    policy = nano.policy(words=("</s>", "a", "b"))
    dealt = Given(Sampling(max_new_tokens=2))
    config = OnlineConfig(
        algorithm=algorithm,
        num_questions=1,
        num_samples=size,
        num_epochs=1,
        num_minibatches=1,
        kl=0.4,
        max_grad_norm=0,
        trace=1.0,
        whiten=False,
        value_coefficient=0.0,
    )
    amounts = {"a": 1.0, "b": -0.5, "ab": 2.0, "": 0.3, "ba": 0.7}
    found = Online(policy, QUESTIONS[:1], dealt, each(lambda _, text: amounts.get(text, 0.0)), config)
    start = copy.deepcopy(policy.model)
    state = to_arrays(moved_state(found))
    found.enter(from_arrays(state))
    outputs = outputs_of(3, 2)
    prompt = policy.prompt(QUESTIONS[0]).tolist()
    logprobs = model_logprobs(policy.model, prompt, outputs)
    rewards = torch.tensor([amounts.get(policy.text(output), 0.0) for output in outputs])
    goal = exact_objective(logprobs, rewards, model_logprobs(start, prompt, outputs).detach(), 0.4)
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(goal, list(policy.model.parameters()))])
    likely = logprobs.detach().sum(1).exp()
    assert float(likely.sum()) == pytest.approx(1, abs=1e-5)
    expected = torch.zeros_like(exact)
    for group in itertools.product(range(len(outputs)), repeat=size):
        dealt.next = [[outputs[k] for k in group]]
        found.update(from_arrays(state))
        # The loss is divided by the tokens that were drawn, or (Dr. GRPO) the 2 · 2 that could have been.
        tokens = 4 if algorithm == "dr_grpo" else sum(len(outputs[k]) for k in group)
        step = -torch.cat([p.grad.flatten() for p in found.policy.model.parameters()])
        expected += likely[list(group)].prod() * step * tokens / size
    torch.testing.assert_close(expected, factor * exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "ppo", "importance_cap": 1.02},
        {"algorithm": "grpo", "kl_in": "loss"},
        {"algorithm": "rloo", "kl": 0.0},
        {"algorithm": "dr_grpo"},
    ],
    ids=lambda changes: changes["algorithm"],
)
def test_an_update_equals_a_literal_loop_over_single_completions(changes):
    """One sequence after another without padding or cache, sums written out, torch's Adam."""
    found = learner(num_questions=2, kl=changes.pop("kl", 0.5), **changes)
    config, policy = found.config, found.policy
    start = copy.deepcopy(policy.model)
    state = moved_state(found)
    found.enter(state)
    model = copy.deepcopy(policy.model)
    head = copy.deepcopy(found._values.head) if found._values else None
    questions = found.batch(0)
    rollouts = [r for group in found.rollouts.draw(policy, questions, 4, round=0) for r in group]
    earned = [place(pairs, spans(policy.tokenizer, r.completion)) for pairs, r in zip(dense([], rollouts), rollouts)]

    def read(net, rollout):
        ids = torch.from_numpy(np.concatenate([rollout.prompt, rollout.completion]))[None]
        out = net(input_ids=ids, output_hidden_states=True)
        first = len(rollout.prompt) - 1
        table = out.logits[0, first:-1].log_softmax(-1)
        own = table[torch.arange(len(rollout.completion)), torch.from_numpy(rollout.completion)]
        return own, out.hidden_states[-1][0, first:-1]

    with torch.no_grad():
        old = [read(model, r)[0].tolist() for r in rollouts]
        reference = [read(start, r)[0].tolist() for r in rollouts]
        values = [head(read(model, r)[1])[:, 0].tolist() if head else [] for r in rollouts]
    rewards = [
        [r - (config.kl if config.kl_in == "reward" else 0.0) * (a - b) for r, a, b in zip(*three)]
        for three in zip(earned, old, reference)
    ]
    advantages, targets = [], []
    if head:
        for r, v in zip(rewards, values):
            after = [*v, 0.0]
            errors = [r[t] + after[t + 1] - v[t] for t in range(len(r))]
            own = [sum(0.95 ** (k - t) * errors[k] for k in range(t, len(r))) for t in range(len(r))]
            advantages.append(own)
            targets.append([a + b for a, b in zip(own, v)])
        every = [a for own in advantages for a in own]
        advantages = [[(a - np.mean(every)) / (np.std(every) + 1e-8) for a in own] for own in advantages]
    else:
        for row, r in enumerate(rewards):
            group = [sum(rewards[k]) for k in range(row // 4 * 4, row // 4 * 4 + 4)]
            gain = {
                "rloo": sum(r) - (sum(group) - sum(r)) / 3,
                "dr_grpo": sum(r) - sum(group) / 4,
                "grpo": (sum(r) - sum(group) / 4) / (np.std(group, ddof=1) + 1e-4),
            }[config.algorithm]
            advantages.append([gain] * len(r))
    total = sum(map(len, rewards))
    share = {
        "ppo": lambda n: 1 / total,
        "rloo": lambda n: 1 / total,
        "grpo": lambda n: 1 / n / 8,
        "dr_grpo": lambda n: 1 / (8 * 6),
    }[config.algorithm]
    groups = [{"params": list(model.parameters())}]
    groups += [{"params": list(head.parameters()), "lr": config.value_learning_rate}] if head else []
    optimizer = torch.optim.Adam(groups, config.learning_rate, (0.9, 0.95))
    for _ in range(config.num_epochs):
        optimizer.zero_grad()
        loss = torch.zeros(())
        for row, rollout in enumerate(rollouts):
            new, hidden = read(model, rollout)
            for t in range(len(new)):
                ratio, gain = (new[t] - old[row][t]).exp(), advantages[row][t]
                term = -torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain)
                if config.importance_cap:
                    term = term * min(math.exp(old[row][t] - rollout.logprobs[t]), config.importance_cap)
                if config.kl and config.kl_in == "loss":
                    d = new[t] - reference[row][t]
                    term = term + config.kl * ((-d).exp() - 1 + d)
                if head:
                    v, before, target = head(hidden[t])[0], values[row][t], targets[row][t]
                    near = before + (v - before).clamp(-0.2, 0.2)
                    worse = torch.maximum((v - target) ** 2, (near - target) ** 2)
                    term = term + config.value_coefficient * 0.5 * worse
                loss = loss + term * share(len(new))
        loss.backward()
        for group in groups:
            torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
        optimizer.step()
    _, figures = found.update(state)
    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    torch.testing.assert_close(weights(found), expected, rtol=0, atol=3e-5)
    assert figures["reward"] == pytest.approx(np.mean([sum(own) for own in earned]), abs=1e-5)
    assert figures["mismatch"] <= 1e-5
    if config.kl:
        apart = [sum(a) - sum(b) for a, b in zip(old, reference)]
        assert figures["kl"] == pytest.approx(np.mean(apart), abs=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("network", ["trunk", "separate"])
def test_shared_prompts_change_neither_ppos_loss_nor_its_gradient(monkeypatch, kind, network):
    found = []
    for shared in (True, False):
        monkeypatch.setattr(shared_prefix, "can_share", lambda model, shared=shared: shared)
        one = learner(nano.policy(kind=kind), num_epochs=1, max_grad_norm=0.0, value_network=network)
        _, figures = one.update(moved_state(one))
        found.append((figures, torch.cat([p.grad.flatten() for p in one.policy.model.parameters()])))
    (ours, gradient), (plain, expected) = found
    assert ours == pytest.approx(plain, abs=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "grpo", "dr_grpo"])
def test_pieces_padding_and_the_pass_before_change_nothing(algorithm):
    """In one padded piece (readings from the gradient pass itself) and every completion alone, without padding."""
    found = []
    for micro_tokens in (10_000, 40, 1):
        one = learner(algorithm=algorithm, micro_tokens=micro_tokens, num_epochs=2)
        _, figures = one.update(moved_state(one))
        found.append((figures, weights(one)))
    for figures, ended in found[1:]:
        assert figures == pytest.approx(found[0][0], abs=2e-5)
        torch.testing.assert_close(ended, found[0][1], rtol=0, atol=3e-5)


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"algorithm": "rloo", "kl": 0.0}, 1),
        ({"algorithm": "grpo", "kl_in": "loss"}, 2),
        ({"algorithm": "ppo"}, 2),
        ({"algorithm": "ppo", "num_minibatches": 3}, 1 + 1 + 3),
        ({"algorithm": "rloo", "kl": 0.0, "micro_tokens": 1}, 12),
    ],
)
def test_no_pass_is_made_whose_result_is_known(monkeypatch, changes, passes):
    counted = []
    read = online.read_completions

    def counting(*args, **kwargs):
        counted.append(1)
        return read(*args, **kwargs)

    monkeypatch.setattr(online, "read_completions", counting)
    one = learner(**{"num_epochs": 1, **changes})
    one.update(one.init())
    assert len(counted) == passes


def test_with_an_adapter_the_reference_is_the_start_and_only_the_adapter_moves():
    policy = nano.policy()
    start = copy.deepcopy(policy.model)
    one = learner(policy, algorithm="rloo", lora_rank=2, learning_rate=0.02)
    state = one.init()
    assert all("lora" in name for name in state["policy"])
    for _ in range(3):
        state, _ = one.update(state)
    rollouts = [r for group in one.rollouts.draw(one.policy, one.batch(3), 4, round=3) for r in group]
    apart = []
    with torch.no_grad():
        for r in rollouts:
            ids = torch.from_numpy(np.concatenate([r.prompt, r.completion]))[None]
            tables = [net(input_ids=ids).logits[0].log_softmax(-1) for net in (one.policy.model, start)]
            at = torch.arange(len(r.completion)) + len(r.prompt) - 1
            ours, theirs = (table[at, torch.from_numpy(r.completion)] for table in tables)
            apart.append(float((ours - theirs).sum()))
    state, figures = one.update(state)
    assert figures["kl"] == pytest.approx(np.mean(apart), abs=1e-4)
    assert abs(figures["kl"]) > 1e-3
    merged = {name.replace(".base_layer", ""): p for name, p in one.policy.model.get_base_model().named_parameters()}
    for name, p in start.named_parameters():
        assert torch.equal(merged[name], p)


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "ppo", "num_minibatches": 3},
        {"algorithm": "ppo", "value_network": "separate", "lora_rank": 2},
        {"algorithm": "grpo", "kl_in": "loss"},
        {"algorithm": "rloo", "lora_rank": 2},
    ],
    ids=["ppo", "ppo-separate-lora", "grpo", "rloo-lora"],
)
def test_a_run_that_goes_on_from_disk_ends_with_the_same_bits(tmp_path, changes):
    policy = nano.policy()
    whole = learner(nano.fresh(policy), **changes)
    state = whole.init()
    for _ in range(4):
        state, last = whole.update(state)
    half = learner(nano.fresh(policy), folder=tmp_path / "pool", **changes)
    begun = half.init()
    for _ in range(2):
        begun, _ = half.update(begun)
    saved = to_arrays(begun)
    half.rollouts.close()
    torch.manual_seed(99)
    resumed = learner(nano.fresh(policy), folder=tmp_path / "pool", **changes)
    begun = from_arrays(saved)
    for _ in range(2):
        begun, figures = resumed.update(begun)
    resumed.rollouts.close()
    assert torch.equal(weights(whole), weights(resumed))
    assert figures == last
    assert begun["rollouts"] == state["rollouts"] == 4 * 12
    assert begun["step"] == 4
    ours, theirs = to_arrays(begun), to_arrays(state)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "algorithm", ["ppo", "grpo", *(pytest.param(name, marks=_SLOW) for name in ("rloo", "dr_grpo"))]
)
def test_a_token_that_pays_comes_to_be_said(algorithm):
    """From one letter in six to nearly all, within the reach of the divergence's weight."""
    config = {"num_questions": 6, "num_samples": 8, "num_minibatches": 2, "learning_rate": 1e-2, "kl": 0.01}
    one = learner(reward=each(lambda _, text: float(text[:1] == "d")), algorithm=algorithm, **config)
    state, said = one.init(), []
    for _ in range(10):
        state, figures = one.update(state)
        said.append(figures["reward"])
        assert all(math.isfinite(value) for value in figures.values())
    assert said[0] < 0.4
    assert said[-1] > 0.85
    assert figures["kl"] > 0.5
    assert {"reward", "correct", "kl", "entropy", "clip_share", "loss", "truncated", "mismatch"} < figures.keys()
    assert {"informative", "grad_norm", "tokens"} < figures.keys()
    assert ("explained_variance" in figures) == ("value_loss" in figures) == (algorithm == "ppo")


@pytest.mark.parametrize(("network", "rate"), [("trunk", 0.02), pytest.param("separate", 0.01, marks=_SLOW)])
def test_the_value_function_comes_to_explain_returns(network, rate):
    """Questions pay by their length, whatever is said."""
    reward = each(lambda question, _: len(question.text) - 2.0)
    changes = {"num_questions": 6, "num_samples": 8, "num_epochs": 4, "learning_rate": 1e-4, "kl": 0.0}
    one = learner(reward=reward, value_network=network, value_learning_rate=rate, **changes)
    state, explained = one.init(), []
    for _ in range(8):
        state, figures = one.update(state)
        explained.append(figures["explained_variance"])
    assert explained[0] == pytest.approx(0, abs=1e-6)
    assert explained[-1] > 0.2


def test_every_pass_asks_every_question_once_and_the_order_is_the_seeds():
    one = learner(num_questions=2)
    for epoch in range(3):
        asked = [question.text for step in range(3 * epoch, 3 * epoch + 3) for question in one.batch(step)]
        assert sorted(asked) == sorted(question.text for question in QUESTIONS)
    orders = [[q.text for step in range(6) for q in learner(num_questions=2, seed=s).batch(step)] for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_rewards_stand_where_they_were_earned_with_and_without_spans():
    policy = nano.policy()
    rollouts = [r for group in Rollouts(Sampling(max_new_tokens=6)).draw(policy, QUESTIONS, 3) for r in group]
    width = max(len(r.completion) for r in rollouts)
    for reward in (dense, each(value_of)):
        earned = reward([QUESTIONS[0]] * len(rollouts), rollouts)
        found = token_rewards(policy.tokenizer, rollouts, earned, width)
        for row, rollout in enumerate(rollouts):
            n = len(rollout.completion)
            expected = place(earned[row], spans(policy.tokenizer, rollout.completion))
            np.testing.assert_allclose(found[row, :n], expected, atol=1e-12)
            assert not found[row, n:].any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80))
def test_pieces_hold_every_row_once_and_at_most_so_many_tokens(seed, most):
    random = np.random.default_rng(seed)
    questions, samples = int(random.integers(1, 5)), int(random.integers(1, 5))
    prompts = [[1] * int(n) for n in random.integers(1, 9, questions)]
    completions = [[row] * int(n) for row, n in enumerate(random.integers(1, 9, questions * samples))]
    none = torch.zeros(1, 1)
    experience = Experience(samples, prompts, completions, none > 0, none, none)
    pieces = experience.pieces(range(questions), most)
    assert sorted(row for piece in pieces for row in piece.rows.tolist()) == list(range(questions * samples))
    for piece in pieces:
        rows = [row for group in piece.completions for row in group]
        assert rows == [completions[row] for row in piece.rows.tolist()]
        assert piece.width == max(map(len, rows))
        owners = [prompt for prompt, group in zip(piece.prompts, piece.completions) for _ in group]
        assert owners == [prompts[row // samples] for row in piece.rows.tolist()]
        tokens = len(piece.prompts) * max(map(len, piece.prompts)) + len(rows) * piece.width
        assert tokens <= most or len(rows) == 1


def test_rewards_that_never_differ_stop_a_group_algorithm_with_advice():
    one = learner(reward=each(lambda *_: 0.0), algorithm="rloo", num_epochs=1, kl=0.0)
    state = one.init()
    for _ in range(9):
        state, figures = one.update(state)
        assert figures["informative"] == 0
    other = learner(reward=each(lambda *_: 0.0), algorithm="rloo", num_epochs=1, kl=0.0)
    for learns, begun in ((one, state), (other, from_arrays(to_arrays(state)))):
        with pytest.raises(BadInput, match=r"all equal within every group for 10 updates.*num_samples") as caught:
            learns.update(begun)
        assert "\n" not in str(caught.value)
        learns.reward = dense  # the state was not used up
        learns.update(begun)


def test_equal_rewards_do_not_stop_ppo():
    one = learner(reward=each(lambda *_: 1.0), num_epochs=1, num_samples=1)
    state = one.init()
    for _ in range(11):
        state, figures = one.update(state)
    assert "informative" not in figures


def test_many_truncated_completions_are_warned_of_once():
    one = Online(nano.policy(), QUESTIONS, Rollouts(Sampling(max_new_tokens=1)), dense, OnlineConfig(**SMALL))
    with pytest.warns(UserWarning, match=r"max_new_tokens = 1: \d+% of the samples were cut off"):
        state, figures = one.update(one.init())
    assert figures["truncated"] > 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.update(state)


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (lambda qs, rs: [[(0, float("nan"))] for _ in rs], "reward: nan for sample 0"),
        (lambda qs, rs: [[(0, 1.0)] for _ in rs[1:]], r"reward: got shape \(11,\); must be \(12,\)"),
        (lambda qs, rs: [1.0 for _ in rs], "pairs"),
        (each(lambda *_: float("inf")), "reward: inf"),
    ],
)
def test_rewards_that_cannot_be_are_refused(reward, words):
    one = learner(reward=reward)
    state = one.init()
    before = weights(one)
    with pytest.raises(BadInput, match=words):
        one.update(state)
    assert torch.equal(before, weights(one))


@pytest.mark.parametrize(
    ("changes", "sampling", "words"),
    [
        ({"num_samples": 1, "algorithm": "grpo"}, {}, "num_samples = 1: must be at least 2 for 'grpo'"),
        ({"num_questions": 7}, {}, "num_questions = 7: must be at most 6"),
        ({"num_minibatches": 4}, {}, "num_minibatches = 4: must be at most num_questions = 3"),
        ({"algorithm": "gpo"}, {}, "did you mean 'grpo'"),
        ({"learning_rate": float("nan")}, {}, "learning_rate"),
        ({}, {"temperature": 0.0}, "temperature = 0.0: must be above 0"),
        ({}, {"top_p": 0.9}, "top_p = 0.9: must be 1"),
        ({}, {"top_k": 5}, "top_k = 5: must be 0"),
    ],
)
def test_bad_settings_are_one_line(changes, sampling, words):
    rollouts = Rollouts(Sampling(**{"max_new_tokens": 4, **sampling}))
    with pytest.raises(BadInput, match=words) as caught:
        Online(nano.policy(), QUESTIONS, rollouts, dense, OnlineConfig(**{**SMALL, **changes}))
    assert "\n" not in str(caught.value)


def test_a_look_at_another_state_uses_up_the_live_one():
    """Its tensors are the policy's own, which are another's now: it must not be gone on with under its old step."""
    one = learner()
    state, _ = one.update(one.init())
    saved = to_arrays(state)
    state, _ = one.update(state)
    one.enter(from_arrays(saved))
    with pytest.raises(BadInput, match="used up"):
        one.enter(state)
    with pytest.raises(BadInput, match="begun"):
        one.init()


def test_states_that_are_not_its_own_are_refused():
    one = learner()
    first = one.init()
    saved = to_arrays(first)
    one.update(first)
    with pytest.raises(BadInput, match="used up"):
        one.update(first)
    with pytest.raises(BadInput, match="begun"):
        one.init()
    with pytest.raises(BadInput, match="another policy"):
        learner(nano.policy(seed=3)).enter(from_arrays(saved))
    with pytest.raises(BadInput, match="not one of this learner: other parameters"):
        learner(value_network="separate").enter(from_arrays(saved))
