"""Turns a model of torch modules into a program for the engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from seqsru.cells import Cell, Stack
from seqsru.engine import program as p
from seqsru.engine.model import NOTHING, Model, Part
from seqsru.engine.program import GROUP, LANES, Numbers, Place, Program
from seqsru.errors import Refused
from seqsru.models.attention import DotAttention
from seqsru.models.decoder import Decoder
from seqsru.models.language_model import LanguageModel
from seqsru.models.translator import Translator


def lower(model: Translator, *, int8: bool) -> Model:
    numbers = Numbers()
    scale = np.float32(math.sqrt(model.embedding_size))

    def embedding(weight: Tensor) -> int:
        return numbers.add(_array(weight) * scale)

    source = embedding(model.source_embedding.weight)
    tied = model.target_embedding.weight is model.source_embedding.weight
    target = source if tied else embedding(model.target_embedding.weight)
    encoder, decoder = Program(numbers, int8), Program(numbers, int8)
    read = encoder.buffer(model.embedding_size)
    encoded = lower_stack(encoder, model.encoder, read)
    memory = _begin(encoder, decoder, model.decoder, encoded)
    into = decoder.buffer(model.embedding_size)
    y = _decoder(decoder, model.decoder, into)
    if model.projection is not None:
        y = decoder.product(y, _array(model.projection.weight))
    output = decoder.matrix(_array(model.output_weight), _array(model.output_bias), fill=-math.inf)
    return _model(
        numbers,
        int8,
        encoder,
        decoder,
        read,
        encoded,
        into,
        y,
        memory,
        output,
        source,
        target,
        model.embedding_size,
        model.source_vocabulary,
        model.target_vocabulary,
    )


def lower_language_model(model: LanguageModel, *, int8: bool) -> Model:
    numbers = Numbers()
    table = numbers.add(_array(model.embedding.weight))
    decoder = Program(numbers, int8)
    x = decoder.buffer(model.embedding_size)
    y = lower_stack(decoder, model.stack, x)
    if model.projection is not None:
        y = decoder.product(y, _array(model.projection.weight))
    output = decoder.matrix(_array(model.output.weight), _array(model.output.bias), fill=-math.inf)
    nothing = Program(numbers, int8)
    return _model(
        numbers,
        int8,
        nothing,
        decoder,
        x,
        x,
        x,
        y,
        0,
        output,
        table,
        table,
        model.embedding_size,
        model.vocabulary_size,
        model.vocabulary_size,
    )


def _model(
    numbers,
    int8,
    encoder,
    decoder,
    read,
    encoded,
    into,
    y,
    memory,
    output,
    source,
    target,
    embedded,
    sources,
    targets,
):
    widest = max(inputs for program in (encoder, decoder) for _, inputs in program.products)

    def part(program: Program, x: Place, y: Place) -> Part:
        if not program.operations:
            return NOTHING
        table, widths, x, y = program.finished(x, y)
        return Part(table, widths, program.state, x, y)

    return Model(
        numbers.joined(),
        int8,
        part(encoder, read, encoded),
        part(decoder, into, y),
        memory,
        np.array(output, np.int64),
        source,
        target,
        embedded,
        sources,
        targets,
        widest,
    )


def lower_stack(program: Program, stack: Stack, x: Place) -> Place:
    """Emit a stack."""
    width = stack.output_size
    if stack.input_map is not None:
        x = program.product(x, _array(stack.input_map.weight))
    for layer, cells in enumerate(stack.layers):
        y = program.buffer(width)
        for direction, cell in enumerate(cast("list[Cell]", cells)):
            lower_cell(program, cell, x, y.moved(direction * cell.output_size), reverse=direction)
        if len(stack.norms):
            y = _norm(program, y, width, stack.norms[layer])
        if stack.residual and layer:
            total = program.buffer(width)
            program.emit(p.ADD, y, total, x, width)
            y = total
        x = y
    return x


def _norm(program: Program, x: Place, width: int, norm: Any) -> Place:
    return program.norm(x, width, _array(norm.weight), _array(norm.bias), norm.eps)


def _begin(encoder: Program, decoder: Program, model: Decoder, encoded: Place) -> int:
    """Emit what is computed once a sentence; return the numbers a slot keeps a source position."""
    memory = _norm(encoder, encoded, model.memory_size, model.memory_norm)
    kept = 0
    for attention in cast("list[Any]", model.attentions.values()):
        kept = _keep_product(encoder, memory, attention.key.weight, kept)
        if isinstance(attention, DotAttention):
            kept = _keep_product(encoder, memory, attention.value.weight, kept)
        else:
            row = _row(model.memory_size)
            encoder.emit(p.KEEP, memory, None, None, model.memory_size, kept, row)
            kept += row
    if model.bridge is not None:
        mean = encoder.buffer(model.memory_size)
        encoder.emit(p.MEAN, memory, mean, None, model.memory_size)
        weight = _array(model.bridge.weight)
        y = encoder.buffer(len(weight))
        matrix = encoder.matrix(weight, _array(model.bridge.bias))
        encoder.emit(p.PRODUCT, mean, y, None, *matrix, 1)
        encoder.emit(p.TANH, y, y, None, len(weight))
        column, state = 0, 0
        for cell in cast("list[Cell]", model.cells):
            for tensor in cell.initial_state(1):
                width = tensor[0].numel()
                if tensor.dim() == 2:
                    encoder.emit(p.START, y.moved(column), None, None, width, state)
                    column += width
                state += -(-width // LANES) * LANES
    return kept


def _row(width: int) -> int:
    return -(-width // GROUP) * GROUP


def _keep_product(program: Program, x: Place, weight: Tensor, kept: int) -> int:
    """Emit a product whose rows are kept from `kept` on; return what is free after it."""
    program.emit(p.PRODUCT, x, None, None, *program.matrix(_array(weight)), 0, kept + 1)
    return kept + _row(len(weight))


def _decoder(program: Program, model: Decoder, x: Place) -> Place:
    width, kept = model.output_size, 0
    for layer, cell in enumerate(cast("list[Cell]", model.cells)):
        y = program.buffer(width)
        lower_cell(program, cell, x, y)
        name = str(layer)
        if name in model.attentions:
            attention = cast("Any", model.attentions[name])
            query = _norm(program, y, width, model.norms[name])
            size = attention.key.weight.shape[0]
            row = _row(size)
            if isinstance(attention, DotAttention):
                q = program.product(query, _array(attention.query.weight))
                context, values = program.buffer(size), row
                numbers = (attention.heads, attention.width, 0, kept, kept + row, row, values)
                program.emit(p.DOT, q, context, None, *numbers)
            else:
                q = program.product(query, _array(attention.query.weight), _array(attention.query.bias))
                context, values = program.buffer(model.memory_size), _row(model.memory_size)
                score = program.numbers.add(_array(attention.score))
                numbers = (size, model.memory_size, score, kept, kept + row, row, values)
                program.emit(p.ADDITIVE, q, context, None, *numbers)
            kept += row + values
            read = program.product(context, _array(attention.output.weight))
            total = program.buffer(width)
            program.emit(p.ADD, y, total, read, width)
            y = total
        x = y
    return _norm(program, x, width, model.output_norm)


# ---- cells: one function each ----------------------------------------------------------------------


def _sru(program: Program, cell: Any, x: Place, y: Place, reverse: int) -> None:
    n, read = cell.hidden_size, x
    if cell.layer_norm is not None:
        read = _norm(program, read, cell.input_size, cell.layer_norm)
    if cell.projection is not None:
        read = program.product(read, _array(cell.projection))
    u = program.product(read, _array(cell.weight))
    v = program.numbers.zeros(2 * n) if cell.v is None else program.numbers.add(_array(cell.v))
    highway = ("none", "identity", "project").index(cell.highway)
    activation = ("identity", "tanh", "relu").index(cell.activation)
    carried = x.moved(cell.slice * n) if highway == 1 else x
    program.emit(
        p.SRU, u, y, carried, n, program.states(n), v, program.numbers.add(_array(cell.bias)), highway,
        program.constant(cell.scale), activation, reverse,
    )  # fmt: skip


def _ssru(program: Program, cell: Any, x: Place, y: Place, reverse: int) -> None:
    n = cell.output_size
    u = program.product(x, _array(cell.weight), np.concatenate([np.zeros(n, np.float32), _array(cell.bias)]))
    program.emit(p.SSRU, u, y, None, n, program.states(n), 0, 0, 0, 0, 0, reverse)


def _minimal(code: int) -> Callable[..., None]:
    def emit(program: Program, cell: Any, x: Place, y: Place, reverse: int) -> None:
        u = program.product(x, _array(cell.weight), _array(cell.bias))
        program.emit(
            code, u, y, None, cell.output_size, program.states(cell.output_size), 0, 0, 0, 0, 0, reverse
        )

    return emit


def _windowed(program: Program, cell: Any, x: Place, reverse: int, state: int) -> Place:
    read = program.buffer(cell.window * cell.input_size)
    program.emit(p.WINDOW, x, read, None, cell.input_size, cell.window, state, reverse)
    return read


def _qrnn(program: Program, cell: Any, x: Place, y: Place, reverse: int) -> None:
    n = cell.hidden_size
    state = program.states(n)
    if cell.window > 1:
        x = _windowed(program, cell, x, reverse, program.states((cell.window - 1) * cell.input_size))
    u = program.product(x, _array(cell.weight), _array(cell.bias))
    pooling = ("f", "fo", "ifo").index(cell.pooling)
    program.emit(p.QRNN, u, y, None, n, state, pooling, program.constant(cell.zoneout), 0, 0, 0, reverse)


def _conv(program: Program, cell: Any, x: Place, y: Place, reverse: int) -> None:
    read = _windowed(program, cell, x, reverse, program.states((cell.window - 1) * cell.input_size))
    u = program.product(read, _array(cell.weight), _array(cell.bias))
    program.emit(p.GATED, u, y, None, cell.output_size, 0, 0, 0, 0, 0, 0, reverse)


def _lstm(program: Program, cell: Any, x: Place, y: Place, reverse: int) -> None:
    rnn, n = cell.rnn, cell.output_size
    bias = _array(rnn.bias_ih_l0) + _array(rnn.bias_hh_l0)
    u = program.product(x, _array(rnn.weight_ih_l0), bias)
    state = program.states(n)
    program.states(n)
    recurrent = program.buffer(4 * n)
    _, tiles, *found = program.matrix(_array(rnn.weight_hh_l0))
    program.emit(p.LSTM, u, y, recurrent, n, state, tiles, *found, reverse)


def _gru(program: Program, cell: Any, x: Place, y: Place, reverse: int) -> None:
    rnn, n = cell.rnn, cell.output_size
    u = program.product(x, _array(rnn.weight_ih_l0), _array(rnn.bias_ih_l0))
    recurrent = program.buffer(3 * n)
    _, tiles, *found = program.matrix(_array(rnn.weight_hh_l0), _array(rnn.bias_hh_l0))
    program.emit(p.GRU, u, y, recurrent, n, program.states(n), tiles, *found, reverse)


LOWERED: dict[str, Callable[..., None]] = {
    "SRUCell": _sru,
    "SSRUCell": _ssru,
    "QRNNCell": _qrnn,
    "MinGRUCell": _minimal(p.MINGRU),
    "MinLSTMCell": _minimal(p.MINLSTM),
    "ConvCell": _conv,
    "LSTMCell": _lstm,
    "GRUCell": _gru,
}


def lower_cell(program: Program, cell: Cell, x: Place, y: Place, reverse: int = 0) -> None:
    LOWERED[type(cell).__name__](program, cell, x, y, reverse)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()


def lowered(model: nn.Module, *, int8: bool) -> Model:
    """Return a translator or a language model as a program.

    Raises
    ------
    Refused
        It is neither.
    """
    if isinstance(model, Translator):
        return lower(model, int8=int8)
    if isinstance(model, LanguageModel):
        return lower_language_model(model, int8=int8)
    do = "take engine torch"
    raise Refused(
        "a translation or language model for the compiled engine", type(model).__name__, do, "engine"
    )
