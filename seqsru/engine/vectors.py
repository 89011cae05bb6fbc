"""Vectors of 16 numbers as compiled code has them: folded, multiplied, compared and turned."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from seqsru.engine.packing import LANES

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_WORDS = ir.VectorType(ir.IntType(32), LANES)
_I64 = ir.IntType(64)


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
def pad(typingctx, p, n, value):
    """Write a value after the first n >= 1 numbers at p, up to a multiple of 16.

    All at once: a vector that is read where single numbers were just written has to wait for each.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p, n, value = arguments
        first = builder.and_(builder.sub(n, ir.Constant(_I64, 1)), ir.Constant(_I64, -LANES))
        place = builder.gep(p, [first])
        kind = ir.VectorType(ir.IntType(32), LANES)
        left = builder.trunc(builder.sub(n, first), ir.IntType(32))
        theirs = builder.icmp_signed("<", ir.Constant(kind, list(range(LANES))), splat(builder, left))
        padded = builder.select(theirs, _vector_at(builder, place), splat(builder, value))
        builder.store(padded, builder.bitcast(place, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(p, types.int64, types.float32), build


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
def four_dots(typingctx, p, q, row, tiles, y):
    """Write to y what `dot` gives of p with q and with the three that follow it, `row` numbers apart."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        p, q, row, tiles, y = arguments
        totals = [cgutils.alloca_once(builder, _FLOATS) for _ in range(4)]
        others = [builder.gep(q, [builder.mul(row, ir.Constant(_I64, number))]) for number in range(4)]
        for total in totals:
            builder.store(ir.Constant(_FLOATS, None), total)
        with cgutils.for_range(builder, tiles) as loop:
            n = builder.mul(loop.index, ir.Constant(_I64, LANES))
            left = _vector_at(builder, builder.gep(p, [n]))
            for total, other in zip(totals, others):
                right = _vector_at(builder, builder.gep(other, [n]))
                builder.store(_fma(builder, left, right, builder.load(total)), total)
        # The tree of `_tree` in each, but the last lanes of all are added at once.
        a, b, c, d = (_halved(builder, builder.load(total), 4) for total in totals)
        left, right = (_added(builder, *two, [0, 1, 4, 5], [2, 3, 6, 7]) for two in ((a, b), (c, d)))
        found = _added(builder, left, right, [0, 2, 4, 6], [1, 3, 5, 7])
        builder.store(found, builder.bitcast(y, found.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(p, q, types.int64, types.int64, y), build


@intrinsic
def weighted_sums(typingctx, weights, room, values, row, count, heads, tiles, y):
    """Write to y the sum of `count` rows of values, each times its weight, in order.

    A row is `heads` times 16 · tiles values; the weights of each head begin `room` after the one before.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights, room, values, row, count, heads, tiles, y = arguments

        def number(value: int) -> Any:
            return ir.Constant(_I64, value)

        def block(first: Any, groups: int, size: int) -> None:
            """Add up so many groups of tiles; those of a group are of one head."""
            column = builder.mul(first, number(LANES))
            totals = [cgutils.alloca_once(builder, _FLOATS) for _ in range(groups * size)]
            for total in totals:
                builder.store(ir.Constant(_FLOATS, None), total)
            of_group = [
                builder.gep(
                    weights,
                    [builder.mul(builder.udiv(builder.add(first, number(group * size)), tiles), room)],
                )
                for group in range(groups)
            ]
            with cgutils.for_range(builder, count) as loop:
                start = builder.add(builder.mul(loop.index, row), column)
                for tile, total in enumerate(totals):
                    if tile % size == 0:
                        place = builder.gep(of_group[tile // size], [loop.index])
                        weight = splat(builder, builder.load(place))
                    place = builder.gep(values, [builder.add(start, number(tile * LANES))])
                    builder.store(
                        _fma(builder, weight, _vector_at(builder, place), builder.load(total)), total
                    )
            for tile, total in enumerate(totals):
                place = builder.gep(y, [builder.add(column, number(tile * LANES))])
                builder.store(builder.load(total), builder.bitcast(place, _FLOATS.as_pointer()), align=4)

        def blocks(groups: int, size: int) -> None:
            """Go through all tiles, so many groups at once, and then a group at once."""
            whole, done = builder.mul(heads, tiles), number(0)
            for groups_now in (groups, 1):
                step = number(groups_now * size)
                times = builder.udiv(builder.sub(whole, done), step)
                with cgutils.for_range(builder, times) as loop:
                    block(builder.add(done, builder.mul(loop.index, step)), groups_now, size)
                done = builder.add(done, builder.mul(times, step))

        fours = builder.icmp_unsigned("==", builder.urem(tiles, number(4)), number(0))
        with builder.if_else(fours) as (then, otherwise):
            with then:
                blocks(4, 4)
            with otherwise:
                blocks(8, 1)
        return context.get_dummy_value()

    kind = types.int64
    return types.void(weights, kind, values, kind, kind, kind, kind, y), build


@intrinsic
def turned(typingctx, rows, columns, depth, blocks, to):
    """Write 16 rows of a table of 4-byte values side by side: value i of row columns[j] to ``to[16 i + j]``.

    Rows have `depth` values, of which the first 16 · blocks are written. Whole vectors are read and written:
    a value at a time would touch each line of the memory 16 times.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, columns, depth, blocks, to = arguments
        vector = _WORDS.as_pointer()
        starts = []
        for lane in range(LANES):
            column = builder.load(builder.gep(columns, [ir.Constant(_I64, lane)]))
            starts.append(builder.gep(rows, [builder.mul(column, depth)]))
        # Two vectors lane by lane, 8 apart: done four times, that turns 16 of 16.
        mixed = [[lane // 2 + LANES * (lane % 2) + half for lane in range(LANES)] for half in (0, 8)]
        with cgutils.for_range(builder, blocks) as loop:
            first = builder.mul(loop.index, ir.Constant(_I64, LANES))
            found = [
                builder.load(builder.bitcast(builder.gep(start, [first]), vector), align=4)
                for start in starts
            ]
            for _ in range(4):
                found = [
                    builder.shuffle_vector(found[pair], found[pair + 8], ir.Constant(_WORDS, lanes))
                    for pair in range(8)
                    for lanes in mixed
                ]
            for number, line in enumerate(found):
                place = builder.add(
                    builder.mul(first, ir.Constant(_I64, LANES)), ir.Constant(_I64, LANES * number)
                )
                builder.store(line, builder.bitcast(builder.gep(to, [place]), vector), align=4)
        return context.get_dummy_value()

    kind = types.int64
    return types.void(rows, columns, kind, kind, to), build


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


def _added(builder: Any, a: Any, b: Any, left: list[int], right: list[int]) -> Any:
    """Add some lanes of two vectors, counted through both, to others."""
    kind = ir.VectorType(ir.IntType(32), len(left))
    return builder.fadd(*(builder.shuffle_vector(a, b, ir.Constant(kind, lanes)) for lanes in (left, right)))


def _tree(builder: Any, vector: Any, name: str = "sum") -> Any:
    """Add the lanes of a vector, or find the largest: halves onto each other, in a fixed tree."""
    vector = _halved(builder, vector, 1, name)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _halved(builder: Any, vector: Any, least: int, name: str = "sum") -> Any:
    """Fold the halves of a vector onto each other until so many lanes are left."""
    width = LANES
    while width > least:
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
    return vector


def _maximum(builder: Any, left: Any, right: Any) -> Any:
    """Build the larger of each two lanes; NaN if one is."""
    kind = left.type
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * 2), f"llvm.maximum.v{kind.count}f32"
    )
    return builder.call(function, [left, right])
