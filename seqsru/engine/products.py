"""Products of a few rows with packed weights, in vector instructions of the processor; see `packing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from seqsru.engine.packing import LANES
from seqsru.engine.vectors import splat

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
_BYTES = ir.VectorType(_I8, 64)
_WORDS = ir.VectorType(_I32, LANES)
_FLOATS = ir.VectorType(_F32, LANES)


# ---- the kernels, written in LLVM's own language ---------------------------------------------------

Dot = Callable[[Any, Any, Any, Any], list[Any]]


def _dot_vnni(builder: Any, accumulators: list[Any], activations: Any, weights: Any) -> list[Any]:
    """AVX512-VNNI: 64 products of unsigned by signed bytes; those of the row are shifted by 128."""
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(_WORDS, [_WORDS, _WORDS, _WORDS]),
        "llvm.x86.avx512.vpdpbusd.512",
    )
    rows = splat(builder, activations, LANES)
    return [builder.call(function, [accumulators[0], rows, builder.bitcast(weights, _WORDS)])]


def _dot_vnni256(builder: Any, accumulators: list[Any], activations: Any, weights: Any) -> list[Any]:
    """AVX-VNNI: as above, in halves."""
    half = ir.VectorType(_I32, 8)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(half, [half, half, half]), "llvm.x86.avx512.vpdpbusd.256"
    )
    rows, words = splat(builder, activations, 8), builder.bitcast(weights, _WORDS)
    return [
        builder.call(
            function, [accumulators[part], rows, _lanes(builder, words, range(8 * part, 8 * part + 8))]
        )
        for part in range(2)
    ]


def _dot_avx2(builder: Any, accumulators: list[Any], activations: Any, weights: Any) -> list[Any]:
    """AVX2: |x| times w with the sign of x, in pairs: at most 2 · 127², which 16 bits hold."""
    bytes_, pairs, words = ir.VectorType(_I8, 32), ir.VectorType(_I16, 16), ir.VectorType(_I32, 8)

    def declared(name: str, result: Any, arguments: list[Any]) -> Any:
        return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)

    sign = declared("llvm.x86.avx2.psign.b", bytes_, [bytes_, bytes_])
    multiply = declared("llvm.x86.avx2.pmadd.ub.sw", pairs, [bytes_, bytes_])
    add = declared("llvm.x86.avx2.pmadd.wd", words, [pairs, pairs])
    row = builder.bitcast(splat(builder, activations, 8), bytes_)
    positive = builder.call(sign, [row, row])
    ones = ir.Constant(pairs, [1] * 16)
    sums = []
    for part in range(2):
        half = _lanes(builder, weights, range(32 * part, 32 * part + 32))
        products = builder.call(multiply, [positive, builder.call(sign, [half, row])])
        sums.append(builder.add(accumulators[part], builder.call(add, [products, ones])))
    return sums


def _dot_arm(builder: Any, accumulators: list[Any], activations: Any, weights: Any) -> list[Any]:
    """Arm's dot product extension."""
    bytes_, words = ir.VectorType(_I8, 16), ir.VectorType(_I32, 4)
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(words, [words, bytes_, bytes_]), "llvm.aarch64.neon.sdot.v4i32.v16i8"
    )
    row = builder.bitcast(splat(builder, activations, 4), bytes_)
    return [
        builder.call(
            function, [accumulators[part], _lanes(builder, weights, range(16 * part, 16 * part + 16)), row]
        )
        for part in range(4)
    ]


def _dot_portable(builder: Any, accumulators: list[Any], activations: Any, weights: Any) -> list[Any]:
    """Any processor: what the others compute, written out."""
    total = accumulators[0]
    for place in range(4):
        shift = ir.Constant(_I32, 24)
        value = builder.ashr(builder.shl(activations, ir.Constant(_I32, 24 - 8 * place)), shift)
        column = builder.sext(_lanes(builder, weights, range(place, 64, 4)), _WORDS)
        total = builder.add(total, builder.mul(column, splat(builder, value, LANES)))
    return [total]


