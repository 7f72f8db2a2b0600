"""What is measured of molecules, by RDKit (extra `mo`): drug-likeness, ease of synthesis, weight, and distances.

    qed    as RDKit gives it (Bickerton et al. 2012), in [0, 1]
    sa     (10 − SA) / 9 with the score of Ertl & Schuffenhauer (2009), which is in [1, 10]
    mw     clip((300 − MW) / 700 + 1, 0, 1): 1 up to 300 Da, 0 from 1000 Da on
    seh    clip(prediction / 8, 1e-4, 100) of a predictor that the user brings; it may exceed 1

as in the molecule code of the paper's authors (recursionpharma/gflownet), and

    mw_target    exp(−((MW − target) / width)²), for small molecules, all of which have a 'mw' of 1

RDKit's objects stay on the host: objects
are integer arrays, and `render` makes SMILES of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.worlds.molecules.config import MEASURES, TARGET_WEIGHT, WEIGHT_WIDTH
from tutelage.gflownets.worlds.molecules.toolkit import parsed, toolkit
from tutelage.lab.errors import BadInput, nearest

Render = Callable[[np.ndarray], str]
Predictor = Callable[[Sequence[str]], ArrayLike]
"""n SMILES -> n numbers."""
SEH_UPPER = 100.0


def qed_reward(molecule: Any) -> float:
    return toolkit().QED.qed(molecule)


def sa_reward(molecule: Any) -> float:
    return (10.0 - toolkit().sa_score(molecule)) / 9.0


def mw_reward(molecule: Any) -> float:
    return float(np.clip((300.0 - toolkit().Descriptors.MolWt(molecule)) / 700.0 + 1.0, 0.0, 1.0))


def seh_reward(prediction: ArrayLike) -> np.ndarray:
    """The published scale of sEH affinities, with the published bounds."""
    return np.clip(np.asarray(prediction, np.float64) / 8.0, 1e-4, SEH_UPPER)


def molecule_objectives(
    names: Sequence[str],
    render: Render,
    seh: Predictor | None = None,
    *,
    target_weight: float = TARGET_WEIGHT,
    weight_width: float = WEIGHT_WIDTH,
) -> Objectives:
    """Objectives of molecules, on the host.

    Args:
        names: of 'qed', 'sa', 'mw', 'mw_target', 'seh'.
        render: object -> SMILES.
        target_weight, weight_width: of 'mw_target', in Da.
        seh: predictor of the affinity to sEH on its own scale, about 0 to 8; its weights are not part of this library.

    Raises:
        BadInput: RDKit is not installed; an unknown name; 'seh' without a predictor.
    """
    toolkit()
    for name in names:
        if name not in MEASURES:
            raise BadInput(f"objectives: {name!r} is not one of {', '.join(MEASURES)}{nearest(name, MEASURES)}")
    if "seh" in names and seh is None:
        raise BadInput("objectives: 'seh' needs a predictor of your own: a function of SMILES, seh=function")

    def near_target(molecule: Any) -> float:
        return float(np.exp(-(((toolkit().Descriptors.MolWt(molecule) - target_weight) / weight_width) ** 2)))

    measures = {"qed": qed_reward, "sa": sa_reward, "mw": mw_reward, "mw_target": near_target}

    def rewards(objects: np.ndarray) -> Float[np.ndarray, "n M"]:
        smiles = [render(row) for row in objects]
        molecules = [parsed(text) for text in smiles]
        columns = [_seh(seh, smiles) if name == "seh" else list(map(measures[name], molecules)) for name in names]
        return np.stack([np.asarray(column, np.float64) for column in columns], axis=1)

    upper = tuple(SEH_UPPER if name == "seh" else 1.0 for name in names)
    return Objectives(tuple(names), rewards, on_host=True, upper=upper, render=render)


def _seh(predictor: Predictor | None, smiles: Sequence[str]) -> np.ndarray:
    assert predictor is not None
    prediction = np.asarray(predictor(smiles), np.float64)
    if prediction.shape not in ((len(smiles),), (len(smiles), 1)):
        raise ValueError(f"seh gave an array of shape {prediction.shape} for {len(smiles)} molecules")
    return seh_reward(prediction.reshape(-1))


def tanimoto_distances(smiles: Sequence[str], others: Sequence[str]) -> Float[np.ndarray, "n m"]:
    """1 − Tanimoto similarity of Morgan fingerprints (radius 2, 2048 bits), in [0, 1]."""
    tools = toolkit()
    first, second = ([tools.fingerprint.GetFingerprint(parsed(text)) for text in texts] for texts in (smiles, others))
    rows = [tools.DataStructs.BulkTanimotoSimilarity(each, second) for each in first]
    return 1.0 - np.array(rows, np.float64).reshape(len(first), len(second))


def distances_between(render: Render) -> Callable[[np.ndarray, np.ndarray], Float[np.ndarray, "n m"]]:
    """`Problem.distances` of objects that are rendered as SMILES."""
    return lambda objects, others: tanimoto_distances([render(row) for row in objects], [render(row) for row in others])
