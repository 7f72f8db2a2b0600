"""Worlds that are small enough to be listed: all their objects, and the front of any rewards."""

from __future__ import annotations

import moocore
import numpy as np
from jaxtyping import Int, Num

from tutelage.gflownets.problem import Problem
from tutelage.lab.errors import BadInput

LIMIT = 2**22
"""Objects that are listed without being told that more is meant."""


def enumerate_objects(problem: Problem, limit: int = LIMIT) -> Int[np.ndarray, "X ..."]:
    """Every object of a problem once, in a fixed order.

    Raises:
        BadInput: the objects of this problem cannot be listed, or there are more than `limit`.
    """
    if problem.objects is None:
        raise BadInput("the objects of this problem cannot be listed: it has no `objects`")
    if problem.num_objects > limit:
        raise BadInput(f"this problem has {problem.num_objects:,} objects; at most {limit:,} are listed")
    return problem.objects()


def front_of(rewards: Num[np.ndarray, "n M"]) -> Num[np.ndarray, "K M"]:
    """The rows that no row dominates (all objectives maximised), without duplicates, in lexicographic order."""
    distinct = np.unique(rewards, axis=0)
    if distinct.shape[1] == 1:
        return distinct[-1:]
    return distinct[np.asarray(moocore.is_nondominated(distinct, maximise=True), bool)]
