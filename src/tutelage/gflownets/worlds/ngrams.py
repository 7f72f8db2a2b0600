"""N-grams: sequences in which given motifs should occur as often as possible, and compete for the letters.

objective_i(x) = occurrences of motif i in x, overlaps included, / scale: the regex tasks of the published sequence code
(mo_gfn), in which bigrams have 33 to 36 letters and a scale of 18, unigrams 17 to 18 letters and a scale of 18.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tutelage.gflownets.objectives import Objectives
from tutelage.gflownets.problem import Problem
from tutelage.gflownets.worlds.config import NGramConfig, check_ngrams
from tutelage.gflownets.worlds.enumeration import front_of
from tutelage.gflownets.worlds.sequences import sequence_problem, text_of


def ngrams(config: NGramConfig) -> Problem:
    """The problem of a configuration; its front is exact for any alphabet (`ngram_front`).

    Raises:
        BadInput: what is wrong with the configuration.
    """
    check_ngrams(config)
    motifs = [tuple(map(config.alphabet.index, motif)) for motif in config.motifs]

    def rewards(objects: Int[Array, "n L"]) -> Float[Array, "n M"]:
        counts = jnp.stack([_occurrences(objects, motif) for motif in motifs], axis=-1)
        return counts.astype(jnp.float32) / config.scale

    objectives = Objectives(
        config.motifs,
        rewards,
        upper=tuple(max(1.0, most_occurrences(motif, config.max_len) / config.scale) for motif in config.motifs),
        render=lambda tokens: text_of(tokens, config.alphabet),
    )
    return sequence_problem(
        config.alphabet,
        config.min_len,
        config.max_len,
        objectives,
        front=lambda: ngram_front(config.alphabet, config.motifs, config.max_len) / config.scale,
    )


def _occurrences(objects: Int[Array, "n L"], motif: tuple[int, ...]) -> Int[Array, "n"]:
    starts = objects.shape[1] - len(motif) + 1
    found = jnp.ones((len(objects), starts), bool)
    for offset, letter in enumerate(motif):
        found &= objects[:, offset : offset + starts] == letter
    return found.sum(axis=-1)


def most_occurrences(motif: str, length: int) -> int:
    """How often a motif can occur in `length` letters: once more with each of its shortest periods."""
    period = next(shift for shift in range(1, len(motif) + 1) if motif.startswith(motif[shift:]))
    return 1 + (length - len(motif)) // period


def ngram_front(alphabet: str, motifs: Sequence[str], max_len: int) -> Int[np.ndarray, "K M"]:
    """The non-dominated vectors of occurrences in at most `max_len` letters, exactly, in lexicographic order.

    Dynamic programming over prefixes. Of a prefix only its end matters to what can follow: its longest suffix that
    begins a motif (the state of the motifs' automaton). Whatever is appended adds the same to all prefixes of one
    length and one state, so among those the dominated ones are dropped; between states none is. Letters never take an
    occurrence away, so the longest sequences suffice.
    """
    after, added = motif_automaton(alphabet, motifs)
    fronts = {0: np.zeros((1, len(motifs)), np.int64)}
    for _ in range(max_len):
        reached: dict[int, list[np.ndarray]] = {}
        for state, counts in fronts.items():
            for following in set(after[state]):
                reached.setdefault(following, []).append(counts + added[following])
        fronts = {state: front_of(np.concatenate(counts)) for state, counts in reached.items()}
    return front_of(np.concatenate(list(fronts.values())))


def motif_automaton(alphabet: str, motifs: Sequence[str]) -> tuple[list[list[int]], Int[np.ndarray, "S M"]]:
    """States are the prefixes of motifs, 0 the empty one (Aho & Corasick 1975).

    Returns:
        after: of each state and letter the next state.
        added: of each state the motifs that end on entering it.
    """
    prefixes = sorted({motif[:end] for motif in motifs for end in range(len(motif) + 1)}, key=lambda p: (len(p), p))
    number = {prefix: state for state, prefix in enumerate(prefixes)}

    def longest_suffix(text: str) -> int:
        return next(number[text[start:]] for start in range(len(text) + 1) if text[start:] in number)

    after = [[longest_suffix(prefix + letter) for letter in alphabet] for prefix in prefixes]
    added = np.array([[prefix.endswith(motif) for motif in motifs] for prefix in prefixes], np.int64)
    return after, added
