"""One of the processes of `test_distributed`: trains two updates and writes what came of it.

python two_processes.py STRATEGY FILE (rank and meeting place in the environment, as torchrun gives them)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from lm.tiny_architectures import tiny
from lm.training.test_sft import data

from tutelage.lm.training.config import SFTConfig
from tutelage.lm.training.distributed import Processes, whole, whole_state
from tutelage.lm.training.sft import SFT
from tutelage.lm.training.shared_prefix import read_completions

CONFIG = SFTConfig(num_epochs=2, batch_size=6, micro_tokens=20, learning_rate=0.01)


def train(processes: Processes) -> dict:
    tuning = SFT(tiny("llama"), data(), CONFIG, processes=processes)
    state, figures = tuning.init(), []
    while state["step"] < tuning.num_updates:
        state, found = tuning.update(state)
        figures.append(found | {"held out": tuning.evaluate(state, data(5, seed=9))["loss"]})
    gradients = [float(whole(p.grad).norm()) for p in tuning.model.parameters()]
    weights = torch.cat([tensor.flatten() for tensor in whole_state(tuning.model).values()]).tolist()
    result = {"figures": figures, "gradients": gradients, "weights": weights, "loss": tuning.evaluate(state)["loss"]}
    tuning.model.zero_grad()
    read = read_completions(tuning.model, [[3, 4, 5], [6]], [[[7, 8], [9]], [[1], [2, 3]]])
    processes.backward(read.logprobs.sum() / processes.size)
    return result | {"shared": [float(whole(p.grad).norm()) for p in tuning.model.parameters()]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    joined = Processes.join(sys.argv[1], cpu=True)
    assert joined.size == 2
    found = train(joined)
    if joined.rank == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
