"""Machine code of compiled functions: made by Numba once, kept on disk, and loaded without it.

A function takes and returns numbers and addresses, so its code needs nothing of Python or of Numba when it
runs: LLVM's loader alone is enough for code that is on disk. What is there is read only where nobody else
could have written it, is compared with its sum before it is loaded, and is made anew where it is damaged or
follows from other sources, another processor or other versions. Of processes that start together one
compiles, and the others wait for it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

PATIENCE = 600.0  # seconds, far more than anything here takes to compile: who takes longer has been stopped
TOLD_AFTER = 5.0  # seconds of waiting that a person should know of
_MAGIC = b"seqsru code 1 "
_MOST_BYTES = 2**28  # of a file of code, which has a million at most
_lock = threading.Lock()


@dataclass
class Spent:
    """What compiling, and waiting for another process that did, has taken in this process.

    Attributes
    ----------
    seconds : float
        By the clock.
    processor_seconds : float
    """

    seconds: float = 0.0
    processor_seconds: float = 0.0


spent = Spent()
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
        place = 0 if where is None else _loaded(_read(where))
        if place:
            return place
        with _spending(), nullcontext() if where is None else _turn(where):
            if where is not None:  # by now another process may have made it
                place = _loaded(_read(where, tell=False))
            if not place:
                made = _compile(body(), arguments, fastmath, parallel)
                if where is not None:
                    _write(where, *made)
                place = _loaded(made)
        return place


def kept(name: str, follows: Iterable[object], make: Callable[[], tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return the symbol and code of a function for a GPU, read from the disk, or made and kept there.

    Parameters
    ----------
    name : str
        Of the file; unlike that of any other function.
    follows : iterable
        What the code follows from, by its `repr`.
    make : callable
        Gives symbol and code.
    """
    place = folder()
    if place is None:
        with _spending():
            return make()
    where = _named(place, name, follows)
    with _lock:
        found = _read(where)
        if found is None:
            with _spending():
                found = make()
            _write(where, *found)
        return found


@contextmanager
def _spending() -> Iterator[None]:
    """Count the time of what is done inside."""
    began = time.monotonic(), time.process_time()
    try:
        yield
    finally:
        spent.seconds += time.monotonic() - began[0]
        spent.processor_seconds += time.process_time() - began[1]


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
    contents = (path.read_bytes() for path in sources)
    return _named(place, name, (arguments, fastmath, _machine(), *contents))


def _named(place: Path, name: str, follows: Iterable[object]) -> Path:
    """Return the file of a function that follows from these."""
    digest = hashlib.sha256()
    for part in (name, *follows):
        digest.update(repr(part).encode() + b"\0")
    return place / f"{name}-{digest.hexdigest()[:16]}.code"


def _machine() -> list[object]:
    """Return what the code depends on besides its sources."""
    features = sorted(llvm.get_host_cpu_features().items())
    return [version("numba"), version("llvmlite"), llvm.get_host_cpu_name(), features, switches()]


def switches() -> list[tuple[str, str]]:
    """Return Numba's environment variables, which change what it makes."""
    return sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Wait until no other process makes what is to be at a path, and keep others waiting in the meantime.

    A lock ends with its process, however that ends. Where files cannot be locked, and where somebody holds
    one for `PATIENCE` seconds, nobody waits: both make it, and either is right.
    """
    lock = path.with_suffix(".lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError:
        yield
        return
    try:
        held = _hold(handle)
        yield
        if held:  # while nobody else can be in it
            with suppress(OSError):
                os.unlink(lock)
    finally:
        os.close(handle)


def _hold(handle: int) -> bool:
    """Lock an open file, and say whether that could be done."""
    import fcntl  # POSIX systems have it, and others have no folder for code

    begin = time.monotonic()
    while True:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except (BlockingIOError, PermissionError):  # somebody else holds it: systems say either
            waited = time.monotonic() - begin
            if waited > PATIENCE:
                return False
        except OSError:  # such as a file system without locks
            return False
        if waited > TOLD_AFTER:
            _tell_of_waiting()
        time.sleep(0.1)


@cache
def _tell_of_waiting() -> None:
    """Say so, once."""
    if sys.stderr is not None:  # it may be closed
        with suppress(OSError):
            print("seqsru: another process compiles what this one needs; waiting for it", file=sys.stderr)


def _read(path: Path, *, tell: bool = True) -> tuple[str, bytes] | None:
    """Return a function's symbol and code, or None where there is no file or a damaged one, which is told."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        if tell:
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
        if tell:
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


def _loaded(found: tuple[str, bytes] | None) -> int:
    """Load a function; return its address, or 0 where there is none or the code does not have it."""
    if found is None:
        return 0
    symbol, code = found
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
