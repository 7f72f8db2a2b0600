"""Supervised fine-tuning against a plain loop, and against itself interrupted."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lm.tiny_architectures import VOCABULARY, tiny

from tutelage.backends.torch_state import from_arrays, to_arrays
from tutelage.lab.errors import BadInput
from tutelage.lab.storage import checkpoint
from tutelage.lm.training.architecture import decoder_layers
from tutelage.lm.training.batches import Example
from tutelage.lm.training.config import SFTConfig
from tutelage.lm.training.sft import SFT, learning_rate_factor, sft


def data(number: int = 12, seed: int = 0) -> list[Example]:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 9, (number, 2))
    return [Example(random.integers(3, VOCABULARY, p), random.integers(3, VOCABULARY, r)) for p, r in sizes]


CONFIG = SFTConfig(num_epochs=3, batch_size=6, micro_tokens=30, warmup=0.2, weight_decay=0.1)


def weights(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_updates_equal_a_plain_loop_over_single_sequences() -> None:
    """Hugging Face's loss on one unpadded sequence after another, torch's clipping and AdamW."""
    tuning, _, figures = sft(tiny("llama"), data(), CONFIG, seed=1)
    model = tiny("llama").train()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999))
    assert len(figures) == 6
    for step, figure in enumerate(figures):
        chosen = tuning.batch(step)
        count = sum(example.num_targets for example in chosen)
        optimizer.zero_grad()
        total = 0.0
        for example in chosen:
            ids = torch.from_numpy(np.concatenate([example.prompt, example.response]))[None]
            labels = ids.clone()
            labels[0, : len(example.prompt)] = -100
            loss = model(input_ids=ids, labels=labels).loss * example.num_targets / count
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * learning_rate_factor(CONFIG, step, 6)
        optimizer.step()
        assert figure["loss"] == pytest.approx(total, abs=1e-5)
        assert figure["grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    torch.testing.assert_close(weights(tuning.model), weights(model), rtol=0, atol=2e-5)


def test_entering_another_state_uses_up_the_one_that_the_model_held() -> None:
    """Its tensors are the model's own: going back to it would go on from the other's weights."""
    tuning = SFT(tiny("llama"), data(), CONFIG, seed=1)
    other = from_arrays(to_arrays(tuning.init()))
    live, _ = tuning.update(other)
    start = from_arrays(to_arrays(SFT(tiny("llama"), data(), CONFIG, seed=1).init()))
    tuning.enter(start)
    with pytest.raises(BadInput, match="was used up"):
        tuning.update(live)
    state, _ = tuning.update(start)
    again = SFT(tiny("llama"), data(), CONFIG, seed=1)
    again.update(again.init())
    assert state["step"] == 1 and torch.equal(weights(tuning.model), weights(again.model))


def test_a_run_that_goes_on_from_disk_ends_with_the_same_bits(tmp_path: Path) -> None:
    """With dropout, in another process's worth of objects, whatever the global generator did in between."""
    model = tiny("gpt2", resid_pdrop=0.2)
    start = copy.deepcopy(model)
    whole, _, _ = sft(model, data(), CONFIG, seed=3)
    half = SFT(copy.deepcopy(start), data(), CONFIG, seed=3)
    state = half.init()
    for _ in range(3):
        state, _ = half.update(state)
    path = tmp_path / checkpoint.file_name(3)
    checkpoint.save(path, to_arrays(state), step=3, seeds=[3], config_hash="x")
    torch.manual_seed(99)
    resumed = SFT(start, data(), CONFIG, seed=3)
    state = from_arrays(checkpoint.load(path).arrays)
    while state["step"] < resumed.num_updates:
        state, _ = resumed.update(state)
    assert torch.equal(weights(whole.model), weights(resumed.model))


def test_evaluating_changes_neither_training_nor_the_global_generator() -> None:
    plain, _, _ = sft(tiny("gpt2", resid_pdrop=0.2), data(), CONFIG)
    tuning = SFT(tiny("gpt2", resid_pdrop=0.2), data(), CONFIG)
    state = tuning.init()
    generator = torch.get_rng_state()
    while state["step"] < tuning.num_updates:
        state, _ = tuning.update(state)
        tuning.evaluate(state, data(5, seed=9))
    assert torch.equal(weights(plain.model), weights(tuning.model))
    assert torch.equal(torch.get_rng_state(), generator)


