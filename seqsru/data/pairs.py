"""Sentence pairs, and batches of them that hold about as many tokens each, for translation."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.errors import DataError
from seqsru.data.lines import ParallelLines, Report
from seqsru.data.tokenizers import Tokenizer

SOURCE_MULTIPLE = 8  # padded source lengths are multiples of it, here and at decoding
TARGET_BUCKET = 4  # targets side by side differ in length by less, but where two buckets meet


class Ragged:
    """Sequences of different lengths in one array.

    Parameters
    ----------
    values : ndarray of shape (N,), int32
        The sequences one after the other.
    offsets : ndarray of shape (n + 1,), int64
        Sequence i is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes
    ----------
    lengths : ndarray of shape (n,), int64
        Length of each.
    """

    def __init__(self, values: NDArray[numpy.int32], offsets: NDArray[numpy.int64]) -> None:
        self.values, self.offsets = values, offsets
        self.lengths = numpy.diff(offsets)

    @classmethod
    def from_sequences(cls, sequences: Iterable[Sequence[int]]) -> Ragged:
        """Collect sequences of ids."""
        growing = _Growing()
        for sequence in sequences:
            growing.append(sequence)
        return growing.ragged()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> list[int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        return self.values[self.offsets[index] : self.offsets[index + 1]].tolist()

    def padded(self, indices: NDArray[numpy.int64], length: int, fill: int) -> NDArray[numpy.int64]:
        """Return the sequences `indices` as an array of shape (length, B), `fill` behind each."""
        steps = numpy.arange(length)[:, None]  # (T, 1)
        starts = self.offsets[indices]  # (B,)
        there = steps < self.offsets[indices + 1] - starts  # (T, B)
        out = numpy.full(there.shape, fill, dtype=numpy.int64)
        out[there] = self.values[(starts + steps)[there]]
        return out


class _Growing:
    """A `Ragged` in the making: four bytes a token, where lists of numbers would take forty."""

    def __init__(self) -> None:
        self._values, self._offsets = array("i"), array("q", [0])

    def append(self, sequence: Sequence[int]) -> None:
        self._values.extend(sequence)
        self._offsets.append(len(self._values))

    def ragged(self) -> Ragged:
        values = numpy.array(self._values, dtype=numpy.int32)
        return Ragged(values, numpy.array(self._offsets, dtype=numpy.int64))


@dataclass(frozen=True)
class Pairs:
    """Encoded sentence pairs.

    Parameters
    ----------
    source, target : Ragged
        Ids without special ones.
    numbers : ndarray of shape (n,), int64
        Line of each pair in its files, from 1.
    report : Report
        What was left out so far.
    source_eos, target_bos, target_eos : int
        Special ids that batches add.
    """

    source: Ragged
    target: Ragged
    numbers: NDArray[numpy.int64]
    report: Report
    source_eos: int
    target_bos: int
    target_eos: int

    @classmethod
    def from_lines(
        cls, lines: ParallelLines, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer
    ) -> Pairs:
        """Encode pairs; one with an empty side (nothing but white space) is left out and reported."""
        report = lines.report.copy()
        sides = _Growing(), _Growing()
        numbers = []
        for number, source, target in zip(lines.numbers, lines.source, lines.target, strict=True):
            ids = source_tokenizer.encode(source), target_tokenizer.encode(target)
            if not (all(ids) and source.strip() and target.strip()):
                report.add("empty, skipped", number)
                continue
            for side, encoded in zip(sides, ids):
                side.append(encoded)
            numbers.append(number)
        return cls(
            sides[0].ragged(),
            sides[1].ragged(),
            numpy.array(numbers, dtype=numpy.int64),
            report,
            source_tokenizer.eos,
            target_tokenizer.bos,
            target_tokenizer.eos,
        )

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class PairBatch:
    """Pairs side by side.

    Parameters
    ----------
    source : Tensor of shape (S, B), int64
        Ends with ``</s>`` and is padded with it, S a multiple of 8.
    source_valid : Tensor of shape (S, B), bool
    target_in : Tensor of shape (T, B), int64
        The target after the starting id.
    target_out : Tensor of shape (T, B), int64
        The target before ``</s>``: step by step, what follows `target_in`.
    target_valid : Tensor of shape (T, B), bool
        Of both targets.
    count : int
        Number of target tokens, ``</s>`` included.
    """

    source: Tensor
    source_valid: Tensor
    target_in: Tensor
    target_out: Tensor
    target_valid: Tensor
    count: int


class PairBatches:
    """Batches of pairs of like length, each of at most `tokens` padded tokens.

    A batch of n pairs costs ``n · max(S, T)``, S and T being the padded lengths of its two sides with
    ``</s>``, S a multiple of 8. The cuts between batches are the same in every epoch; who sits beside whom,
    and the order of the batches, are drawn from (seed, epoch) alone: no global generator is read or moved,
    and any epoch can be made without those before.

    Parameters
    ----------
    pairs : Pairs
        What to batch.
    tokens : int
        Padded tokens of the longer side.
    seed : int
        Of the order, not negative.
    max_length : int, optional
        Longest side allowed, in tokens, ``</s>`` counted; longer pairs, and those that alone exceed `tokens`,
        are skipped and reported.

    Attributes
    ----------
    report : Report
        The pairs' report and what was too long.

    Raises
    ------
    DataError
        No pair is left, or an argument is out of range.
    """

    def __init__(self, pairs: Pairs, tokens: int, *, seed: int, max_length: int | None = None) -> None:
        if tokens < SOURCE_MULTIPLE:
            raise DataError(f"expected at least {SOURCE_MULTIPLE} tokens a batch, found {tokens}; raise it")
        if seed < 0:
            raise DataError(f"expected a seed that is not negative, found {seed}; choose another")
        self.pairs, self.tokens, self.seed = pairs, tokens, seed
        self.report = pairs.report.copy()
        source, target = pairs.source.lengths + 1, pairs.target.lengths + 1
        source_cost, target_cost = _up(source, SOURCE_MULTIPLE), _up(target, TARGET_BUCKET)
        over = numpy.zeros(len(pairs), dtype=bool)
        if max_length is not None:
            over = numpy.maximum(source, target) > max_length
        over_limit = ~over & (numpy.maximum(source_cost, target) > tokens)
        for reason, which in (
            (f"longer than {max_length} tokens, skipped", over),
            (f"longer than a batch of {tokens} tokens, skipped", over_limit),
        ):
            for number in pairs.numbers[which].tolist():
                self.report.add(reason, number)
        kept = numpy.flatnonzero(~(over | over_limit))
        if not len(kept):
            raise DataError(
                f"expected sentence pairs to make batches of, found none ({self.report}); check "
                "the files and the limits on length"
            )
        source_cost, target_cost = source_cost[kept], target_cost[kept]
        # Buckets in order of source length, targets up and down by turns: neighbours are alike on both sides.
        turn = numpy.where(source_cost // SOURCE_MULTIPLE % 2 == 0, target_cost, -target_cost)
        order = numpy.lexsort((turn, source_cost))
        self._kept = kept[order]
        bucket = source_cost[order] * (1 << 32) + target_cost[order]
        self._bucket = numpy.cumsum(numpy.diff(bucket, prepend=-1) != 0)
        cost = numpy.minimum(numpy.maximum(source_cost, target_cost), tokens)[order]
        self._cuts = _cuts(cost.tolist(), tokens)

    def __len__(self) -> int:
        """Return the number of batches in every epoch."""
        return len(self._cuts) - 1

    def epoch(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch: each pair that was kept, in exactly one of them.

        Parameters
        ----------
        epoch : int
            Not negative.

        Returns
        -------
        list of list of int
            Indices into `pairs`, for `collate`.
        """
        # Raw output of the bit generator is what numpy promises not to change; its shuffles may.
        draw = numpy.random.PCG64(numpy.random.SeedSequence((self.seed, epoch))).random_raw
        shuffled = self._kept[numpy.lexsort((draw(len(self._kept)), self._bucket))].tolist()
        batches = [shuffled[a:b] for a, b in zip(self._cuts, self._cuts[1:])]
        return [batches[i] for i in numpy.argsort(draw(len(batches)), kind="stable")]

    def collate(self, indices: Sequence[int]) -> PairBatch:
        """Return pairs as tensors, columns in the order of `indices`."""
        pairs, rows = self.pairs, numpy.asarray(indices, dtype=numpy.int64)
        source_lengths, target_lengths = pairs.source.lengths[rows], pairs.target.lengths[rows]
        S = int(_up(source_lengths.max() + 1, SOURCE_MULTIPLE))
        T = int(target_lengths.max() + 1)
        target_out = pairs.target.padded(rows, T, pairs.target_eos)  # (T, B)
        target_in = numpy.concatenate([numpy.full((1, len(rows)), pairs.target_bos), target_out[:-1]])
        return PairBatch(
            torch.from_numpy(pairs.source.padded(rows, S, pairs.source_eos)),
            torch.from_numpy(numpy.arange(S)[:, None] <= source_lengths),
            torch.from_numpy(target_in),
            torch.from_numpy(target_out),
            torch.from_numpy(numpy.arange(T)[:, None] <= target_lengths),
            int(target_lengths.sum()) + len(rows),
        )


