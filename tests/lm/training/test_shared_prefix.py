"""Reading prompts once against reading every sequence alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm.tiny_architectures import VOCABULARY, tiny

from tutelage.lab.errors import BadInput
from tutelage.lm.training.shared_prefix import by_length, can_share, read_completions, read_states


def ids(length: int, seed: int) -> list[int]:
    return torch.randint(0, VOCABULARY, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


PROMPTS = [ids(7, 1), ids(1, 2), ids(4, 3)]
EVEN = [[ids(1 + (3 * q + k) % 5, 10 * q + k) for k in range(4)] for q in range(3)]
UNEVEN = [EVEN[0][:1], EVEN[1], EVEN[2][:2]]
SINGLE_TOKENS = [[[5], [6]], [[7], [8]], [[9], [2]]]


SPREAD = [[ids(n, 100 + n) for n in (2, 50, 3)], [ids(2, 7)] * 12, [ids(1 + n % 4, n) for n in range(9)] + [ids(45, 9)]]
"""Two long completions among many short ones."""


def one_by_one(model, completions) -> torch.Tensor:
    """Σ over all tokens of a weight by place × log p, from each sequence alone."""
    total = torch.zeros(())
    for prompt, group in zip(PROMPTS, completions):
        for completion in group:
            logits = model(input_ids=torch.tensor([prompt + completion])).logits[0]
            logp = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            picked = logp[torch.arange(len(completion)), torch.tensor(completion)]
            total = total + (picked * (1 + torch.arange(len(completion)))).sum()
    return total


@pytest.mark.parametrize(
    "completions", [EVEN, UNEVEN, SINGLE_TOKENS, SPREAD], ids=["even", "uneven", "single tokens", "spread"]
)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
def test_value_and_gradient_equal_single_sequences(name: str, attention: str, shared: bool, completions) -> None:
    model = tiny(name, attn_implementation=attention)
    assert can_share(model)
    wanted = one_by_one(model, completions)
    exact = torch.autograd.grad(wanted, list(model.parameters()))
    reading = read_completions(model, PROMPTS, completions, shared=shared)
    assert reading.mask.sum() == sum(len(row) for group in completions for row in group)
    weights = 1 + torch.arange(reading.logprobs.shape[1])
    found = (reading.logprobs * weights).sum()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)
    gradients = torch.autograd.grad(found, list(model.parameters()))
    worst = max(float((a - b).norm() / (b.norm() + 1e-6)) for a, b in zip(gradients, exact))
    assert worst < 1e-5


@pytest.mark.parametrize("shared", [True, False])
def test_long_completions_do_not_make_padding_of_the_short_ones(shared: bool) -> None:
    model, read = tiny("llama"), []
    assert can_share(model)
    hook = model.register_forward_pre_hook(lambda *given: read.append(given[2]["input_ids"].numel()), with_kwargs=True)
    read_completions(model, PROMPTS, SPREAD, shared=shared)
    hook.remove()
    assert sum(read) < 400  # all in one pass would be 25 rows of 49 tokens or more


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 200))
def test_rows_of_similar_lengths_are_grouped_where_it_pays(lengths: list[int], worth: int) -> None:
    groups = by_length(lengths, worth)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert all(group == sorted(group) for group in groups)
    tops = [max(lengths[row] for row in group) for group in groups]
    assert tops == sorted(tops)
    padded = sum(top * len(group) for top, group in zip(tops, groups))
    assert padded <= max(lengths) * len(lengths) - worth * (len(groups) - 1)
    for group, top in zip(groups, tops):  # no cut that is left out would have paid
        inside = sorted(lengths[row] for row in group)
        assert all((place + 1) * (top - inside[place]) < worth for place in range(len(inside)))


@pytest.mark.parametrize("completions", [UNEVEN, SPREAD], ids=["uneven", "spread"])
def test_entropy_and_hidden_states_are_those_before_each_token(completions) -> None:
    model = tiny("llama")
    options = {"temperature": 0.5, "with_entropy": True, "with_hidden": True}
    found = [read_completions(model, PROMPTS, completions, shared=shared, **options) for shared in (True, False)]
    out = model(input_ids=torch.tensor([PROMPTS[1] + completions[1][2]]), output_hidden_states=True)
    length, row = len(completions[1][2]), len(completions[0]) + 2
    logp = (out.logits[0, :-1] / 0.5).log_softmax(-1)
    for reading in found:
        assert reading.entropy is not None
        assert reading.hidden is not None
        torch.testing.assert_close(reading.entropy[row, :length], -(logp.exp() * logp).sum(-1), rtol=0, atol=1e-5)
        torch.testing.assert_close(reading.hidden[row, :length], out.hidden_states[-1][0, :-1], rtol=0, atol=1e-5)
        assert not reading.entropy[~reading.mask].any()


@pytest.mark.parametrize(
    ("name", "shared"),
    [(name, shared) for name in ("llama", "gpt2", "qwen2") for shared in (True, False)] + [("mamba", False)],
)
def test_states_are_those_at_each_token(name: str, shared: bool) -> None:
    model = tiny(name)
    states, mask = read_states(model, PROMPTS, UNEVEN, shared=shared)
    head = torch.linspace(-1, 1, states.shape[2])
    rows = [(prompt, row) for prompt, group in zip(PROMPTS, UNEVEN) for row in group]
    assert mask.sum(1).tolist() == [len(row) for _, row in rows]
    wanted = torch.zeros(())
    for place, (prompt, row) in enumerate(rows):
        out = model(input_ids=torch.tensor([prompt + row]), output_hidden_states=True).hidden_states[-1][0]
        torch.testing.assert_close(states[place, : len(row)], out[len(prompt) :], rtol=0, atol=1e-5)
        wanted = wanted + (out[len(prompt) :] @ head).sum()
    weights = list(model.base_model.parameters())
    found, exact = (torch.autograd.grad(total, weights) for total in ((states[mask] @ head).sum(), wanted))
    assert max(float((a - b).norm() / (b.norm() + 1e-6)) for a, b in zip(found, exact)) < 1e-5


@pytest.mark.parametrize("name", ["mistral", "mamba"])
def test_windows_and_recurrent_states_are_noticed_and_take_the_plain_path(name: str) -> None:
    model = tiny(name)
    with pytest.warns(UserWarning, match="once per completion"):
        assert not can_share(model)
    found = (read := read_completions(model, PROMPTS, EVEN)).logprobs.sum().item()
    wanted = sum(
        model(input_ids=torch.tensor([prompt + row])).logits[0].log_softmax(-1)[len(prompt) - 1 + place, token].item()
        for prompt, group in zip(PROMPTS, EVEN)
        for row in group
        for place, token in enumerate(row)
    )
    assert found == pytest.approx(wanted, rel=1e-5)
    assert read.logprobs.requires_grad


def test_a_model_whose_cache_lies_is_found_out_by_trial() -> None:
    """Positions that restart at the cache: the structure looks right, the numbers are not."""

    class Forgetful(type(tiny("llama"))):
        def forward(self, input_ids=None, position_ids=None, past_key_values=None, **rest):
            if position_ids is not None and past_key_values is not None and past_key_values.get_seq_length():
                position_ids = torch.zeros_like(position_ids)
            return super().forward(
                input_ids=input_ids, position_ids=position_ids, past_key_values=past_key_values, **rest
            )

    model = Forgetful(tiny("llama").config)
    model.load_state_dict(tiny("llama").state_dict())
    with pytest.warns(UserWarning):
        assert not can_share(model)


def test_gradient_checkpointing_takes_the_plain_path_and_only_then() -> None:
    model = tiny("llama")
    assert can_share(model)
    model.activation_checkpointing_enable()
    model.train()
    assert not can_share(model)
    model.eval()
    assert can_share(model)


def test_the_trial_leaves_every_module_in_its_mode() -> None:
    model = tiny("llama").train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    can_share(model)
    assert [module.training for module in model.modules()] == before


@pytest.mark.parametrize(
    ("prompts", "completions", "temperature", "words"),
    [
        ([[1]], [[[1]], [[2]]], 1.0, "2 groups for 1 prompts"),
        ([[]], [[[1]]], 1.0, "prompt 0"),
        ([[1]], [[[]]], 1.0, "prompt 0"),
        ([[1]], [[]], 1.0, "prompt 0"),
        ([[1] * 60], [[[1] * 5]], 1.0, "65 tokens .* context of 64"),
        ([[1]], [[[1]]], 0.0, "temperature"),
    ],
)
def test_bad_input_is_one_line(prompts, completions, temperature: float, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        read_completions(tiny("llama"), prompts, completions, temperature=temperature)
    assert "\n" not in str(caught.value)
