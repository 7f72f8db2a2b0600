"""Environments of molecules: every way through them is a molecule, and every step can be taken back."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tutelage.gflownets.environment import Environment
from tutelage.gflownets.exact.conformance import check_environment
from tutelage.gflownets.worlds.molecules.atoms import ELEMENTS, VALENCES, atom_environment, atom_smiles, atoms
from tutelage.gflownets.worlds.molecules.blocks import BLOCKS, blocks_of, read_blocks
from tutelage.gflownets.worlds.molecules.config import AtomConfig, FragmentConfig
from tutelage.gflownets.worlds.molecules.fragments import fragment_environment, fragment_smiles, fragments
from tutelage.gflownets.worlds.molecules.regrowth import regrown_variation, regrowth
from tutelage.lab.errors import BadInput

Chem = pytest.importorskip("rdkit.Chem")

_SMALL = ("C([*:1])[*:2]", "O[*:1]", "N([*:1])C[*:2]")
"""Methylene has two equivalent points, the amine two different ones."""


@functools.cache
def _environment(kind: str) -> Environment:
    match kind:
        case "fragments":
            return fragments(FragmentConfig()).environment
        case "atoms":
            return atoms(AtomConfig()).environment
        case "three blocks":
            return fragment_environment(blocks_of(_SMALL), 1, 3, join_heteroatoms=True)
        case _:
            return atom_environment(1, 3, 1)


@functools.cache
def _objects(kind: str, number: int = 300) -> np.ndarray:
    """Ends of random trajectories."""
    environment = _environment(kind)

    @jax.jit
    def walk(key: jax.Array):
        def forth(states, key):
            logits = jnp.where(jax.vmap(environment.mask)(states), 0.0, -jnp.inf)
            after = jax.vmap(environment.step)(states, jax.random.categorical(key, logits).astype(jnp.int32))
            done = jax.vmap(environment.done)(states)

            def kept(old, new):
                return jnp.where(done.reshape(-1, *[1] * (old.ndim - 1)), old, new)

            return jax.tree.map(kept, states, after), None

        start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape)), environment.source())
        end, _ = jax.lax.scan(forth, start, jax.random.split(key, environment.max_steps))
        return jax.vmap(environment.object_of)(end)

    return np.asarray(walk(jax.random.key(0)))


@functools.cache
def _all_objects(kind: str) -> set[bytes]:
    """Everything that can be built, by trying every legal action in every state."""
    environment = _environment(kind)
    actions = jnp.arange(environment.num_actions)

    @jax.jit
    def expand(state):
        return environment.mask(state), jax.vmap(environment.step, (None, 0))(state, actions)

    def name(state) -> bytes:
        return b"|".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))

    waiting, seen, finished = [jax.device_get(environment.source())], set(), set()
    done, object_of = jax.jit(environment.done), jax.jit(environment.object_of)
    while waiting:
        state = waiting.pop()
        if bool(done(state)):
            finished.add(np.asarray(object_of(state)).tobytes())
            continue
        mask, after = jax.device_get(expand(state))
        for action in np.flatnonzero(mask):
            child = jax.tree.map(lambda leaf, action=action: leaf[action], after)
            if name(child) not in seen:
                seen.add(name(child))
                waiting.append(child)
    return finished


@pytest.mark.parametrize("kind", ["fragments", "atoms", "three blocks", "three atoms"])
def test_environments_hold_to_their_protocol(kind: str):
    assert check_environment(_environment(kind), jax.random.key(1), max_states=4000) == []


@pytest.mark.parametrize("kind", ["fragments", "atoms"])
def test_whatever_is_built_is_one_molecule(kind: str):
    render = fragment_smiles(blocks_of()) if kind == "fragments" else atom_smiles
    smiles = [render(row) for row in _objects(kind)]
    for text in smiles:
        molecule = Chem.MolFromSmiles(text)
        assert molecule is not None and Chem.SanitizeMol(molecule) == Chem.SanitizeFlags.SANITIZE_NONE
        assert "." not in text and "*" not in text
    assert len(set(smiles)) > 200
    sizes = [Chem.MolFromSmiles(text).GetNumHeavyAtoms() for text in smiles]
    assert max(sizes) == 9 if kind == "atoms" else max(sizes) > 30


def test_atoms_reach_every_molecule_and_nothing_else():
    found = {atom_smiles(np.frombuffer(row, np.int32).reshape(3, 3)) for row in _all_objects("three atoms")}
    expected = set()
    for size in (1, 2, 3):
        pairs = list(itertools.combinations(range(size), 2))
        for elements in itertools.product(range(len(ELEMENTS)), repeat=size):
            for orders in itertools.product(range(4), repeat=len(pairs)):
                used = [sum(order for pair, order in zip(pairs, orders) if atom in pair) for atom in range(size)]
                connected = sum(order > 0 for order in orders) >= size - 1
                if connected and all(use <= VALENCES[element] for use, element in zip(used, elements)):
                    table = np.diag([element + 1 for element in elements])
                    for (one, other), order in zip(pairs, orders):
                        table[other, one] = order
                    expected.add(atom_smiles(table))
    assert found == expected


def test_a_tree_of_blocks_does_not_tell_in_which_order_it_was_built():
    environment = fragment_environment(blocks_of(("C([*:1])([*:2])[*:3]", "O[*:1]", "F[*:1]")), 1, 4)
    carbon, oxygen, fluorine = (1 + 4 * 3 + block for block in range(3))
    mask, step = jax.jit(environment.mask), jax.jit(environment.step)

    def built(*actions: int):
        state = environment.source()
        for action in actions:
            assert bool(mask(state)[action])
            state = step(state, jnp.int32(action))
        return np.asarray(environment.object_of(state))

    # Oxygen at the root's third point, carbon at its second, fluorine at that carbon: preorder, whatever came first.
    one = built(carbon, 1 + 2, oxygen, 1 + 1, carbon, 1 + 3 + 2, fluorine)
    other = built(carbon, 1 + 1, carbon, 1 + 3 + 2, fluorine, 1 + 2, oxygen)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, [[0, -1, -1, -1], [0, 0, 1, 0], [2, 1, 2, 0], [1, 0, 2, 0]])
    assert fragment_smiles(blocks_of(("C([*:1])([*:2])[*:3]", "O[*:1]", "F[*:1]")))(one) == "OCCF"


def test_heteroatoms_are_joined_only_where_told():
    blocks = blocks_of(("O([*:1])[*:2]", "N([*:1])[*:2]", "O=S(=O)([*:1])[*:2]", "C([*:1])[*:2]"))
    strict, free = fragment_environment(blocks, 1, 3), fragment_environment(blocks, 1, 3, join_heteroatoms=True)
    first = 1 + 3 * 2
    for environment, expected in ((strict, [0, 0, 1, 1]), (free, [1, 1, 1, 1])):
        mask, step = jax.jit(environment.mask), jax.jit(environment.step)
        state = step(step(environment.source(), jnp.int32(first)), jnp.int32(1))
        np.testing.assert_array_equal(mask(state), [0] * first + expected)


def test_where_nothing_is_left_to_join_a_molecule_may_end_before_its_smallest_size():
    environment = fragment_environment(blocks_of(("C[*:1]",)), 3, 3)
    mask, step = jax.jit(environment.mask), jax.jit(environment.step)
    state = environment.source()
    for action in (1 + 3, 1, 1 + 3):
        assert not bool(mask(state)[0])
        state = step(state, jnp.int32(action))
    np.testing.assert_array_equal(np.flatnonzero(mask(state)), [0])


def test_there_are_72_blocks_and_each_is_a_molecule():
    blocks = blocks_of()
    assert len(BLOCKS) == 72 and blocks.slots.shape[0] == 72 and blocks.slots[:, 0].all()
    render = fragment_smiles(blocks)
    empty = np.full((8, 4), -1)
    smiles = [render(np.vstack([[index, -1, -1, -1], empty])) for index in range(72)]
    assert all(Chem.MolFromSmiles(text) is not None for text in smiles)
    benzene = BLOCKS.index("c1cc([*:1])ccc1[*:2]")
    assert smiles[benzene] == "c1ccccc1" and blocks.distinct[benzene].tolist() == [True, False, False]


def test_blocks_come_from_a_text_file_and_what_is_none_is_named_with_its_line(tmp_path: Path):
    path = tmp_path / "blocks.smi"
    path.write_text("# rings\nc1ccc([*:1])cc1\n\nC([*:1])[*:2]\n")
    assert read_blocks(path).smiles == ("c1ccc([*:1])cc1", "C([*:1])[*:2]")
    problem = fragments(FragmentConfig(blocks=str(path), max_fragments=3))
    assert problem.environment.num_actions == 1 + 3 * 2 + 2
    for line, words in (
        ("C1CC", "is no molecule"),
        ("CC", "must have attachment points"),
        ("C[*:2]", "must have attachment points"),
        ("C=[*:1]", "must end one single bond"),
        ("C[*:1].C[*:2]", "one connected piece"),
        ("[*:1][*:2]", "an atom of its own"),
        ("c1cc([*:1])ccc1", "is the same as line 2"),
        ("C([*:1])([*:2])([*:3])C([*:4])[*:5]", "at most 4"),
    ):
        path.write_text(f"# rings\nc1ccc([*:1])cc1\n{line}\n")
        with pytest.raises(BadInput, match=rf"line 3 of .*blocks.smi.*{words}") as caught:
            read_blocks(path)
        assert "\n" not in str(caught.value)
    path.write_text("# nothing\n")
    with pytest.raises(BadInput, match="there is none"):
        read_blocks(path)
    with pytest.raises(BadInput, match="cannot read"):
        read_blocks(tmp_path / "none.smi")


@pytest.mark.parametrize("kind", ["three blocks", "three atoms"])
def test_mutations_and_children_are_valid_objects(kind: str):
    environment, legal = _environment(kind), _all_objects(kind)
    finished = jnp.asarray(_objects(kind, 64))
    mutated = jax.jit(regrowth(environment, 2))(jax.random.key(6), finished)
    children = jax.jit(regrown_variation(environment, 2))(jax.random.key(7), finished, mutated)
    for objects in (mutated, children):
        assert objects.dtype == finished.dtype
        assert all(np.asarray(row).tobytes() in legal for row in objects)
    assert float((mutated != finished).reshape(64, -1).any(axis=1).mean()) > 0.2


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(BadInput, match="min_fragments = 10: must be at most max_fragments = 9"):
        fragments(FragmentConfig(min_fragments=10))
    with pytest.raises(BadInput, match="min_atoms = 10: must be at most max_atoms = 9"):
        atoms(AtomConfig(min_atoms=10))
    with pytest.raises(BadInput, match="'qed' is there twice"):
        atoms(AtomConfig(objectives=("qed", "qed")))
    with pytest.raises(BadInput, match="logp"):
        atoms(AtomConfig(objectives=("logp",)))
