import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.worlds.edit_distance import edit_distances
from tutelage.gflownets.worlds.enumeration import enumerate_objects
from tutelage.gflownets.worlds.sequences import STOP, sequence_environment, sequence_problem, text_of, tokens_of
from tutelage.lab.errors import BadInput

NOTHING = Objectives(("nothing",), lambda objects: jnp.zeros((len(objects), 1)))


def words(alphabet: str, min_len: int, max_len: int) -> list[str]:
    return [
        "".join(word) for length in range(min_len, max_len + 1) for word in itertools.product(alphabet, repeat=length)
    ]


def levenshtein(first: str, second: str) -> int:
    row = list(range(len(second) + 1))
    for i, x in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def test_lengths_mean_what_they_say_and_the_longest_needs_no_stop():
    environment = sequence_environment(3, 2, 4)
    step, mask = jax.jit(environment.step), jax.jit(environment.mask)
    waiting, found = [(environment.source(), 0)], {}
    while waiting:
        state, steps = waiting.pop()
        if state.over:
            found[text_of(np.asarray(environment.object_of(state)), "abc")] = steps
            continue
        legal = np.asarray(mask(state))
        assert legal[STOP] == (state.length >= 2) and legal[1:].all()
        waiting += [(step(state, jnp.int32(action)), steps + 1) for action in np.flatnonzero(legal)]
    assert set(found) == set(words("abc", 2, 4))
    # A STOP is an action of its own, except after max_len letters, where none is taken.
    assert all(steps == min(len(word) + 1, 4) for word, steps in found.items())
    assert environment.max_steps == 4


def test_objects_are_listed_shortest_first_then_in_alphabetical_order():
    problem = sequence_problem("ab", 1, 3, NOTHING)
    listed = enumerate_objects(problem)
    assert [text_of(tokens, "ab") for tokens in listed] == words("ab", 1, 3)
    assert problem.num_objects == len(listed) == 14
    with pytest.raises(BadInput, match="14 objects; at most 13"):
        enumerate_objects(problem, limit=13)


def test_observation_is_the_last_letter_and_the_number_of_letters():
    environment = sequence_environment(3, 1, 4)
    state = environment.source()
    assert tuple(map(int, environment.observe(state))) == (0, 0)
    state = environment.step(environment.step(state, jnp.int32(3)), jnp.int32(2))
    assert tuple(map(int, environment.observe(state))) == (2, 2)
    assert state.tokens.tolist() == [2, 1, -1, -1]


@pytest.mark.parametrize(("longest", "other"), [(9, 12), (64, 70), (65, 40), (130, 133)])
def test_edit_distances_equal_the_textbook_program(longest, other):
    rng = np.random.default_rng(longest)

    def draw(number: int, width: int) -> np.ndarray:
        ends = rng.integers(0, width + 1, number)
        ends[:2] = 0, width
        return np.where(np.arange(width) < ends[:, None], rng.integers(0, 3, (number, width)), -1).astype(np.int32)

    first, second = draw(8, longest), draw(7, other)
    expected = [[levenshtein(text_of(a, "abc"), text_of(b, "abc")) for b in second] for a in first]
    assert_array_equal(edit_distances(first, second), expected)


@pytest.mark.parametrize(("min_len", "max_len"), [(1, 3), (3, 3)])
def test_mutation_is_symmetric_and_connects_all_sequences(min_len, max_len):
    problem = sequence_problem("ab", min_len, max_len, NOTHING)
    assert problem.mutate is not None
    objects = enumerate_objects(problem)
    draws, number = 8000, len(objects)
    moved = np.asarray(jax.jit(problem.mutate)(jax.random.key(1), jnp.asarray(np.tile(objects, (draws, 1)))))
    index = {tuple(tokens): i for i, tokens in enumerate(objects.tolist())}
    counts = np.zeros((number, number))
    np.add.at(counts, (np.tile(np.arange(number), draws), [index[tuple(tokens)] for tokens in moved.tolist()]), 1)
    assert (np.abs(counts - counts.T) <= 5 * np.sqrt(counts + counts.T)).all()
    assert (np.linalg.matrix_power(np.eye(number) + (counts > 0), number) > 0).all()
    apart = edit_distances(objects, objects)
    assert (apart[counts > 0] <= 1).all()
    assert ((counts > 0) | (apart != 1)).all()


def test_children_are_objects_made_of_both_parents():
    problem = sequence_problem("abcd", 2, 6, NOTHING)
    assert problem.variation is not None
    parents = np.concatenate([[tokens_of("aa", "abcd", 6)] * 300, [tokens_of("aaaaaa", "abcd", 6)] * 300])
    partners = np.concatenate([[tokens_of("bbbbb", "abcd", 6)] * 300, [tokens_of("bb", "abcd", 6)] * 300])
    children = np.asarray(jax.jit(problem.variation)(jax.random.key(2), jnp.asarray(parents), jnp.asarray(partners)))
    lengths = (children >= 0).sum(axis=1)
    assert ((children >= 0) == (np.arange(6) < lengths[:, None])).all() and (children < 4).all()
    assert lengths.min() >= 2 and lengths.max() <= 6 and len(np.unique(lengths)) > 3
    texts = {text_of(child, "abcd") for child in children}
    assert any({"a", "b"} <= set(text) for text in texts)


def test_text_and_tokens_are_each_others_inverse():
    for word in words("xyz", 1, 3):
        assert text_of(tokens_of(word, "xyz", 4), "xyz") == word
    with pytest.raises(BadInput, match="letter 'q', which is not in 'xyz'"):
        tokens_of("xq", "xyz", 4)
    with pytest.raises(BadInput, match="has 5 letters; at most 4"):
        tokens_of("xxxxx", "xyz", 4)


@pytest.mark.parametrize(
    ("alphabet", "min_len", "max_len", "message"),
    [
        ("ab", 5, 4, "min_len = 5 and max_len = 4"),
        ("ab", 0, 4, "min_len = 0"),
        ("a", 1, 4, "at least 2 letters"),
        ("aba", 1, 4, "'a' is there twice"),
    ],
)
def test_bad_sequences_are_refused_in_one_line(alphabet, min_len, max_len, message):
    with pytest.raises(BadInput, match=message):
        sequence_problem(alphabet, min_len, max_len, NOTHING)
