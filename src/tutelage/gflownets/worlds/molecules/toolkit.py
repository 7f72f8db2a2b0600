"""RDKit (extra `mo`), loaded when first needed; free of any framework."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tutelage.lab.errors import BadInput

_BITS, _RADIUS = 2048, 2


class Toolkit(NamedTuple):
    """The parts of RDKit in use."""

    Chem: Any
    QED: Any
    Descriptors: Any
    DataStructs: Any
    rdBase: Any
    rdMolDraw2D: Any
    fingerprint: Any
    sa_score: Callable[[Any], float]


@functools.cache
def toolkit() -> Toolkit:
    """RDKit, loaded when first needed. Raises `BadInput` in one line where it, or its SA score, is not installed."""
    try:
        from rdkit import Chem, DataStructs, RDConfig, rdBase
        from rdkit.Chem import QED, Descriptors, rdFingerprintGenerator
        from rdkit.Chem.Draw import rdMolDraw2D
    except ImportError as error:
        raise BadInput("molecules need RDKit, which is in the extra 'mo': pip install 'tutelage[mo]'") from error
    fingerprint = rdFingerprintGenerator.GetMorganGenerator(radius=_RADIUS, fpSize=_BITS)
    # The score is not part of the package proper but of a folder of contributions that its wheels carry along.
    path = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("tutelage_rdkit_sascorer", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise BadInput(f"RDKit's SA score is not there ({path}): pip install 'tutelage[mo]'")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Toolkit(Chem, QED, Descriptors, DataStructs, rdBase, rdMolDraw2D, fingerprint, module.calculateScore)


def parsed(smiles: str, field: str = "SMILES") -> Any:
    """A sanitised RDKit molecule. Raises `BadInput` for what is no SMILES."""
    tools = toolkit()
    with tools.rdBase.BlockLogs():
        molecule = tools.Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise BadInput(f"{field}: {smiles!r} is no molecule that RDKit can read")
    return molecule
