"""Rollout pools: what goes in comes out, whatever is killed, torn, repeated or read meanwhile."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tutelage.lab.errors import BadInput
from tutelage.lm.pools import Pool, PoolWriter, Rollout

ROOT = Path(__file__).resolve().parents[2]


def rollout(number: int = 0, **changes: Any) -> Rollout:
    n = 1 + number % 7
    values: dict[str, Any] = {
        "question": f"q{number // 4}",
        "prompt": np.arange(5) + number // 4,
        "completion": np.arange(n) * (70_000 if number % 3 == 0 else 9),
        "logprobs": -np.linspace(0.1, 2.0, n).astype(np.float32),
        "text": f"2 + {number} = …\n#### {number}",
        "reward": number / 3,
        "sample_index": number % 4,
        "policy": "base",
    }
    return Rollout(**values | changes)


def same(one: Rollout, other: Rollout) -> bool:
    for each in dataclasses.fields(Rollout):
        a, b = getattr(one, each.name), getattr(other, each.name)
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            if a is None or b is None or not np.array_equal(a, b):
                return False
        elif a != b:
            return False
    return True


TEXT = st.text(st.characters(), max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
IDS = st.integers(0, 2**32 - 1)


@st.composite
def rollouts(draw) -> Rollout:
    n = draw(st.integers(1, 6))
    halves = st.floats(-50, 0, width=32)
    return Rollout(
        question=draw(TEXT),
        prompt=np.array(draw(st.lists(IDS, max_size=5)), np.int64),
        completion=np.array(draw(st.lists(IDS, min_size=n, max_size=n)), np.int64),
        logprobs=np.array(draw(st.lists(halves, min_size=n, max_size=n)), np.float32),
        text=draw(TEXT),
        finish_reason=draw(st.sampled_from(["stop", "length"])),
        reward=draw(st.none() | FINITE),
        token_rewards=draw(st.none() | st.just(np.linspace(-1, 1, n).astype(np.float32))),
        answer=draw(st.none() | TEXT),
        scores=draw(st.dictionaries(TEXT, FINITE, max_size=2)),
        policy=draw(TEXT),
        round=draw(st.integers(0, 9)),
        sample_index=draw(st.integers(0, 2**32 - 1)),
        seed=draw(st.integers(0, 2**64 - 1)),
        parents=tuple(draw(st.lists(TEXT, max_size=2))),
    )


@settings(max_examples=50, deadline=None)
@given(many=st.lists(rollouts(), max_size=6), shard_bytes=st.sampled_from([1, 200, 10**6]), data=st.data())
def test_whatever_is_appended_is_read_back_in_order_and_only_once(tmp_path_factory, many, shard_bytes, data) -> None:
    """Over several shards, writers and repetitions; lone surrogates in texts included."""
    folder = tmp_path_factory.mktemp("pool")
    cut = data.draw(st.integers(0, len(many)))
    unique = list({each.id: each for each in reversed(many)}.values())[::-1]
    unique = [next(each for each in many if each.id == key.id) for key in unique]
    with PoolWriter(folder, shard_bytes=shard_bytes) as writer:
        first = writer.append(many[:cut])
    with PoolWriter(folder, shard_bytes=shard_bytes) as writer:
        assert first + writer.append(many) == len(unique)
        assert writer.append(many) == 0
        assert all(each in writer for each in many)
    pool = Pool(folder)
    assert len(pool) == len(unique)
    order = list({each.id: None for each in many})
    assert [each.id for each in pool] == order
    by_id = {each.id: each for each in reversed(many)}
    assert all(same(each, by_id[each.id]) for each in pool)
    assert all(same(pool[row], by_id[key]) for row, key in enumerate(order))


def test_a_pool_cut_at_any_byte_loses_only_the_unfinished_record(tmp_path: Path) -> None:
    """Every length of the file, and bytes of zeros as a power cut may leave them."""
    with PoolWriter(tmp_path / "whole") as writer:
        writer.append(rollout(number) for number in range(5))
    data = (tmp_path / "whole" / "shard-00000.rollouts").read_bytes()
    head = (tmp_path / "whole" / "pool.json").read_bytes()
    pool = Pool(tmp_path / "whole")
    len(pool)
    starts = [*pool._shards[0].rollouts.tolist()[1:], None]
    ends = []
    for start, following in zip(pool._shards[0].rollouts.tolist(), starts):
        ends.append(start + 9 + int.from_bytes(data[start : start + 4], "little"))
        assert following is None or following >= ends[-1]
    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "pool.json").write_bytes(head)
    for size in range(0, len(data), 3):
        for tail in (b"", bytes(7)):
            (folder / "shard-00000.rollouts").write_bytes(data[:size] + tail)
            wanted = sum(end <= size for end in ends)
            assert len(Pool(folder)) == wanted
            with PoolWriter(folder) as writer:
                assert writer.append(rollout(number) for number in range(5)) == 5 - wanted
            assert all(same(one, rollout(number)) for number, one in enumerate(Pool(folder)))


def test_damage_before_the_end_is_told_and_not_cut_away(tmp_path: Path) -> None:
    with PoolWriter(tmp_path) as writer:
        writer.append(rollout(number) for number in range(5))
    path = tmp_path / "shard-00000.rollouts"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match="damaged at byte"):
        len(Pool(tmp_path))
    with pytest.raises(BadInput, match="damaged at byte"):
        PoolWriter(tmp_path)
    assert path.read_bytes() == data


APPEND_FOR_EVER = """
import sys
from lm.test_pools import rollout
from tutelage.lm.pools import PoolWriter
with PoolWriter(sys.argv[1], shard_bytes=20_000) as writer:
    print("ready", flush=True)
    number = 0
    while True:
        writer.append(rollout(number))
        number += 1
