"""Memory as compiled code sees it: typed pointers into flat arrays, bits, and the clock."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# A plain 0 or 1 is a type of its own to Numba: what is called with it, or with a variable that begins as it,
# would be compiled for that too.
NONE, ONCE = np.int64(0), np.int64(1)

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
