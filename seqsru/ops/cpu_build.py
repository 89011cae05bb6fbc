"""Compilation of the CPU kernels, and the call that spreads one over threads.

Each kernel is compiled once for an element type, as a function that does the tasks from `begin` to `end`. The
same machine code serves one thread, called through ctypes, and many, called by its address from
`run_parallel`. `compiled` keeps it on disk; where it cannot, kernels are compiled in every process, which
takes about a second each.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numba

from seqsru.errors import Refused
from seqsru.ops import compiled
from seqsru.ops.compiled import IGNORED
from seqsru.ops.cpu_math import FASTMATH
from seqsru.ops.cpu_share import share

_SIGNATURE = ctypes.CFUNCTYPE(
    ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 3
)
_SHARE = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 6)
# Of the elements and of what is computed with them; a bfloat16 is its bits.
_TYPES = {
    "float64": ("float64*", "float64*"),
    "float32": ("float32*", "float32*"),
    "bfloat16": ("uint16*", "float32*"),
}
_config: Any = numba.config  # its names are made when it is imported: no checker knows them


def sources() -> list[Path]:
    """Return the files that the kernels' code follows from."""
    here = Path(__file__).parent
    return [here / "calls.py", here / "compiled.py", *sorted(here.glob("cpu_*.py"))]


@cache
def kernel(function: Callable[..., Any], dtype: str) -> tuple[Callable[[int, int, int, int, int], int], int]:
    """Compile a kernel, or read it from the disk.

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
    address = compiled.address(
        lambda: function,
        ("int64", "int64", "int64*", *_TYPES[dtype]),
        name=f"{function.__name__}-{dtype}",
        sources=sources(),
        fastmath=FASTMATH,
    )
    return partial(_SIGNATURE(address), IGNORED, IGNORED + 8), address


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
def _sharing() -> Callable[[int, int, int, int, int, int], int]:
    if _config.THREADING_LAYER_PRIORITY == ["tbb", "omp", "workqueue"]:  # Numba's own, not a user's wish
        _config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
    try:
        numba.get_num_threads()  # starts the layer, whose functions the code calls
    except ValueError as error:
        do = "check the environment variables whose names begin with NUMBA_THREADING_LAYER"
        raise Refused("a threading layer for the CPU kernels", str(error).rstrip("."), do) from error
    from numba.core.registry import cpu_target

    target: Any = cpu_target
    assert target.target_context is not None  # makes Numba's own functions known to the loader
    address = compiled.address(
        lambda: share, ["int64"] * 6, name="share", sources=sources(), fastmath=(), parallel=True
    )
    return partial(_SHARE(address), IGNORED, IGNORED + 8)
