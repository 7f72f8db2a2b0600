"""The bandit with time to be interrupted in: its updates wait, and it notes when it was alive in its run's folder."""

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

    pause: float = setting(0.0, "Wait in every chunk.", interval="[0, inf)", unit="s")
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
        time.sleep(self.config.pause)
        self.note()
        return super().update(state, num_updates)


arms = bandit.arms | {"broken": Arm("Breaks.", lambda config: dataclasses.replace(config, breaks=True))}
study = dataclasses.replace(bandit, name="slow", config=SlowConfig, build=Slow, arms=arms)
