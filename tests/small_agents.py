"""Agents fed by hand, and literal references: a counted model, laws by solving, the law of a random update."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

from tutelage.continual.agents.agent import Agent
from tutelage.continual.agents.config import AgentConfig
from tutelage.continual.agents.making import make_agent
from tutelage.continual.tabular import precise
from tutelage.lab.configuration import override

Steps = Sequence[tuple[int, int, float, int]]
"""(s, a, r, s') of each step."""


def agent(kind: str, S: int, A: int, *, model_prior: float | None = None, **settings: Any) -> Agent:
    """An agent by its settings; `model_prior` is that of the counted model."""
    changes = {f"{kind}.{name}": value for name, value in settings.items()}
    return make_agent(
        override(AgentConfig(kind=kind), changes | ({} if model_prior is None else {"model.prior": model_prior})), S, A
    )


def begun(made: Agent, seed: int = 0) -> Any:
    """The agent's first state, in float64."""
    with precise():
        return made.init(jax.random.key(seed), {name: jnp.float64(value) for name, value in made.hyper.items()})


def random_steps(S: int, A: int, number: int, seed: int = 0) -> Steps:
    """Steps of a process without structure, with rewards in [0, 1): no two policies have the same gain."""
    rng = np.random.default_rng(seed)
    states, actions, paid = rng.integers(0, S, number + 1), rng.integers(0, A, number), rng.random(number)
    return [(int(states[i]), int(actions[i]), float(paid[i]), int(states[i + 1])) for i in range(number)]


@functools.cache
def _once(update: Any) -> Any:
    return jax.jit(update)


@functools.cache
def _often(update: Any) -> Any:
    return jax.jit(jax.vmap(update, in_axes=(0, *[None] * 5)))


def fed(made: Agent, state: Any, steps: Steps, seed: int = 1) -> Any:
    """The states after each of the steps, one axis more in front; float64."""
    states = []
    with precise():
        for key, (s, a, r, t) in zip(jax.random.split(jax.random.key(seed), len(steps)), steps, strict=True):
            state = _once(made.update)(key, state, jnp.int32(s), jnp.int32(a), jnp.float64(r), jnp.int32(t))
            states.append(state)
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *states)


def last(states: Any) -> Any:
    """The last of the states that `fed` and `updated_often` return."""
    with precise():
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[-1]), states)


def updated_often(made: Agent, state: Any, step: tuple[int, int, float, int], number: int, seed: int = 2) -> Any:
    """The state after one step, once for each of `number` keys."""
    with precise():
        s, a, r, t = jnp.int32(step[0]), jnp.int32(step[1]), jnp.float64(step[2]), jnp.int32(step[3])
        return _often(made.update)(jax.random.split(jax.random.key(seed), number), state, s, a, r, t)


def acted_often(made: Agent, state: Any, s: int, number: int, seed: int = 3) -> np.ndarray:
    """The action in s, once for each of `number` keys."""
    with precise():
        state, keys = jax.tree.map(jnp.asarray, state), jax.random.split(jax.random.key(seed), number)
        return np.asarray(jax.jit(jax.vmap(lambda key: made.act(key, state, jnp.int32(s))))(keys))


def counted(steps: Steps, S: int, A: int, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """p̂ [S, A, S] and r̂ [S, A]: counts of successors and of the rewards 0 and 1, all from the prior on, normalised.

    A reward between counts in part as either.
    """
    successors, paid = np.full((S, A, S), prior), np.full((S, A, 2), prior)
    for s, a, r, t in steps:
        successors[s, a, t] += 1
        paid[s, a] += 1 - r, r
    return successors / successors.sum(-1, keepdims=True), (paid / paid.sum(-1, keepdims=True))[..., 1]


def law(P: np.ndarray) -> np.ndarray:
    """The stationary laws of chains [..., S, S], each by a linear system of its own."""
    S = P.shape[-1]
    system = np.swapaxes(np.eye(S) - P, -1, -2).copy()
    system[..., -1, :] = 1
    return np.linalg.solve(system, np.broadcast_to(np.eye(S)[-1][:, None], (*P.shape[:-2], S, 1)))[..., 0]


def gain(p: np.ndarray, r: np.ndarray, policy: np.ndarray) -> float:
    """ρ of a policy (actions [S], or laws [S, A]) in the process p [S, A, S], r [S, A]."""
    if policy.ndim == 1:
        policy = np.eye(r.shape[1])[policy]
    return float(law(np.einsum("sa,sat->st", policy, p)) @ (policy * r).sum(-1))


def gains(p: np.ndarray, r: np.ndarray, policy: np.ndarray, s: int) -> np.ndarray:
    """ρ of the policy with each action for certain in s, [A]: solved anew for every one."""
    laws = np.eye(r.shape[1])[policy] if policy.ndim == 1 else policy
    candidates = np.repeat(laws[None], r.shape[1], axis=0)
    candidates[:, s] = np.eye(r.shape[1])
    return np.array([gain(p, r, candidate) for candidate in candidates])


def assert_law(found: Any, outcomes: Sequence[tuple[float, Any]], tolerance: float = 1e-9) -> None:
    """Independent results [N, ...] are each one of the outcomes (probability, result), and as often as that.

    Outcomes that coincide are one. Shares are judged at five standard deviations.
    """
    given = np.asarray(found, np.float64).reshape(len(found), -1)
    values = np.stack([np.ravel(np.asarray(value, np.float64)) for _, value in outcomes])
    tree = cKDTree(values)
    distance, nearest = tree.query(given, p=np.inf)
    assert distance.max() < tolerance
    first = np.array([min(near) for near in tree.query_ball_point(values, 2 * tolerance, p=np.inf)])
    expected = np.bincount(first, [probability for probability, _ in outcomes], len(values))
    assert abs(expected.sum() - 1) < 1e-9
    share = np.bincount(first[nearest], minlength=len(values)) / len(given)
    assert (np.abs(share - expected) <= 5 * np.sqrt(expected / len(given)) + 2 / len(given)).all()
