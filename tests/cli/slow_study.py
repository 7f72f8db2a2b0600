"""The bandit with time to be interrupted in: it notes in its run's folder when it was alive, and waits if told to.

After three chunks it waits SLOW_PAUSE seconds in each (an environment variable, so that one process may be slow and the
next, which goes on with the same run, is not).
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from lab.toy_study import Bandit, BanditConfig, State
from lab.toy_study import study as bandit

from tutelage.lab.program import Figures
from tutelage.lab.settings import setting
from tutelage.lab.study import Arm


@dataclasses.dataclass(frozen=True)
class SlowConfig(BanditConfig):
    """A bandit that takes its time."""

    says: str = setting("", "What it prints, with the threads that it may use.")
    breaks: bool = setting(False, "Raise an error in the first chunk.")


class Slow(Bandit):
    """Its notes are lines of [process, wall time]."""

    config: SlowConfig

    def attach(self, folder: Path) -> None:
        self.notes = folder / "alive.jsonl"
        self.note()
        if self.config.says:
            print(self.config.says, os.environ.get("OMP_NUM_THREADS"), flush=True)

    def note(self) -> None:
        with self.notes.open("a") as file:
            file.write(json.dumps([os.getpid(), time.time()]) + "\n")

    def update(self, state: State, num_updates: int) -> tuple[State, Callable[[], list[Figures]]]:
        if self.config.breaks:
            raise ZeroDivisionError("as configured")
        if len(self.notes.read_text().splitlines()) > 3:
            time.sleep(float(os.environ.get("SLOW_PAUSE", "0")))
        self.note()
        return super().update(state, num_updates)


arms = bandit.arms | {"broken": Arm("Breaks.", lambda config: dataclasses.replace(config, breaks=True))}
study = dataclasses.replace(bandit, name="slow", config=SlowConfig, build=Slow, arms=arms)
