"""Seventy-two building blocks of molecules, as SMILES with numbered attachment points, and how to read others.

The blocks are common rings, linkers and end groups of drug-like molecules, put together for this library: not the list
that the published fragment code uses. `[*:1]` stands for a single bond to another block, or to a hydrogen where none
is attached.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from tutelage.gflownets.worlds.molecules.toolkit import parsed, toolkit
from tutelage.lab.errors import BadInput

BLOCKS = (
    # Aromatic rings of six.
    "c1ccc([*:1])cc1",
    "c1cc([*:1])ccc1[*:2]",
    "c1cc([*:1])cc([*:2])c1",
    "c1ccc([*:1])c([*:2])c1",
    "c1c([*:1])cc([*:2])cc1[*:3]",
    "n1cccc([*:1])c1",
    "n1ccc([*:1])cc1",
    "n1cc([*:1])ccc1[*:2]",
    "n1ccc([*:1])cc1[*:2]",
    "n1cc([*:1])cnc1[*:2]",
    "n1c([*:1])ccnc1[*:2]",
    "n1cc([*:1])ncc1[*:2]",
    "n1nc([*:1])ccc1[*:2]",
    # Aromatic rings of five.
    "c1cc([*:1])sc1[*:2]",
    "c1cc([*:1])oc1[*:2]",
    "c1cc([*:1])n([*:2])c1",
    "n1c([*:1])csc1[*:2]",
    "n1c([*:1])coc1[*:2]",
    "c1nc([*:1])n([*:2])c1",
    "n1n([*:1])cc([*:2])c1",
    "[nH]1nc([*:1])cc1[*:2]",
    "n1nc([*:1])oc1[*:2]",
    "n1nn([*:1])cc1[*:2]",
    "n1oc([*:1])cc1[*:2]",
    # Fused rings.
    "c1ccc2[nH]c([*:1])cc2c1",
    "c1cc([*:1])c2c(c1)ccn2[*:2]",
    "c1ccc2c(c1)nc([*:1])n2[*:2]",
    "c1ccc2nc([*:1])ccc2c1",
    "c1cc([*:1])cc2ncnc([*:2])c12",
    "c1ccc2c([*:1])cccc2c1",
    "c1cc2OCOc2cc1[*:1]",
    "c1ccc2sc([*:1])nc2c1",
    "n1cnc2c(c1[*:1])ncn2[*:2]",
    # Saturated rings.
    "C1CC1[*:1]",
    "C1CCC1[*:1]",
    "C1CCCC1[*:1]",
    "C1CC([*:1])CCC1[*:2]",
    "C1CN([*:1])CCC1[*:2]",
    "C1CN([*:1])CCN1[*:2]",
    "C1COCCN1[*:1]",
    "C1CC([*:1])N([*:2])C1",
    "C1CC([*:1])CN1[*:2]",
    "C1C([*:1])CN1[*:2]",
    "C1COCCC1[*:1]",
    "C1CS(=O)(=O)CCN1[*:1]",
    "O=C1CCCN1[*:1]",
    "O=C1NC([*:1])CN1[*:2]",
    # Linkers.
    "C([*:1])[*:2]",
    "C([*:1])C[*:2]",
    "C([*:1])CC[*:2]",
    "CC([*:1])[*:2]",
    "C([*:1])([*:2])[*:3]",
    "CC(C)([*:1])[*:2]",
    "O([*:1])[*:2]",
    "S([*:1])[*:2]",
    "N([*:1])[*:2]",
    "N([*:1])([*:2])[*:3]",
    "O=C([*:1])[*:2]",
    "O=C([*:1])N[*:2]",
    "O=C(N[*:1])N[*:2]",
    "O=S(=O)([*:1])[*:2]",
    "O=S(=O)([*:1])N[*:2]",
    "O=C([*:1])O[*:2]",
    "[*:1]C=C[*:2]",
    "[*:1]C#C[*:2]",
    # End groups.
    "C[*:1]",
    "O[*:1]",
    "CO[*:1]",
    "F[*:1]",
    "Cl[*:1]",
    "N#C[*:1]",
    "FC(F)(F)[*:1]",
)

_HETEROATOMS = ("N", "O", "F", "Cl", "Br", "I", "S")
MOST_SLOTS = 4
"""Attachment points of one block at most."""


class Blocks(NamedTuple):
    """F building blocks with up to S attachment points each, in the order of their numbers.

    Attributes:
        smiles: F texts.
        slots: bool [F, S], there is such an attachment point.
        distinct: bool [F, S], the first of its kind: attaching the bare block by another one that is equivalent to it
            by symmetry makes the same molecule.
        hetero: bool [F, S], the attachment is at N, O, a halogen or a sulfur that has no double bond.
    """

    smiles: tuple[str, ...]
    slots: Bool[np.ndarray, "F S"]
    distinct: Bool[np.ndarray, "F S"]
    hetero: Bool[np.ndarray, "F S"]


def read_blocks(path: str | Path) -> Blocks:
    """The blocks of a text file: one SMILES with attachment points [*:1], [*:2], … a line; `#` begins a remark line.

    Raises:
        BadInput: naming the file, or the line that is no building block.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"blocks: cannot read {path}: {error}") from error
    numbered = {number: line.strip() for number, line in enumerate(lines, start=1)}
    kept = {number: line for number, line in numbered.items() if line and not line.startswith("#")}
    return blocks_of(tuple(kept.values()), [f"line {number} of {path}" for number in kept])


