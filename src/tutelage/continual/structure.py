"""Which states a chain can return to: closed communicating classes and their periods, by name.

A closed class is a set of states that reach each other and nothing else; the other states are transient. A chain with
one closed class (a unichain) has one stationary law. Its period is the greatest common divisor of the lengths of all
loops; above 1 the law of the state at time t never settles.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_array, issparse
from scipy.sparse.csgraph import connected_components, dijkstra

from tutelage.continual.tabular import Chain, check_rows
from tutelage.lab.errors import BadInput

BELOW_ROUNDING = "P: states of a closed class hang together only by probabilities below rounding"

_SHOWN = 8


class Structure(NamedTuple):
    """The classes of a chain. States are numbers in increasing order; classes are ordered by their first state.

    Attributes:
        closed: the states of each closed class.
        periods: the period of each closed class.
        transient: the states of no closed class.
        names: a name for each state; empty for their numbers.
    """

    closed: tuple[Int[np.ndarray, " _"], ...]
    periods: tuple[int, ...]
    transient: Int[np.ndarray, " _"]
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        def states(members: np.ndarray) -> str:
            shown = ", ".join(self.names[s] if self.names else str(int(s)) for s in members[:_SHOWN])
            return shown + (f", … ({len(members)} states)" if len(members) > _SHOWN else "")

        pairs = zip(self.closed[:_SHOWN], self.periods, strict=False)
        classes = ", ".join(
            "{" + states(members) + "}" + (f" of period {period}" if period > 1 else "") for members, period in pairs
        )
        more = f" and {len(self.closed) - _SHOWN} more" if len(self.closed) > _SHOWN else ""
        count = "1 closed class" if len(self.closed) == 1 else f"{len(self.closed)} closed classes"
        return f"{count}: {classes}{more}" + (f"; transient: {states(self.transient)}" if self.transient.size else "")


def structure(P: Any, names: Sequence[str] = ()) -> Structure:
    """The closed classes of transition probabilities [S, S], a dense or a sparse matrix."""
    if not issparse(P) and np.all(P):
        return Structure((np.arange(len(P)),), (1,), np.arange(0), tuple(names))
    graph = _graph(P)
    num_groups, group = connected_components(graph, directed=True, connection="strong")
    source, target = graph.nonzero()
    leaves = np.zeros(num_groups, bool)
    leaves[group[source[group[source] != group[target]]]] = True
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group, minlength=num_groups))[:-1])
    closed = sorted((members[k] for k in range(num_groups) if not leaves[k]), key=lambda states: int(states[0]))
    periods = tuple(_period(graph[states][:, states]) for states in closed)
    return Structure(tuple(closed), periods, np.flatnonzero(leaves[group]), tuple(names))


def unichain(P: Any, names: Sequence[str] = ()) -> Structure:
    """The structure of a chain that must have one closed class.

    Raises:
        BadInput: listing the closed classes when there are several; one that float64 cannot tell from several.
    """
    found = structure(P, names)
    if len(found.closed) > 1:
        raise BadInput(
            f"P: the chain has {found}; must have one closed class, "
            'or ask for the stationary law of each by multichain="per_class"'
        )
    refuse_below_rounding(P, found)
    return found


def refuse_below_rounding(P: Any, found: Structure) -> None:
    """Refuse closed classes that would be several without their probabilities below rounding.

    Their stationary law is that of these probabilities, which vanish in I − P. Rare states that are left by larger ones
    are no such case.

    Raises:
        BadInput: as `BELOW_ROUNDING` says.
    """
    kept = above_rounding(P)
    if kept is not P and len(structure(kept).closed) > len(found.closed):
        raise BadInput(BELOW_ROUNDING)


def above_rounding(P: Any) -> Any:
    """P itself, or where it has probabilities below rounding (of its precision) a sparse matrix without them."""
    rounding = np.finfo(P.dtype if np.issubdtype(P.dtype, np.floating) else np.float64).eps
    values = P.data if issparse(P) else P
    if not ((values > 0) & (values < rounding)).any():
        return P
    kept = csr_array(P, copy=True)
    kept.data[kept.data < rounding] = 0
    return kept


def checked(chain: Chain, *, batched: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """P [..., S, S] and r [..., S] of a chain as float64 NumPy arrays.

    Raises:
        BadInput: on shapes that do not fit, leading axes where one chain is needed, or rows that are no laws.
    """
    P, r = np.asarray(chain.P, np.float64), np.asarray(chain.r, np.float64)
    if P.ndim < 2 or P.shape[-1] != P.shape[-2] or P.size == 0:
        raise BadInput(f"P: shape {P.shape}; must be [..., states, states]")
    if P.ndim > 2 and not batched:
        raise BadInput(f"P: shape {P.shape}; must be one chain, [states, states]: give the chains one by one")
    if r.shape != P.shape[:-1]:
        raise BadInput(f"r: shape {r.shape}; must be {P.shape[:-1]}, one reward for each state")
    if not np.isfinite(r).all():
        raise BadInput(f"r: {int((~np.isfinite(r)).sum())} entries are not finite")
    check_rows("P", P)
    return P, r


def as_region(region: Any, num_states: int) -> np.ndarray:
    """A set of states as a mask bool [S]: given as such a mask, a state's number, or several.

    Raises:
        BadInput: if it is empty or names a state that does not exist.
    """
    given = np.asarray(region)
    if given.dtype == bool and given.shape != (num_states,):
        raise BadInput(f"region: a mask of shape {given.shape}; must be {(num_states,)}")
    if given.dtype == bool:
        mask = given
    else:
        states = np.atleast_1d(given)
        outside = not np.issubdtype(states.dtype, np.integer) or states.size == 0
        if outside or states.min() < 0 or states.max() >= num_states:
            raise BadInput(f"region: {region!r}; must be state numbers in [0, {num_states}) or a mask")
        mask = np.zeros(num_states, bool)
        mask[states] = True
    if not mask.any():
        raise BadInput("region: no state is in it; must hold at least one")
    return mask


def dense_bytes(num_states: int, num_actions: int = 1) -> int:
    """The memory of float64 transition probabilities [S, A, S]."""
    return 8 * num_actions * num_states**2


def refuse_dense(num_states: int, num_actions: int = 1, *, limit: int | None = None) -> None:
    """Refuse tables that would not fit: above `limit` bytes, half of the machine's memory when not given.

    Raises:
        BadInput: with the number of bytes, pointing to the sparse tables.
    """
    needed = dense_bytes(num_states, num_actions)
    if limit is None:
        limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    if needed > limit:
        raise BadInput(
            f"P: {num_states} states × {num_actions} actions as a dense float64 table take {needed / 1e9:,.1f} GB; "
            f"must be at most {limit / 1e9:,.1f} GB here: use `tutelage.continual.sparse` (successor lists)"
        )


def _graph(P: Any) -> csr_array:
    graph = csr_array(P) if issparse(P) else csr_array(np.asarray(P) > 0, dtype=np.float64)
    graph.eliminate_zeros()
    return graph


def _period(graph: csr_array) -> int:
    """Of a strongly connected graph: every edge u → v closes a loop of length depth(u) + 1 − depth(v), modulo it."""
    if graph.diagonal().any():
        return 1
    depth = dijkstra(graph, unweighted=True, indices=0).astype(np.int64)
    source, target = graph.nonzero()
    return int(np.gcd.reduce(np.abs(depth[source] + 1 - depth[target])))
