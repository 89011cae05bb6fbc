"""Text as one long stream of tokens, for language modelling."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from seqsru.data.lines import iter_text_lines
from seqsru.data.tokenizers import Tokenizer
from seqsru.data.vocabulary import split_words
from seqsru.errors import Refused, check_at_least, check_at_most

MOST_ROWS = 1_000_000  # of a batch


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
    tokens : Tensor of shape (N,)
        A `TokenStream`'s tokens.
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

    def __init__(self, tokens: Tensor, batch_size: int, window: int, eos: int) -> None:
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
        edges = torch.arange(batch_size + 1) * len(tokens) // batch_size
        self._starts, self._ends = edges[:-1], edges[1:]  # (B,)
        self._longest = int((self._ends - self._starts).max())

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

    def __getitem__(self, index: int) -> Window:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        first = index * self.window
        steps = torch.arange(first, min(first + self.window, self._longest))[:, None]  # (T, 1)
        at = self._starts + steps  # (T, B)
        valid = at < self._ends
        targets = self.tokens[at.clamp(max=len(self.tokens) - 1)].long().where(valid, self.eos)
        inputs = self.tokens[(at - 1).clamp(min=0)].long().where(valid & (at > 0), self.eos)
        count = int(valid.sum())
        return Window(inputs, targets, None if count == valid.numel() else valid, count)
