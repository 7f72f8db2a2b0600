"""Padding, packing and truncation against the model's own loss on single sequences without any of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm.tiny_architectures import VOCABULARY, tiny
from tiny_models import tokenizer

from tutelage.lab.errors import BadInput
from tutelage.lm.training import batches, losses
from tutelage.lm.training.batches import Batch, Example

EOS = 2


def examples(lengths: list[tuple[int, int]], seed: int = 0) -> list[Example]:
    random = np.random.default_rng(seed)
    return [
        Example(random.integers(3, VOCABULARY, p), np.append(random.integers(3, VOCABULARY, r - 1), EOS))
        for p, r in lengths
    ]


RAGGED = examples([(5, 3), (1, 9), (0, 4), (12, 1), (3, 3), (7, 6)])


def loss_of(model, batch: Batch, total: int) -> torch.Tensor:
    logits = model(**batch.inputs()).logits[:, :-1]
    return losses.cross_entropy(logits, batch.ids[:, 1:], batch.learnt[:, 1:], total)


def plain_loss(model, some: list[Example]) -> torch.Tensor:
    """Hugging Face's own loss, sequence by sequence, with prompts labelled −100."""
    total = torch.zeros(())
    for example in some:
        ids = torch.from_numpy(np.concatenate([example.prompt, example.response]))[None]
        labels = ids.clone()
        labels[0, : len(example.prompt)] = -100
        total = total + model(input_ids=ids, labels=labels).loss * example.num_targets
    return total / batches.count_targets(some)


LAYOUTS = {
    "right": lambda some, pad_id: batches.pad(some, pad_id=pad_id),
    "left": lambda some, pad_id: batches.pad(some, side="left", pad_id=pad_id),
    "packed": lambda some, pad_id: batches.pack(some, 20, pad_id=pad_id),
}


@pytest.mark.parametrize("pad_id", [0, EOS])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2"])
def test_every_layout_has_the_loss_and_gradient_of_single_sequences(
    name: str, attention: str, layout: str, pad_id: int
) -> None:
    """Also when the padding token is the end-of-sequence token."""
    model = tiny(name, attn_implementation=attention)
    batch = LAYOUTS[layout](RAGGED, pad_id)
    assert batch.num_targets == batches.count_targets(RAGGED)
    gradients = []
    for loss in (plain_loss(model, RAGGED), loss_of(model, batch, batch.num_targets)):
        model.zero_grad()
        loss.backward()
        gradients.append((float(loss.detach()), [parameter.grad.clone() for parameter in model.parameters()]))
    assert gradients[0][0] == pytest.approx(gradients[1][0], abs=2e-6)
    for one, other in zip(gradients[0][1], gradients[1][1]):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max() + 1e-3))


@pytest.mark.parametrize("layout", ["right", "left", "pack"])
def test_tokens_of_a_response_that_are_only_read_are_not_learnt(layout: str) -> None:
    given = np.array([True, False, True])
    examples = [
        Example(np.array([5, 6]), np.array([7, 8, 9]), given),
        Example(np.array([], int), np.array([7, 8, 9]), given),  # nothing predicts its first token
        Example(np.array([5]), np.array([7, 8, 4])),
    ]
    cut, _ = batches.truncate(examples, 4)
    batch = batches.pack(cut, 9) if layout == "pack" else batches.pad(cut, side=layout)  # type: ignore[arg-type]
    assert sorted(batch.ids[batch.learnt].tolist()) == sorted([7, 9, 9, 7, 8, 4])
    assert batch.num_targets == batches.count_targets(cut) == 6


def test_recurrent_models_are_right_when_padded_on_the_right() -> None:
    model = tiny("mamba")
    batch = batches.pad(RAGGED, pad_id=7)
    assert loss_of(model, batch, batch.num_targets).item() == pytest.approx(plain_loss(model, RAGGED).item(), abs=2e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12)), min_size=1, max_size=20),
    st.integers(24, 60),
    st.integers(1, 80),
)
def test_packing_and_grouping_lose_no_example_and_keep_their_bounds(
    lengths: list[tuple[int, int]], width: int, max_tokens: int
) -> None:
    some = examples(lengths)
    batch = batches.pack(some, width)
    assert batch.ids.shape[1] <= width
    assert batch.num_targets == batches.count_targets(some)
    rows = zip(batch.ids.tolist(), batch.owner.tolist(), batch.positions.tolist())
    found = []
    for ids, owner, positions in rows:
        for number in range(max(owner) + 1):
            places = [place for place, who in enumerate(owner) if who == number]
            assert [positions[place] for place in places] == list(range(len(places)))
            found.append([ids[place] for place in places])
    wanted = [[*example.prompt.tolist(), *example.response.tolist()] for example in some]
    assert sorted(found) == sorted(wanted)
    groups = batches.micro_batches(some, max_tokens)
    assert sorted(id(example) for group in groups for example in group) == sorted(map(id, some))
    assert all(len(group) == 1 or max(map(len, group)) * len(group) <= max_tokens for group in groups)


def test_truncation_keeps_bos_cue_and_response_and_tells_the_rate() -> None:
    example = Example(np.array([1, 10, 11, 12, 13, 14]), np.array([20, EOS]))
    short = Example(np.array([1, 10]), np.array([20, EOS]))
    [cut, same], rate = batches.truncate([example, short], 5, keep_first=1)
    assert cut.prompt.tolist() == [1, 13, 14]
    assert cut.response.tolist() == [20, EOS]
    assert same is short
    assert rate == 0.5


def test_an_encoded_pair_ends_with_eos_and_no_token_crosses_the_seam() -> None:
    letters = tokenizer(bos=False)
    apart, [joined] = [letters.convert_tokens_to_ids(each) for each in ("t", "he")], letters("the")["input_ids"]
    pair = batches.encode(letters, "t", "he")
    assert joined not in apart
    assert pair.prompt.tolist() == apart[:1]
    assert pair.response.tolist() == [apart[1], letters.eos_token_id]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Example(np.arange(2), np.arange(3), np.array([True])), "learnt has shape"),
        (lambda: Example(np.arange(3), np.array([])), "response is empty"),
        (lambda: batches.encode(SimpleNamespace(eos_token_id=None), "a", "b"), "no eos_token"),
        (lambda: batches.truncate(examples([(4, 9)]), 9), "example 0: .* no room for the cue"),
        (lambda: batches.pack(examples([(2, 2), (4, 9)]), 9), "example 1: 13 tokens"),
        (lambda: batches.pad(RAGGED, side="middle"), "'left' or 'right'"),  # type: ignore[arg-type]
    ],
)
def test_bad_input_is_one_line(call, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
