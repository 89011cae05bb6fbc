"""Sentence pairs, and batches of them that hold about as many tokens each, for translation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.arrays import Arrays
from seqsru.data.lines import SHOWN, LineReport, ParallelLines
from seqsru.data.mapped import Numbers
from seqsru.data.padding import SOURCE_MULTIPLE, Ragged, pad, padded_length
from seqsru.data.shares import Buckets, Share, Slots
from seqsru.data.shuffling import draw_from
from seqsru.data.texts import IdType, Progress, TextFiles, array_of, chunks, encode_all, id_type
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused, check_at_least, check_at_most

TARGET_BUCKET = 4  # targets side by side differ in length by less, but where two buckets meet
SIDES = ("source", "target")
MOST_PAIRS = 2**31 - 1  # in an epoch: each is a number of four bytes


@dataclass(frozen=True)
class Pairs:
    """Encoded sentence pairs.

    Parameters
    ----------
    source, target : Ragged
        Ids without special ones.
    numbers : numbers, n of them
        Line of each pair in its files, from 1.
    report : LineReport
        What was left out so far.
    source_eos, target_bos, target_eos : int
        Special ids that batches add.
    """

    source: Ragged
    target: Ragged
    numbers: Numbers
    report: LineReport
    source_eos: int
    target_bos: int
    target_eos: int

    @classmethod
    def from_lines(
        cls, lines: ParallelLines, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer
    ) -> Pairs:
        """Encode pairs; one with an empty side (nothing but white space) is left out and reported."""
        arrays, report = Arrays(None), lines.report.copy()
        entries = zip(lines.numbers, zip(lines.source, lines.target, strict=True), strict=True)
        types = numpy.int32, numpy.int32
        _encode(entries, (source_tokenizer, target_tokenizer), types, arrays, report, None)
        return cls._from_arrays(arrays.finished(), report, source_tokenizer, target_tokenizer)

    @classmethod
    def from_files(cls, text: TextFiles, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> Pairs:
        """The same of two files that may be larger than memory, from where their encoded text is kept."""
        tokenizers = source_tokenizer, target_tokenizer
        types = id_type(source_tokenizer), id_type(target_tokenizer)

        def build(arrays: Arrays, progress: Progress) -> LineReport:
            report = LineReport(text.name)
            _encode(text.entries(report), tokenizers, types, arrays, report, progress)
            return report

        found, report = text.encoded("pairs", tokenizers, build)
        return cls._from_arrays(dict(found.arrays), report, *tokenizers)

    @classmethod
    def _from_arrays(
        cls,
        arrays: dict[str, Numbers],
        report: LineReport,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
    ) -> Pairs:
        source, target = (
            Ragged(array_of(arrays, f"{side}.ids", numpy.uint16), arrays[f"{side}.offsets"]) for side in SIDES
        )
        return cls(
            source,
            target,
            array_of(arrays, "numbers", numpy.int64),
            report,
            source_tokenizer.eos,
            target_tokenizer.bos,
            target_tokenizer.eos,
        )

    def __len__(self) -> int:
        return len(self.source)


def _encode(
    entries: Iterable[tuple[int, tuple[str, ...]]],
    tokenizers: Sequence[Tokenizer],
    types: Sequence[IdType],
    arrays: Arrays,
    report: LineReport,
    progress: Progress | None,
) -> None:
    """Put the pairs that have text on both sides into arrays, and report the others after all bad lines."""
    empty, ends = LineReport(report.name), [0, 0]
    for side in SIDES:
        arrays.append(f"{side}.offsets", numpy.zeros(1, numpy.int64))
    for chunk in chunks(entries):
        sides = [
            encode_all(tokenizer, [texts[place] for _, texts in chunk])
            for place, tokenizer in enumerate(tokenizers)
        ]
        kept = []
        for place, (number, texts) in enumerate(chunk):
            if all(text.strip() for text in texts) and all(ids[place] for ids in sides):
                kept.append(place)
            else:
                empty.add("empty, skipped", number)
        for i, side in enumerate(SIDES):
            offsets = ends[i] + numpy.cumsum([len(sides[i][place]) for place in kept], dtype=numpy.int64)
            count = int(offsets[-1]) - ends[i] if kept else 0
            ids = chain.from_iterable(sides[i][place] for place in kept)
            arrays.append(f"{side}.ids", numpy.fromiter(ids, types[i], count))
            arrays.append(f"{side}.offsets", offsets)
            ends[i] += count
        arrays.append("numbers", numpy.array([chunk[place][0] for place in kept], numpy.int64))
        if progress is not None:
            progress.at(chunk[-1][0])
    for reason, count in empty.counts.items():
        report.add_many(reason, count, empty.first[reason])


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

    Of several corpora, each pair is in an epoch as often as the weight of its corpus says: as many times as
    its whole part, and of the pairs of a corpus as large a share once more as what is left of it, drawn anew
    for each epoch, all of them equally likely.

    Parameters
    ----------
    pairs : Pairs, or sequence of Share of Pairs
        What to batch; with weights, several.
    tokens : int
        Padded tokens of the longer side.
    seed : int
        Of the order, not negative.
    max_length : int, optional
        Longest side allowed, in tokens, ``</s>`` counted; longer pairs, and those that alone exceed `tokens`,
        are skipped and reported.

    Attributes
    ----------
    reports : list of LineReport
        The report of each corpus and what was too long.
    counts : list of (int, int)
        Pairs of each corpus, and how many an epoch has of them.

    Raises
    ------
    Refused
        No pair is left, or an argument is out of range.
    """

    def __init__(
        self, pairs: Pairs | Sequence[Share[Pairs]], tokens: int, *, seed: int, max_length: int | None = None
    ) -> None:
        check_at_least(SOURCE_MULTIPLE, tokens=tokens)
        check_at_most(1_000_000_000, tokens=tokens)
        check_at_least(0, seed=seed)
        shares = [Share(pairs, 1.0)] if isinstance(pairs, Pairs) else list(pairs)
        self.tokens, self.seed = tokens, seed
        self.parts = [share.of for share in shares]
        self._source = Ragged.chained([part.source for part in self.parts])
        self._target = Ragged.chained([part.target for part in self.parts])
        self.reports: list[LineReport] = []
        kept: list[Share[Buckets]] = []
        blamed: str | None = None
        for share in shares:
            buckets, report, blame = _usable(share.of, tokens, max_length)
            blamed = blamed or blame
            self.reports.append(report)
            kept.append(Share(buckets, share.weight))
        if not any(len(share.of.places) for share in kept):
            found = "; ".join(map(str, self.reports))
            do = "check the files and the limits on length"
            raise Refused("sentence pairs to make batches of", f"none ({found})", do, blamed)
        firsts = numpy.cumsum([0, *map(len, self.parts)]).tolist()
        total = max(firsts[-1], sum(len(share.of.places) * share.weight for share in kept))
        if total > MOST_PAIRS:
            found, do = f"{total:,.0f}", "lower the weights, or leave some corpora out"
            raise Refused(f"at most {MOST_PAIRS:,} pairs in an epoch", found, do, "train")
        for corpus, first in zip(kept, firsts):
            corpus.of.places[:] += first
        self._slots = slots = Slots(kept, seed, SOURCE_MULTIPLE)
        costs = numpy.minimum(numpy.maximum(slots.first, slots.second), tokens)
        self._cuts = _cuts(costs.tolist(), slots.sizes.tolist(), tokens)
        self.counts = [(len(share.of.places), count) for share, count in zip(kept, slots.counts)]

    @property
    def pairs(self) -> Pairs:
        """The pairs of the first corpus."""
        return self.parts[0]

    @property
    def report(self) -> LineReport:
        """The report of the first corpus."""
        return self.reports[0]

    def __len__(self) -> int:
        """Return the number of batches in every epoch."""
        return len(self._cuts) - 1

    def epoch(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch: without weights, each pair that was kept, in exactly one of them.

        Parameters
        ----------
        epoch : int
            Not negative.

        Returns
        -------
        list of list of int
            Indices into the pairs, those of all corpora one after the other, for `collate`.
        """
        return [batch.tolist() for batch in self.batches(epoch)]

    def batches(self, epoch: int, start: int = 0) -> Iterator[NDArray[numpy.int32]]:
        """The batches of `epoch` one by one, from number `start` on."""
        draw = draw_from(self.seed, epoch)
        order, cuts = self._slots.order(epoch, draw), self._cuts
        for batch in numpy.argsort(draw(len(self)), kind="stable")[start:]:
            yield order[cuts[batch] : cuts[batch + 1]]

    def lines_of(self, indices: Sequence[int] | NDArray[numpy.int32]) -> dict[str, list[int]]:
        """The lines in their files that pairs are from, in order, by the names of their corpora."""
        found: dict[str, list[int]] = {}
        firsts = numpy.cumsum([0, *map(len, self.parts)])
        for index in sorted(map(int, indices)):
            corpus = int(numpy.searchsorted(firsts, index, side="right")) - 1
            part = self.parts[corpus]
            found.setdefault(part.report.name, []).append(int(part.numbers[index - int(firsts[corpus])]))
        return found

    def collate(self, indices: Sequence[int] | NDArray[numpy.int32]) -> PairBatch:
        """Return pairs as tensors, columns in the order of `indices`."""
        rows, special = numpy.asarray(indices, dtype=numpy.int64), self.parts[0]
        source, source_valid = self._source.padded(
            rows, special.source_eos, multiple=SOURCE_MULTIPLE, end=True
        )
        target_out, target_valid = self._target.padded(rows, special.target_eos, end=True)  # (T, B)
        target_in = torch.cat([torch.full_like(target_out[:1], special.target_bos), target_out[:-1]])
        count = int(target_valid.sum())
        return PairBatch(source, source_valid, target_in, target_out, target_valid, count)


def pad_sources(
    sequences: Sequence[Sequence[int]], eos: int, *, multiple: int = SOURCE_MULTIPLE
) -> tuple[Tensor, Tensor]:
    """Put sources, ids without special ones, side by side, as training does: `pad` with their ``</s>``."""
    return pad(sequences, eos, multiple=multiple, end=True)


def _usable(pairs: Pairs, tokens: int, max_length: int | None) -> tuple[Buckets, LineReport, str | None]:
    """The pairs within the limits, a report of the others, and which limit is to blame for them."""
    source, target = pairs.source.lengths + 1, pairs.target.lengths + 1
    source_cost = padded_length(source, SOURCE_MULTIPLE)
    over = numpy.zeros(len(pairs), dtype=bool)
    if max_length is not None:
        over = numpy.maximum(source, target) > max_length
    over_limit = ~over & (numpy.maximum(source_cost, target) > tokens)
    del source
    report = pairs.report.copy()
    for reason, which in (
        (f"longer than {max_length} tokens, skipped", over),
        (f"longer than a batch of {tokens} tokens, skipped", over_limit),
    ):
        places = numpy.flatnonzero(which)
        if len(places):
            report.add_many(reason, len(places), pairs.numbers[places[:SHOWN]].tolist())
    blamed = "max_length" if over.any() else "tokens" if over_limit.any() else None
    kept = numpy.flatnonzero(~(over | over_limit)).astype(numpy.int32)
    target_cost = padded_length(target[kept], TARGET_BUCKET)
    buckets, _ = Buckets.sorted(kept, source_cost[kept], target_cost, SOURCE_MULTIPLE)
    return buckets, report, blamed


def _cuts(costs: Sequence[int], sizes: Sequence[int], limit: int) -> NDArray[numpy.int64]:
    """Where to cut into runs whose length times their largest cost is within `limit`, greedily.

    Parameters
    ----------
    costs, sizes : sequence of int
        What each of a bucket costs, and how many there are in it.
    limit : int
    """
    cuts, widest, end = [0], 0, 0
    for cost, size in zip(costs, sizes):
        start, end = end, end + size
        widest = max(widest, cost)
        if cuts[-1] + limit // widest <= start:  # none of them fits behind what came before
            cuts.append(start)
            widest = cost
        if cuts[-1] + limit // widest < end:  # not all of them do
            cuts.append(cuts[-1] + limit // widest)
            widest = cost
            cuts.extend(range(cuts[-1] + limit // cost, end, limit // cost))
    return numpy.array([*cuts, end], dtype=numpy.int64)
