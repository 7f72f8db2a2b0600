"""Tables of Gymnasium's toy-text environments, whose `env.unwrapped.P` lists what may follow a state and an action."""

from __future__ import annotations

from typing import Any

import numpy as np

from tutelage.continual.tabular import World
from tutelage.continual.worlds.outcomes import Outcomes, within_closed_class
from tutelage.lab.errors import BadInput


def from_gymnasium(env: Any, **options: Any) -> World:
    """The continuing process of an episodic environment: the end of an episode leads at once to the next start.

    States that are not in the closed class which the start leads to are left out (terminal states among them); a
    state's name is its number in the environment.

    Args:
        env: an environment with `unwrapped.P[s][a] = [(probability, successor, reward, terminated), …]`, such as
            FrozenLake-v1, Taxi-v3, CliffWalking-v1; or the id of one, for which Gymnasium must be installed.
        options: of `gymnasium.make`, when `env` is an id.

    Raises:
        BadInput: Gymnasium is missing or does not know the id, or the environment has no table, or its probabilities
            are no laws.
    """
    if isinstance(env, str):
        env = _make(env, options)
    table = getattr(getattr(env, "unwrapped", env), "P", None)
    if not isinstance(table, dict) or not table:
        raise BadInput(f"env = {env}: has no table; must be an environment with `unwrapped.P`, such as FrozenLake-v1")
    S, A = len(table), len(next(iter(table.values())))
    start = getattr(getattr(env, "unwrapped", env), "initial_state_distrib", None)
    p0 = np.full(S, 1 / S) if start is None else np.asarray(start, np.float64) / np.sum(start)
    return within_closed_class(_outcomes(table, S, A, p0))


def _make(name: str, options: dict[str, Any]) -> Any:
    try:
        import gymnasium
    except ImportError as error:
        raise BadInput(f"env = {name!r}: needs gymnasium; pip install gymnasium") from error
    try:
        return gymnasium.make(name, **options)
    except gymnasium.error.Error as error:
        raise BadInput(f"env = {name!r}: {str(error).splitlines()[0]}") from error


def _outcomes(table: dict[int, Any], S: int, A: int, p0: np.ndarray) -> Outcomes:
    """The table's own lists, an end being replaced by the possible starts."""
    starts = np.flatnonzero(p0)
    lists: list[list[tuple[float, int, float]]] = []
    for s in range(S):
        if set(table.get(s, ())) != set(range(A)):
            raise BadInput(f"P[{s}]: must have the actions 0 to {A - 1}")
        for a in range(A):
            found = []
            for probability, successor, reward, terminated in table[s][a]:
                if not 0 <= successor < S:
                    raise BadInput(f"P[{s}][{a}]: successor {successor}; must be in [0, {S})")
                after = [(p0[i], int(i)) for i in starts] if terminated else [(1.0, int(successor))]
                found += [(probability * share, state, float(reward)) for share, state in after]
            lists.append(found)
    k = max(map(len, lists))
    padded = np.array([row + [(0.0, 0, 0.0)] * (k - len(row)) for row in lists]).reshape(S, A, k, 3)
    return Outcomes(padded[..., 1].astype(np.int32), padded[..., 0], padded[..., 2], p0)
