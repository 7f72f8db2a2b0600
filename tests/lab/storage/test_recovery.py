"""Damaged runs: whatever is done to their files, they end as undisturbed ones do, or one line says why not."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import assert_same_run
from lab.toy_study import Bandit, study
from rich.console import Console

from tutelage.lab import configuration, driver
from tutelage.lab.errors import BadInput
from tutelage.lab.storage import checkpoint, record
from tutelage.lab.storage.record import RunFolder

OVERRIDES = {
    "schedule.num_updates": 16,
    "schedule.log_every": 2,
    "schedule.evaluate_every": 4,
    "schedule.checkpoint_every": 4,
}
"""Metrics of two seeds at each second update, evaluations at each fourth: 24 lines, 18 of them behind update 12."""

METRICS, RESULT = "metrics.jsonl", "result.json"
NEWEST, OLDER = "checkpoints/step-00000016.safetensors", "checkpoints/step-00000012.safetensors"


def go(folder: Path, build: Callable[..., Bandit] = Bandit) -> str:
    """Run the bandit in the folder, quietly; what is said nevertheless."""
    config, _ = configuration.configure(study, "greedy", "quick", OVERRIDES)
    said = io.StringIO()
    console = Console(file=said)
    of = dataclasses.replace(study, build=build)
    driver.run(of, "greedy", "quick", config, (3, 5), folder, overrides=OVERRIDES, console=console, quiet=True)
    return said.getvalue()


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


class Cut(Bandit):
    """Its process ends in the evaluation at update 16, four updates after the last checkpoint."""

    def evaluate(self, state, step, *, final=False):
        if step == 16:
            raise KeyboardInterrupt
        return super().evaluate(state, step, final=final)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and beside it `half`, one that was cut off."""
    folder = tmp_path_factory.mktemp("recovery") / "whole"
    assert go(folder) == ""
    with pytest.raises(KeyboardInterrupt):
        go(folder.parent / "half", Cut)
    return folder


def test_where_undamaged_runs_stand(whole: Path, tmp_path: Path) -> None:
    half = shutil.copytree(whole.parent / "half", tmp_path / "half")
    words = [RunFolder(folder).standing() for folder in (whole, half, tmp_path)]
    assert words == [("finished", ""), ("unfinished", ""), ("absent", "")]
    assert go(half) == ""
    assert_same_run(half, whole)


def blanked(line: int) -> Callable[[bytes], bytes]:
    """A line of a file made blank."""
    return lambda data: b"".join(
        b"\n" if number == line else text for number, text in enumerate(data.splitlines(keepends=True), 1)
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({RESULT: lambda data: data[:40]}, "result.json is not JSON; going on from step-00000016.safetensors"),
        ({RESULT: lambda data: b""}, "result.json is not JSON; going on from step-00000016.safetensors"),
        ({RESULT: lambda data: data.replace(b'": 16', b'":  6')}, "result.json is not as it was written; going on"),
        ({METRICS: lambda data: data + b"{"}, "metrics.jsonl is not as it was when result.json was written; going on"),
        ({"figures/index.json": lambda data: b""}, "index.json is not as it was when result.json was written; going"),
        ({METRICS: blanked(20)}, "metrics.jsonl is not as it was at step-00000016.safetensors: of its 24 lines some"),
        ({RESULT: lambda data: b"", NEWEST: lambda data: data[:-1]}, "going on from step-00000012.safetensors instead"),
    ],
)
def test_what_can_be_healed_is_healed_and_said(
    whole: Path, tmp_path: Path, damage: dict[str, Callable[[bytes], bytes]], said: str
) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    for name, change in damage.items():
        (folder / name).write_bytes(change((folder / name).read_bytes()))
    assert RunFolder(folder).standing().word == "damaged"
    with pytest.raises(BadInput, match=rf"; to mend it: tutelage resume {folder}$"):
        record.read_results(folder)
    lines = go(folder).splitlines()
    assert [said in line for line in lines] == [True]
    assert_same_run(folder, whole)
    assert RunFolder(folder).standing() == ("finished", "")


