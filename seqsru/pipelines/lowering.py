"""Turns a model of torch modules into a program for the engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from seqsru.cells import Cell, Stack
from seqsru.cells.conv import ConvCell
from seqsru.cells.gru import GRUCell
from seqsru.cells.lstm import LSTMCell
from seqsru.cells.mingru import MinGRUCell
from seqsru.cells.minlstm import MinLSTMCell
from seqsru.cells.qrnn import QRNNCell
from seqsru.cells.sru import SRUCell
from seqsru.cells.ssru import SSRUCell
from seqsru.engine import program as p
from seqsru.engine.model import NOTHING, Model, Part
from seqsru.engine.packing import GROUP, LANES
from seqsru.engine.program import Numbers, Place, Program
from seqsru.errors import Refused, one_of
from seqsru.models.attention import AdditiveAttention, DotAttention
from seqsru.models.decoder import Decoder
from seqsru.models.language_model import LanguageModel
from seqsru.models.translator import Translator


def lower(model: Translator, *, int8: bool) -> Model:
    """Return a translator as the engine runs it.

    Parameters
    ----------
    model : Translator
        As it is in evaluation; weights become float32.
    int8 : bool
        Whether the weights of products become int8.

    Raises
    ------
    Refused
        There is a cell or another module in it that the engine does not know.
    """
    _known(model, Translator)
    _known(model.encoder, Stack)
    _known(model.decoder, Decoder)
    numbers = Numbers()
    scale = np.float32(math.sqrt(model.embedding_size))

    def embedding(module: nn.Embedding) -> int:
        return numbers.add(_embedding(module) * scale)

    source = embedding(model.source_embedding)
    tied = model.target_embedding.weight is model.source_embedding.weight
    target = source if tied else embedding(model.target_embedding)
    encoder, decoder = Program(numbers, int8), Program(numbers, int8)
    read = encoder.buffer(model.embedding_size)
    encoded = lower_stack(encoder, model.encoder, read)
    memory = _begin(encoder, decoder, model.decoder, encoded)
    into = decoder.buffer(model.embedding_size)
    y = _decoder(decoder, model.decoder, into)
    if model.projection is not None:
        y = _linear(decoder, y, model.projection)
    return Model(
        output=_output(decoder, model.output_weight, model.output_bias),
        numbers=numbers.joined(),
        int8=int8,
        encoder=_part(encoder, read, encoded),
        decoder=_part(decoder, into, y),
        memory=memory,
        source_embedding=source,
        target_embedding=target,
        embedded=model.embedding_size,
        source_vocabulary=model.source_vocabulary,
        vocabulary=model.target_vocabulary,
        widest=max(inputs for program in (encoder, decoder) for _, inputs in program.products),
    )


def lower_language_model(model: LanguageModel, *, int8: bool) -> Model:
    """Return a language model as the engine runs it; parameters and errors are those of `lower`."""
    _known(model, LanguageModel)
    _known(model.stack, Stack)
    _known(model.output, nn.Linear)
    if model.mixture is not None:
        raise _refusal("one softmax", f"a mixture of {model.mixture.components}")
    numbers = Numbers()
    table = numbers.add(_embedding(model.embedding))
    decoder = Program(numbers, int8)
    x = decoder.buffer(model.embedding_size)
    y = lower_stack(decoder, model.stack, x)
    if model.projection is not None:
        y = _linear(decoder, y, model.projection)
    return Model(
        output=_output(decoder, model.output.weight, model.output.bias),
        numbers=numbers.joined(),
        int8=int8,
        encoder=NOTHING,
        decoder=_part(decoder, x, y),
        memory=0,
        source_embedding=table,
        target_embedding=table,
        embedded=model.embedding_size,
        source_vocabulary=model.vocabulary_size,
        vocabulary=model.vocabulary_size,
        widest=max(inputs for _, inputs in decoder.products),
    )


def _output(program: Program, weight: Tensor, bias: Tensor) -> NDArray[np.int64]:
    """Add the output product; what is no token has no probability."""
    return np.array(program.matrix(_array(weight), _array(bias), fill=-math.inf), np.int64)


def _part(program: Program, x: Place, y: Place) -> Part:
    table, widths, x, y = program.finished(x, y)
    return Part(table, widths, program.state, x, y)


# ---- parts of a model ------------------------------------------------------------------------------


def _known(module: nn.Module, *kinds: type[nn.Module]) -> None:
    """Refuse a module that is none of these classes itself: what inherits from one may compute anything."""
    found, names = type(module), [kind.__name__ for kind in kinds]
    if found not in kinds:
        other = f"{found.__module__}." if found.__name__ in names else ""  # another of the same name
        raise _refusal(one_of(names), other + found.__name__)


def _refusal(expected: str, found: str) -> Refused:
    return Refused(f"{expected} in what the compiled engine runs", found, "choose engine torch", "engine")


def _embedding(module: nn.Embedding) -> NDArray[np.float32]:
    _known(module, nn.Embedding)
    if module.max_norm is not None:
        raise _refusal("an embedding without max_norm", str(module.max_norm))
    return _array(module.weight)


def _linear(program: Program, x: Place, module: nn.Linear) -> Place:
    """Emit a linear layer into a new buffer."""
    _known(module, nn.Linear)
    return program.product(x, _array(module.weight), None if module.bias is None else _array(module.bias))


def lower_stack(program: Program, stack: Stack, x: Place) -> Place:
    """Emit a stack."""
    if stack.skips != "none":
        raise _refusal("a stack without skips", f"skips {stack.skips}")
    width = stack.output_size
    if stack.input_map is not None:
        x = _linear(program, x, stack.input_map)
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
    """Emit a LayerNorm, with or without weights and biases, into a new buffer."""
    _known(norm, nn.LayerNorm)
    weight = np.ones(width, np.float32) if norm.weight is None else _array(norm.weight)
    bias = np.zeros(width, np.float32) if norm.bias is None else _array(norm.bias)
    return program.norm(x, width, weight, bias, norm.eps)


def _begin(encoder: Program, decoder: Program, model: Decoder, encoded: Place) -> int:
    """Emit what is computed once a sentence; return the numbers a slot keeps a source position."""
    memory = _norm(encoder, encoded, model.memory_size, model.memory_norm)
    kept = 0
    for attention in cast("list[Any]", model.attentions.values()):
        _known(attention, DotAttention, AdditiveAttention)
        kept = _keep_product(encoder, memory, attention.key, kept)
        if type(attention) is DotAttention:
            kept = _keep_product(encoder, memory, attention.value, kept)
        else:
            row = _row(model.memory_size)
            encoder.emit(p.KEEP, memory, None, None, model.memory_size, kept, row)
            kept += row
    if model.bridge is not None:
        _known(model.bridge, nn.Linear)
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


def _keep_product(program: Program, x: Place, module: nn.Linear, kept: int) -> int:
    """Emit a linear layer whose rows are kept from `kept` on; return what is free after it."""
    _known(module, nn.Linear)
    bias = None if module.bias is None else _array(module.bias)
    program.emit(p.PRODUCT, x, None, None, *program.matrix(_array(module.weight), bias), 0, kept + 1)
    return kept + _row(len(module.weight))


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
            q = _linear(program, query, attention.query)
            if type(attention) is DotAttention:
                context, values = program.buffer(size), row
                numbers = (attention.heads, attention.width, 0, kept, kept + row, row, values)
                program.emit(p.DOT, q, context, None, *numbers)
            else:
                context, values = program.buffer(model.memory_size), _row(model.memory_size)
                score = program.numbers.add(_array(attention.score))
                numbers = (size, model.memory_size, score, kept, kept + row, row, values)
                program.emit(p.ADDITIVE, q, context, None, *numbers)
            kept += row + values
            read = _linear(program, context, attention.output)
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


def _plain(rnn: nn.RNNBase, kind: type[nn.RNNBase]) -> Any:
    """Return a layer of torch, if it is one such as the cell made."""
    _known(rnn, kind)
    names = {f"{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    if {name for name, _ in rnn.named_parameters()} != names or rnn.batch_first:
        raise _refusal(f"one {kind.__name__} layer with biases, time first,", str(rnn))
    return rnn


def _lstm(program: Program, cell: Any, x: Place, y: Place, reverse: int) -> None:
    rnn, n = _plain(cell.rnn, nn.LSTM), cell.output_size
    bias = _array(rnn.bias_ih_l0) + _array(rnn.bias_hh_l0)
    u = program.product(x, _array(rnn.weight_ih_l0), bias)
    state = program.states(n)
    program.states(n)
    recurrent = program.buffer(4 * n)
    _, tiles, *found = program.matrix(_array(rnn.weight_hh_l0))
    program.emit(p.LSTM, u, y, recurrent, n, state, tiles, *found, reverse)


def _gru(program: Program, cell: Any, x: Place, y: Place, reverse: int) -> None:
    rnn, n = _plain(cell.rnn, nn.GRU), cell.output_size
    u = program.product(x, _array(rnn.weight_ih_l0), _array(rnn.bias_ih_l0))
    recurrent = program.buffer(3 * n)
    _, tiles, *found = program.matrix(_array(rnn.weight_hh_l0), _array(rnn.bias_hh_l0))
    program.emit(p.GRU, u, y, recurrent, n, program.states(n), tiles, *found, reverse)


LOWERED: dict[type[Cell], Callable[[Program, Any, Place, Place, int], None]] = {
    SRUCell: _sru,
    SSRUCell: _ssru,
    QRNNCell: _qrnn,
    MinGRUCell: _minimal(p.MINGRU),
    MinLSTMCell: _minimal(p.MINLSTM),
    ConvCell: _conv,
    LSTMCell: _lstm,
    GRUCell: _gru,
}


def lower_cell(program: Program, cell: Cell, x: Place, y: Place, reverse: int = 0) -> None:
    """Emit a cell, which reads at x and writes at y; with `reverse` from the last step to the first."""
    _known(cell, *LOWERED)
    LOWERED[type(cell)](program, cell, x, y, reverse)


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
