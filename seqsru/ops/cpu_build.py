"""Compilation of the CPU kernels, and the call that spreads one over threads.

Each kernel is compiled once for an element type, as a C function that does the tasks from `begin` to `end`.
The same machine code serves one thread, called through ctypes, and many, called by its address from
`run_parallel`. What was compiled is kept on disk (`cpu_cache`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
from numba import types
from numba.core.ccallback import CFunc

from seqsru.errors import Refused
from seqsru.ops.cpu_cache import KernelCache
from seqsru.ops.cpu_math import FASTMATH
from seqsru.ops.cpu_share import share

_SIGNATURE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 3)
_TYPES = {
    "float64": (types.float64, types.float64),
    "float32": (types.float32, types.float32),
    "bfloat16": (types.uint16, types.float32),
}
_pointer: Any = types.CPointer  # Numba has no types here
_config: Any = numba.config  # its names are made when it is imported: no checker knows them


@cache
def kernel(function: Callable[..., Any], dtype: str) -> tuple[Callable[[int, int, int, int, int], None], int]:
    """Compile a kernel, or read it from the cache.

    Parameters
    ----------
    function : callable
        A function of `cpu_kernels` or `cpu_softmax`.
    dtype : {"float64", "float32", "bfloat16"}
        Type of its elements.

    Returns
    -------
    call : callable
        The kernel, to be called with begin, end and three addresses.
    address : int
        Where its code is.
    """
    element, accumulation = (_pointer(kind) for kind in _TYPES[dtype])
    arguments = types.int64, types.int64, _pointer(types.int64), element, accumulation
    options = {"fastmath": FASTMATH, "error_model": "numpy"}
    compiled: Any = CFunc(function, (arguments, types.void), locals={}, options=options)
    compiled._cache = KernelCache(f"{function.__name__}-{dtype}")  # what numba.cfunc does with its own
    compiled.compile()
    _compiled.append(compiled)  # the code lives as long as this object
    return _SIGNATURE(compiled.address), compiled.address


_compiled: list[object] = []


def most_threads() -> int:
    """Return how many threads Numba may use: one a processor unless the user has set fewer."""
    return int(_config.NUMBA_NUM_THREADS)


def run_parallel(address: int, tasks: int, threads: int, arguments: int, u: int, c0: int) -> None:
    """Share a kernel's tasks out among threads: torch's own where Numba's OpenMP layer is to be had."""
    sharing = _sharing()
    before = numba.get_num_threads()
    numba.set_num_threads(threads)  # of this thread alone
    try:
        sharing(address, tasks, threads, arguments, u, c0)
    finally:
        numba.set_num_threads(before)


@cache
def _sharing() -> Callable[[int, int, int, int, int, int], None]:
    if _config.THREADING_LAYER_PRIORITY == ["tbb", "omp", "workqueue"]:  # Numba's own, not a user's wish
        _config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
    try:
        numba.get_num_threads()  # starts the layer
    except ValueError as error:
        do = "check the environment variables whose names begin with NUMBA_THREADING_LAYER"
        raise Refused("a threading layer for the CPU kernels", str(error).rstrip("."), do) from error
    compiled: Any = numba.njit(parallel=True, nogil=True, error_model="numpy")(share)
    compiled._cache = KernelCache("share")
    compiled.compile("void(int64, int64, int64, int64, int64, int64)")
    compiled.disable_compile()
    found: Callable[[int, int, int, int, int, int], None] = compiled
    return found
