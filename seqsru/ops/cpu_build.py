"""Compilation of the CPU kernels, their cache on disk, and the call that spreads one over threads.

Each kernel is compiled once for an element type, as a C function that does the tasks from `begin` to `end`.
The same machine code serves one thread, called through ctypes, and many, called by its address from
`run_parallel`.

Numba can keep what it compiled, but as pickles, and whoever can write a pickle that we read can run code as
us. So the cache is ``$XDG_CACHE_HOME/seqsru`` (default ``~/.cache/seqsru``), and it is used only on a POSIX
system where no other user could have written to it: it is ours, and neither it nor a folder above it is
writable by others. Elsewhere, or where it cannot be made, kernels are compiled in every process, which takes
about a second each. A folder in it belongs to one state of these sources.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import types

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
_lock = threading.Lock()


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
    signature = types.void(types.int64, types.int64, _pointer(types.int64), element, accumulation)
    with _numba_cache() as caching:
        build = numba.cfunc(signature, cache=caching, fastmath=FASTMATH, error_model="numpy")
        compiled: Any = build(function)
    _compiled.append(compiled)  # the code lives as long as this object
    return _SIGNATURE(compiled.address), compiled.address


_compiled: list[object] = []


def most_threads() -> int:
    """Return how many threads Numba may use: one a processor unless the user has set fewer."""
    return int(_config.NUMBA_NUM_THREADS)


def run_parallel(address: int, tasks: int, threads: int, arguments: int, u: int, c0: int) -> None:
    """Share a kernel's tasks out among threads: torch's own where Numba's OpenMP layer is to be had."""
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        _sharing()(address, tasks, threads, arguments, u, c0)
    finally:
        numba.set_num_threads(before)


@cache
def _sharing() -> Callable[[int, int, int, int, int, int], None]:
    if _config.THREADING_LAYER_PRIORITY == ["tbb", "omp", "workqueue"]:  # Numba's own, not a user's wish
        _config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
    with _numba_cache() as caching:
        compiled: Callable[[int, int, int, int, int, int], None] = numba.njit(
            "void(int64, int64, int64, int64, int64, int64)",
            parallel=True,
            nogil=True,
            cache=caching,
            error_model="numpy",
        )(share)
    return compiled


def cache_folder() -> Path | None:
    """Return the folder for compiled kernels, made if need be, or None where none is safe."""
    if os.name != "posix":
        return None
    here = Path(__file__).parent
    files = [here / "calls.py", *sorted(here.glob("cpu_*.py"))]  # what the compiled code follows from
    sources = b"".join(path.read_bytes() for path in files)
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = root.resolve() / "seqsru" / f"numba-{hashlib.sha256(sources).hexdigest()[:16]}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours = folder.stat().st_uid == os.geteuid() and os.access(folder, os.W_OK)
        return folder if ours and all(_closed(place) for place in [folder, *folder.parents]) else None
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None


def _closed(folder: Path) -> bool:
    """Say whether no user but us and root can replace what is in `folder`."""
    found = folder.stat()
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (0, os.geteuid()) and (not others or bool(found.st_mode & stat.S_ISVTX))


@contextmanager
def _numba_cache() -> Iterator[bool]:
    """Point Numba's cache at our folder while a function is compiled; yield whether there is one."""
    folder = cache_folder()
    with _lock:
        before = _config.CACHE_DIR
        try:
            if folder is not None:
                _config.CACHE_DIR = str(folder)
            yield folder is not None
        finally:
            _config.CACHE_DIR = before
