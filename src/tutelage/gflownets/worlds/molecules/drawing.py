"""Pictures of molecules for exhibits."""

from __future__ import annotations

from collections.abc import Sequence

from tutelage.gflownets.worlds.molecules.toolkit import parsed, toolkit
from tutelage.lab.drawing.svg import plain
from tutelage.lab.errors import BadInput

PANEL = (200, 170)
"""Pixels of one molecule with its caption."""


def drawing(smiles: Sequence[str], captions: Sequence[str] | None = None, *, columns: int = 4) -> str:
    """A grid of molecules, row by row, as one SVG document on white.

    Args:
        captions: one line under each molecule.

    Raises:
        BadInput: no molecules, a text that is no SMILES, or another number of captions.
    """
    if not smiles or columns < 1:
        raise BadInput(f"drawing: {len(smiles)} molecules in {columns} columns: at least one of each is needed")
    if captions is not None and len(captions) != len(smiles):
        raise BadInput(f"drawing: {len(captions)} captions for {len(smiles)} molecules: must be as many")
    molecules = [parsed(text, "drawing") for text in smiles]
    across = min(columns, len(molecules))
    width, height = PANEL
    down = -(-len(molecules) // across)
    drawer = toolkit().rdMolDraw2D.MolDraw2DSVG(across * width, down * height, width, height)
    options = drawer.drawOptions()
    options.legendFontSize = 14
    options.padding = 0.08
    drawer.DrawMolecules(molecules, legends=[plain(text, 40) for text in captions or [""] * len(molecules)])
    drawer.FinishDrawing()
    # The declaration names another encoding than the one that files are written in.
    return drawer.GetDrawingText().partition("?>\n")[2].strip()
