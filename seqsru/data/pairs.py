"""Sentence pairs, and batches of them that hold about as many tokens each, for translation."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.lines import LineReport, ParallelLines
from seqsru.data.padding import SOURCE_MULTIPLE, GrowingRagged, Ragged, pad, padded_length
from seqsru.data.shuffling import draw_from, shuffled
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused, check_at_least, check_at_most

TARGET_BUCKET = 4  # targets side by side differ in length by less, but where two buckets meet


@dataclass(frozen=True)
class Pairs:
    """Encoded sentence pairs.

    Parameters
    ----------
    source, target : Ragged
        Ids without special ones.
    numbers : ndarray of shape (n,), int64
        Line of each pair in its files, from 1.
    report : LineReport
        What was left out so far.
    source_eos, target_bos, target_eos : int
        Special ids that batches add.
    """

    source: Ragged
    target: Ragged
    numbers: NDArray[numpy.int64]
    report: LineReport
    source_eos: int
    target_bos: int
    target_eos: int

    @classmethod
    def from_lines(
        cls, lines: ParallelLines, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer
    ) -> Pairs:
        """Encode pairs; one with an empty side (nothing but white space) is left out and reported."""
        report = lines.report.copy()
        sides = GrowingRagged(), GrowingRagged()
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
    report : LineReport
        The pairs' report and what was too long.

    Raises
    ------
    Refused
        No pair is left, or an argument is out of range.
    """

    def __init__(self, pairs: Pairs, tokens: int, *, seed: int, max_length: int | None = None) -> None:
        check_at_least(SOURCE_MULTIPLE, tokens=tokens)
        check_at_most(1_000_000_000, tokens=tokens)
        check_at_least(0, seed=seed)
        self.pairs, self.tokens, self.seed = pairs, tokens, seed
        self.report = pairs.report.copy()
        source, target = pairs.source.lengths + 1, pairs.target.lengths + 1
        source_cost = padded_length(source, SOURCE_MULTIPLE)
        target_cost = padded_length(target, TARGET_BUCKET)
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
            raise Refused(
                "sentence pairs to make batches of",
                f"none ({self.report})",
                "check the files and the limits on length",
                "max_length" if over.any() else "tokens" if over_limit.any() else None,
            )
        source_cost, target_cost = source_cost[kept], target_cost[kept]
        # Buckets in order of source length, targets up and down by turns: neighbours are alike on both sides.
        turn = numpy.where(source_cost // SOURCE_MULTIPLE % 2 == 0, target_cost, -target_cost)
        order = numpy.lexsort((turn, source_cost))
        self._kept = kept[order]
        bucket = source_cost[order] * (1 << 32) + target_cost[order]
        self._bucket = numpy.cumsum(numpy.diff(bucket, prepend=-1) != 0)
        cost = numpy.minimum(numpy.maximum(source_cost, target_cost), min(tokens, sys.maxsize))[order]
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
        draw = draw_from(self.seed, epoch)
        pairs = self._kept[numpy.lexsort((draw(len(self._kept)), self._bucket))].tolist()
        batches = [pairs[a:b] for a, b in zip(self._cuts, self._cuts[1:])]
        return shuffled(batches, draw)

    def collate(self, indices: Sequence[int]) -> PairBatch:
        """Return pairs as tensors, columns in the order of `indices`."""
        pairs, rows = self.pairs, numpy.asarray(indices, dtype=numpy.int64)
        source, source_valid = pairs.source.padded(rows, pairs.source_eos, multiple=SOURCE_MULTIPLE, end=True)
        target_out, target_valid = pairs.target.padded(rows, pairs.target_eos, end=True)  # (T, B)
        target_in = torch.cat([torch.full_like(target_out[:1], pairs.target_bos), target_out[:-1]])
        count = int(pairs.target.lengths[rows].sum()) + len(rows)
        return PairBatch(source, source_valid, target_in, target_out, target_valid, count)


def pad_sources(
    sequences: Sequence[Sequence[int]], eos: int, *, multiple: int = SOURCE_MULTIPLE
) -> tuple[Tensor, Tensor]:
    """Put sources, ids without special ones, side by side, as training does: `pad` with their ``</s>``."""
    return pad(sequences, eos, multiple=multiple, end=True)


def _cuts(costs: Sequence[int], limit: int) -> list[int]:
    """Return where to cut into runs whose length times their largest cost is within `limit`, greedily."""
    cuts, widest = [0], 0
    for i, cost in enumerate(costs):
        widest = max(widest, cost)
        if (i + 1 - cuts[-1]) * widest > limit:
            cuts.append(i)
            widest = cost
    return cuts + [len(costs)]
