"""Lists of ids of different lengths: put side by side with a mask, and kept in one array."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

Length = TypeVar("Length", int, NDArray[numpy.int64])
# Padded source lengths are multiples of it, in training and in decoding.
SOURCE_MULTIPLE = 8


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


class Ragged:
    """Lists of ids in one array.

    Parameters
    ----------
    values : ndarray of shape (N,), int32
        The lists one after the other.
    offsets : ndarray of shape (n + 1,), int64
        List i is ``values[offsets[i]:offsets[i + 1]]``.

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
        """Collect lists of ids."""
        growing = GrowingRagged()
        for sequence in sequences:
            growing.append(sequence)
        return growing.ragged()

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> list[int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        ids: list[int] = self.values[self.offsets[index] : self.offsets[index + 1]].tolist()
        return ids

    def padded(
        self, indices: NDArray[numpy.int64], fill: int, *, multiple: int = 1, end: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the lists `indices` side by side, and their mask, as `pad` does."""
        starts, lengths = self.offsets[indices], self.lengths[indices]  # (B,)
        longest = int(lengths.max(initial=0)) + end
        steps = numpy.arange(padded_length(longest, multiple))[:, None]  # (T, 1)
        there = steps < lengths  # (T, B)
        ids = numpy.full(there.shape, fill, dtype=numpy.int64)
        ids[there] = self.values[(starts + steps)[there]]
        return torch.from_numpy(ids), torch.from_numpy(steps < lengths + end)


class GrowingRagged:
    """A `Ragged` in the making: four bytes an id, where lists of numbers would take forty."""

    def __init__(self) -> None:
        self._values, self._offsets = array("i"), array("q", [0])

    def append(self, sequence: Sequence[int]) -> None:
        """Add a list of ids at the end."""
        self._values.extend(sequence)
        self._offsets.append(len(self._values))

    def ragged(self) -> Ragged:
        """Return what was added so far."""
        values = numpy.array(self._values, dtype=numpy.int32)
        return Ragged(values, numpy.array(self._offsets, dtype=numpy.int64))
