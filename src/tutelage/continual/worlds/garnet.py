"""Random processes (Garnet; Archibald, McKinnon & Thomas 1995) as worlds."""

from __future__ import annotations

from tutelage.continual.sparse import sparse_garnet
from tutelage.continual.tabular import World
from tutelage.continual.worlds.outcomes import of_sparse, within_closed_class
from tutelage.lab.errors import BadInput


def garnet(states: int, actions: int, branching: int, seed: int = 0) -> World:
    """`sparse.sparse_garnet` as a table and a stepper, without the states that nothing leads to.

    For S in the ten thousands take the lists themselves: `outcome_step(of_sparse(sparse_garnet(…)))` needs no table.

    Raises:
        BadInput: sizes that are not allowed, or a table that would be too large.
    """
    if states < 1 or actions < 1:
        raise BadInput(f"states = {states}, actions = {actions}: must be at least 1")
    return within_closed_class(of_sparse(sparse_garnet(states, actions, branching, seed)))
