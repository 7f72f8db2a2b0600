"""The rooms of the floor together: what one samples another trains on, serves, caches and evaluates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lm.tiny_architectures import tiny

from tutelage import lm
from tutelage.cli import main
from tutelage.lm import folders
from tutelage.lm.pools import Pool, PoolWriter, Rollout
from tutelage.lm.sampling.decoding import sample
from tutelage.lm.sampling.next_token import Sampling
from tutelage.lm.serving.server import running
from tutelage.lm.training import corpus
from tutelage.lm.training.config import PretrainConfig
from tutelage.lm.training.pretraining import pretrain
from tutelage.lm.training.shared_prefix import read_completions


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model of some thousand parameters, as `tutelage lm pretrain` makes it."""
    target = tmp_path_factory.mktemp("models") / "sums"
    problems = corpus.arithmetic(200, seed=0)
    pretrain([problem.text for problem in problems], target, PretrainConfig(size="nano", num_epochs=1), quiet=True)
    return target


# Mistral's window is the case in which both fall back, and say so.
@pytest.mark.filterwarnings("ignore:MistralForCausalLM")
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "mistral"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_sampler_and_trainer_agree_on_every_token(name: str, temperature: float) -> None:
    model = tiny(name)
    draw = np.random.default_rng(0)
    prompts = [draw.integers(3, 50, length).tolist() for length in (1, 4, 9, 9)]
    sampling = Sampling(max_new_tokens=12, temperature=temperature, stop_ids=(2,))
    samples = sample(model, prompts, num_samples=5, sampling=sampling, seed=3)
    with torch.no_grad():
        reading = read_completions(
            model, prompts, [[each.tokens for each in group] for group in samples], temperature=temperature
        )
    drawn = np.concatenate([each.logprobs for group in samples for each in group])
    np.testing.assert_allclose(reading.logprobs[reading.mask].numpy(), drawn, atol=1e-5)


def test_a_folder_and_a_server_over_it_give_the_same(folder: Path, tmp_path: Path) -> None:
    texts = [problem.prompt for problem in corpus.arithmetic(6, seed=1)]
    greedy = [lm.Request(prompt=text, max_tokens=12, temperature=0, logprobs=True) for text in texts]
    drawn = [lm.Request(prompt=text, max_tokens=12, seed=5) for text in texts]
    options = [lm.Scoring(text, ("1", "2", "30")) for text in texts]
    local = lm.connect(folder)
    with running(local, name="sums") as url:
        remote = lm.connect(f"{url}#sums", cache=tmp_path / "answers.sqlite")
        for requests in (greedy, drawn):
            near, far = lm.run(local.generate(requests)), lm.run(remote.generate(requests))
            assert [each.error for each in (*near, *far)] == [None] * 12
            assert [each.text for each in near] == [each.text for each in far]
            assert [each.finish_reason for each in near] == [each.finish_reason for each in far]
        for one, two in zip(lm.run(local.score(options)), lm.run(remote.score(options))):
            np.testing.assert_allclose(one.totals, two.totals, atol=1e-5)
        held = [request.replace(choices=("7", "12")) for request in drawn]
        near, far = ([each.text for each in lm.run(model.generate(held))] for model in (local, remote))
        assert near == far and set(near) <= {"7", "12"}
        near, far = (lm.run(lm.choose(model, greedy[0], ["7", "8"])) for model in (local, remote))
        assert (near.method, far.method, near.index) == ("score", "score", far.index)
        lm.run(remote.close())
    answered = lm.run(local.generate(greedy))
    replay = lm.connect(f"{url}#sums", cache=tmp_path / "answers.sqlite", cache_mode="replay")
    assert [each.text for each in lm.run(replay.generate(greedy))] == [each.text for each in answered]
    lm.run(replay.close())
    lm.run(local.close())


def test_what_is_sampled_is_what_is_kept_and_read_again(folder: Path, tmp_path: Path) -> None:
    network, tokenizer = folders.load(folder)
    prompts = [tokenizer.encode(problem.prompt) for problem in corpus.arithmetic(3, seed=2)]
    samples = sample(network, prompts, num_samples=4, sampling=Sampling(max_new_tokens=6), seed=1)
    with PoolWriter(tmp_path / "pool") as pool:
        for number, group in enumerate(samples):
            for index, each in enumerate(group):
                text = tokenizer.decode(each.tokens, skip_special_tokens=True)
                pool.append(Rollout(str(number), prompts[number], each.tokens, each.logprobs, text, sample_index=index))
    for rollout, each in zip(Pool(tmp_path / "pool"), [each for group in samples for each in group]):
        assert rollout.completion.tolist() == list(each.tokens)
        np.testing.assert_array_equal(rollout.logprobs, each.logprobs)


def test_the_commands_make_sample_and_judge_a_model(folder: Path, tmp_path: Path, capsys) -> None:
    made = tmp_path / "made"
    settings = ["--size", "nano", "--num-epochs", "1", "--documents", "150", "--quiet"]
    assert main(["lm", "pretrain", "arithmetic", "--out", str(made), *settings]) == 0
    assert "nats per token" in capsys.readouterr().out
    assert main(["lm", "sample", str(made), "Question:", "--n", "2", "--max-tokens", "5", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 2 and all(len(answer["tokens"]) <= 5 for answer in answers)
    held_out = tmp_path / "held-out.jsonl"
    rows = [{"question": each.question, "answer": each.answer} for each in corpus.arithmetic(5, seed=9)]
    held_out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["lm", "eval", str(made), "--data", str(held_out), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["perplexity"] == pytest.approx(np.exp(figures["loss"]))
    assert 0 <= figures["exact_match"] <= 1
