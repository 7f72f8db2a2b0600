"""The decoding loop gives what transformers gives, for every row as if it were alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from tiny_models import VOCABULARY, tiny
from transformers import PreTrainedModel

from tutelage.lab.errors import BadInput
from tutelage.lm.sampling import fallback
from tutelage.lm.sampling.decoding import Decoder, model_stops, sample
from tutelage.lm.sampling.fallback import uncovered
from tutelage.lm.sampling.next_token import Sampling, hashed
from tutelage.lm.sampling.rows import Row
from tutelage.lm.sampling.scoring import Reading, read

COVERED: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"num_key_value_heads": 4}),
    ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    ("qwen2", {}),
    ("qwen3", {"head_dim": 16}),
    ("gpt2", {}),
    ("mistral", {"sliding_window": None}),
    ("mistral", {"sliding_window": 128}),
]
NAMES = [f"{name}-{'-'.join(map(str, changes.values()))}" for name, changes in COVERED]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ragged(number: int, longest: int = 70, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    lengths = [1, 2, longest, *rng.integers(1, longest, number)][:number]
    return [rng.integers(2, VOCABULARY, length).tolist() for length in lengths]


def generated(model: PreTrainedModel, prompt: list[int], new: int, stops: tuple[int, ...] = ()) -> list[int]:
    """The reference: `generate()` on this prompt alone, without any padding."""
    ids = torch.tensor([prompt])
    model.eval()
    stop: Any = {"eos_token_id": list(stops)} if stops else {"eos_token_id": None}
    out = model.generate(  # type: ignore[operator]
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, pad_token_id=1, **stop
    )
    return out[0, len(prompt) :].tolist()


def fresh_logprobs(model: PreTrainedModel, prompt: list[int], tokens: np.ndarray, temperature: float) -> np.ndarray:
    """The reference: one plain forward over the whole row."""
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1].float()
    chosen = torch.log_softmax(logits / (temperature or 1), -1)
    return chosen[torch.arange(len(tokens)), torch.from_numpy(tokens)].numpy()


@pytest.mark.parametrize(("name", "changes"), COVERED, ids=NAMES)
def test_greedy_tokens_equal_generates_for_100_of_100_ragged_prompts(name: str, changes: dict[str, Any]) -> None:
    model = tiny(name, **changes)
    assert uncovered(model) == ""
    prompts = ragged(100)
    stops = (5, 6, 7, 8, 9)
    found = sample(model, prompts, sampling=Sampling(max_new_tokens=8, temperature=0, stop_ids=stops), max_rows=37)
    equal = [generated(model, prompt, 8, stops) == row.tokens.tolist() for prompt, [row] in zip(prompts, found)]
    assert sum(equal) == 100
    assert {row.finish for [row] in found} == {"stop", "length"}


@pytest.mark.parametrize(("name", "changes"), COVERED, ids=NAMES)
def test_log_probabilities_equal_those_of_a_fresh_forward(name: str, changes: dict[str, Any]) -> None:
    model, prompts = tiny(name, **changes), ragged(8)
    for temperature in (1.0, 0.7, 0.0):
        sampling = Sampling(max_new_tokens=40, temperature=temperature, stop_ids=(5, 6))
        for prompt, rows in zip(prompts, sample(model, prompts, num_samples=3, sampling=sampling, max_rows=10)):
            for row in rows:
                assert row.logprobs.dtype == np.float32 and len(row.logprobs) == len(row.tokens)
                expected = fresh_logprobs(model, prompt, row.tokens, temperature)
                np.testing.assert_allclose(row.logprobs, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_row_has_the_same_tokens_alone_in_a_batch_of_64_and_admitted_late(name: str) -> None:
    model, prompts = tiny(name), ragged(64)
    sampling = Sampling(max_new_tokens=24, stop_ids=(5, 6))
    seeds = np.random.default_rng(1).integers(0, 2**62, (64, 1))
    together = sample(model, prompts, sampling=sampling, seed=seeds, max_rows=64)
    few = sample(model, prompts, sampling=sampling, seed=seeds, max_rows=3)
    for number in range(64):
        np.testing.assert_array_equal(together[number][0].tokens, few[number][0].tokens)
        np.testing.assert_allclose(together[number][0].logprobs, few[number][0].logprobs, atol=1e-5)
    for number in range(0, 64, 7):
        [[alone]] = sample(model, [prompts[number]], sampling=sampling, seed=seeds[number : number + 1])
        np.testing.assert_array_equal(alone.tokens, together[number][0].tokens)
    rows = [Row(np.array(prompt), sampling, int(seed), frozenset((5, 6))) for prompt, [seed] in zip(prompts, seeds)]
    with Decoder(model) as decoder:
        for late in range(0, 64, 5):
            decoder.admit(rows[late : late + 5])
            decoder.step()
        while decoder.live:
            decoder.step()
    assert [row.tokens for row in rows] == [row.tokens.tolist() for [row] in together]


def test_long_rows_survive_growing_and_moving_storage() -> None:
    model = tiny("llama", max_position_embeddings=512, num_key_value_heads=4)
    sampling = Sampling(max_new_tokens=200, temperature=0, stop_ids=())
    first, second = (Row(np.array(prompt), sampling) for prompt in ragged(2, seed=3))
    short = [Row(np.array([9, number]), Sampling(max_new_tokens=9, temperature=0)) for number in range(40)]
    with Decoder(model) as decoder:
        decoder.admit([first])
        for step in range(400):
            if step % 7 == 0 and short:
                decoder.admit([short.pop()])
            if step == 150:
                decoder.admit([second])
            decoder.step()
    assert not decoder.live
    for row in (first, second):
        assert row.tokens == generated(model, row.prompt.tolist(), 200)


def test_rows_that_finish_or_are_stopped_leave_the_others_as_they_were() -> None:
    model, prompts = tiny("llama"), ragged(12)
    sampling = Sampling(max_new_tokens=20, stop_ids=())
    whole = sample(model, prompts, num_samples=4, sampling=sampling)
    rows = [[Row(np.array(prompt), sampling) for _ in range(4)] for prompt in prompts]
    for number, group in enumerate(rows):
        for k, row in enumerate(group):
            row.seed = int(hashed(0, np.array(number), np.array(k))[0])
            length = 1 + (number * 7 + k * 3) % 20
            row.watch = lambda row, length=length: len(row.tokens) >= length
    with Decoder(model) as decoder:
        decoder.admit([row for group in rows for row in group])
        while decoder.live:
            decoder.step()
    for group, expected in zip(rows, whole):
        for row, longer in zip(group, expected):
            assert row.tokens == longer.tokens[: len(row.tokens)].tolist() and row.finish == "stop"
    assert min(len(row.tokens) for group in rows for row in group) == 1


def test_samples_of_a_model_pass_a_chi_square_test_against_its_enumerated_law() -> None:
    model = tiny("llama", vocab_size=12)
    prompt = [3, 4, 5]
    found = sample(model, [prompt], num_samples=6000, sampling=Sampling(max_new_tokens=2, stop_ids=(7,)), max_rows=700)
    law: dict[tuple[int, ...], float] = {}
    for a in range(12):
        rest = [(a,)] if a == 7 else [(a, b) for b in range(12)]
        for tokens in rest:
            law[tokens] = float(np.exp(fresh_logprobs(model, prompt, np.array(tokens), 1.0).sum()))
    assert sum(law.values()) == pytest.approx(1, abs=1e-5)
    counts = dict.fromkeys(law, 0)
    for row in found[0]:
        counts[tuple(row.tokens.tolist())] += 1
    expected = np.array([law[tokens] * 6000 for tokens in law])
    observed = np.array([counts[tokens] for tokens in law])
    common = expected >= 5
    wanted = np.append(expected[common], expected[~common].sum())
    seen = np.append(observed[common], observed[~common].sum())
    assert stats.chisquare(seen, wanted * seen.sum() / wanted.sum()).pvalue > 1e-3


def test_context_is_never_exceeded_and_a_prompt_without_room_is_refused() -> None:
    for name in ("llama", "gpt2"):
        model, rng = (
            tiny(name, **({"n_positions": 32} if name == "gpt2" else {"max_position_embeddings": 32})),
            ragged(1),
        )
        del rng
        prompts = [list(range(2, 2 + length)) for length in (31, 30, 1)]
        found = sample(model, prompts, sampling=Sampling(max_new_tokens=50, temperature=0, stop_ids=()))
        assert [len(row.tokens) for [row] in found] == [1, 2, 31]
        assert {row.finish for [row] in found} == {"length"}
        assert found[2][0].tokens.tolist() == generated(model, prompts[2], 31)
        with pytest.raises(BadInput, match="prompt 1 has 32 tokens: the context of 32"):
            sample(model, [[1], list(range(32))])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": [[]]}, "prompt 0 is empty"),
        ({"prompts": [[1], [VOCABULARY]]}, f"prompt 1 has the id {VOCABULARY}: must be in 0–{VOCABULARY - 1}"),
        ({"prompts": [[-1]]}, "prompt 0 has the id -1"),
        ({"prompts": [[1]], "num_samples": 0}, "num_samples is 0"),
        ({"prompts": [[1]], "seed": np.zeros((2, 2))}, "seed has the shape"),
    ],
)
def test_bad_prompts_are_named_before_any_work(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        sample(tiny("llama"), **arguments)


def test_stop_ids_come_from_the_model_and_pad_may_equal_eos() -> None:
    model = tiny("llama")
    assert model_stops(model) == (1,) and model.config.pad_token_id == 1
    found = sample(model, [[3, 4]], num_samples=400, sampling=Sampling(max_new_tokens=30))
    ended = [row for row in found[0] if row.finish == "stop"]
    assert ended and all(row.tokens[-1] == 1 and 1 not in row.tokens[:-1] for row in ended)
    assert all(len(row.tokens) == 30 and 1 not in row.tokens for row in found[0] if row.finish == "length")
    model.generation_config.eos_token_id = None  # type: ignore[union-attr]
    assert model_stops(model) == ()
    assert {row.finish for row in sample(model, [[3, 4]], num_samples=9, sampling=Sampling(max_new_tokens=5))[0]} == {
        "length"
    }


def test_the_model_is_left_as_it_was_even_when_decoding_fails() -> None:
    model = tiny("llama", attention_dropout=0.5)
    model.model.layers[0].eval()  # type: ignore[union-attr,index,operator]
    modes = [module.training for module in model.modules()]
    before = model.config._attn_implementation
    first = sample(model, [[3, 4]], sampling=Sampling(max_new_tokens=5))
    assert [module.training for module in model.modules()] == modes and model.config._attn_implementation == before

    def broken(row: Row) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Decoder(model) as decoder:
        decoder.admit([Row(np.array([3]), Sampling(), watch=broken)])
    assert [module.training for module in model.modules()] == modes and model.config._attn_implementation == before
    loss = model.train()(input_ids=torch.tensor([[3, 4, 5]]), labels=torch.tensor([[3, 4, 5]])).loss
    loss.backward()
    assert model.lm_head.weight.grad is not None  # type: ignore[union-attr]
    again = sample(model, [[3, 4]], sampling=Sampling(max_new_tokens=5))
    np.testing.assert_array_equal(first[0][0].tokens, again[0][0].tokens)


def test_bfloat16_runs_and_stays_near_float32() -> None:
    model, prompts = tiny("llama"), ragged(6)
    sampling = Sampling(max_new_tokens=8, stop_ids=())
    half = tiny("llama")
    torch.nn.Module.to(half, torch.bfloat16)
    assert uncovered(half) == ""
    for prompt, [row] in zip(prompts, sample(half, prompts, sampling=sampling)):
        assert np.abs(row.logprobs - fresh_logprobs(model, prompt, row.tokens, 1.0)).max() < 0.5


def test_allowed_tokens_and_alternatives_are_honoured_per_row() -> None:
    model = tiny("llama")
    rows = [Row(np.array([3, 4]), Sampling(max_new_tokens=6, top_logprobs=k), seed=k) for k in range(3)]
    rows[1].allowed = lambda row: [10 + len(row.tokens)]
    with Decoder(model) as decoder:
        decoder.admit(rows)
        while decoder.live:
            decoder.step()
    assert rows[1].tokens == [10, 11, 12, 13, 14, 15]
    assert [len(row.top) for row in rows] == [0, 6, 6] and len(rows[2].top[0][0]) == 2
    expected = fresh_logprobs(model, [3, 4], np.array(rows[1].tokens), 1.0)
    np.testing.assert_allclose(rows[1].logprobs, expected, atol=1e-5)


UNCOVERED: list[tuple[str, dict[str, Any], str]] = [
    ("mistral", {"sliding_window": 8}, "sliding window"),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, "sliding window"),
    ("mamba", {}, "LinearAttentionLayer"),
    ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "rotary"),
]


@pytest.mark.parametrize(("name", "changes", "reason"), UNCOVERED, ids=[name for name, *_ in UNCOVERED])
def test_what_is_not_covered_goes_through_generate_with_one_warning_and_the_same_guarantees(
    name: str, changes: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallback, "_warned", set())
    model, prompts = tiny(name, **changes), ragged(9, 30)
    seed = int(hashed(0, np.array(4), np.array(0))[0])
    greedy = Sampling(max_new_tokens=10, temperature=0, stop_ids=(5, 6))
    with pytest.warns(UserWarning, match=reason):
        found = sample(model, prompts, sampling=greedy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = sample(model, prompts, num_samples=3, sampling=Sampling(max_new_tokens=10, stop_ids=(5, 6)))
        [[alone, *_]] = sample(
            model,
            prompts[4:5],
            sampling=Sampling(max_new_tokens=10, stop_ids=(5, 6)),
            seed=np.array([[seed]], np.uint64),
        )
    np.testing.assert_array_equal(alone.tokens, drawn[4][0].tokens)
    for prompt, [row], three in zip(prompts, found, drawn):
        assert row.tokens.tolist() == generated(model, prompt, 10, (5, 6))
        for each in three:
            np.testing.assert_allclose(each.logprobs, fresh_logprobs(model, prompt, each.tokens, 1.0), atol=1e-5)
    readings = [Reading(prompt, [[3, 4, 5], [6]]) for prompt in prompts]
    for reading, scores in zip(readings, read(model, readings)):
        for suffix, logprobs in zip(reading.suffixes, scores):
            expected = fresh_logprobs(model, list(reading.prefix), np.array(suffix), 1.0)
            np.testing.assert_allclose(logprobs, expected, atol=1e-5)


def test_a_model_that_computes_attention_differently_is_found_out_by_trying() -> None:
    model = tiny("llama")
    layer: Any = model.model.layers[1].self_attn  # type: ignore[union-attr,index]
    original = type(layer).forward

    def with_extra(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, softcap=30.0, **kwargs)

    layer.forward = with_extra.__get__(layer)
    assert "softcap" in uncovered(model)
    other = tiny("llama")
    inner: Any = other.model
    plain = inner.rotary_emb.forward
    inner.rotary_emb.forward = lambda x, position_ids: plain(x, position_ids - position_ids[:, :1])
    assert "other logits" in uncovered(other)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("cells", [1, 1 << 12, 1 << 25])
def test_scores_equal_a_plain_loop_at_any_batch_size(name: str, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.lm.sampling.scoring._CELLS", cells)
    model, rng = tiny(name), np.random.default_rng(0)
    readings = [
        Reading(prompt, [rng.integers(0, VOCABULARY, rng.integers(1, 30)).tolist() for _ in range(rng.integers(1, 5))])
        for prompt in ragged(10, 90)
    ]
    readings.append(Reading([3] * 126, [[4, 5], [6]]))
    for reading, scores in zip(readings, read(model, readings)):
        for suffix, logprobs in zip(reading.suffixes, scores):
            expected = fresh_logprobs(model, list(reading.prefix), np.array(suffix), 1.0)
            np.testing.assert_allclose(logprobs, expected, atol=1e-5)


def test_a_lora_model_is_decoded_as_its_merged_self() -> None:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads an attribute that transformers renames
        settings = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        model: Any = get_peft_model(tiny("llama"), settings)  # type: ignore[arg-type]
    assert uncovered(model) == ""
    sampling = Sampling(max_new_tokens=10, stop_ids=())
    found = sample(model, ragged(5), num_samples=2, sampling=sampling)
    merged = sample(model.merge_and_unload(), ragged(5), num_samples=2, sampling=sampling)
    for a, b in zip(found, merged):
        assert [row.tokens.tolist() for row in a] == [row.tokens.tolist() for row in b]
