"""One battery that every environment must pass, ours and yours.

    from tutelage.envs.conformance import check_environment

    problems = check_environment(my_environment, jax.random.key(0))
    assert not problems, "\n".join(problems)

It looks at types first, without running anything; only an environment with a sound interface is then played, with
uniformly random actions, on a handful of tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PyTree

from tutelage.envs.environment import Box, Discrete, Environment, EnvState, Task

NUM_EDITS = 3
TOLERANCE = 1e-5


class Play(NamedTuple):
    """One episode of random actions on each of N tasks; what follows its end is not `alive`. T is the horizon."""

    first_finite: Bool[Array, "N"]
    alive: Bool[Array, "T N"]
    reward: Float[Array, "T N"]
    discount: Float[Array, "T N"]
    last: Bool[Array, "T N"]
    finite: Bool[Array, "T N"]


def check_environment(
    env: Environment, key: Key[Array, ""], *, num_tasks: int = 8, check_key_reuse: bool = True
) -> list[str]:
    """Everything in which `env` breaks the `Environment` protocol, one line each; an empty list means that it is good.

    - Declaration: positive horizon, non-empty actions.
    - Types: tasks, states and observations keep structure, shape and dtype from step to step and are strongly typed (a
      weak type, such as Python's `0` in a state, has every loop compiled twice); reward and discount are scalar floats,
      `last` a scalar bool; `step` is traced once.
    - Play: rewards and observations finite, discount in [0, 1], `last` wherever the discount is 0, no truncation
      unless `truncates`, the end within `horizon`; actions outside a `Box` act as if clipped.
    - Purity: equal keys give equal results, whatever was run in between; no random key is used twice.
    - Operators, where there are any: 0 edits change nothing, edited tasks are of the same type and can be played;
      `equal` is reflexive and symmetric and tells some tasks apart; `solve` is finite and at least every return seen;
      `measure` gives named finite scalars.

    Args:
        num_tasks: how many sampled tasks are played, and as many edited ones.
        check_key_reuse: whether random keys are watched; for other people's code that is known to use one twice.
    """
    problems = _declaration(env)
    if problems:
        return problems
    with jax.debug_key_reuse(check_key_reuse):
        return _attempt("interface", lambda: _interface(env)) or _attempt(
            "play", lambda: _behaviour(env, key, num_tasks)
        )


def _attempt(what: str, check: Callable[[], list[str]]) -> list[str]:
    """The problems that `check` finds; an exception from the environment's code is one of them."""
    try:
        return check()
    except Exception as error:
        lines = str(error).strip().splitlines()
        return [f"{what}: raised {type(error).__name__}: {lines[0] if lines else ''}"]


def _declaration(env: Environment) -> list[str]:
    problems = []
    if not isinstance(env.horizon, int) or env.horizon < 1:
        problems.append(f"horizon = {env.horizon!r}: must be a positive Python int")
    if isinstance(env.actions, Discrete):
        if env.actions.n < 1:
            problems.append(f"actions = {env.actions}: n must be at least 1")
    elif isinstance(env.actions, Box):
        if env.actions.size < 1 or not env.actions.low < env.actions.high:
            problems.append(f"actions = {env.actions}: size must be at least 1 and low less than high")
    else:
        problems.append(f"actions = {env.actions!r}: must be Discrete or Box")
    return problems


def _interface(env: Environment) -> list[str]:
    """What `jax.eval_shape` shows of the types; nothing is run."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    action = jax.eval_shape(lambda: _random_action(env, jax.random.key(0)))
    task = jax.eval_shape(env.sample_task, key)
    state, obs = jax.eval_shape(env.reset, key, task)
    next_state, out = jax.eval_shape(env.step, key, state, action)
    problems = [
        *_weak("sample_task: task", task),
        *_weak("reset: state", state),
        *_weak("reset: obs", obs),
        *_weak("step: state", next_state),
        *_weak("step: time step", out),
        *_differences("step: state", next_state, "reset's", state),
        *_differences("step: obs", out.obs, "reset's", obs),
        *_scalar("step: reward", out.reward, jnp.floating),
        *_scalar("step: discount", out.discount, jnp.floating),
        *_scalar("step: last", out.last, jnp.bool_),
    ]
    if not jax.tree.leaves(task):
        problems.append("sample_task: the task has no arrays, so a batch of tasks has no size")
    if env.mutate is not None:
        edited = jax.eval_shape(lambda k, t: env.mutate(k, t, NUM_EDITS), key, task)  # type: ignore[misc]
        problems += _weak("mutate: task", edited) + _differences("mutate: task", edited, "sample_task's", task)
    if env.equal is not None:
        problems += _scalar("equal", jax.eval_shape(env.equal, task, task), jnp.bool_)
    if env.solve is not None:
        problems += _scalar("solve", jax.eval_shape(env.solve, task), jnp.floating)
    if env.measure is not None:
        for name, leaf in jax.eval_shape(env.measure, task).items():
            problems += [] if isinstance(name, str) else [f"measure: the name {name!r} is not a string"]
            problems += _scalar(f"measure: {name}", leaf, jnp.number, jnp.bool_)
    return problems


class Operators(NamedTuple):
    """What the operators say of N sampled tasks; None where the environment lacks one."""

    tasks: Task
    unedited: Task | None
    edited: Task | None
    equality: Bool[Array, "N N"] | None
    kept: Bool[Array, "N"] | None
    best: Float[Array, "N"] | None
    measures: dict[str, Array]


def _behaviour(env: Environment, key: Key[Array, ""], num_tasks: int) -> list[str]:
    """What a few episodes and a few calls of the operators show."""
    k_operators, k_play, k_pure, k_clip = jax.random.split(key, 4)
    before = _fingerprint(env, jax.random.clone(k_pure))
    found = jax.jit(lambda key: _operators(env, key, num_tasks))(k_operators)
    worlds = found.tasks
    if found.edited is not None:
        worlds = jax.tree.map(lambda a, b: jnp.concatenate((a, b)), found.tasks, found.edited)
    episodes = jax.device_get(jax.jit(lambda key, tasks: _play(env, key, tasks))(k_play, worlds))
    sampled = Play(*(leaf[..., :num_tasks] for leaf in episodes))

    problems = _episodes("play", env, sampled)
    if found.edited is not None:
        problems += _episodes("play after mutate", env, Play(*(leaf[..., num_tasks:] for leaf in episodes)))
        same = _close(found.tasks, found.unedited) if found.kept is None else found.kept.all()
        problems += [] if same else ["mutate: 0 edits change the task"]
    if found.equality is not None:
        problems += _equality(np.asarray(found.equality), found.tasks)
    if found.best is not None:
        problems += _solutions(np.asarray(found.best), sampled)
    for name, values in found.measures.items():
        problems += [] if np.isfinite(np.asarray(values, np.float64)).all() else [f"measure: {name} is not finite"]
    problems += _traces(env, k_clip, jax.tree.map(lambda x: x[0], found.tasks))
    if not _close(before, _fingerprint(env, k_pure)):
        problems.append("purity: the same key gives another result when asked again: a hidden state or randomness")
    return problems


def _operators(env: Environment, key: Key[Array, ""], num_tasks: int) -> Operators:
    k_task, k_none, k_some = jax.random.split(key, 3)
    tasks = jax.vmap(env.sample_task)(jax.random.split(k_task, num_tasks))
    unedited = edited = None
    if (mutate := env.mutate) is not None:
        unedited = jax.vmap(lambda k, t: mutate(k, t, 0))(jax.random.split(k_none, num_tasks), tasks)
        edited = jax.vmap(lambda k, t: mutate(k, t, NUM_EDITS))(jax.random.split(k_some, num_tasks), tasks)
    return Operators(
        tasks,
        unedited,
        edited,
        equality=jax.vmap(jax.vmap(env.equal, (None, 0)), (0, None))(tasks, tasks) if env.equal else None,
        kept=jax.vmap(env.equal)(tasks, unedited) if env.equal and env.mutate else None,
        best=jax.vmap(env.solve)(tasks) if env.solve else None,
        measures=jax.vmap(env.measure)(tasks) if env.measure else {},
    )


def _play(env: Environment, key: Key[Array, ""], tasks: Task) -> Play:
    """`horizon` random steps on every task, on beyond the end of an episode, where nothing counts any more."""
    num_tasks = len(jax.tree.leaves(tasks)[0])
    k_reset, k_steps = jax.random.split(key)
    state, obs = jax.vmap(env.reset)(jax.random.split(k_reset, num_tasks), tasks)

    def step_one(key: Key[Array, ""], state: EnvState, ended: Bool[Array, ""]):
        k_act, k_step = jax.random.split(key)
        after, out = env.step(k_step, state, _random_action(env, k_act))
        return after, ended | out.last, (~ended, out.reward, out.discount, out.last, _all_finite(out.obs))

    # The scan is outside of the vmap: JAX's key-reuse checker mistakes a mapped scan over keys for reuse.
    def step(loop, key):
        state, ended, record = jax.vmap(step_one)(jax.random.split(key, num_tasks), *loop)
        return (state, ended), record

    loop = (state, jnp.zeros(num_tasks, bool))
    _, records = jax.lax.scan(step, loop, jax.random.split(k_steps, env.horizon))
    return Play(jax.vmap(_all_finite)(obs), *records)


def _episodes(what: str, env: Environment, episodes: Play) -> list[str]:
    first_finite, alive, reward, discount, last, finite = episodes
    faults = {
        "the first observation is not finite": ~first_finite,
        "an observation is not finite": alive & ~finite,
        "a reward is not finite": alive & ~np.isfinite(reward),
        "a discount lies outside [0, 1]": alive & ~((discount >= 0) & (discount <= 1)),
        "the discount is 0 but `last` is false": alive & (discount == 0) & ~last,
        f"an episode is not over after the horizon of {env.horizon} steps": ~(alive & last).any(axis=0),
    }
    if not env.truncates:
        faults["an episode ends with a discount above 0 although `truncates` is false"] = alive & last & (discount > 0)
    return [f"{what}: {fault}" for fault, where in faults.items() if where.any()]


def _solutions(best: np.ndarray, episodes: Play) -> list[str]:
    if not np.isfinite(best).all():
        return ["solve: the best return is not finite (an unsolvable task has the return of its best policy)"]
    returns = np.where(episodes.alive, episodes.reward, 0).sum(axis=0)
    if (returns > best + TOLERANCE).any():
        worst = int((returns - best).argmax())
        return [f"solve: says {best[worst]:.6g} where random actions returned {returns[worst]:.6g}"]
    return []


def _equality(table: np.ndarray, tasks: Task) -> list[str]:
    """`table[i, j]`: whether tasks i and j are said to be equal."""
    problems = []
    if not table.diagonal().all():
        problems.append("equal: a task does not equal itself")
    if (table != table.T).any():
        problems.append("equal: is not symmetric")
    same = np.ones_like(table)
    for leaf in map(_plain, jax.tree.leaves(tasks)):
        flat = leaf.reshape(len(leaf), -1)
        same &= (flat[:, None] == flat[None]).all(axis=-1)
    if table.all() and not same.all():
        problems.append("equal: holds for all sampled tasks although they differ")
    return problems


def _traces(env: Environment, key: Key[Array, ""], task: Task) -> list[str]:
    """Step twice by one jitted function and count its traces; then, for a `Box`, step from beyond its edges."""
    count = 0

    def step(key, state, action):
        nonlocal count
        count += 1
        return env.step(key, state, action)

    jitted = jax.jit(step)
    k_reset, k_act, k_one, k_two = jax.random.split(key, 4)
    state, _ = jax.jit(env.reset)(k_reset, task)
    action = _random_action(env, k_act)
    after, _ = jitted(k_one, state, action)
    jitted(k_two, after, action)
    problems = [] if count == 1 else [f"step: traced {count} times for two steps of one episode"]
    if isinstance(env.actions, Box):
        for edge, beyond in ((env.actions.low, env.actions.low - 1), (env.actions.high, env.actions.high + 1)):
            results = [
                jitted(jax.random.clone(k_one), state, jnp.full((env.actions.size,), value, jnp.float32))
                for value in (edge, beyond)
            ]
            if not _close(*results):
                problems.append(f"step: the action {beyond} is not clipped to {edge}")
    return problems


def _fingerprint(env: Environment, key: Key[Array, ""]) -> PyTree:
    """One value of every function of the environment, by a program traced afresh."""

    def everything(key: Key[Array, ""]) -> PyTree:
        k_task, k_reset, k_act, k_step, k_edit = jax.random.split(key, 5)
        task = env.sample_task(k_task)
        start = env.reset(k_reset, task)
        after = env.step(k_step, start[0], _random_action(env, k_act))
        return [
            task,
            start,
            after,
            env.mutate(k_edit, task, NUM_EDITS) if env.mutate else None,
            env.solve(task) if env.solve else None,
            env.measure(task) if env.measure else None,
        ]

    return jax.jit(everything)(key)


def _random_action(env: Environment, key: Key[Array, ""]) -> Array:
    if isinstance(env.actions, Discrete):
        return jax.random.randint(key, (), 0, env.actions.n)
    return jax.random.uniform(key, (env.actions.size,), minval=env.actions.low, maxval=env.actions.high)


def _leaves(tree: PyTree) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _weak(what: str, tree: PyTree) -> list[str]:
    return [f"{what}{path} is weakly typed ({leaf.dtype})" for path, leaf in _leaves(tree) if leaf.weak_type]


def _differences(what: str, tree: PyTree, whose: str, reference: PyTree) -> list[str]:
    if jax.tree.structure(tree) != jax.tree.structure(reference):
        return [f"{what} has another structure than {whose}"]
    pairs = zip(_leaves(tree), _leaves(reference))
    return [
        f"{what}{path} is {leaf.dtype}{list(leaf.shape)}, {whose} is {other.dtype}{list(other.shape)}"
        for (path, leaf), (_, other) in pairs
        if (leaf.dtype, leaf.shape) != (other.dtype, other.shape)
    ]


def _scalar(what: str, leaf: Any, *kinds: Any) -> list[str]:
    if leaf.shape == () and any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds):
        return []
    allowed = " or ".join({jnp.floating: "float", jnp.bool_: "bool", jnp.number: "number"}[kind] for kind in kinds)
    return [f"{what} is {leaf.dtype}{list(leaf.shape)}: must be a scalar {allowed}"]


def _plain(leaf: Array) -> np.ndarray:
    """The leaf on the host; a random key as its data."""
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.ones((), bool), *(jnp.isfinite(leaf).all() for leaf in floats)]).all()


def _close(one: PyTree, other: PyTree) -> bool:
    """Equal up to the rounding that two compilations may differ by."""
    pairs = zip(map(_plain, jax.tree.leaves(one)), map(_plain, jax.tree.leaves(other)), strict=True)
    return all(np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True) for a, b in pairs)