def test_packed_and_padded_training_are_the_same() -> None:
    changes = {"num_epochs": 1.0, "batch_size": 6, "micro_tokens": 40, "max_length": 20}
    padded, _, one = sft(tiny("llama"), data(), SFTConfig(**changes))
    packed, _, other = sft(tiny("llama"), data(), SFTConfig(pack=True, **changes))
    assert [f["loss"] for f in one] == pytest.approx([f["loss"] for f in other], abs=2e-6)
    torch.testing.assert_close(weights(padded.model), weights(packed.model), rtol=0, atol=2e-5)


def test_evaluation_is_the_exponential_of_the_mean_loss_per_token() -> None:
    tuning = SFT(tiny("llama"), data(), CONFIG)
    found = tuning.evaluate(tuning.init())
    logp, count = 0.0, 0
    for example in data():
        ids = torch.from_numpy(np.concatenate([example.prompt, example.response]))[None]
        table = tuning.model(input_ids=ids).logits[0].log_softmax(-1)
        for place in range(max(1, len(example.prompt)), len(example)):
            logp, count = logp + table[place - 1, ids[0, place]].item(), count + 1
    assert found["tokens"] == count
    assert found["loss"] == pytest.approx(-logp / count, abs=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(-logp / count), rel=1e-5)


def test_every_epoch_sees_every_example_once_and_the_order_is_the_seeds() -> None:
    tuning = SFT(tiny("llama"), data(), CONFIG, seed=4)
    for epoch in range(3):
        seen = [example for step in (2 * epoch, 2 * epoch + 1) for example in tuning.batch(step)]
        assert sorted(map(id, seen)) == sorted(map(id, tuning.examples))
    orders = [[len(example) for example in SFT(tiny("llama"), data(), CONFIG, seed=s).batch(0)] for s in (4, 4, 5)]
    assert orders[0] == orders[1] != orders[2]


def test_frozen_parts_stay_to_the_bit_and_the_rest_moves() -> None:
    before = tiny("llama").state_dict()
    tuning, _, _ = sft(tiny("llama"), data(), SFTConfig(num_epochs=1, freeze=0.5))
    after = tuning.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith(("model.layers.1.", "model.norm")) for name in moved)
    assert len(decoder_layers(tuning.model)) == 2


def test_the_schedule_rises_and_falls_as_written() -> None:
    config = SFTConfig(warmup=0.2)
    found = [learning_rate_factor(config, step, 10) for step in range(10)]
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[2:] == [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    linear = SFTConfig(warmup=0.0, schedule="linear")
    assert [learning_rate_factor(linear, step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    constant = SFTConfig(warmup=0.0, schedule="constant")
    assert {learning_rate_factor(constant, step, 4) for step in range(4)} == {1.0}


def test_a_used_up_state_is_refused() -> None:
    tuning = SFT(tiny("llama"), data(), CONFIG)
    old = tuning.init()
    tuning.update(old)
    with pytest.raises(BadInput, match="used up"):
        tuning.update(old)
    with pytest.raises(BadInput, match="begun"):
        tuning.init()


@pytest.mark.parametrize(
    ("name", "examples", "changes", "words"),
    [
        ("llama", [], {}, "nothing to learn"),
        ("llama", [Example(np.array([], int), np.array([5]))], {}, "nothing to learn"),
        ("llama", [Example(np.arange(3), np.full(64, 5))], {}, "no room for the cue"),
        ("llama", data(), {"max_length": 65}, "context of 64"),
        ("llama", data(), {"schedule": "cosin"}, "did you mean 'cosine'"),
        ("llama", data(), {"learning_rate": float("nan")}, "learning_rate"),
        ("mistral", data(), {"pack": True}, "pack = True"),
        ("mamba", data(), {"pack": True}, "pack = True"),
    ],
)
def test_bad_input_is_one_line(name: str, examples: list[Example], changes: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        SFT(tiny(name), examples, SFTConfig(**changes))
    assert "\n" not in str(caught.value)


def test_a_state_of_another_model_is_refused() -> None:
    state = SFT(tiny("gpt2"), data(), CONFIG).init()
    with pytest.raises(BadInput, match="not one of this model"):
        SFT(tiny("llama"), data(), CONFIG).update(state)