def pad_sources(
    sequences: Sequence[Sequence[int]], eos: int, *, multiple: int = SOURCE_MULTIPLE
) -> tuple[Tensor, Tensor]:
    """Put sources side by side, as training does.

    Parameters
    ----------
    sequences : sequence of B sequences of int
        Ids without special ones.
    eos : int
        Ends each and pads it.
    multiple : int
        The padded length is the next multiple of this.

    Returns
    -------
    source : Tensor of shape (S, B), int64
    valid : Tensor of shape (S, B), bool
    """
    ragged = Ragged.from_sequences(sequences)
    lengths = ragged.lengths
    S = int(_up(lengths.max(initial=0) + 1, multiple))
    source = ragged.padded(numpy.arange(len(ragged)), S, eos)
    return torch.from_numpy(source), torch.from_numpy(numpy.arange(S)[:, None] <= lengths)


def _up(length, multiple: int):
    return -(-length // multiple) * multiple


def _cuts(costs: Sequence[int], limit: int) -> list[int]:
    """Return where to cut into runs whose length times their largest cost is within `limit`, greedily."""
    cuts, widest = [0], 0
    for i, cost in enumerate(costs):
        widest = max(widest, cost)
        if (i + 1 - cuts[-1]) * widest > limit:
            cuts.append(i)
            widest = cost
    return cuts + [len(costs)]
