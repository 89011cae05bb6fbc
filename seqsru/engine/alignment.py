"""Which tokens translate which: IBM model 1 in both directions, learned from a text in several passes.

Brown et al. (1993), "The mathematics of statistical machine translation". Each target token is explained by
one source token, or by none, every one as likely beforehand: p(t | s) says how well. Model 1 has one optimum,
so the start does not matter: expectation maximisation begins with all equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqsru.errors import Refused, check_at_least

BATCH = 1 << 16  # tokens of a side that are flattened at once
LONGEST = 1 << 16  # most pairs of tokens in a sentence pair; a longer one says little, and takes its square
LOAD = 0.6  # share of the table that may be full
SMALLEST = 1 << 12  # slots of the first table

Sentence = Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Associations:
    """Pairs of tokens that were seen together, sorted by source, then target.

    Attributes
    ----------
    source, target : ndarray of shape (n,), int64
    given_source, given_target : ndarray of shape (n,), float64
        p(target | source) and p(source | target).
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    given_source: NDArray[np.float64]
    given_target: NDArray[np.float64]


@cache
def _kernels() -> Any:
    """Import what is compiled, and with it Numba: only what learns needs it."""
    return import_module("seqsru.engine.alignment_kernels")


class Alignment:
    """IBM model 1, both directions over one table of the token pairs that occur in a sentence pair.

    An iteration takes time in proportion to the sum over sentence pairs of the product of their lengths.
    Memory is that of the table: 40 bytes a slot, of which at most six in ten are taken; it doubles as it
    fills up. Where a text has more than `most_pairs` different pairs of tokens, the half with the lowest
    product of both probabilities so far is dropped each time that there are so many; what the first iteration
    then sees again comes back. Sentence pairs with more than 65,536 pairs of tokens, or half of `most_pairs`,
    are left out.

    Parameters
    ----------
    source_size, target_size : int
        Ids are below these.
    most_pairs : int
        Pairs of tokens that are kept.
    null : bool
        Whether a token may also be explained by no word.

    Attributes
    ----------
    source_counts, target_counts : ndarray of int64
        How often each token occurs in the text.
    """

    def __init__(self, source_size: int, target_size: int, *, most_pairs: int, null: bool = True) -> None:
        check_at_least(1, source_size=source_size, target_size=target_size, most_pairs=most_pairs)
        self.sizes = source_size, target_size
        self.most_pairs = most_pairs
        self._empty_table(SMALLEST)
        self._used = np.zeros(1, np.int64)
        self._slots = np.zeros(LONGEST, np.int64)
        self._null = [np.full(size, float(null)) for size in (target_size, source_size)]
        self.source_counts, self.target_counts = (np.zeros(size, np.int64) for size in self.sizes)
        self._first = True

    def iterate(self, pairs: Iterable[tuple[Sentence, Sentence]]) -> None:
        """Read the text once and make the probabilities better.

        Parameters
        ----------
        pairs : iterable of (source ids, target ids)
            The same each time.

        Raises
        ------
        Refused
            There are none, or an id is not below its size.
        """
        counts = [np.zeros_like(null) for null in self._null]
        some = False
        for batch in _batches(pairs, self.sizes):
            some = True
            self._expect(batch, counts)
        if not some:
            raise Refused("sentence pairs to align", "none", "check the training files", "pairs")
        _kernels().maximise(self._keys, self._numbers, *self.sizes)
        self._null = [count / (count.sum() or 1.0) for count in counts]
        self._first = False

    def _expect(self, batch: list[NDArray[np.int64]], null_counts: list[NDArray[np.float64]]) -> None:
        if self._first:
            self.source_counts += np.bincount(batch[0], minlength=self.sizes[0])
            self.target_counts += np.bincount(batch[2], minlength=self.sizes[1])
        done, sentences = 0, len(batch[1]) - 1
        # A table that was just halved has room for any sentence that is not left out.
        longest = min(LONGEST, self.most_pairs // 2)
        while True:
            room = min(int(LOAD * len(self._keys)), self.most_pairs)
            done = _kernels().expect(
                *batch, done, self._keys, self._numbers, self.sizes[1], self._used, room, longest,
                self._first, self._null[0], null_counts[0], self._null[1], null_counts[1], self._slots,
            )  # fmt: skip
            if done == sentences:
                return
            self._make_room(room)

    def _empty_table(self, slots: int) -> None:
        self._keys = np.full(slots, -1, np.int64)
        self._numbers = np.zeros((slots, _kernels().NUMBERS))

    def _make_room(self, room: int) -> None:
        """Double the table, or halve what is in it."""
        slots = len(self._keys)
        taken = np.flatnonzero(self._keys >= 0)
        if room < self.most_pairs:
            slots *= 2
        else:
            taken = np.sort(taken[_highest(self._strength(taken), self.most_pairs // 2)])
        keys, numbers = self._keys[taken], self._numbers[taken]
        del self._keys, self._numbers  # before the new ones are made
        self._empty_table(slots)
        _kernels().insert(self._keys, self._numbers, keys, numbers)
        self._used[0] = len(keys)

    def _strength(self, slots: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return p(t | s) p(s | t) by the counts so far."""
        source, target = np.divmod(self._keys[slots], self.sizes[1])
        counts = self._numbers[slots, _kernels().COUNT :].prod(axis=1)
        return np.asarray(counts / (self.source_counts[source] * self.target_counts[target]))

    def associations(self) -> Associations:
        """Return what was learned."""
        taken = np.flatnonzero(self._keys >= 0)
        taken = taken[np.argsort(self._keys[taken])]
        source, target = np.divmod(self._keys[taken], self.sizes[1])
        given_source, given_target = self._numbers[taken, : _kernels().COUNT].T
        return Associations(source, target, given_source, given_target)


def _highest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the places of the highest values; of equal ones, the first."""
    if len(values) <= count:
        return np.arange(len(values))
    limit = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > limit)
    return np.concatenate([above, np.flatnonzero(values == limit)[: count - len(above)]])


def _batches(
    pairs: Iterable[tuple[Sentence, Sentence]], sizes: tuple[int, int]
) -> Iterator[list[NDArray[np.int64]]]:
    """Yield source ids, where each sentence starts, and the same of the target, end to end."""
    sides: tuple[list[Sentence], list[Sentence]] = [], []
    tokens = 0
    for pair in pairs:
        for side, sentence in zip(sides, pair, strict=True):
            side.append(sentence)
        tokens += max(map(len, pair))
        if tokens >= BATCH:
            yield _flat(sides, sizes)
            sides, tokens = ([], []), 0
    if sides[0]:
        yield _flat(sides, sizes)


def _flat(sides: tuple[list[Sentence], list[Sentence]], sizes: tuple[int, int]) -> list[NDArray[np.int64]]:
    batch = []
    for side, size, name in zip(sides, sizes, ("source", "target")):
        ids = np.fromiter(chain.from_iterable(side), np.int64)
        if len(ids) and not 0 <= ids.min() <= ids.max() < size:
            wrong = ids.min() if ids.min() < 0 else ids.max()
            raise Refused(
                f"{name} ids from 0 to {size - 1}", int(wrong), "give the tokenizer's size", f"{name}_size"
            )
        starts = np.zeros(len(side) + 1, np.int64)
        np.cumsum([len(sentence) for sentence in side], out=starts[1:])
        batch += [ids, starts]
    return batch
