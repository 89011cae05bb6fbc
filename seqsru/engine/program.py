"""A model as a program: operations over rows of named width, and the numbers they read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqsru.engine.packing import GROUP, LANES, pack_float32, pack_int8, quantise

# Operations.
(
    PRODUCT,
    NORM,
    ADD,
    TANH,
    MEAN,
    WINDOW,
    SRU,
    SSRU,
    QRNN,
    MINGRU,
    MINLSTM,
    GATED,
    LSTM,
    GRU,
    DOT,
    ADDITIVE,
    KEEP,
    START,
) = range(18)

# Fields of an operation: its code, then for up to three buffers the place of the first row and the distance
# to the next, then numbers whose meaning is the operation's own.
CODE, X, X_ROW, Y, Y_ROW, Z, Z_ROW, A, B, C, D, E, F, G, H = range(15)
FIELDS = 16


@dataclass(frozen=True)
class Place:
    """Columns of a buffer, from `column` on."""

    buffer: int
    column: int = 0

    def moved(self, columns: int) -> Place:
        """Return the place so many columns on."""
        return Place(self.buffer, self.column + columns)


class Numbers:
    """The numbers of a model in one array of float32, each tensor at a multiple of 64 bytes."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.float32]] = []
        self._size = 0

    def add(self, values: NDArray[Any]) -> int:
        """Add float32 values, or others whose bytes are to stand there; return where."""
        kind = values.dtype
        flat = np.ascontiguousarray(values).reshape(-1)
        if kind != np.float32:
            room = np.zeros(-(-flat.nbytes // 4) * 4, np.uint8)
            room[: flat.nbytes] = flat.view(np.uint8)
            flat = room.view(np.float32)
        where = self._size
        self._parts.append(flat)
        self._parts.append(np.zeros(-len(flat) % 16, np.float32))
        self._size += len(flat) + len(self._parts[-1])
        return where

    def zeros(self, count: int) -> int:
        """Return where at least so many zeros stand."""
        return self.add(np.zeros(count, np.float32))

    def joined(self) -> NDArray[np.float32]:
        """Return all, aligned to 64 bytes."""
        return aligned(np.concatenate([np.zeros(0, np.float32), *self._parts]))


def aligned(values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy whose first byte is at a multiple of 64."""
    room = np.zeros(values.nbytes + 64, np.uint8)
    first = -room.ctypes.data % 64
    copy = room[first : first + values.nbytes].view(values.dtype)
    copy[:] = values
    return copy


@dataclass
class Program:
    """Operations in order, and how wide the rows of their buffers are."""

    numbers: Numbers
    int8: bool
    widths: list[int] = field(default_factory=list)
    operations: list[list[int]] = field(default_factory=list)
    state: int = 0
    products: list[tuple[int, int]] = field(default_factory=list)

    def buffer(self, width: int) -> Place:
        """Make a buffer; rows have room for whole groups of outputs."""
        self.widths.append(-(-width // GROUP) * GROUP)
        return Place(len(self.widths) - 1)

    def states(self, width: int) -> int:
        """Make room in the state of a row; return its column."""
        column = self.state
        self.state += -(-width // LANES) * LANES
        return column

    def emit(
        self, code: int, x: Place | None, y: Place | None, z: Place | None = None, *numbers: int
    ) -> None:
        """Add an operation."""
        row = [code]
        for place in (x, y, z):
            row += [-1, 0] if place is None else [place.buffer, place.column]
        row += numbers
        self.operations.append(row + [0] * (FIELDS - len(row)))

    def matrix(
        self, weight: NDArray[Any], bias: NDArray[Any] | None = None, *, fill: float = 0.0
    ) -> list[int]:
        """Add a matrix (O, I); return the six numbers that a product needs to find it."""
        outputs, inputs = weight.shape
        padded = -(-outputs // GROUP) * GROUP
        added = np.full(padded, fill, np.float32)
        added[:outputs] = 0.0 if bias is None else bias
        place = self.numbers.add(added)
        self.products.append((outputs, inputs))
        if not self.int8:
            return [inputs, padded // LANES, self.numbers.add(pack_float32(weight)), 0, 0, place]
        integers, scales = quantise(weight)
        shift = np.zeros(padded, np.int32)
        shift[:outputs] = 128 * integers.sum(axis=1, dtype=np.int32)
        by_output = np.zeros(padded, np.float32)
        by_output[:outputs] = scales
        packed = self.numbers.add(pack_int8(integers))
        return [inputs, padded // LANES, packed, self.numbers.add(by_output), self.numbers.add(shift), place]

    def product(self, x: Place, weight: NDArray[Any], bias: NDArray[Any] | None = None) -> Place:
        """Emit ``x W' + b`` into a new buffer."""
        y = self.buffer(len(weight))
        self.emit(PRODUCT, x, y, None, *self.matrix(weight, bias))
        return y

    def norm(self, x: Place, width: int, weight: NDArray[Any], bias: NDArray[Any], epsilon: float) -> Place:
        """Emit a LayerNorm into a new buffer."""
        y = self.buffer(width)
        add = self.numbers.add
        self.emit(NORM, x, y, None, width, add(_float32(weight)), add(_float32(bias)), self.constant(epsilon))
        return y

    def constant(self, value: float) -> int:
        """Add one number; return where."""
        return self.numbers.add(np.array([value], np.float32))

    def finished(self, x: Place, y: Place) -> tuple[NDArray[np.int64], NDArray[np.int64], Place, Place]:
        """Return the operations, the widths of buffers, and where input and result are.

        Buffers whose content is no longer needed are used again, so that a step's rows stay in the cache.
        """
        table = np.array(self.operations, np.int64).reshape(-1, FIELDS)
        last = {int(b): number for number, row in enumerate(table) for b in row[[X, Y, Z]] if b >= 0}
        last[y.buffer] = len(table)
        found, widths, free = {x.buffer: 0}, [self.widths[x.buffer]], list[int]()
        for number, row in enumerate(table):
            for b in row[[X, Y, Z]].tolist():
                if b >= 0 and b not in found:
                    fits = [place for place in free if widths[place] == self.widths[b]]
                    if fits:
                        free.remove(fits[-1])
                        found[b] = fits[-1]
                    else:
                        found[b] = len(widths)
                        widths.append(self.widths[b])
            free += [found[b] for b, end in last.items() if end == number and b in found]
        for column in (X, Y, Z):
            for row in table:
                row[column] = found.get(int(row[column]), -1)
        read, result = (Place(found.get(p.buffer, 0), p.column) for p in (x, y))
        return table, np.array(widths, np.int64), read, result


def placed(table: NDArray[np.int64], widths: NDArray[np.int64], rows: int, first: int) -> NDArray[np.int64]:
    """Return operations with buffers of so many rows laid out from `first` on."""
    starts = first + np.concatenate([[0], np.cumsum(widths * rows)])[:-1]
    resolved = table.copy()
    for column in (X, Y, Z):
        there = table[:, column] >= 0
        buffers = table[there, column]
        resolved[there, column] = starts[buffers] + table[there, column + 1]
        resolved[there, column + 1] = widths[buffers]
    return np.ascontiguousarray(resolved)


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
