"""LoRA: the adapter switched off is the base model, and merged it is an ordinary folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lm.tiny_architectures import tiny
from lm.training.test_sft import data
from transformers import AutoModelForCausalLM

from tutelage.lab.errors import BadInput
from tutelage.lm.training.adapters import add_lora, merge, reference
from tutelage.lm.training.config import SFTConfig
from tutelage.lm.training.sft import sft
from tutelage.lm.training.shared_prefix import can_share, read_completions

IDS = torch.tensor([[3, 4, 5, 6]])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_reference_equals_the_base_before_and_after_training_and_merging_keeps_the_policy(
    name: str, tmp_path: Path
) -> None:
    base = tiny(name)(input_ids=IDS).logits
    model = add_lora(tiny(name), rank=4, dropout=0.1)
    assert can_share(model)
    tuning, _, _ = sft(model, data(), SFTConfig(num_epochs=4, learning_rate=0.01))
    assert all("lora_" in key for key in tuning._trained)
    model.train()
    with reference(model) as frozen:
        torch.testing.assert_close(frozen(input_ids=IDS).logits, base, rtol=0, atol=1e-6)
        read = read_completions(frozen, [[3, 4]], [[[5, 6]]])
        torch.testing.assert_close(read.logprobs[0], base[0, 1:3].log_softmax(-1)[[0, 1], [5, 6]], rtol=0, atol=1e-5)
        assert not read.logprobs.requires_grad
    assert model.training
    policy = model.eval()(input_ids=IDS).logits
    assert float((policy - base).detach().abs().max()) > 0.1
    merged = merge(model)
    merged.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(again) is type(tiny(name))
    torch.testing.assert_close(again(input_ids=IDS).logits, policy, rtol=0, atol=1e-4)


def test_bad_input_is_one_line() -> None:
    with pytest.raises(BadInput, match="rank = 0"):
        add_lora(tiny("llama"), rank=0)
    with pytest.raises(BadInput, match="targets = 'nowhere'") as caught:
        add_lora(tiny("llama"), targets="nowhere")
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="no adapter"), reference(tiny("llama")):
        pass
