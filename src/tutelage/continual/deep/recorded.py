"""Rewards of anybody's agent in anybody's environment, played on the host, as streams that mixing is measured on.

Any environment with Gymnasium's `reset` and `step` will do, Atari's among them (extra `tutelage[atari]`), and any
function of an observation as the agent: a network of PyTorch's, a table, a policy of this library (`on_host`). The
streams go into `tutelage.continual.deep.sweep` and `tutelage.measures.mixing.mixing_report`.

    streams = recorded_streams({"pong": "ALE/Pong-v5", "breakout": "ALE/Breakout-v5"}, agents, 8, 20_000)

A policy has no memory here. Where it needs the last few frames, stack them in the environment
(`gymnasium.wrappers.FrameStackObservation`), and give a function that makes it.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from tutelage.continual.deep.sweep import Policy
from tutelage.lab.errors import BadInput

HostPolicy = Callable[[Any], Any]
"""One observation to one action; where it is `batched`, observations [N, ...] to N actions."""
Maker = str | Callable[[], Any]
"""An id of Gymnasium's, or a function that makes a new environment each time."""


def gymnasium_environment(name: str, **options: Any) -> Any:
    """The environment of that id, as `gymnasium.make` gives it; ids that begin with `ALE/` are Atari's.

    Raises:
        BadInput: a package is missing (the extra is named), or Gymnasium does not know the id or an option.
    """
    gymnasium = _package("gymnasium", name)
    if name.startswith("ALE/"):
        gymnasium.register_envs(_package("ale_py", name))
    try:
        return gymnasium.make(name, **options)
    except (gymnasium.error.Error, TypeError) as error:
        raise BadInput(f"environment {name!r}: {' '.join(str(error).split())}") from error


def recorded_stream(
    make: Maker,
    policy: HostPolicy,
    num_rollouts: int,
    num_steps: int,
    *,
    burn_in: int = 0,
    seed: int = 0,
    batched: bool = False,
) -> Float[np.ndarray, "N T"]:
    """Rewards of each step of N rollouts of a policy, f64. An episode that ends is followed by a new one.

    Args:
        make: of the environment; one is made for each rollout, which is then played in step with the others.
        burn_in: steps before, which are left out; so the rollouts start from states that are spread.
        seed: rollout n begins with `reset(seed=seed + n)`. With the same policy the rewards are the same.
        batched: `policy` is given the observations of all rollouts at once.

    Raises:
        BadInput: no rollouts or steps, an environment that cannot be made, another number of actions than of rollouts,
            or an action that a space of n actions does not hold (the step is named).
    """
    for word, value, least in (("num_rollouts", num_rollouts, 1), ("num_steps", num_steps, 1), ("burn_in", burn_in, 0)):
        if value < least:
            raise BadInput(f"{word} = {value}: must be in [{least}, inf)")
    rewards = np.zeros((num_rollouts, num_steps))
    with contextlib.ExitStack() as opened:
        envs = [opened.enter_context(contextlib.closing(_made(make))) for _ in range(num_rollouts)]
        shown = [env.reset(seed=seed + n)[0] for n, env in enumerate(envs)]
        for step in range(-burn_in, num_steps):
            actions = policy(np.stack(shown)) if batched else [policy(one) for one in shown]
            if len(actions) != num_rollouts:
                raise BadInput(f"policy: {len(actions)} actions for {num_rollouts} observations")
            for n, (env, action) in enumerate(zip(envs, actions)):
                shown[n], reward, terminated, truncated, _ = env.step(_allowed(env, action, step + burn_in))
                if terminated or truncated:
                    shown[n] = env.reset()[0]
                if step >= 0:
                    rewards[n, step] = reward
    return rewards


def recorded_streams(
    tasks: Mapping[str, Maker],
    policy: HostPolicy | Mapping[str, HostPolicy],
    num_rollouts: int,
    num_steps: int,
    *,
    burn_in: int = 0,
    seed: int = 0,
    batched: bool = False,
) -> dict[str, Float[np.ndarray, "N T"]]:
    """`recorded_stream` of every task, by its name: with one policy for all of them, or one for each.

    Raises:
        BadInput: no task, one without a policy, tasks of one policy whose actions or observations differ (they are
            named), or as `recorded_stream`, with the task.
    """
    if not tasks:
        raise BadInput("tasks: none are given; must be at least 1")
    if isinstance(policy, Mapping):
        if missing := [name for name in tasks if name not in policy]:
            raise BadInput(f"policy: none for the tasks {', '.join(missing)}")
        policies = dict(policy)
    else:
        _refuse_differences(tasks)
        policies = dict.fromkeys(tasks, policy)
    streams = {}
    for name, make in tasks.items():
        try:
            streams[name] = recorded_stream(
                make, policies[name], num_rollouts, num_steps, burn_in=burn_in, seed=seed, batched=batched
            )
        except BadInput as error:
            raise BadInput(f"task {name}: {error}") from error
    return streams


def on_host(policy: Policy, *, seed: int = 0) -> HostPolicy:
    """A policy of this library as one of the host, `batched`: observations [N, ...] to actions [N].

    It draws anew at each call, from the seed and the number of calls before.
    """
    key, calls = jax.random.key(seed), 0

    @jax.jit
    def act(key: Key[Array, ""], observations: PyTree) -> Array:
        number = jax.tree.leaves(observations)[0].shape[0]
        return jax.vmap(policy)(observations, jax.random.split(key, number))

    def acting(observations: Any) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.asarray(act(jax.random.fold_in(key, calls), observations))

    return acting


def _made(make: Maker) -> Any:
    return gymnasium_environment(make) if isinstance(make, str) else make()


def _package(name: str, wanted_by: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadInput(f"environment {wanted_by!r} needs the extra 'atari': pip install 'tutelage[atari]'") from error


def _allowed(env: Any, action: Any, step: int) -> Any:
    """The action; as a whole number in [start, start + n) where the space is one of n actions."""
    number = getattr(env.action_space, "n", None)
    if number is None or np.ndim(action):
        return action
    first = int(getattr(env.action_space, "start", 0))
    if int(action) != action or not first <= action < first + number:
        raise BadInput(
            f"policy: action {action} at step {step}; must be a whole number in [{first}, {first + number - 1}]"
        )
    return int(action)


def _refuse_differences(tasks: Mapping[str, Maker]) -> None:
    first: tuple[str, Any, Any] | None = None
    for name, make in tasks.items():
        with contextlib.closing(_made(make)) as env:
            actions, observations = env.action_space, env.observation_space
        if first is None:
            first = name, actions, observations
        for word, one, other in (("actions", first[1], actions), ("observations", first[2], observations)):
            if not _alike(one, other):
                raise BadInput(
                    f"tasks {first[0]} and {name}: {word} {one} and {other}; must be the same for one policy, "
                    "or give a policy for each task"
                )


def _alike(one: Any, other: Any) -> bool:
    """Spaces of one kind, size, shape and type; bounds may differ."""
    return all(
        getattr(one, name, None) == getattr(other, name, None) for name in ("n", "start", "shape", "dtype")
    ) and type(one) is type(other)
