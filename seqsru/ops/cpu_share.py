"""How a kernel's tasks are shared out among threads: the one function that Numba runs in parallel."""

from __future__ import annotations

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def share(address, tasks, threads, arguments, u, c0):
    """Do the tasks of the kernel at `address`, each thread a run of them."""
    for i in numba.prange(threads):
        _call(address, tasks * i // threads, tasks * (i + 1) // threads, arguments, u, c0)


@intrinsic
def _call(typingctx, address, begin, end, arguments, u, c0):
    """Call the kernel at `address`."""

    def build(context, builder, signature, values):
        integer, pointer = ir.IntType(64), ir.IntType(8).as_pointer()
        function = ir.FunctionType(ir.IntType(32), [pointer] * 2 + [integer] * 2 + [pointer] * 3)
        target = builder.inttoptr(values[0], function.as_pointer())
        ignored = [builder.bitcast(cgutils.alloca_once(builder, integer), pointer) for _ in range(2)]
        addresses = [builder.inttoptr(value, pointer) for value in values[3:]]
        builder.call(target, [*ignored, *values[1:3], *addresses])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), build
