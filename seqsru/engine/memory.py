"""Memory as compiled code sees it: typed pointers into flat arrays, and vectors read and compared at once."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from seqsru.engine.packing import LANES

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_I64 = ir.IntType(64)


@intrinsic
def at(typingctx, p, n):
    """Return a pointer to element `n` after the one that `p` points to."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return p(p, types.int64), build


@intrinsic
def address(typingctx, p):
    """Return where `p` points, as an integer."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(arguments[0], _I64)

    return types.int64(p), build


def _pointer(kind: Any, doc: str) -> Any:
    @intrinsic
    def pointer(typingctx, place):
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), build

    pointer.__doc__ = doc
    return pointer


float32s = _pointer(types.float32, "Return an address as a pointer to float32.")
float64s = _pointer(types.float64, "Return an address as a pointer to float64.")
int64s = _pointer(types.int64, "Return an address as a pointer to int64.")
int32s = _pointer(types.int32, "Return an address as a pointer to int32.")
int8s = _pointer(types.int8, "Return an address as a pointer to int8.")


def _vector_at(builder: Any, p: Any) -> Any:
    return builder.load(builder.bitcast(p, _FLOATS.as_pointer()), align=4)


def _folded(name: str, doc: str) -> Any:
    """An intrinsic that folds `tiles` vectors into one and that into a number, always in the same order."""

    @intrinsic
    def fold(typingctx, p, tiles):
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            p, tiles = arguments
            total = cgutils.alloca_once(builder, _FLOATS)
            first = _vector_at(builder, p) if name == "maximum" else ir.Constant(_FLOATS, None)
            builder.store(first, total)
            with cgutils.for_range(builder, tiles) as loop:
                place = builder.gep(p, [builder.mul(loop.index, ir.Constant(_I64, LANES))])
                new = _vector_at(builder, place)
                old = builder.load(total)
                both = _maximum(builder, old, new) if name == "maximum" else builder.fadd(old, new)
                builder.store(both, total)
            return _tree(builder, builder.load(total), name)

        return types.float32(p, types.int64), build

    fold.__doc__ = doc
    return fold


largest = _folded("maximum", "Return the largest of 16 · tiles numbers at p; NaN if one is.")
summed = _folded("sum", "Return the sum of 16 · tiles numbers at p, in one order on every processor.")


@intrinsic
def above(typingctx, p, limit):
    """Return a bit for each of the 16 numbers at p: whether it is greater than the limit."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, limit = _vector_at(builder, arguments[0]), arguments[1]
        limits = splat(builder, limit)
        greater = builder.fcmp_ordered(">", vector, limits)
        return builder.zext(builder.bitcast(greater, ir.IntType(LANES)), _I64)

    return types.int64(types.CPointer(types.float32), types.float32), build


@intrinsic
def lowest_bit(typingctx, bits):
    """Return the number of the lowest bit that is set."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), build


@intrinsic
def nanoseconds(typingctx):
    """Return a steady clock's time, in nanoseconds."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.IntType(32), [ir.IntType(32), _I64.as_pointer()]),
            "clock_gettime",
        )
        place = cgutils.alloca_once(builder, _I64, size=2)
        builder.call(function, [ir.Constant(ir.IntType(32), 1), place])
        seconds = builder.load(builder.gep(place, [ir.Constant(_I64, 0)]))
        rest = builder.load(builder.gep(place, [ir.Constant(_I64, 1)]))
        return builder.add(builder.mul(seconds, ir.Constant(_I64, 1_000_000_000)), rest)

    return types.int64(), build


@intrinsic
def dot(typingctx, p, q, tiles):
    """Return the sum of the products of 16 · tiles numbers at p and q, always in one order."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p, q, tiles = arguments
        total = cgutils.alloca_once(builder, _FLOATS)
        builder.store(ir.Constant(_FLOATS, None), total)
        with cgutils.for_range(builder, tiles) as loop:
            n = builder.mul(loop.index, ir.Constant(_I64, LANES))
            left, right = (_vector_at(builder, builder.gep(place, [n])) for place in (p, q))
            builder.store(_fma(builder, left, right, builder.load(total)), total)
        return _tree(builder, builder.load(total))

    return types.float32(p, q, types.int64), build


@intrinsic
def weighted_sum(typingctx, weights, values, row, count, tiles, y):
    """Write to y the sum of `count` rows of 16 · tiles values, each times its weight, in order."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights, values, row, count, tiles, y = arguments

        def block(first: Any, together: int) -> None:
            column = builder.mul(first, ir.Constant(_I64, LANES))
            totals = [cgutils.alloca_once(builder, _FLOATS) for _ in range(together)]
            for total in totals:
                builder.store(ir.Constant(_FLOATS, None), total)
            with cgutils.for_range(builder, count) as loop:
                weight = splat(builder, builder.load(builder.gep(weights, [loop.index])))
                start = builder.add(builder.mul(loop.index, row), column)
                for tile, total in enumerate(totals):
                    place = builder.gep(values, [builder.add(start, ir.Constant(_I64, tile * LANES))])
                    builder.store(
                        _fma(builder, weight, _vector_at(builder, place), builder.load(total)), total
                    )
            for tile, total in enumerate(totals):
                place = builder.gep(y, [builder.add(column, ir.Constant(_I64, tile * LANES))])
                builder.store(builder.load(total), builder.bitcast(place, _FLOATS.as_pointer()), align=4)

        four = ir.Constant(_I64, 4)
        blocks = builder.udiv(tiles, four)
        with cgutils.for_range(builder, blocks) as loop:
            block(builder.mul(loop.index, four), 4)
        done = builder.mul(blocks, four)
        with cgutils.for_range(builder, builder.sub(tiles, done)) as loop:
            block(builder.add(done, loop.index), 1)
        return context.get_dummy_value()

    kind = types.int64
    return types.void(weights, values, kind, kind, kind, y), build


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_FLOATS, [_FLOATS] * 3), "llvm.fma.v16f32"
    )
    return builder.call(function, [a, b, c])


def splat(builder: Any, value: Any, lanes: int = LANES) -> Any:
    """Build a vector of so many lanes that all hold a value."""
    nothing = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    )


def _tree(builder: Any, vector: Any, name: str = "sum") -> Any:
    """Add the lanes of a vector, or find the largest: halves onto each other, in a fixed tree."""
    width = LANES
    while width > 1:
        width //= 2
        nothing = ir.Constant(vector.type, ir.Undefined)
        halves = [
            builder.shuffle_vector(
                vector,
                nothing,
                ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(start, start + width))),
            )
            for start in (0, width)
        ]
        vector = _maximum(builder, *halves) if name == "maximum" else builder.fadd(*halves)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _maximum(builder: Any, left: Any, right: Any) -> Any:
    """Build the larger of each two lanes; NaN if one is."""
    kind = left.type
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * 2), f"llvm.maximum.v{kind.count}f32"
    )
    return builder.call(function, [left, right])
