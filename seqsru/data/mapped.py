"""Arrays of numbers that may lie in files larger than memory, and what stands for several of them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy
from numpy.typing import NDArray

# The system maps so much of a file around what is looked at, and so much may stay mapped: what is mapped
# counts as this process's memory, though it is the system's own copy of the file.
AROUND = 1 << 16  # bytes
MOST_MAPPED = 1 << 26  # bytes


class Numbers(Protocol):
    """One row of numbers, in memory or not."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: Any) -> NDArray[Any]:
        """The numbers at an array of places, or in a slice."""
        ...


class Mapped:
    """The numbers in a file, of which only what is looked at is read.

    Parameters
    ----------
    path : Path
    dtype : numpy dtype
        Of a number in it.
    """

    def __init__(self, path: Path, dtype: numpy.dtype[Any]) -> None:
        self._map: mmap.mmap | None = None
        self._array: NDArray[Any] = numpy.empty(0, dtype)
        if path.stat().st_size:  # else there is nothing that could be mapped
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._array = numpy.frombuffer(self._map, dtype)
        self._touched = 0

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, at: Any) -> NDArray[Any]:
        found: NDArray[Any]
        if isinstance(at, slice):
            found = self._array[at].copy()
            self._touched += found.nbytes
        else:
            found = self._array[at]
            self._touched += AROUND * len(numpy.unique(at * self._array.itemsize // AROUND))
        if self._touched > MOST_MAPPED:
            self._release()
        return found

    def _release(self) -> None:
        """Give back what is mapped; what is looked at again comes from the system's copy of the file."""
        self._touched = 0
        advice = getattr(mmap, "MADV_DONTNEED", None)  # not on every system
        if self._map is not None and advice is not None:
            self._map.madvise(advice)


class Span(NamedTuple):
    """Numbers from a place up to another, each with something added to it."""

    numbers: Numbers
    start: int
    end: int
    add: int = 0


class Chained:
    """Spans of numbers one after the other, none of them copied.

    Parameters
    ----------
    spans : sequence of Span
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = list(spans)
        lengths = [span.end - span.start for span in spans]
        self._ends = numpy.cumsum(lengths, dtype=numpy.int64)
        self._starts = self._ends - lengths

    def __len__(self) -> int:
        return int(self._ends[-1])

    def sources(self, start: int, end: int) -> Iterator[tuple[Numbers, int, int]]:
        """Where the numbers from a place up to another lie: in which numbers, from where up to where."""
        for first, span in zip(self._starts.tolist(), self._spans):
            here = max(start, first), min(end, first + span.end - span.start)
            if here[0] < here[1]:
                yield span.numbers, here[0] - first + span.start, here[1] - first + span.start

    def __getitem__(self, at: Any) -> NDArray[Any]:
        places = numpy.arange(*at.indices(len(self))) if isinstance(at, slice) else numpy.asarray(at)
        which = numpy.searchsorted(self._ends, places, side="right")
        found = numpy.empty(places.shape, numpy.int64)
        for number in numpy.unique(which).tolist():
            here, span = which == number, self._spans[number]
            inside = places[here] - self._starts[number] + span.start
            found[here] = span.numbers[inside].astype(numpy.int64) + span.add
        return found
