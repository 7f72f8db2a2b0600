"""Molecules of up to nine building blocks, joined at numbered attachment points into a tree.

A state is a rooted tree: the block that was picked first, and for every other block the block and attachment point it
hangs on, and by which of its own. The order in which branches were added leaves no trace (nodes are kept in preorder,
children by attachment point), so a tree of n blocks is reached in several orders and the graph is no tree itself: the
backward policy removes a uniformly drawn leaf. One pick is two actions: where (an attachment point that is free), then
what (a block and one of its attachment points). The law is one over these trees: a molecule that can be cut up in
several ways, or rooted in several of its blocks, is there once for each.

The published environment picks from another list of 72 blocks, names attachment points after the tree is built, and
counts trees without a root.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from tutelage.gflownets.environment import Environment
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.molecules.blocks import Blocks, blocks_of, read_blocks
from tutelage.gflownets.worlds.molecules.config import FragmentConfig, check_fragments
from tutelage.gflownets.worlds.molecules.objectives import Predictor, distances_between, molecule_objectives
from tutelage.gflownets.worlds.molecules.regrowth import regrown_variation, regrowth
from tutelage.gflownets.worlds.molecules.toolkit import parsed, toolkit

STOP = 0
"""The action that ends a molecule. Behind it N·S places, node · S + attachment point, then the ways to join a block."""
_STEPS_BACK = 4


class Tree(NamedTuple):
    """One state; nodes in preorder, −1 where there is none.

    Attributes:
        block: int32 [N], which building block.
        parent: int32 [N], the node that it hangs on; −1 for the root.
        site: int32 [N], the parent's attachment point.
        slot: int32 [N], its own attachment point.
        pending: int32, the place that was chosen for the next block, node · S + attachment point, or −1.
        over: bool, the molecule is complete.
    """

    block: Int[Array, "N"]
    parent: Int[Array, "N"]
    site: Int[Array, "N"]
    slot: Int[Array, "N"]
    pending: Int[Array, ""]
    over: Bool[Array, ""]


def fragments(config: FragmentConfig, seh: Predictor | None = None) -> Problem:
    """The problem of a configuration; `seh` is needed for the objective of that name (`molecules`).

    Raises:
        BadInput: what is wrong with the configuration or the file of blocks, or RDKit is not installed.
    """
    check_fragments(config)
    blocks = read_blocks(config.blocks) if config.blocks else blocks_of()
    environment = fragment_environment(
        blocks, config.min_fragments, config.max_fragments, join_heteroatoms=config.join_heteroatoms
    )
    render = fragment_smiles(blocks)
    return Problem(
        environment=environment,
        objectives=molecule_objectives(config.objectives, render, seh),
        distances=distances_between(render),
        variation=regrown_variation(environment, _STEPS_BACK),
        mutate=regrowth(environment, _STEPS_BACK),
    )


def fragment_environment(
    blocks: Blocks, min_fragments: int, max_fragments: int, *, join_heteroatoms: bool = False
) -> Environment:
    """Trees of min … max blocks (fewer where no attachment point is free); objects are int32 [N, 4]: the rows of
    `Tree.block, parent, site, slot`.

    A policy sees, f32, one-hot for every node its block, parent, site and slot, and the pending place.
    """
    num_blocks, width = blocks.slots.shape
    joints = np.argwhere(blocks.distinct)
    joint_block, joint_slot = jnp.asarray(joints[:, 0], jnp.int32), jnp.asarray(joints[:, 1], jnp.int32)
    starts = jnp.asarray(joints[:, 1] == 0)
    slots, hetero = jnp.asarray(blocks.slots), jnp.asarray(blocks.hetero)
    joint_hetero = hetero[joint_block, joint_slot]
    # By whether the place is at a heteroatom: which joints may follow.
    allowed = jnp.stack([jnp.ones_like(joint_hetero), ~joint_hetero | join_heteroatoms])
    usable = slots & allowed.any(axis=1)[hetero.astype(jnp.int32)]
    nodes = jnp.arange(max_fragments)
    first_joint = 1 + max_fragments * width

    def source() -> Tree:
        none = jnp.full(max_fragments, -1, jnp.int32)
        return Tree(none, none, none, none, jnp.full((), -1, jnp.int32), jnp.zeros((), bool))

    def free_places(state: Tree) -> Bool[Array, "N S"]:
        """Attachment points that nothing is joined to, and something may be."""
        taken = (state.slot[:, None] == jnp.arange(width)) | _hanging(state, nodes, width)
        return usable[state.block] & (state.block >= 0)[:, None] & ~taken

    def mask(state: Tree) -> Bool[Array, "A"]:
        number = _number(state)
        waits = state.pending >= 0
        places = free_places(state) & ~waits & (number < max_fragments)
        stop = ~waits & (number > 0) & ((number >= min_fragments) | ~places.any())
        at_hetero = hetero[state.block[state.pending // width], state.pending % width]
        join = jnp.where(waits, allowed[at_hetero.astype(jnp.int32)], starts & (number == 0))
        return jnp.concatenate([stop[None], places.reshape(-1), join])

    def step(state: Tree, action: Int[Array, ""]) -> Tree:
        action = action.astype(jnp.int32)
        joint = jnp.maximum(action - first_joint, 0)
        joined = _joined(state, joint_block[joint], joint_slot[joint], width)
        return jax.tree.map(
            lambda stopped, placed, new: jnp.where(
                action == STOP, stopped, jnp.where(action < first_joint, placed, new)
            ),
            state._replace(over=jnp.ones((), bool)),
            state._replace(pending=action - 1),
            joined,
        )

    def leaves(state: Tree) -> Bool[Array, "N"]:
        """Nodes that may be taken away: those that nothing hangs on, and the root when it is alone."""
        has_child = (state.parent[:, None] == nodes).any(axis=0)
        return (state.block >= 0) & ~has_child

    def log_pb(state: Tree, action: Int[Array, ""], after: Tree) -> Float[Array, ""]:
        return jnp.where(action >= first_joint, -jnp.log(leaves(after).sum().astype(jnp.float32)), 0.0)

    def retrace(key: Key[Array, ""], after: Tree) -> tuple[Tree, Int[Array, ""]]:
        leaf = jax.random.categorical(key, jnp.where(leaves(after), 0.0, -jnp.inf)).astype(jnp.int32)
        removed = _without(after, leaf, width)
        slot = jnp.maximum(after.slot[leaf], 0)  # a root is put down as if by its first
        joint = jnp.argmax((joint_block == after.block[leaf]) & (joint_slot == slot)).astype(jnp.int32)
        chose_place = after.pending >= 0
        before = jax.tree.map(
            lambda going_on, undecided, smaller: jnp.where(
                after.over, going_on, jnp.where(chose_place, undecided, smaller)
            ),
            after._replace(over=jnp.zeros((), bool)),
            after._replace(pending=jnp.full((), -1, jnp.int32)),
            removed,
        )
        action = jnp.where(after.over, STOP, jnp.where(chose_place, 1 + after.pending, first_joint + joint))
        return before, action.astype(jnp.int32)

    def observe(state: Tree) -> Float[Array, "F"]:
        parts = [
            jax.nn.one_hot(state.block, num_blocks),
            jax.nn.one_hot(state.parent, max_fragments),
            jax.nn.one_hot(state.site, width),
            jax.nn.one_hot(state.slot, width),
            jax.nn.one_hot(state.pending, max_fragments * width),
        ]
        return jnp.concatenate([part.reshape(-1) for part in parts]).astype(jnp.float32)

    def terminal(finished: Int[Array, "N 4"]) -> Tree:
        block, parent, site, slot = finished.astype(jnp.int32).T
        return Tree(block, parent, site, slot, jnp.full((), -1, jnp.int32), jnp.ones((), bool))

    return Environment(
        num_actions=first_joint + len(joints),
        max_steps=2 * max_fragments,
        source=source,
        mask=mask,
        step=step,
        done=lambda state: state.over,
        log_pb=log_pb,
        retrace=retrace,
        observe=observe,
        object_of=lambda state: jnp.stack([state.block, state.parent, state.site, state.slot], axis=-1),
        terminal=terminal,
    )


def fragment_smiles(blocks: Blocks) -> Callable[[np.ndarray], str]:
    """Object -> canonical SMILES of the molecule; attachment points that are left become hydrogen."""
    tools = toolkit()
    prepared = []
    for text in blocks.smiles:
        molecule = parsed(text)
        dummies = {atom.GetAtomMapNum() - 1: atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0}
        ends = [(dummies[slot].GetIdx(), dummies[slot].GetNeighbors()[0].GetIdx()) for slot in range(len(dummies))]
        for atom in molecule.GetAtoms():
            atom.SetAtomMapNum(0)
        prepared.append((molecule, ends))

    def smiles(finished: np.ndarray) -> str:
        molecule, offsets, gone = tools.Chem.RWMol(), [], []
        for block, parent, site, slot in np.asarray(finished).tolist():
            if block < 0:
                break
            piece, ends = prepared[block]
            offset = molecule.GetNumAtoms()
            molecule.InsertMol(piece)
            if parent >= 0:
                above, above_ends = offsets[parent]
                molecule.AddBond(above + above_ends[site][1], offset + ends[slot][1], tools.Chem.BondType.SINGLE)
                gone += [above + above_ends[site][0], offset + ends[slot][0]]
            offsets.append((offset, ends))
        for index in sorted(gone, reverse=True):
            molecule.RemoveAtom(index)
        for atom in molecule.GetAtoms():
            if atom.GetAtomicNum() == 0:
                atom.SetAtomicNum(1)
        tools.Chem.SanitizeMol(molecule)
        return tools.Chem.MolToSmiles(tools.Chem.RemoveHs(molecule))

    return smiles


def _number(state: Tree) -> Int[Array, ""]:
    return (state.block >= 0).sum(dtype=jnp.int32)


def _hanging(state: Tree, nodes: Int[Array, "N"], width: int) -> Bool[Array, "N S"]:
    """Attachment points of each node that a child hangs on."""
    of_child = (state.parent[:, None] == nodes)[:, :, None] & (state.site[:, None] == jnp.arange(width))[:, None, :]
    return of_child.any(axis=0)


def _joined(state: Tree, block: Int[Array, ""], slot: Int[Array, ""], width: int) -> Tree:
    """The tree with a block at the pending place, or as the root if there is none."""
    size = state.block.shape[0]
    nodes = jnp.arange(size)
    is_root = state.pending < 0
    parent, site = state.pending // width, state.pending % width
    # Preorder: the new node follows its parent and all branches at earlier attachment points.
    earlier = (state.parent == parent) & (state.site < site)
    earlier_branches = (_ancestry(state.parent) & earlier).any(axis=1) & (state.block >= 0)
    place = jnp.where(is_root, 0, parent + 1 + earlier_branches.sum(dtype=jnp.int32))

    def inserted(column: Array, value: Array) -> Array:
        moved = jnp.where(nodes > place, jnp.roll(column, 1), column)
        return jnp.where(nodes == place, value, moved).astype(jnp.int32)

    return Tree(
        inserted(state.block, block),
        inserted(state.parent + (state.parent >= place), jnp.where(is_root, -1, parent)),
        inserted(state.site, jnp.where(is_root, -1, site)),
        inserted(state.slot, jnp.where(is_root, -1, slot)),
        jnp.full((), -1, jnp.int32),
        jnp.zeros((), bool),
    )


def _without(state: Tree, leaf: Int[Array, ""], width: int) -> Tree:
    """The tree before a leaf was put on, its place pending."""
    nodes = jnp.arange(state.block.shape[0])

    def removed(column: Array) -> Array:
        return jnp.where(nodes >= leaf, jnp.roll(column, -1).at[-1].set(-1), column)

    pending = jnp.where(state.parent[leaf] < 0, -1, state.parent[leaf] * width + state.site[leaf])
    shifted = state.parent - (state.parent > leaf)
    block, parent, site, slot = map(removed, (state.block, shifted, state.site, state.slot))
    return Tree(block, parent, site, slot, pending.astype(jnp.int32), jnp.zeros((), bool))


def _ancestry(parent: Int[Array, "N"]) -> Bool[Array, "N N"]:
    """[node, other]: other is the node itself or above it."""
    size = parent.shape[0]
    above = (parent[:, None] == jnp.arange(size)) | jnp.eye(size, dtype=bool)
    for _ in range(max(size - 1, 1).bit_length()):
        above = (above[:, :, None] & above[None, :, :]).any(axis=1)
    return above