# name: the products, how many vectors hold a tile's sums, whether rows are shifted by 128, and the tiles that
# are worked on together for one row and for more: as many sums as there are registers.
DOTS: dict[str, tuple[Dot, int, bool, int, int]] = {
    "avx512vnni": (_dot_vnni, 1, True, 4, 4),
    "avxvnni": (_dot_vnni256, 2, True, 4, 1),
    "avx2": (_dot_avx2, 2, False, 4, 1),
    "dotprod": (_dot_arm, 4, False, 4, 1),
    "portable": (_dot_portable, 1, False, 1, 1),
}


def _lanes(builder: Any, vector: Any, lanes: Any) -> Any:
    chosen = ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), chosen)


def _joined(builder: Any, parts: list[Any]) -> Any:
    """Put the sums of a tile beside each other again."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2])
        parts = [
            builder.shuffle_vector(
                a, b, ir.Constant(ir.VectorType(_I32, 2 * a.type.count), list(range(2 * a.type.count)))
            )
            for a, b in pairs
        ]
    return parts[0]


class _Writer:
    """Loads and stores of a kernel at byte addresses."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def at(self, address: Any, kind: Any) -> Any:
        return self.builder.inttoptr(address, kind.as_pointer())

    def load(self, address: Any, kind: Any, align: int) -> Any:
        return self.builder.load(self.at(address, kind), align=align)

    def store(self, value: Any, address: Any, align: int) -> None:
        self.builder.store(value, self.at(address, value.type), align=align)

    def plus(self, address: Any, offset: Any) -> Any:
        if isinstance(offset, int):
            offset = ir.Constant(_I64, offset)
        return self.builder.add(address, offset)


def _blocks(builder: Any, tiles: Any, size: int, body: Callable[[Any], None]) -> None:
    """Call the body with the first tile of each block of so many tiles."""
    blocks = builder.udiv(tiles, ir.Constant(_I64, size))
    with cgutils.for_range(builder, blocks) as loop:
        body(builder.mul(loop.index, ir.Constant(_I64, size)))


def _outlined(builder: Any, name: str, arguments: Any, body: Callable[[Any, Any], None]) -> None:
    """Call a function of the module that has this body, made where it is not there yet.

    A kernel is long: were it written out at each of its calls, LLVM would have that many times to look at.
    """
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [_I64] * len(arguments)), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        inside = ir.IRBuilder(function.append_basic_block())
        body(inside, function.args)
        inside.ret_void()
    builder.call(function, arguments)


def int8_kernel(rows: int, name: str) -> Any:
    """Make the product of so many rows with int8 weights.

    The intrinsic takes addresses and sizes, all int64: the rows' bytes, shifted where DOTS says so, and their
    stride; the rows' scales;
    weights, scales of outputs, 128 times the sums of their weights, biases; quarters of I; tiles; outputs and
    their stride in bytes. It writes ``sum · (row's scale · output's scale) + bias``, rounded once.
    """
    dot, parts, shifted, narrow, wide = DOTS[name]
    together = narrow if rows == 1 else wide

    def typed(typingctx: Any, x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, row_stride):
        def body(builder: Any, arguments: Any) -> None:
            x, stride, scales, w, by_output, shift, bias, quarters, tiles, y, row_stride = arguments
            write = _Writer(builder)
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), "llvm.fma.v16f32"
            )
            part = ir.VectorType(_I32, LANES // parts)
            places = [
                [[cgutils.alloca_once(builder, part) for _ in range(parts)] for _ in range(together)]
                for _ in range(rows)
            ]
            tile_bytes = builder.mul(quarters, ir.Constant(_I64, 64))
            row_at = [write.plus(x, builder.mul(stride, ir.Constant(_I64, row))) for row in range(rows)]
            out_at = [write.plus(y, builder.mul(row_stride, ir.Constant(_I64, row))) for row in range(rows)]

            def block(first: Any) -> None:
                offset = builder.mul(first, ir.Constant(_I64, 4 * LANES))  # of 4-byte values of outputs
                starts = [
                    write.plus(w, builder.mul(builder.add(first, ir.Constant(_I64, tile)), tile_bytes))
                    for tile in range(together)
                ]
                for tile in range(together):
                    if shifted:
                        begin = builder.neg(
                            write.load(write.plus(shift, write.plus(offset, 64 * tile)), _WORDS, 4)
                        )
                    else:
                        begin = ir.Constant(_WORDS, None)
                    for number in range(parts):
                        size = LANES // parts
                        piece = (
                            _lanes(builder, begin, range(size * number, size * number + size))
                            if parts > 1
                            else begin
                        )
                        for row in range(rows):
                            builder.store(piece, places[row][tile][number])
                with cgutils.for_range(builder, quarters) as loop:
                    step = builder.mul(loop.index, ir.Constant(_I64, 64))
                    four = builder.mul(loop.index, ir.Constant(_I64, 4))
                    weights = [write.load(write.plus(start, step), _BYTES, 1) for start in starts]
                    for row in range(rows):
                        activations = write.load(write.plus(row_at[row], four), _I32, 4)
                        for tile in range(together):
                            sums = [builder.load(place) for place in places[row][tile]]
                            for place, total in zip(
                                places[row][tile], dot(builder, sums, activations, weights[tile])
                            ):
                                builder.store(total, place)
                for tile in range(together):
                    at = write.plus(offset, 64 * tile)
                    scale = write.load(write.plus(by_output, at), _FLOATS, 4)
                    added = write.load(write.plus(bias, at), _FLOATS, 4)
                    for row in range(rows):
                        of_row = splat(builder, write.load(write.plus(scales, 4 * row), _F32, 4), LANES)
                        total = _joined(builder, [builder.load(place) for place in places[row][tile]])
                        value = [builder.sitofp(total, _FLOATS), builder.fmul(of_row, scale), added]
                        write.store(builder.call(fma, value), write.plus(out_at[row], at), 4)

            _blocks(builder, tiles, together, block)

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _outlined(builder, f"seqsru.int8.{name}.{rows}", arguments, body)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), build

    return intrinsic(typed)


