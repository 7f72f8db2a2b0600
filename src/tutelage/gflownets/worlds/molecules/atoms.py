"""Molecules of up to nine heavy atoms (C, N, O, F) with bonds of order 1 to 3, built atom by atom.

Atoms are added in breadth-first order. A new atom is bonded to one that is there; its parent may not come before the
parent of the atom that was added last. Then it may be closed into rings: further bonds of the newest atom, to atoms
behind its parent, in ascending order. Each step respects the valences 4, 3, 2, 1, so every state is a molecule.

A state tells the steps that led to it, so the graph of states is a tree (log P_B = 0) and probabilities are exact. Its
law is one over breadth-first numberings of molecules: a molecule is there once for each. Every connected graph that is
valence-legal and has few enough rings can be reached.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.environment import Environment
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.molecules.config import AtomConfig, check_atoms
from tutelage.gflownets.worlds.molecules.objectives import Predictor, distances_between, molecule_objectives
from tutelage.gflownets.worlds.molecules.regrowth import regrown_variation, regrowth
from tutelage.gflownets.worlds.molecules.toolkit import toolkit

ELEMENTS = ("C", "N", "O", "F")
VALENCES = (4, 3, 2, 1)
ORDERS = 3
STOP = 0
"""The action that ends a molecule. Then come new atoms, (element · 3 + order − 1) · N + parent, then ring bonds,
(order − 1) · N + other atom. The first atom counts as bonded singly to atom 0."""
_STEPS_BACK = 4


class Graph(NamedTuple):
    """One state.

    Attributes:
        element: int32 [N], 1 + index in `ELEMENTS`, 0 where there is no atom.
        bond: int32 [N, N], order of the bond of atom k to an earlier atom j < k; 0 elsewhere.
        over: bool, the molecule is complete.
    """

    element: Int[Array, "N"]
    bond: Int[Array, "N N"]
    over: Bool[Array, ""]


def atoms(config: AtomConfig, seh: Predictor | None = None) -> Problem:
    """The problem of a configuration; `seh` is needed for the objective of that name (`molecules`).

    Raises:
        BadInput: what is wrong with the configuration, or RDKit is not installed.
    """
    check_atoms(config)
    environment = atom_environment(config.min_atoms, config.max_atoms, config.max_rings)
    return Problem(
        environment=environment,
        objectives=molecule_objectives(
            config.objectives,
            atom_smiles,
            seh,
            target_weight=config.target_weight,
            weight_width=config.weight_width,
        ),
        distances=distances_between(atom_smiles),
        variation=regrown_variation(environment, _STEPS_BACK),
        mutate=regrowth(environment, _STEPS_BACK),
    )


def atom_environment(min_atoms: int, max_atoms: int, max_rings: int) -> Environment:
    """Molecules of min … max atoms (fewer where no valence is free); objects are int32 [N, N]: `Graph.element` on the
    diagonal, `Graph.bond` below it.

    A policy sees, f32, one-hot elements and one-hot orders of all pairs of atoms.
    """
    valence = jnp.array((0, *VALENCES), jnp.int32)
    places = jnp.arange(max_atoms)
    orders = jnp.arange(1, ORDERS + 1)
    first_ring = 1 + len(ELEMENTS) * ORDERS * max_atoms
    later, earlier = np.tril_indices(max_atoms, -1)

    def source() -> Graph:
        return Graph(jnp.zeros(max_atoms, jnp.int32), jnp.zeros((max_atoms, max_atoms), jnp.int32), jnp.zeros((), bool))

    def number(state: Graph) -> Int[Array, ""]:
        return (state.element > 0).sum(dtype=jnp.int32)

    def neighbours(state: Graph) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """Of the newest atom: its parent, and the last atom that it is bonded to. Both 0 for the first."""
        bonded = state.bond[number(state) - 1] > 0
        return jnp.argmax(bonded).astype(jnp.int32), jnp.max(jnp.where(bonded, places, 0)).astype(jnp.int32)

    def mask(state: Graph) -> Bool[Array, "A"]:
        count = number(state)
        newest = count - 1
        parent, last = neighbours(state)
        free = valence[state.element] - state.bond.sum(axis=0) - state.bond.sum(axis=1)
        takes = valence[1:, None, None] >= orders[:, None]
        gives = (free >= orders[:, None]) & (places >= parent) & (places < count)
        root = (orders[:, None] == 1) & (places == 0)
        add = jnp.where(count == 0, root, takes & gives) & (count < max_atoms)
        rings = (state.bond > 0).sum() - newest
        close = (free >= orders[:, None]) & (free[newest] >= orders[:, None]) & (places > last) & (places < newest)
        close &= (count > 0) & (rings < max_rings)
        stop = (count >= min_atoms) | ((count > 0) & ~add.any() & ~close.any())
        return jnp.concatenate([stop[None], add.reshape(-1), close.reshape(-1)])

    def step(state: Graph, action: Int[Array, ""]) -> Graph:
        count = number(state)
        adds, closes = (action > STOP) & (action < first_ring), action >= first_ring
        code = jnp.where(closes, action - first_ring, action - 1)
        other, order, element = code % max_atoms, code // max_atoms % ORDERS + 1, code // (max_atoms * ORDERS) + 1
        row = jnp.where(adds, count, count - 1)
        bonds = (adds & (count > 0)) | closes
        here = (places[:, None] == row) & (places == other) & bonds
        return Graph(
            jnp.where(adds & (places == count), element, state.element).astype(jnp.int32),
            jnp.where(here, order, state.bond).astype(jnp.int32),
            state.over | (action == STOP),
        )

    def retrace(key: Key[Array, ""], after: Graph) -> tuple[Graph, Int[Array, ""]]:
        newest = number(after) - 1
        parent, last = neighbours(after)
        is_ring = last > parent
        order = jnp.maximum(after.bond[newest, last], 1) - 1
        added = 1 + ((after.element[newest] - 1) * ORDERS + order) * max_atoms + parent
        action = jnp.where(after.over, STOP, jnp.where(is_ring, first_ring + order * max_atoms + last, added))
        taken = (places[:, None] == newest) & (places == last) & ~after.over
        element = jnp.where((places == newest) & ~is_ring & ~after.over, 0, after.element)
        return Graph(element, jnp.where(taken, 0, after.bond), jnp.zeros((), bool)), action.astype(jnp.int32)

    def observe(state: Graph) -> Float[Array, "F"]:
        elements = jax.nn.one_hot(state.element - 1, len(ELEMENTS))
        bonds = jax.nn.one_hot(state.bond[later, earlier] - 1, ORDERS)
        return jnp.concatenate([elements.reshape(-1), bonds.reshape(-1)]).astype(jnp.float32)

    def terminal(finished: Int[Array, "N N"]) -> Graph:
        element = jnp.diagonal(finished).astype(jnp.int32)
        return Graph(element, jnp.tril(finished, -1).astype(jnp.int32), jnp.ones((), bool))

    return Environment(
        num_actions=first_ring + ORDERS * max_atoms,
        max_steps=max_atoms + max_rings + 1,
        source=source,
        mask=mask,
        step=step,
        done=lambda state: state.over,
        log_pb=lambda state, action, after: jnp.zeros(()),
        retrace=retrace,
        observe=observe,
        object_of=lambda state: state.bond + jnp.diag(state.element),
        terminal=terminal,
        is_tree=True,
    )


def atom_smiles(finished: np.ndarray) -> str:
    """Object -> canonical SMILES; free valences are filled with hydrogen."""
    tools = toolkit()
    table = np.asarray(finished)
    kinds = (tools.Chem.BondType.SINGLE, tools.Chem.BondType.DOUBLE, tools.Chem.BondType.TRIPLE)
    molecule = tools.Chem.RWMol()
    for code in np.diagonal(table):
        if code > 0:
            molecule.AddAtom(tools.Chem.Atom(ELEMENTS[code - 1]))
    for later, earlier in np.argwhere(np.tril(table, -1)).tolist():
        molecule.AddBond(later, earlier, kinds[int(table[later, earlier]) - 1])
    tools.Chem.SanitizeMol(molecule)
    return tools.Chem.MolToSmiles(molecule)
