"""Times our side of `benchmarks/mixing.py` as its peers are timed: `python ours_mixing.py --part PART --work JSON`.

agents       steps of an agent in its world, compiled, after the call that compiles
replay       the questions of a log of `peers/solve_per_candidate.py`, answered by row deviations of an inverse that
             is kept up to date from the first step to the last, as our agents keep theirs
mixing_time  the exact mixing time of a chain
stationary   its stationary law
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent / "peers"))

from stopwatch import Stopwatch, peak_memory, report, samples


def agents(watch: Stopwatch, given: argparse.Namespace) -> dict[str, Any]:
    """`calls` of so many steps each, the first of which compiles."""
    import jax

    from tutelage.continual.agents.agent import begin, live

    work = given.work
    with jax.enable_x64(work["precision"] == "float64"):
        world, agent = world_and_agent(work)
        watch.mark("imported")
        life = begin(world, agent, jax.random.key(given.seed))
        steps = jax.jit(functools.partial(live, world, agent, steps=work["steps"]), donate_argnums=0)
        calls, rates = [], []
        for _ in range(work["calls"]):
            (life, rewards), cost = watch.time(lambda life: jax.block_until_ready(steps(life)), life)
            calls.append(cost)
            rates.append(float(rewards.mean()))
    return {"steps": work["steps"], "calls": calls, "reward_rate": rates[-1]}


def world_and_agent(work: Mapping[str, Any]) -> tuple[Any, Any]:
    """The world of `work["world"]`, and `work["agent"]` in it with the settings of its paper."""
    from tutelage.continual.agents.config import AgentConfig
    from tutelage.continual.agents.making import make_agent

    world = world_of(work["world"])
    return world, make_agent(AgentConfig(kind=work["agent"]), *np.shape(world.mdp.R))


def world_of(settings: Mapping[str, Any]) -> Any:
    """The world of these settings, which JSON has passed on."""
    from tutelage.continual.worlds.config import WorldConfig
    from tutelage.continual.worlds.making import make_world

    return make_world(
        WorldConfig(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})
    )


def uniform_chain(settings: Mapping[str, Any]) -> Any:
    """The chain of the uniform policy in the world of these settings."""
    from tutelage.continual.tabular import induced

    mdp = world_of(settings).mdp
    return induced(mdp, np.full(np.shape(mdp.R), 1 / np.shape(mdp.R)[1]))


def replay(watch: Stopwatch, given: argparse.Namespace) -> dict[str, Any]:
    """How far our gains are from the log's at most, and how much gain a decision by ours would give up at most."""
    import jax

    with jax.enable_x64(given.work["precision"] == "float64"), np.load(given.work["log"]) as log:
        mine, theirs = np.asarray(answers(log, given.work), np.float64), log["gains"]
    asked = np.isfinite(theirs)
    found = {"questions": int(asked.sum()), "error": float(np.abs(mine - theirs)[asked].max())}
    if asked.all():
        chosen = np.take_along_axis(theirs, mine.argmax(axis=-1)[..., None], axis=-1)[..., 0]
        found["given_up"] = float((theirs.max(axis=-1) - chosen).max())
    return found


def answers(log: Any, work: dict[str, Any]) -> Any:
    """Our gains [T, k, A] of the deviations that the log asks about, where its decisions are taken over."""
    import jax
    import jax.numpy as jnp

    from tutelage.continual.agents.config import InverseConfig, ModelConfig
    from tutelage.continual.agents.policy_chain import refreshed, unknown_chain, with_row
    from tutelage.continual.agents.tabular_model import empty_model, observed, rewards, successors
    from tutelage.continual.deviations import row_deviations_of

    dtype = jnp.result_type(float)
    num_states, num_actions = log["start"].shape

    def exchanged(chain, model, policy, s):
        return with_row(chain, s, policy[s] @ successors(model, s), policy[s] @ rewards(model, s))

    def asked(chain, model, s):
        return row_deviations_of(chain.inverse, chain.r, successors(model, s), rewards(model, s), s).gain

    def step(carry, entry):
        model, policy, chain = carry
        s, a, reward, successor, states, rows = entry
        model = observed(model, s, a, reward, successor)
        chain = exchanged(chain, model, policy, s)

        def take(carry, one):
            policy, chain = carry
            s, row = one
            gain = asked(chain, model, s)
            policy = policy.at[s].set(row)
            return (policy, exchanged(chain, model, policy, s)), gain

        together = jax.vmap(lambda s: asked(chain, model, s))(states)
        (policy, chain), in_turn = jax.lax.scan(take, (policy, chain), (states, rows))
        gains = together if work["agent"] == "rho_gradient" else in_turn
        return (model, policy, refreshed(chain, successor, InverseConfig())), gains

    start = (
        empty_model(num_states, num_actions, ModelConfig(prior=work["prior"])),
        jnp.asarray(log["start"], dtype),
        unknown_chain(num_states),
    )
    whole = [jnp.asarray(log[name], jnp.int32) for name in ("before", "action", "after", "asked")]
    s, a, successor, states = whole
    entries = (s, a, jnp.asarray(log["reward"], dtype), successor, states, jnp.asarray(log["rows"], dtype))
    return jax.jit(lambda start, entries: jax.lax.scan(step, start, entries)[1])(start, entries)


def chain_mixing_time(watch: Stopwatch, given: argparse.Namespace) -> dict[str, Any]:
    """The mixing time alone, and with the relaxation time that comes with it unless it is declined."""
    from tutelage.continual.mixing_time import mixing_time

    chain, eps, seconds = _chain(given), given.work["eps"], given.work["seconds"]
    watch.mark("imported")
    found, first = watch.time(lambda: mixing_time(chain, eps, relaxation=False))
    timed = {
        "mixing time": samples(lambda: mixing_time(chain, eps, relaxation=False), seconds),
        "with the relaxation time": samples(lambda: mixing_time(chain, eps), seconds),
    }
    return {"steps": int(found.steps), "first": first, "seconds": timed}


def chain_stationary(watch: Stopwatch, given: argparse.Namespace) -> dict[str, Any]:
    """The law, checks of the chain and search for its classes included; saved to `--law`."""
    from tutelage.continual.stationary import stationary

    chain = _chain(given)
    watch.mark("imported")
    law, first = watch.time(lambda: stationary(chain))
    np.save(given.law, law)
    return {"first": first, "seconds": {"stationary": samples(lambda: stationary(chain), given.work["seconds"])}}


def _chain(given: argparse.Namespace) -> Any:
    from tutelage.continual.tabular import Chain

    P = np.load(given.work["chain"])
    return Chain(P, np.zeros(len(P)))


PARTS: dict[str, Callable[[Stopwatch, argparse.Namespace], dict[str, Any]]] = {
    "agents": agents,
    "replay": replay,
    "mixing_time": chain_mixing_time,
    "stationary": chain_stationary,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--work", type=json.loads, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--law", help="where a stationary law goes, .npy")
    given = parser.parse_args()
    watch = Stopwatch()
    found = PARTS[given.part](watch, given)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "numpy", "scipy")}
    report(library="tutelage", versions=versions, marks=watch.marks, peak_memory_bytes=peak_memory(), **found)


if __name__ == "__main__":
    main()
