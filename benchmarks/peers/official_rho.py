"""Times the ρ-learning agents of the official code: `python official_rho.py --source CHECKOUT --work JSON`.

Its classes as they are, with its NumPy solver, in our loop and the same table as the others. Its gradient draws four
actions whatever it is told, so the world must have four.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from types import SimpleNamespace

import numpy as np
from stopwatch import Stopwatch, peak_memory, report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", required=True)
    parser.add_argument("--work", type=json.loads, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--law", required=True, help="where the last model's chain and its law go, .npz")
    given = parser.parse_args()
    watch, work = Stopwatch(), given.work
    sys.path.insert(0, given.source)

    import torch
    from algos import tabular_agents

    torch.set_num_threads(1)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(given.seed)
    with np.load(work["table"]) as table:
        P, reward = table["P"], table["reward"]
    settings = {"num_rooms": 1, "num_states": len(P), "num_actions": P.shape[1], "num_rewards": 2}
    settings |= {"solver": "numpy_solver", "steps": work["asks"], "steps_pi": 1, "priority": False, "baseline": True}
    names = {"on_policy_rho": "OnPolicyRho", "off_policy_rho": "OffPolicyRho", "rho_gradient": "RhoGradient"}
    agent = getattr(tabular_agents, names[work["agent"]])(SimpleNamespace(**settings, lr=work["learning_rate"]))
    cumulative = P.cumsum(axis=-1)
    watch.mark("imported")

    def life() -> float:
        s, total = random.randrange(len(P)), 0.0
        for _ in range(work["steps"]):
            a = agent.getAction(s, work["epsilon"])
            successor = int((random.random() * cumulative[s, a, -1] >= cumulative[s, a]).sum())
            paid = int(reward[s, successor])
            agent.learn(s, a, paid, successor)
            s, total = successor, total + paid
        return total

    total, cost = watch.time(life)
    policy = np.arange(len(P)) % P.shape[1]
    made = agent.state_probs[np.arange(len(P)), policy]
    np.savez(given.law, P=made, law=agent.unichainsteadystate(policy))
    report(
        library="official code",
        versions={"torch": torch.__version__, "numpy": np.__version__},
        marks=watch.marks,
        steps=work["steps"],
        calls=[cost],
        reward_rate=total / work["steps"],
        peak_memory_bytes=peak_memory(),
    )


if __name__ == "__main__":
    main()
