"""Lists of ids of different lengths: put side by side with a mask, and kept in one array."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.mapped import Chained, Numbers, Span

Length = TypeVar("Length", int, NDArray[numpy.int32])
# Padded source lengths are multiples of it, in training and in decoding.
SOURCE_MULTIPLE = 8
BLOCK = 1 << 20  # lists whose lengths are counted at a time


def padded_length(length: Length, multiple: int) -> Length:
    """Return the next multiple of a length, or of each in an array: what so many ids are padded to."""
    return -(-length // multiple) * multiple


def pad(
    sequences: Sequence[Sequence[int]], fill: int, *, multiple: int = 1, end: bool = False
) -> tuple[Tensor, Tensor]:
    """Put lists of ids side by side.

    Parameters
    ----------
    sequences : sequence of B sequences of int
        Ids, columns of the result in this order.
    fill : int
        Id behind each.
    multiple : int
        T is the next multiple of it from the longest list.
    end : bool
        Whether the first `fill` behind each is valid: the end of the sentence, which the lists then lack.

    Returns
    -------
    ids : Tensor of shape (T, B), int64
    valid : Tensor of shape (T, B), bool
        A prefix of True in each column.
    """
    ragged = Ragged.from_sequences(sequences)
    return ragged.padded(numpy.arange(len(ragged)), fill, multiple=multiple, end=end)


def between_ends(ids: Tensor, valid: Tensor, first: int, last: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a decoder reads, and what it is to predict, of texts that lack their ends.

    Parameters
    ----------
    ids : Tensor of shape (T, B), int64
    valid : Tensor of shape (T, B), bool
        A prefix of True in each column.
    first, last : int
        Ids of the start and of the end.

    Returns
    -------
    read : Tensor of shape (T + 1, B), int64
        The start, and the text.
    predicted : Tensor of shape (T + 1, B), int64
        The text, and its end.
    valid : Tensor of shape (T + 1, B), bool
        True on the text and its end.
    """
    edge = ids.new_full((1, ids.shape[1]), first)
    here = torch.ones_like(edge, dtype=torch.bool)
    predicted = torch.cat([ids, edge]).masked_fill(~torch.cat([valid, ~here]), last)
    return torch.cat([edge, ids]), predicted, torch.cat([here, valid])


class Ragged:
    """Lists of ids in one array.

    Parameters
    ----------
    values : numbers, N of them
        The lists one after the other; an ndarray, or numbers in a file.
    offsets : numbers, n + 1 of them
        List i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    def __init__(self, values: Numbers, offsets: Numbers) -> None:
        self.values, self.offsets = values, offsets

    @classmethod
    def from_sequences(cls, sequences: Iterable[Sequence[int]]) -> Ragged:
        """Collect lists of ids."""
        values, offsets = array("i"), array("q", [0])
        for sequence in sequences:
            values.extend(sequence)
            offsets.append(len(values))
        return cls(numpy.array(values, dtype=numpy.int32), numpy.array(offsets, dtype=numpy.int64))

    @classmethod
    def chained(cls, parts: Sequence[Ragged]) -> Ragged:
        """The lists of several, one after the other, none of them copied."""
        if len(parts) == 1:
            return parts[0]
        values, offsets, before = [], [], 0
        for part in parts:
            values.append(Span(part.values, 0, len(part.values)))
            offsets.append(Span(part.offsets, 1 if before else 0, len(part.offsets), before))
            before += len(part.values)
        return cls(Chained(values), Chained(offsets))

    @property
    def lengths(self) -> NDArray[numpy.int32]:
        """Length of each, of shape (n,); counted anew each time, and not kept."""
        found = numpy.empty(len(self), dtype=numpy.int32)
        for at in range(0, len(found), BLOCK):
            found[at : at + BLOCK] = numpy.diff(self.offsets[at : at + BLOCK + 1])
        return found

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> list[int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        start, end = self.offsets[index : index + 2].tolist()
        ids: list[int] = self.values[start:end].tolist()
        return ids

    def padded(
        self, indices: NDArray[numpy.int64], fill: int, *, multiple: int = 1, end: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the lists `indices` side by side, and their mask, as `pad` does."""
        starts = self.offsets[indices]  # (B,)
        lengths = self.offsets[indices + 1] - starts
        longest = int(lengths.max(initial=0)) + end
        steps = numpy.arange(padded_length(longest, multiple))[:, None]  # (T, 1)
        there = steps < lengths  # (T, B)
        ids = numpy.full(there.shape, fill, dtype=numpy.int64)
        ids[there] = self.values[(starts + steps)[there]]
        return torch.from_numpy(ids), torch.from_numpy(steps < lengths + end)
