"""Whether a program stays inside its memory: what is read from a file is run by code that checks nothing."""

from __future__ import annotations

import numpy as np

from seqsru.engine import program as p
from seqsru.engine.model import Model, Part
from seqsru.engine.packing import GROUP, LANES

MOST = 2**24  # of any width: far beyond what is trained


def check_model(model: Model) -> None:
    """Raise a ValueError where an operation would read or write outside its buffers, states or numbers."""
    for name in ("memory", "embedded", "source_vocabulary", "vocabulary", "widest"):
        if not (name != "memory") <= getattr(model, name) <= MOST:
            raise ValueError(f"{name} is {getattr(model, name)}")
    if not len(model.decoder.table):
        raise ValueError("no decoder")
    language = not len(model.encoder.table)
    if language and model.memory:
        raise ValueError("memory of no source")
    for part in (model.encoder, model.decoder):
        _check_part(model, part)
    if not language:
        _room(model.encoder, model.encoder.x, model.embedded)
    _room(model.decoder, model.decoder.x, model.embedded)
    if model.output.shape != (6,):
        raise ValueError("the output is no product")
    inputs, tiles, *places = model.output.tolist()
    _product(model, inputs, tiles, *places)
    _room(model.decoder, model.decoder.y, inputs)
    if tiles * LANES < model.vocabulary:
        raise ValueError("the output is smaller than the vocabulary")
    bias = places[-1]
    if not (model.numbers[bias + model.vocabulary : bias + tiles * LANES] == -np.inf).all():
        raise ValueError("an output that is no token can be chosen")
    _numbers(model, model.target_embedding, model.vocabulary * model.embedded)
    if not language:
        _numbers(model, model.source_embedding, model.source_vocabulary * model.embedded)


def _check_part(model: Model, part: Part) -> None:
    if part.widths.ndim != 1 or not all(
        0 < width <= 64 * MOST and width % GROUP == 0 for width in part.widths
    ):
        raise ValueError("widths of buffers")
    if not 0 <= part.state <= 64 * MOST:
        raise ValueError("size of the state")
    for row in part.table.tolist():
        for field in (p.X, p.Y, p.Z):  # also where the operation reads none
            if row[field : field + 2] != [-1, 0]:
                _room(part, p.Place(row[field], row[field + 1]), 0)
        _check(model, part, row)


def _check(model: Model, part: Part, o: list[int]) -> None:
    """Check one operation; the numbers of each are listed in `machine.execute`."""
    code, n = o[p.CODE], o[p.A]

    def room(field: int, width: int) -> None:
        _room(part, p.Place(o[field], o[field + 1]), width)

    def state(column: int, width: int, whole: int = part.state) -> None:
        if not (0 <= column and column + width <= whole):
            raise ValueError("a place in the state")

    def numbers(where: int, count: int) -> None:
        _numbers(model, where, count)

    if not 0 < n <= MOST:
        raise ValueError("a width")
    if part is model.decoder and (code in (p.KEEP, p.START, p.MEAN) or code == p.PRODUCT and o[p.H]):
        raise ValueError("what is done once a sentence, in a step")
    if code == p.PRODUCT:
        _product(model, n, *o[p.B : p.G])
        room(p.X, n)
        if o[p.H]:
            state(o[p.H] - 1, o[p.B] * LANES, model.memory)
        else:
            room(p.Y, o[p.B] * LANES)
    elif code == p.NORM:
        room(p.X, n)
        room(p.Y, n)
        numbers(o[p.B], n)
        numbers(o[p.C], n)
        numbers(o[p.D], 1)
    elif code == p.ADD:
        for field in (p.X, p.Y, p.Z):
            room(field, n)
    elif code in (p.TANH, p.MEAN):
        room(p.X, n)
        room(p.Y, n)
    elif code == p.WINDOW:
        window = o[p.B]
        if not 2 <= window <= MOST:
            raise ValueError("a window")
        room(p.X, n)
        room(p.Y, window * n)
        state(o[p.C], (window - 1) * n)
    elif code == p.START:
        room(p.X, n)
        state(o[p.B], n, model.decoder.state)
    elif code == p.KEEP:
        room(p.X, n)
        if o[p.C] < n:
            raise ValueError("a row that is kept")
        state(o[p.B], o[p.C], model.memory)
    elif code in (p.DOT, p.ADDITIVE):
        heads, key_row, value_row = o[p.B], o[p.F], o[p.G]
        if not 0 < heads <= MOST or n * heads > MOST:
            raise ValueError("heads or a width")
        size, width = (n * heads, n * heads) if code == p.DOT else (n, heads)
        room(p.X, size)
        room(p.Y, width)
        if code == p.ADDITIVE:
            numbers(o[p.C], n)
        if not (size <= key_row <= 64 * MOST and width <= value_row <= 64 * MOST):
            raise ValueError("rows of keys or values")
        state(o[p.D], key_row, model.memory)
        state(o[p.E], value_row, model.memory)
    elif code in (p.LSTM, p.GRU):
        gates = 4 if code == p.LSTM else 3
        _product(model, n, *o[p.C : p.H])
        room(p.X, gates * n)
        room(p.Y, n)
        room(p.Z, o[p.C] * LANES)
        state(o[p.B], (-(-n // LANES) * LANES + n) if code == p.LSTM else n)
        if o[p.C] * LANES < gates * n:
            raise ValueError("a recurrent product")
    elif code in _SLICES:
        slices = _SLICES[code]
        if code == p.SRU:
            if o[p.E] not in (0, 1, 2) or o[p.G] not in (0, 1, 2):
                raise ValueError("a highway or an activation")
            slices += o[p.E] == 2
            if o[p.E] == 1:
                room(p.Z, n)
            numbers(o[p.C], 2 * n)
            numbers(o[p.D], 2 * n)
            numbers(o[p.F], 1)
        if code == p.QRNN:
            if o[p.C] not in (0, 1, 2):
                raise ValueError("a pooling")
            slices += o[p.C]
            numbers(o[p.D], 1)
        room(p.X, slices * n)
        room(p.Y, n)
        state(o[p.B], n if code != p.GATED else 0)
    else:
        raise ValueError(f"operation {code}")


_SLICES = {p.SRU: 3, p.SSRU: 2, p.QRNN: 2, p.MINGRU: 2, p.MINLSTM: 3, p.GATED: 2}


def _room(part: Part, place: p.Place, width: int) -> None:
    if not 0 <= place.buffer < len(part.widths):
        raise ValueError("a buffer")
    if not (0 <= place.column and place.column + width <= part.widths[place.buffer]):
        raise ValueError("columns of a buffer")


def _numbers(model: Model, where: int, count: int) -> None:
    if not (0 <= where and where + count <= len(model.numbers)):
        raise ValueError("a place among the numbers")


def _product(model: Model, inputs: int, tiles: int, weights: int, scales: int, shift: int, bias: int) -> None:
    if not (0 < inputs <= min(model.widest, MOST) and 0 < tiles <= MOST and tiles * LANES % GROUP == 0):
        raise ValueError("the size of a product")
    outputs = tiles * LANES
    depth = -(-inputs // 4) if model.int8 else inputs
    _numbers(model, weights, outputs * depth)
    _numbers(model, bias, outputs)
    if model.int8:
        _numbers(model, scales, outputs)
        _numbers(model, shift, outputs)
