"""Text as one long stream of tokens, for language modelling."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy
import torch
from torch import Tensor

from seqsru.data.arrays import Arrays
from seqsru.data.lines import LineReport, iter_text_lines
from seqsru.data.mapped import Chained, Numbers, Span
from seqsru.data.shares import Share, whole_and_rest
from seqsru.data.texts import Progress, TextFiles, array_of, chunks, encode_all, id_type
from seqsru.data.tokenizers import Tokenizer
from seqsru.data.vocabulary import split_words
from seqsru.errors import Refused, check_at_least, check_at_most

MOST_ROWS = 1_000_000  # of a batch
AT_ONCE = 1 << 20  # tokens that are looked at together


@dataclass(frozen=True)
class TokenStream:
    """Lines one after the other, ``<eos>`` after each.

    Parameters
    ----------
    tokens : Tensor of shape (N,), int32
        Every one of them is a target once.
    eos : int
        Id that ends a line, and the input before the first token.
    lines, words, bytes : int
        Size of the text: words as whitespace separates them, and UTF-8 bytes with one line end a line.
        Perplexity a word divides by ``words + lines``, bits a byte by ``bytes``.
    unknown : int
        How many of the tokens are the unknown type.
    """

    tokens: Tensor
    eos: int
    lines: int
    words: int
    bytes: int
    unknown: int

    @classmethod
    def from_lines(cls, lines: Iterable[str], tokenizer: Tokenizer) -> TokenStream:
        """Encode every line, empty ones too, which are an ``<eos>`` each.

        Parameters
        ----------
        lines : iterable of str
            Text.
        tokenizer : Tokenizer
            Of any kind.
        """
        ids = array("i")
        line_count = word_count = byte_count = 0
        for line in iter_text_lines(lines):
            ids.extend(tokenizer.encode(line))
            ids.append(tokenizer.eos)
            line_count += 1
            word_count += len(split_words(line))
            byte_count += len(line.encode()) + 1
        tokens = torch.from_numpy(numpy.array(ids, dtype=numpy.int32))
        unknown = int((tokens == tokenizer.unk).sum())
        return cls(tokens, tokenizer.eos, line_count, word_count, byte_count, unknown)


def encoded_stream(text: TextFiles, tokenizer: Tokenizer) -> tuple[Numbers, LineReport]:
    """The tokens of a file that may be larger than memory, as `TokenStream` has them.

    They come from where its encoded text is kept; the report says which lines were left out or changed.
    """
    dtype, end = id_type(tokenizer), [tokenizer.eos]

    def build(arrays: Arrays, progress: Progress) -> LineReport:
        report = LineReport(text.name)
        for chunk in chunks(text.entries(report)):
            ids = encode_all(tokenizer, [line for _, (line,) in chunk])
            count = sum(map(len, ids)) + len(ids)
            flat = chain.from_iterable(chain(line, end) for line in ids)
            arrays.append("tokens", numpy.fromiter(flat, dtype, count))
            progress.at(chunk[-1][0])
        return report

    found, report = text.encoded("stream", [tokenizer], build)
    return array_of(dict(found.arrays), "tokens", dtype), report


class WeightedStream:
    """Several streams one after the other, each as often in an epoch as its weight says.

    That is as many times as its whole part, then, of what is left of it, as large a share of the stream once
    more: a piece that begins where that of the epoch before ended, and goes on at the start of the stream.

    Parameters
    ----------
    streams : sequence of Share of numbers

    Attributes
    ----------
    counts : list of int
        Tokens of each stream in an epoch, the same in every one.
    """

    def __init__(self, streams: Sequence[Share[Numbers]]) -> None:
        self._streams = list(streams)
        self._times = [whole_and_rest(len(share.of), share.weight) for share in streams]
        self.counts = [
            whole * len(share.of) + rest for share, (whole, rest) in zip(self._streams, self._times)
        ]

    def simplest(self) -> Numbers | WeightedStream:
        """The stream alone that is all of every epoch, where there is such a one."""
        alone = len(self._streams) == 1 and self._streams[0].weight == 1.0
        return self._streams[0].of if alone else self

    def __len__(self) -> int:
        return sum(self.counts)

    def epoch(self, epoch: int) -> Numbers:
        """The tokens of an epoch, counted from 1."""
        spans = []
        for share, (whole, rest) in zip(self._streams, self._times):
            tokens, length = share.of, len(share.of)
            spans += [Span(tokens, 0, length)] * whole
            start = (epoch - 1) * rest % max(1, length)
            spans.append(Span(tokens, start, min(start + rest, length)))
            spans.append(Span(tokens, 0, max(0, start + rest - length)))
        return Chained(spans)


@dataclass(frozen=True)
class Window:
    """A step of truncated backpropagation.

    Parameters
    ----------
    inputs : Tensor of shape (T, B), int64
    targets : Tensor of shape (T, B), int64
        What follows each input; ``<eos>`` where not valid.
    valid : Tensor of shape (T, B), bool, or None
        None when every position is a target.
    count : int
        Number of targets.
    """

    inputs: Tensor
    targets: Tensor
    valid: Tensor | None
    count: int


class StreamBatches:
    """Windows over a stream cut into B parallel rows; window i of a row continues window i − 1.

    Row b holds the targets from ``b·N // B`` up to ``(b+1)·N // B``, so lengths differ by one at most, no
    token is dropped, and only the last window can have positions that are not valid. The input of a target is
    the token before it in the stream, also at the start of a row; before the very first it is ``<eos>``.

    ``len()`` counts windows, ``batches[i]`` makes window i alone, so that a run can go on from any of them,
    and iterating gives all of them in order.

    Parameters
    ----------
    tokens : Tensor of shape (N,), numbers or WeightedStream
        A `TokenStream`'s tokens, those in a file, or those of several.
    batch_size : int
        Rows, B.
    window : int
        Steps of a window, T; the last one is shorter where it must be.
    eos : int
        Id of ``<eos>``.

    Raises
    ------
    Refused
        The stream has fewer tokens than rows, or a size is below 1.
    """

    def __init__(
        self, tokens: Tensor | Numbers | WeightedStream, batch_size: int, window: int, eos: int
    ) -> None:
        check_at_least(1, batch_size=batch_size, window=window)
        check_at_most(MOST_ROWS, batch_size=batch_size)
        check_at_most(1_000_000_000, window=window)
        if len(tokens) < batch_size:
            raise Refused(
                f"text of at least {batch_size:,} tokens, one a row of the batch",
                f"{len(tokens):,}",
                "check the file, or lower the batch size",
                "batch_size",
            )
        self.tokens, self.batch_size, self.window, self.eos = tokens, batch_size, window, eos
        first = tokens.epoch(1) if isinstance(tokens, WeightedStream) else tokens
        self._ids: Numbers = first.numpy() if isinstance(first, Tensor) else first
        edges = torch.arange(batch_size + 1) * len(tokens) // batch_size
        self._starts, self._ends = edges[:-1], edges[1:]  # (B,)
        self._longest = int((self._ends - self._starts).max())

    def epoch(self, epoch: int) -> StreamBatches:
        """The windows of an epoch, counted from 1; others than those of the first with weights alone."""
        if not isinstance(self.tokens, WeightedStream):
            return self
        return StreamBatches(self.tokens.epoch(epoch), self.batch_size, self.window, self.eos)

    @property
    def targets(self) -> int:
        """Number of targets in all windows: every token once."""
        return len(self.tokens)

    def __len__(self) -> int:
        return -(-self._longest // self.window)

    def spans(self, index: int) -> list[tuple[int, int]]:
        """Where the targets of a window are in the stream, row by row: the first, and past the last."""
        first = index * self.window
        return [
            (min(start + first, end), min(start + first + self.window, end))
            for start, end in zip(self._starts.tolist(), self._ends.tolist())
        ]

    def lines_of(self, index: int) -> list[tuple[Numbers | Tensor, list[int]]]:
        """The lines that the targets of a window are in: of each stream their numbers, from 0."""
        wanted: dict[int, tuple[Numbers | Tensor, list[tuple[int, int]]]] = {}
        for start, end in self.spans(index):
            if not start < end:
                continue
            pieces = (
                self.tokens.sources(start, end)
                if isinstance(self.tokens, Chained)
                else [(self.tokens, start, end)]
            )
            for tokens, first, last in pieces:
                assert not isinstance(tokens, WeightedStream)  # which is no epoch
                wanted.setdefault(id(tokens), (tokens, []))[1].append((first, last))
        return [(tokens, _lines(tokens, self.eos, spans)) for tokens, spans in wanted.values()]

    def __getitem__(self, index: int) -> Window:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        first = index * self.window
        steps = torch.arange(first, min(first + self.window, self._longest))[:, None]  # (T, 1)
        at = self._starts + steps  # (T, B)
        valid = at < self._ends
        targets = self._at(at.clamp(max=len(self.tokens) - 1)).where(valid, self.eos)
        inputs = self._at((at - 1).clamp(min=0)).where(valid & (at > 0), self.eos)
        count = int(valid.sum())
        return Window(inputs, targets, None if count == valid.numel() else valid, count)

    def _at(self, places: Tensor) -> Tensor:
        return torch.from_numpy(self._ids[places.numpy()].astype(numpy.int64))


def _lines(tokens: Numbers | Tensor, eos: int, spans: Sequence[tuple[int, int]]) -> list[int]:
    """The numbers of the lines, from 0, that spans of a stream touch; a line ends with its `eos`."""
    found: set[int] = set()
    before = 0  # lines that have ended
    for first in range(0, max(end for _, end in spans), AT_ONCE):
        # Only one after the other can lines be counted, and the stream may be larger than memory.
        part = numpy.asarray(tokens[first : first + AT_ONCE])
        line = before + numpy.cumsum(part == eos) - (part == eos)
        before = int(line[-1]) + int(part[-1] == eos)
        for start, end in spans:
            found |= set(line[max(start - first, 0) : max(end - first, 0)].tolist())
    return sorted(found)