@pytest.mark.parametrize("of", ["whole", "half"])
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data: b"", "0 of its {} lines are there"),
        (lambda data: data[:200], r"\d of its {} lines are there"),
        (blanked(2), "of its {} lines some were changed"),
        (lambda data: data.replace(b"1", b" "), "of its {} lines some were changed"),
    ],
)
def test_metrics_that_no_checkpoint_fits_are_one_line_and_nothing_changes(
    whole: Path, tmp_path: Path, of: str, change: Callable[[bytes], bytes], problem: str
) -> None:
    folder = shutil.copytree(whole.parent / of, tmp_path / "run")
    (folder / METRICS).write_bytes(change((folder / METRICS).read_bytes()))
    before = files(folder)
    newest, lines = {"whole": ("step-00000016", 24), "half": ("step-00000012", 18)}[of]
    expected = rf"metrics\.jsonl is not as it was at {newest}\.safetensors: {problem.format(lines)}"
    with pytest.raises(BadInput, match=rf"{expected} \(no checkpoint in .*; remove that folder to start over\)$"):
        go(folder)
    assert files(folder) == before
    shutil.rmtree(folder / "checkpoints")
    assert len(go(folder).splitlines()) <= 2
    assert_same_run(folder, whole)


def test_lines_after_the_newest_checkpoint_are_made_again_however_broken(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole.parent / "half", tmp_path / "run")
    path = folder / METRICS
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:18]) + b"\n{}\n\xff\n")
    assert RunFolder(folder).standing().word == "unfinished"
    assert go(folder) == ""
    assert_same_run(folder, whole)


@pytest.mark.parametrize("extra", [{}, {"evaluated": True}, {"evaluated": 1, "metrics": [0, 0, ""]}, {"metrics": "x"}])
def test_a_checkpoint_that_does_not_say_what_is_behind_it_is_passed_over(
    whole: Path, tmp_path: Path, extra: dict
) -> None:
    folder = shutil.copytree(whole.parent / "half", tmp_path / "run")
    found = checkpoint.load(folder / OLDER)
    checkpoint.save(
        folder / OLDER, found.arrays, step=12, seeds=found.seeds, config_hash=found.config_hash, extra=extra
    )
    assert "does not say what it has behind it" in RunFolder(folder).standing().problem
    assert "going on from step-00000008.safetensors instead" in go(folder)
    assert_same_run(folder, whole)


def test_a_lost_best_checkpoint_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OVERRIDES, "schedule.best_figure", "return")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", Cut)
    best = tmp_path / "run" / "checkpoints" / checkpoint.BEST
    best.write_bytes(best.read_bytes()[:50])
    assert "the best so far is lost, and only a better one will be kept" in go(tmp_path / "run")


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, str, float, float]]:
    """Files of a run, and what happens to each: it ends somewhere, or a part of it becomes spaces or lines."""
    names = ["config.json", METRICS, RESULT, "timing.jsonl", "figures/index.json", "figures/estimates.json"]
    names += [OLDER, NEWEST, "checkpoints/step-00000008.safetensors"]
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    how = st.sampled_from(["cut", "emptied", "spaces", "newline"])
    return [(name, draw(how), draw(st.floats(0, 1)), draw(st.floats(0, 0.2))) for name in chosen]


def damaged(data: bytes, how: str, place: float, share: float) -> bytes:
    start = int(place * len(data))
    length = 1 + int(share * (len(data) - start))
    if how in ("cut", "emptied"):
        return data[: start if how == "cut" else 0]
    return data[:start] + (b" " * length if how == "spaces" else b"\n") + data[start + length :]


def said_by(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return None


@settings(max_examples=60, deadline=None)
@given(damages(), st.sampled_from(["whole", "half"]))
def test_no_damage_is_a_silent_loss(whole: Path, changes: list, of: str) -> None:
    newest = {"whole": NEWEST, "half": OLDER}[of]
    figures = {"figures/index.json", "figures/estimates.json"}
    # What is vouched for: of an unfinished run, the lines behind its newest checkpoint and that itself.
    sizes = {METRICS: checkpoint.peek(whole.parent / of / newest)["metrics"][1]}
    vouched = {METRICS, RESULT, "config.json", *figures} if of == "whole" else {METRICS, newest}
    changed = set()
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(whole.parent / of, Path(place) / "run")
        for name, how, start, share in changes:
            if (folder / name).is_file():
                before = (folder / name).read_bytes()
                after = damaged(before, how, start, share)
                (folder / name).write_bytes(after)
                size = sizes.get(name, len(before))
                if name == RESULT and said_by(after) == said_by(before):
                    continue  # white space
                if after[:size] != before[:size] or (of == "whole" and after != before):
                    changed.add(name)
        kept = files(folder)
        standing = RunFolder(folder).standing()
        assert (standing.word == "damaged") or not (changed & vouched) or newest in changed
        try:
            said = go(folder)
        except BadInput as error:
            assert "\n" not in str(error)
            assert files(folder) == kept
            return
        assert said or not changed & vouched
        assert RunFolder(folder).standing() == ("finished", "")
        if standing.word == "finished":
            assert (said, files(folder)) == ("", kept)
        else:
            assert_same_run(folder, whole)
