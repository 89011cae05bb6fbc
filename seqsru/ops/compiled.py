"""Machine code of compiled functions: made by Numba once, kept on disk, and loaded without it.

A function takes and returns numbers and addresses, so its code needs nothing of Python or of Numba when it
runs: LLVM's loader alone is enough for code that is on disk. What is there is read only where nobody else
could have written it, is compared with its sum before it is loaded, and is made anew where it is damaged or
follows from other sources, another processor or other versions.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

_MAGIC = b"seqsru code 1 "
_MOST_BYTES = 2**28  # of a file of code, which has a million at most
_lock = threading.Lock()
_kept: list[object] = []  # what is loaded lives as long as these

# Where a function leaves what it returns, and what it would raise: nobody looks, as it returns a number of
# its own in memory that it is given.
_ignored = (ctypes.c_int64 * 2)()
IGNORED = ctypes.addressof(_ignored)


def address(
    body: Callable[[], Callable[..., Any]],
    arguments: Iterable[str],
    *,
    name: str,
    sources: Iterable[Path],
    fastmath: Iterable[str],
    parallel: bool = False,
) -> int:
    """Return where the machine code of a function is: compiled, or read from the disk.

    Called in C it is ``int32 f(int64 *, int64 *, arguments…)``: Numba's own convention, whose first two
    arguments are `IGNORED` and the one after.

    Parameters
    ----------
    body : callable
        Gives the function that Numba compiles, which returns nothing; asked only where it is not on disk.
    arguments : iterable of str
        Numba's names of its arguments' types, a star after those of pointers: ``int64``, ``float32*``.
    name : str
        Of the file; unlike that of any other function.
    sources : iterable of Path
        Files whose content the code follows from.
    fastmath : iterable of str
        Names of the liberties that LLVM may take.
    parallel : bool
        Whether loops over ``prange`` are shared among threads.
    """
    arguments, fastmath = list(arguments), sorted(fastmath)
    with _lock:
        where = _file(name, arguments, fastmath, sources)
        found = None if where is None else _read(where)
        place = 0 if found is None else _loaded(*found)
        if not place:
            made = _compile(body(), arguments, fastmath, parallel)
            if where is not None:
                _write(where, *made)
            place = _loaded(*made)
        return place


def folder() -> Path | None:
    """Return the folder for compiled code, made if need be, or None where none is safe.

    It is ``$XDG_CACHE_HOME/seqsru``, by default ``~/.cache/seqsru``, on a POSIX system where no other user
    could have written to it: it is ours, and neither it nor a folder above it is writable by others.
    """
    if os.name != "posix":
        return None
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        place = root.resolve() / "seqsru"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours = place.stat().st_uid == os.geteuid() and os.access(place, os.W_OK)
        return place if ours and all(_closed(above) for above in [place, *place.parents]) else None
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None


def _closed(place: Path) -> bool:
    """Say whether no user but us and root can replace what is in a folder."""
    found = place.stat()
    others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (0, os.geteuid()) and (not others or bool(found.st_mode & stat.S_ISVTX))


def _file(name: str, arguments: list[str], fastmath: list[str], sources: Iterable[Path]) -> Path | None:
    place = folder()
    if place is None:
        return None
    follows = hashlib.sha256()
    for part in (name, arguments, fastmath, _machine(), *(path.read_bytes() for path in sources)):
        follows.update(repr(part).encode() + b"\0")
    return place / f"{name}-{follows.hexdigest()[:16]}.code"


def _machine() -> list[object]:
    """Return what the code depends on besides its sources."""
    switches = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    features = sorted(llvm.get_host_cpu_features().items())
    return [version("numba"), version("llvmlite"), llvm.get_host_cpu_name(), features, switches]


def _read(path: Path) -> tuple[str, bytes] | None:
    """Return a function's symbol and code, or None where there is no file or a damaged one."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        _say(path, error.strerror or "it cannot be opened")
        return None
    try:
        found = os.fstat(handle)
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        if not ours or found.st_size > _MOST_BYTES:
            raise ValueError
        with open(handle, "rb", closefd=False) as stream:
            content = stream.read()
        head, symbol, code = content.split(b"\n", 2)
        if head != _MAGIC + _sum(symbol, code):
            raise ValueError
    except (OSError, ValueError):
        _say(path, "it is damaged")
        return None
    finally:
        os.close(handle)
    return symbol.decode(), code


def _write(path: Path, symbol: str, code: bytes) -> None:
    """Keep a function, whole or not at all; where that cannot be done, the next process compiles it too."""
    name = symbol.encode()
    try:
        handle, beside = tempfile.mkstemp(prefix=".", suffix=".code", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(b"\n".join((_MAGIC + _sum(name, code), name, code)))
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
    except OSError as error:
        _say(path, f"nothing can be written there ({error.strerror})")


def _sum(symbol: bytes, code: bytes) -> bytes:
    return hashlib.sha256(symbol + b"\n" + code).hexdigest().encode()


def _say(path: Path, why: str) -> None:
    warnings.warn(f"compiled code is not taken from {path}, as {why}; it is made anew", stacklevel=2)


@cache
def _target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(jit=True)


def _loaded(symbol: str, code: bytes) -> int:
    """Load code; return the function's address, or 0 where the code has no such function."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    _kept.append(engine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


def _compile(
    function: Callable[..., Any], arguments: list[str], fastmath: list[str], parallel: bool
) -> tuple[str, bytes]:
    """Return a function's symbol and machine code."""
    from numba import types
    from numba.core import compiler, registry

    pointer: Any = types.CPointer  # Numba has no types here
    target: Any = registry.cpu_target
    kinds = []
    for argument in arguments:
        kind = getattr(types, argument.rstrip("*"))
        kinds.append(pointer(kind) if argument.endswith("*") else kind)
    numba_compiler: Any = compiler
    flags = numba_compiler.Flags()
    options = {"nopython": True, "error_model": "numpy", "fastmath": set(fastmath), "nogil": True}
    target.options.parse_as_flags(flags, options | ({"parallel": True} if parallel else {}))
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True  # they alone need Python
    made: Any = numba_compiler.compile_extra(
        target.typing_context, target.target_context, function, tuple(kinds), types.void, flags, {}
    )
    _kept.append(made)
    made.library._ensure_finalized()
    return made.fndesc.llvm_func_name, made.library._get_compiled_object()
