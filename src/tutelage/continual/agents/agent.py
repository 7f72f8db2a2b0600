"""What an agent is, and its life in a world: one compiled scan, to be vmapped over seeds and hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from tutelage.continual.tabular import World
from tutelage.lab.errors import BadInput, nearest

Hyper = Mapping[str, Any]
"""Numbers of an agent that may be arrays of the program, by the names of its settings."""


class Agent(NamedTuple):
    """An agent as pure functions; its precision is JAX's default when `init` is called.

    Attributes:
        name: of its kind.
        init: `(key, hyper) -> state`.
        act: `(key, state, s) -> a`, the action in state s, int32[].
        update: `(key, state, s, a, r, s') -> state`, after one step.
        hyper: the default `hyper`: those settings that can be vmapped over.
    """

    name: str
    init: Callable[[Key[Array, ""], Hyper], PyTree]
    act: Callable[[Key[Array, ""], PyTree, Int[Array, ""]], Int[Array, ""]]
    update: Callable[..., PyTree]
    hyper: dict[str, float]


class Life(NamedTuple):
    """An agent in a world, between two steps.

    Attributes:
        agent: its state.
        state: where it is, int32[].
        key: of all that is to come.
    """

    agent: PyTree
    state: Int[Array, ""]
    key: Key[Array, ""]


def begin(world: World, agent: Agent, key: Key[Array, ""], hyper: Hyper | None = None) -> Life:
    """An agent's life at its start; `hyper` replaces some of the agent's numbers.

    Raises:
        BadInput: if the agent has no number of that name.
    """
    for name in hyper or {}:
        if name not in agent.hyper:
            known = tuple(agent.hyper)
            raise BadInput(f"hyper: {agent.name} has no {name!r}; must be of {known}{nearest(name, known)}")
    key, init_key, start_key = jax.random.split(key, 3)
    dtype = jnp.result_type(float)
    numbers = {name: jnp.asarray(value, dtype) for name, value in {**agent.hyper, **(hyper or {})}.items()}
    return Life(agent.init(init_key, numbers), world.start(start_key), key)


def live(world: World, agent: Agent, life: Life, steps: int) -> tuple[Life, Float[Array, "steps"]]:
    """So many steps (static) of a life: what it is afterwards, and the rewards on the way."""

    def one(life: Life, _: None) -> tuple[Life, Float[Array, ""]]:
        key, act_key, world_key, update_key = jax.random.split(life.key, 4)
        action = agent.act(act_key, life.agent, life.state)
        successor, reward = world.step(world_key, life.state, action)
        after = agent.update(update_key, life.agent, life.state, action, reward, successor)
        return Life(after, successor, key), reward

    return jax.lax.scan(one, life, None, length=steps)


def epsilon_greedy(
    key: Key[Array, ""], epsilon: Float[Array, ""], greedy: Int[Array, ""], num_actions: int
) -> Int[Array, ""]:
    """The greedy action, or with probability ε a uniform one."""
    explore_key, action_key = jax.random.split(key)
    explores = jax.random.uniform(explore_key, (), jnp.float32) < epsilon
    return jnp.where(explores, jax.random.randint(action_key, (), 0, num_actions, jnp.int32), greedy).astype(jnp.int32)


def draw(key: Key[Array, ""], weights: Float[Array, "n"], shape: tuple[int, ...] = ()) -> Int[Array, "*shape"]:
    """Indices in proportion to weights ≥ 0, by one cumulative sum."""
    cumulative = jnp.cumsum(jnp.maximum(weights, 0))
    uniform = jax.random.uniform(key, shape, weights.dtype) * cumulative[-1]
    found = jnp.searchsorted(cumulative, uniform, side="right", method="scan_unrolled" if shape == () else "scan")
    return jnp.minimum(found, weights.shape[0] - 1).astype(jnp.int32)


def at_once(due: Any, compute: Callable[..., PyTree], otherwise: PyTree, *operands: PyTree) -> PyTree:
    """`compute(*operands)` where `due`, else `otherwise`.

    A loop of at most one turn: unlike `lax.cond` it costs nothing under `vmap` in the steps in which no member is due.
    What `compute` reads must be among its operands.
    """

    def turn(carry: tuple[Any, PyTree]) -> tuple[Any, PyTree]:
        # Without the barrier nothing in the loop depends on it, and the compiler computes it ahead: in every step.
        _, read = jax.lax.optimization_barrier((carry[0], operands))
        return jnp.zeros((), bool), compute(*read)

    return jax.lax.while_loop(lambda carry: carry[0], turn, (due, otherwise))[1]
