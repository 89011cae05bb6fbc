"""Expectation and maximisation of IBM model 1 over a table of token pairs: bodies that Numba compiles.

The table is open addressing with linear probing. Slot i holds the pair ``keys[i]`` = source · target_size +
target, -1 where it is free, and in ``numbers[i]`` p(target | source), p(source | target), and the expected
counts that become them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

GIVEN_SOURCE, GIVEN_TARGET = 0, 1
COUNT = 2  # added to a direction gives the column of its counts
NUMBERS = 4

compiled: Any = njit(nogil=True, error_model="numpy")


@compiled
def find(keys, key):
    """Return the slot that holds the key, or the free one where it belongs."""
    mask = np.uint64(len(keys) - 1)
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: the high bits are the best
    slot = (mixed ^ (mixed >> np.uint64(32))) & mask
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + np.uint64(1)) & mask
    return np.int64(slot)


@compiled
def share_out(p, null_p, numbers, counts, null_counts, slots, outer, inner, stride, step, words):
    """Give one count for each of the `outer` words to what explains it: `inner` others, or no word at all."""
    for j in range(outer):
        word = words[j]
        total = null_p[word]
        for i in range(inner):
            slot = slots[j * stride + i * step]
            if slot >= 0:
                total += numbers[slot, p]
        if total > 0.0:
            for i in range(inner):
                slot = slots[j * stride + i * step]
                if slot >= 0:
                    numbers[slot, counts] += numbers[slot, p] / total
            null_counts[word] += null_p[word] / total


@compiled
def expect(
    source, source_starts, target, target_starts, first, keys, numbers, target_size, used, room, longest,
    grow, null_target, null_target_counts, null_source, null_source_counts, slots,
):  # fmt: skip
    """Add the expected counts of sentence pairs from number `first`; return the first that was not done.

    With `grow`, pairs of tokens that are not in the table are put there, as likely as any other, while the
    `used` ones are at most `room`: where a sentence might exceed that, it and the rest are left.
    """
    sentences = len(source_starts) - 1
    for sentence in range(first, sentences):
        s, t = source[source_starts[sentence] :], target[target_starts[sentence] :]
        n = source_starts[sentence + 1] - source_starts[sentence]
        m = target_starts[sentence + 1] - target_starts[sentence]
        if n == 0 or m == 0 or n * m > longest:
            continue
        if grow and used[0] + n * m > room:
            return sentence
        for i in range(n):
            for j in range(m):
                key = np.int64(s[i]) * target_size + t[j]
                slot = find(keys, key)
                if keys[slot] == -1:
                    if grow:
                        keys[slot] = key
                        numbers[slot, GIVEN_SOURCE] = numbers[slot, GIVEN_TARGET] = 1.0
                        used[0] += 1
                    else:
                        slot = -1
                slots[i * m + j] = slot
        share_out(
            GIVEN_SOURCE, null_target, numbers, GIVEN_SOURCE + COUNT, null_target_counts, slots, m, n, 1, m, t
        )
        share_out(
            GIVEN_TARGET, null_source, numbers, GIVEN_TARGET + COUNT, null_source_counts, slots, n, m, m, 1, s
        )
    return sentences


@compiled
def maximise(keys, numbers, source_size, target_size):
    """Turn expected counts into probabilities, and set them to zero."""
    of_source, of_target = np.zeros(source_size), np.zeros(target_size)
    for slot in range(len(keys)):
        if keys[slot] >= 0:
            of_source[keys[slot] // target_size] += numbers[slot, GIVEN_SOURCE + COUNT]
            of_target[keys[slot] % target_size] += numbers[slot, GIVEN_TARGET + COUNT]
    for slot in range(len(keys)):
        if keys[slot] >= 0:
            for direction in (GIVEN_SOURCE, GIVEN_TARGET):
                given = (
                    of_source[keys[slot] // target_size]
                    if direction == GIVEN_SOURCE
                    else of_target[keys[slot] % target_size]
                )
                count = numbers[slot, direction + COUNT]
                numbers[slot, direction] = count / given if given > 0.0 else 0.0
                numbers[slot, direction + COUNT] = 0.0


@compiled
def insert(keys, numbers, more_keys, more_numbers):
    """Put pairs that are not in the table there."""
    for i in range(len(more_keys)):
        slot = find(keys, more_keys[i])
        keys[slot] = more_keys[i]
        for j in range(NUMBERS):
            numbers[slot, j] = more_numbers[i, j]