"""


def test_a_writer_killed_again_and_again_leaves_a_prefix_of_what_it_would_have_written(tmp_path: Path) -> None:
    """A reader follows all the while, and never sees half a rollout."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    moments, seen, reader = random.Random(0), 0, None
    for _ in range(4):
        command = [sys.executable, "-c", APPEND_FOR_EVER, str(tmp_path)]
        writer = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        reader = reader or Pool(tmp_path)
        until = time.monotonic() + moments.uniform(0.05, 0.3)
        while time.monotonic() < until:
            now = len(reader)
            assert now >= seen
            if now:
                assert same(reader[now - 1], rollout(now - 1))
            seen = now
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    found = list(Pool(tmp_path))
    assert len(found) >= seen > 0
    assert all(same(each, rollout(number)) for number, each in enumerate(found))


@pytest.mark.parametrize("room", [0, 20, 120])
def test_a_writer_goes_on_after_the_disk_was_full(tmp_path: Path, room: int) -> None:
    many = [rollout(4 * number) for number in range(4)]  # each with a prompt of its own
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with PoolWriter(tmp_path) as pool:
        pool.append(many[0])
        resource.setrlimit(resource.RLIMIT_FSIZE, (Pool(tmp_path).size_on_disk() + room, before[1]))
        try:
            with pytest.raises(BadInput, match="cannot write"):
                pool.append(many[1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [same(*pair) for pair in zip(Pool(tmp_path), many)] == [True]
        assert many[1] not in pool and pool.append(many[2:]) == 2 and pool.append(many) == 1
    expected = [many[0], *many[2:], many[1]]
    assert [same(*pair) for pair in zip(Pool(tmp_path), expected, strict=True)] == [True] * 4


def test_annotations_add_to_rollouts_and_the_last_one_wins(tmp_path: Path) -> None:
    with PoolWriter(tmp_path) as writer:
        writer.append([rollout(0, reward=None, scores={"length": 1.0}), rollout(1)])
        reader = Pool(tmp_path)
        assert reader[0].reward is None
        writer.annotate(rollout(0), reward=1.0, answer="4", scores={"orm": 0.25})
        writer.annotate(rollout(0).id, scores={"orm": 0.75})
        for _ in range(2):  # reading changes nothing
            assert (reader[0].reward, reader[0].answer) == (1.0, "4")
            assert reader[0].scores == {"length": 1.0, "orm": 0.75}
        assert same(reader[1], rollout(1))


def test_only_one_process_writes_and_notes_must_agree(tmp_path: Path) -> None:
    with PoolWriter(tmp_path, notes={"tokenizer": "a"}), pytest.raises(BadInput, match="in use by process"):
        PoolWriter(tmp_path)
    with pytest.raises(BadInput, match="other notes"):
        PoolWriter(tmp_path, notes={"tokenizer": "b"})
    with PoolWriter(tmp_path) as writer:
        writer.append(rollout())
    assert Pool(tmp_path).notes == {"tokenizer": "a"}


def test_exports_hold_every_field(tmp_path: Path) -> None:
    many = [rollout(n, scores={"orm": 0.5}, parents=("x",)) for n in range(7)] + [rollout(9, reward=None)]
    with PoolWriter(tmp_path / "pool") as writer:
        writer.append(many)
    pool = Pool(tmp_path / "pool")
    assert pool.to_jsonl(tmp_path / "pool.jsonl") == pool.to_parquet(tmp_path / "pool.parquet", group=3) == 8
    lines = [json.loads(line) for line in (tmp_path / "pool.jsonl").read_text().splitlines()]
    rows = parquet.read_table(tmp_path / "pool.parquet").to_pylist()
    for each, line, row in zip(many, lines, rows, strict=True):
        assert line["id"] == row["id"] == each.id
        assert line["completion"] == row["completion"] == each.completion.tolist()
        assert line["logprobs"] == row["logprobs"] == each.logprobs.tolist()
        assert line["reward"] == row["reward"] == each.reward
        assert line["scores"] == dict(row["scores"]) == each.scores
        assert set(line) == set(row) == {"id", *Rollout.__dataclass_fields__}


def test_questions_are_grouped_in_order(tmp_path: Path) -> None:
    with PoolWriter(tmp_path) as writer:
        writer.append(rollout(number) for number in range(10))
    groups = Pool(tmp_path).by_question()
    assert {name: len(group) for name, group in groups.items()} == {"q0": 4, "q1": 4, "q2": 2}
    assert [each.sample_index for each in groups["q1"]] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"logprobs": np.zeros(3, np.float32)}, r"logprobs has shape \(3,\): must be \(1,\)"),
        ({"token_rewards": np.zeros(2)}, "token_rewards has shape"),
        ({"token_rewards": np.array([math.nan])}, "token_rewards .* not finite"),
        ({"logprobs": np.array([0.5])}, "at most 0"),
        ({"logprobs": np.array([-math.inf])}, "not finite"),
        ({"reward": math.nan}, "reward is nan"),
        ({"scores": {"orm": math.inf}}, "orm is inf"),
        ({"completion": np.array([], int), "logprobs": np.array([])}, "at least one"),
        ({"completion": np.array([-1])}, "token ids"),
        ({"completion": np.array([1.5])}, "token ids"),
        ({"finish_reason": "eos"}, "must be one of stop, length"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_could_not_be_trained_on_is_refused_in_one_line_before_anything_is_written(
    changes: dict, words: str, tmp_path: Path
) -> None:
    with PoolWriter(tmp_path) as writer, pytest.raises(BadInput, match=words) as caught:
        writer.append([rollout(1), rollout(0, **changes)])
    assert "\n" not in str(caught.value)
    assert len(Pool(tmp_path)) == 0


def test_a_folder_that_is_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a rollout pool"):
        Pool(tmp_path)
    (tmp_path / "pool.json").write_text('{"format": 9, "notes": {}}')
    with pytest.raises(BadInput, match="format 9"):
        Pool(tmp_path)
    with PoolWriter(tmp_path / "other") as writer, pytest.raises(BadInput, match="not in the pool"):
        writer.annotate(rollout(), reward=1.0)
