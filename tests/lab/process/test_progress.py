"""What a person sees of a run: rates and times worked out by hand on a clock that the test moves."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tutelage.lab.process import progress
from tutelage.lab.process.progress import Progress, clock, short


class Clock:
    now = 100.0


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> Clock:
    time = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: time.now)
    return time


def shown(*, terminal: bool = False, quiet: bool = False, start: int = 0) -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    unit = {"unit": "steps", "amount": 256.0, "headline": "solved"}
    return Progress(console, title="minimax/dr", start=start, total=100, quiet=quiet, **unit), out


def test_rate_and_time_left_by_hand(moving: Clock) -> None:
    bar, _ = shown()
    with bar:
        assert bar.status() == "0/100 updates"
        bar.doing("compiling")
        moving.now += 60.0
        assert bar.status() == "0/100 updates · compiling for 1:00"
        bar.doing("")
        bar.reach(10)
        assert bar.status() == "10/100 updates"
        moving.now += 5.0
        bar.reach(20)
        bar.figure(0.7123)
        # 10 updates of 256 steps in 5 s, and 80 updates to go; the minute of compiling does not count
        assert bar.status() == "20/100 updates · 512 steps/s · 0:40 left · solved 0.712"


def test_the_rate_is_of_late_and_a_resumed_run_counts_from_where_it_stood(moving: Clock) -> None:
    bar, _ = shown(start=40)
    with bar:
        for step in range(41, 101):
            moving.now += 2.0 if step <= 70 else 1.0
            bar.reach(step)
        assert bar.status() == "100/100 updates · 256 steps/s"


def test_plain_lines_come_at_most_every_ten_seconds(moving: Clock) -> None:
    bar, out = shown()
    with bar:
        for step in range(1, 41):
            moving.now += 1.0
            bar.reach(step)
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == "minimax/dr: 1/100 updates"
    assert lines[1] == "minimax/dr: 11/100 updates · 256 steps/s · 1:29 left"


def test_notes_always_show_and_quiet_is_silent(moving: Clock) -> None:
    for quiet in (False, True):
        bar, out = shown(quiet=quiet)
        with bar:
            bar.say("compiled in [3] s")
            moving.now += 60.0
            bar.reach(3)
        assert out.getvalue() == ("" if quiet else "minimax/dr: compiled in [3] s\nminimax/dr: 3/100 updates\n")


def test_a_terminal_gets_a_bar_that_ends_at_the_last_status() -> None:
    bar, out = shown(terminal=True)
    with bar:
        bar.reach(100)
        bar.figure(1.0)
        bar.say("a note")
    assert "a note" in out.getvalue()
    last = [line for line in out.getvalue().splitlines() if "updates" in line][-1]
    assert last.endswith("100/100 updates · solved 1")


@pytest.mark.parametrize(
    ("number", "text"), [(0.8512, "0.851"), (999.0, "999"), (13_520.0, "13.5 k"), (2.1e6, "2.1 M"), (3e9, "3 G")]
)
def test_numbers_for_the_eye(number: float, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (42, "0:42"), (725, "12:05"), (12_000, "3:20:00")])
def test_durations_for_the_eye(seconds: float, text: str) -> None:
    assert clock(seconds) == text