def blocks_of(smiles: tuple[str, ...] = BLOCKS, places: list[str] | None = None) -> Blocks:
    """Building blocks of their texts.

    Raises:
        BadInput: naming the text (and its place) that is no SMILES or one of an earlier molecule, or whose attachment
            points are not numbered 1, 2, … up to 4, each at the end of one single bond to an atom.
    """
    if not smiles:
        raise BadInput("blocks: there is none; at least one is needed")
    places = places or [f"block {number}" for number in range(1, len(smiles) + 1)]
    rows = [_slots_of(text, f"{place}, {text!r}") for text, place in zip(smiles, places, strict=True)]
    canonical = [toolkit().Chem.CanonSmiles(text) for text in smiles]
    for row, text in enumerate(canonical):
        if (first := canonical.index(text)) < row:
            raise BadInput(f"blocks: {places[row]}, {smiles[row]!r}, is the same as {places[first]}")
    width = max(len(row) for row in rows)
    shape = (len(rows), width)
    slots, distinct, hetero = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
    for index, row in enumerate(rows):
        slots[index, : len(row)] = True
        hetero[index, : len(row)] = [is_hetero for _, is_hetero in row]
        kinds = [kind for kind, _ in row]
        distinct[index, : len(row)] = [kinds.index(kind) == slot for slot, kind in enumerate(kinds)]
    return Blocks(tuple(smiles), slots, distinct, hetero)


def _slots_of(text: str, place: str) -> list[tuple[int, bool]]:
    """Of each attachment point, in order: its class under the block's symmetry, and whether it is at a heteroatom."""
    molecule = parsed(text, f"blocks: {place}")
    dummies = sorted((atom for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0), key=_number)
    if [_number(atom) for atom in dummies] != list(range(1, len(dummies) + 1)) or not 1 <= len(dummies) <= MOST_SLOTS:
        raise BadInput(f"blocks: {place}: must have attachment points [*:1], [*:2], … at most {MOST_SLOTS}")
    single = toolkit().Chem.BondType.SINGLE
    if any(atom.GetDegree() != 1 or atom.GetBonds()[0].GetBondType() != single for atom in dummies):
        raise BadInput(f"blocks: {place}: each attachment point must end one single bond")
    neighbours = [atom.GetNeighbors()[0] for atom in dummies]
    if len(toolkit().Chem.GetMolFrags(molecule)) > 1 or any(atom.GetAtomicNum() == 0 for atom in neighbours):
        raise BadInput(f"blocks: {place}: must be one connected piece with an atom of its own")
    for atom in dummies:
        atom.SetAtomMapNum(0)
    ranks = toolkit().Chem.CanonicalRankAtoms(molecule, breakTies=False)
    return [(ranks[atom.GetIdx()], _is_hetero(near)) for atom, near in zip(dummies, neighbours, strict=True)]


def _number(atom) -> int:
    return atom.GetAtomMapNum()


def _is_hetero(atom) -> bool:
    """Sulfonyl sulfur is at home with nitrogen and oxygen: it counts with carbon."""
    double = any(bond.GetBondTypeAsDouble() == 2 for bond in atom.GetBonds())
    return atom.GetSymbol() in _HETEROATOMS and not (atom.GetSymbol() == "S" and double)
