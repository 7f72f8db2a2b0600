"""Levenshtein distances of many pairs of token sequences at once."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

WORD = 64
"""Rows of the dynamic program that one machine word holds."""


def edit_distances(first: Int[np.ndarray, "n L"], second: Int[np.ndarray, "m K"]) -> Int[np.ndarray, "n m"]:
    """Insertions, deletions and substitutions between every pair of sequences, which end at their first −1.

    A column of the dynamic program is kept as two bit vectors, where it rises and where it falls by 1 from row to row,
    and moves on by word operations, for all pairs at once (Myers 1999; in blocks of 64 rows and for whole sequences:
    Hyyrö 2003).
    """
    len_first, len_second = lengths(first), lengths(second)
    num_words = -(-max(first.shape[1], 1) // WORD)
    matches = _matches(first, num_words, 1 + int(max(first.max(initial=-1), second.max(initial=-1))))
    shape = (len(first), len(second))
    one, top = np.uint64(1), np.uint64(WORD - 1)
    rises = [np.full(shape, ~np.uint64(0)) for _ in range(num_words)]
    falls = [np.zeros(shape, np.uint64) for _ in range(num_words)]
    last = np.maximum(len_first - 1, 0)
    bit = (last % WORD).astype(np.uint64)[:, None]
    distance = np.broadcast_to(len_first[:, None], shape).copy()
    for j in range(int(len_second.max(initial=0))):
        token = second[:, j]
        more, less = np.ones(shape, np.uint64), np.zeros(shape, np.uint64)  # what comes in from the row above
        for word in range(num_words):
            rise, fall = rises[word], falls[word]
            match = matches[word][:, token]
            vertical = match | fall
            match = match | less
            horizontal = (((match & rise) + rise) ^ rise) | match
            up, down = fall | ~(horizontal | rise), rise & horizontal
            here = (last // WORD == word)[:, None] & (token >= 0)
            distance += np.where(here, ((up >> bit) & one).astype(np.int64) - ((down >> bit) & one).astype(np.int64), 0)
            more_above, less_above = more, less
            more, less = up >> top, down >> top
            up, down = (up << one) | more_above, (down << one) | less_above
            rises[word], falls[word] = down | ~(vertical | up), up & vertical
    return np.where(len_first[:, None] == 0, len_second, distance)


def lengths(sequences: Int[np.ndarray, "n L"]) -> Int[np.ndarray, "n"]:
    """Tokens before the padding of −1."""
    return (sequences >= 0).sum(axis=1)


def _matches(sequences: Int[np.ndarray, "n L"], num_words: int, num_tokens: int) -> list[np.ndarray]:
    """Of each word the bits of the positions that hold a token, uint64 [n, tokens]; the column of −1 is never read
    where it counts."""
    table = np.zeros((num_words, len(sequences), num_tokens + 1), np.uint64)
    rows = np.arange(len(sequences))
    for position, token in enumerate(sequences.T):
        table[position // WORD, rows, token] |= np.uint64(1) << np.uint64(position % WORD)
    return list(table)
