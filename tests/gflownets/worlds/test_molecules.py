"""What is measured of molecules: RDKit's figures, the page's formulas, distances, pictures."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tutelage.gflownets.oracles.oracle import Oracle, OracleError
from tutelage.gflownets.worlds.molecules import toolkit
from tutelage.gflownets.worlds.molecules.atoms import atom_smiles, atoms
from tutelage.gflownets.worlds.molecules.config import AtomConfig
from tutelage.gflownets.worlds.molecules.drawing import drawing
from tutelage.gflownets.worlds.molecules.objectives import molecule_objectives, tanimoto_distances
from tutelage.gflownets.worlds.molecules.toolkit import parsed
from tutelage.lab.errors import BadInput

Chem = pytest.importorskip("rdkit.Chem")

_KNOWN = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "taxol core": "CC1=C2C(C(=O)C3(C(CC4C(C3C(C(C2(C)C)(CC1O)O)OC(=O)C5=CC=CC=C5)(CO4)OC(=O)C)O)C)OC(=O)C",
    "ethanol": "CCO",
}


def _numbered(*smiles: str, **options):
    """Objectives of objects [n, 1] that are indices of these molecules."""
    return molecule_objectives(("qed", "sa", "mw"), lambda row: smiles[int(row[0])], **options)


def test_rewards_are_rdkits_figures_by_the_published_formulas():
    from rdkit.Chem import QED, Descriptors

    texts = list(_KNOWN.values())
    rewards = Oracle(_numbered(*texts))(np.arange(len(texts))[:, None])
    mols = [Chem.MolFromSmiles(text) for text in texts]
    np.testing.assert_allclose(rewards[:, 0], [QED.qed(mol) for mol in mols], rtol=1e-6)
    weights = np.array([Descriptors.MolWt(mol) for mol in mols])
    np.testing.assert_allclose(rewards[:, 2], np.clip((300 - weights) / 700 + 1, 0, 1), rtol=1e-6)
    # By hand: C9H8O4, C8H10N4O2; the first two and the last are under 300 Da.
    assert weights[0] == pytest.approx(9 * 12.011 + 8 * 1.008 + 4 * 15.999, abs=1e-2)
    assert rewards[[0, 1, 3], 2].tolist() == [1.0, 1.0, 1.0]
    assert rewards[2, 2] == pytest.approx(1 - (weights[2] - 300) / 700, rel=1e-6) and 0 < rewards[2, 2] < 1
    # The scores that this SA implementation is known for.
    assert 10 - 9 * rewards[0, 1] == pytest.approx(1.58, abs=0.01)
    assert 10 - 9 * rewards[2, 1] > 4.5
    assert rewards[0, 0] == pytest.approx(0.5501, abs=1e-4)


def test_a_heavy_molecule_is_worth_nothing_by_weight():
    heavy = "C" * 100
    assert Oracle(_numbered(heavy))(np.zeros((1, 1), int))[0, 2] == 0.0


def test_a_target_weight_is_a_bell_around_it():
    objectives = atoms(AtomConfig(objectives=("mw_target",), target_weight=46.0, weight_width=10.0)).objectives
    ethanol, ethane = np.diag([1, 1, 3]), np.diag([1, 1, 0])
    ethanol[1, 0] = ethanol[2, 1] = ethane[1, 0] = 1
    rewards = Oracle(objectives)(np.stack([ethanol, ethane]))
    weights = np.array([2 * 12.011 + 6 * 1.008 + 15.999, 2 * 12.011 + 6 * 1.008])
    np.testing.assert_allclose(rewards[:, 0], np.exp(-(((weights - 46) / 10) ** 2)), rtol=1e-3)


def test_seh_comes_from_the_user_on_the_published_scale():
    asked = []

    def predictor(smiles):
        asked.extend(smiles)
        return [12.0 if text == "CCO" else -3.0 for text in smiles]

    objectives = molecule_objectives(("seh", "qed"), lambda row: ("CCO", "CC")[int(row[0])], predictor)
    assert objectives.upper == (100.0, 1.0)
    oracle = Oracle(objectives)
    np.testing.assert_allclose(oracle(np.array([[0], [1], [0]]))[:, 0], [1.5, 1e-4, 1.5], rtol=1e-6)
    assert asked == ["CCO", "CC"]
    with pytest.raises(BadInput, match="'seh' needs a predictor"):
        molecule_objectives(("seh",), str)
    wrong = Oracle(molecule_objectives(("seh",), lambda row: "CC", lambda smiles: np.zeros((len(smiles), 2))))
    with pytest.raises(OracleError, match=r"seh gave an array of shape \(1, 2\)"):
        wrong(np.zeros((1, 1), int))


def test_distances_are_one_minus_tanimoto():
    from rdkit import DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    texts = list(_KNOWN.values())
    found = tanimoto_distances(texts, texts[:2])
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(text)) for text in texts]
    expected = [[1 - DataStructs.TanimotoSimilarity(one, other) for other in prints[:2]] for one in prints]
    np.testing.assert_allclose(found, expected)
    assert found[0, 0] == 0.0 and tanimoto_distances([], texts).shape == (0, 4)
    problem = atoms(AtomConfig())
    ethane, ethanol = np.diag([1, 1]), np.diag([1, 1, 3])
    ethane[1, 0] = ethanol[1, 0] = ethanol[2, 1] = 1
    assert (atom_smiles(ethane), atom_smiles(ethanol)) == ("CC", "CCO")
    pair = np.zeros((2, 3, 3), np.int32)
    pair[0, :2, :2], pair[1] = ethane, ethanol
    np.testing.assert_allclose(problem.distances(pair, pair), tanimoto_distances(["CC", "CCO"], ["CC", "CCO"]))


def test_what_is_no_molecule_is_refused_without_noise(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(BadInput, match="'C1CC' is no molecule"):
        parsed("C1CC")
    with pytest.raises(BadInput, match="is no molecule"):
        parsed("")
    assert capfd.readouterr() == ("", "")


def test_molecules_are_drawn_in_a_grid_with_captions():
    svg = drawing(list(_KNOWN.values()), ["QED 0.55 & <β>"] * 4, columns=3)
    root = ElementTree.fromstring(svg)
    assert svg.startswith("<svg") and (root.get("width"), root.get("height")) == ("600px", "340px")
    assert svg == drawing(list(_KNOWN.values()), ["QED 0.55 & <β>"] * 4, columns=3)
    with pytest.raises(BadInput, match="1 captions for 2 molecules"):
        drawing(["CC", "CO"], ["one"])
    with pytest.raises(BadInput, match="0 molecules"):
        drawing([])


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    toolkit.toolkit.cache_clear()
    monkeypatch.setitem(sys.modules, "rdkit", None)
    try:
        with pytest.raises(BadInput, match=r"pip install 'tutelage\[mo\]'"):
            atoms(AtomConfig())
    finally:
        toolkit.toolkit.cache_clear()