def float32_kernel(rows: int, together: int) -> Any:
    """Make the product of so many rows with float32 weights.

    The intrinsic takes addresses and sizes, all int64: the rows and their stride in bytes; weights; biases;
    I; tiles; outputs and their stride in bytes.
    """

    def typed(typingctx: Any, x, stride, w, bias, inputs, tiles, y, row_stride):
        def body(builder: Any, arguments: Any) -> None:
            x, stride, w, bias, inputs, tiles, y, row_stride = arguments
            write = _Writer(builder)
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), "llvm.fma.v16f32"
            )
            places = [[cgutils.alloca_once(builder, _FLOATS) for _ in range(together)] for _ in range(rows)]
            tile_bytes = builder.mul(inputs, ir.Constant(_I64, 64))
            row_at = [write.plus(x, builder.mul(stride, ir.Constant(_I64, row))) for row in range(rows)]
            out_at = [write.plus(y, builder.mul(row_stride, ir.Constant(_I64, row))) for row in range(rows)]

            def block(first: Any) -> None:
                offset = builder.mul(first, ir.Constant(_I64, 4 * LANES))
                starts = [
                    write.plus(w, builder.mul(builder.add(first, ir.Constant(_I64, tile)), tile_bytes))
                    for tile in range(together)
                ]
                for tile in range(together):
                    added = write.load(write.plus(bias, write.plus(offset, 64 * tile)), _FLOATS, 4)
                    for row in range(rows):
                        builder.store(added, places[row][tile])
                with cgutils.for_range(builder, inputs) as loop:
                    step = builder.mul(loop.index, ir.Constant(_I64, 64))
                    four = builder.mul(loop.index, ir.Constant(_I64, 4))
                    weights = [write.load(write.plus(start, step), _FLOATS, 4) for start in starts]
                    for row in range(rows):
                        value = splat(builder, write.load(write.plus(row_at[row], four), _F32, 4), LANES)
                        for tile in range(together):
                            place = places[row][tile]
                            builder.store(
                                builder.call(fma, [value, weights[tile], builder.load(place)]), place
                            )
                for tile in range(together):
                    at = write.plus(offset, 64 * tile)
                    for row in range(rows):
                        write.store(builder.load(places[row][tile]), write.plus(out_at[row], at), 4)

            _blocks(builder, tiles, together, block)

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _outlined(builder, f"seqsru.float32.{rows}.{together}", arguments, body)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), build

    return intrinsic(typed)
