"""A small study in PyTorch: a line is fitted to samples with AdamW and dropout, and what was drawn is kept.

Its numbers mean nothing; what matters is that a resumed run ends bit for bit where an undisturbed one does, and that a
sample which lies in the run's folder is not drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.lab.program import Program
from tutelage.lab.schedule import Schedule
from tutelage.lab.settings import part, setting
from tutelage.lab.study import Arm, Exhibit, Paper, Preset, Study


@dataclass(frozen=True)
class LineConfig:
    """Fitting a line."""

    batch_size: int = setting(8, "Samples per update.", interval="[1, inf)")
    dropout: float = setting(0.2, "Share of inputs left out.", interval="[0, 1)")
    poison_at: int = setting(0, "Update from which the loss is NaN; 0: never.", interval="[0, inf)")
    pause: float = setting(0.0, "Wait in every update, so that there is something to interrupt.", unit="s")
    schedule: Schedule = part(Schedule)


def build(config: LineConfig, seeds: Sequence[int]) -> Program:
    import io
    import time

    import numpy as np
    import torch

    from tutelage.backends.torch_program import torch_program
    from tutelage.lab.program import Last, Max, Sometimes, Sum

    class Line:
        """One seed. Its model is the live state; `drawn` counts what this object drew itself."""

        def __init__(self, seed: int, folder: Path | None) -> None:
            self.seed, self.folder, self.drawn = seed, folder, 0
            self.model = torch.nn.Sequential(torch.nn.Dropout(config.dropout), torch.nn.Linear(3, 1))
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.02)

        def init(self) -> dict[str, Any]:
            return self._state(0)

        def update(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
            time.sleep(config.pause)
            self._enter(state)
            step = state["step"]
            x = self._samples(step)
            with torch.random.fork_rng([]):
                torch.manual_seed(1000 * self.seed + step)
                errors = self.model(x) - x.sum(dim=1, keepdim=True)
            loss = errors.square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if config.poison_at and step + 1 >= config.poison_at:
                loss = loss * float("nan")
            metrics = {
                "loss": loss,
                "samples": Sum(len(x)),
                "largest": Max(errors.abs().max()),
                "updates": Last(step + 1),
            }
            return self._state(step + 1), metrics | {"loss_when_even": Sometimes(loss if step % 2 else float("nan"))}

        def evaluate(self, state: dict[str, Any], step: int, final: bool) -> dict[str, Any]:
            self._enter(state)
            self.model.eval()
            with torch.no_grad():
                x = torch.randn(64, 3)
                error = (self.model(x) - x.sum(dim=1, keepdim=True)).square().mean()
            self.model.train()
            return {"error": error} | ({"bias": self.model[1].bias} if final else {})

        def _samples(self, step: int) -> torch.Tensor:
            """The samples of an update: read where they were drawn before."""
            if self.folder is None:
                return self._draw(step)
            record = self.folder / "draws" / f"seed-{self.seed}" / f"{step}.npy"
            if not record.is_file():
                file = io.BytesIO()
                np.save(file, self._draw(step).numpy())
                record.parent.mkdir(parents=True, exist_ok=True)
                partial = record.with_suffix(".partial")
                partial.write_bytes(file.getvalue())
                partial.replace(record)
            return torch.from_numpy(np.load(record))

        def _draw(self, step: int) -> torch.Tensor:
            self.drawn += 1
            drawn = np.random.default_rng([self.seed, step]).normal(size=(config.batch_size, 3))
            return torch.from_numpy(drawn.astype(np.float32))

        def _state(self, step: int) -> dict[str, Any]:
            return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": step}

        def _enter(self, state: dict[str, Any]) -> None:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])

    return torch_program(Line, seeds=seeds)


def exhibits(config: LineConfig, program: Any, state: Any) -> list[Exhibit]:
    weights = program.seed_state(state, 0)["model"]["1.weight"][0].tolist()
    rows = [("input", "weight"), *((str(place), f"{weight:.3f}") for place, weight in enumerate(weights))]
    return [Exhibit("weights", "Weights", "What each input counts.", rows=tuple(rows))]


study = Study(
    name="line",
    paper=Paper("Fitting a line", "nobody", 2000, ""),
    question="Which lever is best?",
    summary="A line is fitted.",
    config=LineConfig,
    arms={"fit": Arm("The only one.", lambda config: config)},
    presets={"quick": Preset("As configured.", lambda config: config)},
    claims=(),
    published=(),
    map={},
    check=lambda config: [],
    build=build,
    work=lambda config: ("samples", float(config.batch_size)),
    headline="error",
    exhibits=exhibits,
)
