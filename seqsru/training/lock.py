"""A folder and a file in it that one process holds, until it ends, on any system; nothing here needs torch.

What is held is the folder itself, so that a lock file that somebody deletes lets nobody else in; the file has
the number of the process, and is held too, for systems that lock no folder and for earlier versions.
"""

from __future__ import annotations

import importlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from seqsru.data.room import room
from seqsru.errors import Busy
from seqsru.regular import NO_LINK

# Windows locks bytes, which nobody else may then read: one far behind what the file holds.
BEHIND = 1 << 30
NAME, CONFIG, SIGNATURE = "lock", "config.yaml", "signature.txt"  # names in a run
OWN = re.compile(rb"[0-9]{0,20}\n?")  # what a lock file has


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder that there is, and write the number of this process into its lock file.

    Raises
    ------
    Busy
        Another process holds it.
    NoRoom
        Not even the number can be written.
    """
    path = folder / NAME
    with ExitStack() as stack:
        _hold_folder(folder, stack)
        flags = os.O_RDWR | os.O_CREAT | NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        descriptor = os.open(path, flags, 0o666)
        stack.callback(os.close, descriptor)
        _hold(descriptor, folder)
        with room(path), open(descriptor, "r+b", buffering=0, closefd=False) as file:
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
        yield


def check_free(folder: Path) -> None:
    """Refuse a folder that another process holds, without a change to anything.

    Raises
    ------
    Busy
        It does.
    """
    with ExitStack() as stack, suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        _hold_folder(folder, stack)
        if stat.S_ISREG(os.lstat(folder / NAME).st_mode):
            descriptor = os.open(folder / NAME, os.O_RDWR | NO_LINK)
            stack.callback(os.close, descriptor)
            _hold(descriptor, folder)


def _hold_folder(folder: Path, stack: ExitStack) -> None:
    """Hold the folder itself, where a system can."""
    system = _module("fcntl")
    if system is None:
        return
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    stack.callback(os.close, descriptor)
    try:
        _posix(system, descriptor)
    except BlockingIOError:
        raise _busy(folder) from None
    except OSError:  # some network file systems lock files alone
        return


def _hold(descriptor: int, folder: Path) -> None:
    """Hold a file for as long as it is open.

    What locks is looked for here, not at import: a system has one module or another, and some have none,
    where nothing keeps a second process away.
    """
    for lock, name in ((_posix, "fcntl"), (_windows, "msvcrt")):
        system = _module(name)
        if system is None:
            continue
        try:
            lock(system, descriptor)
        except BlockingIOError:
            raise _busy(folder) from None
        return


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _busy(folder: Path) -> Busy:
    """The refusal, with the number of who holds the folder, if the file says it."""
    holder = b""
    with suppress(OSError):
        descriptor = os.open(folder / NAME, os.O_RDONLY | NO_LINK | getattr(os, "O_NONBLOCK", 0))
        try:
            holder = os.read(descriptor, 64)
        finally:
            os.close(descriptor)
    number = holder.strip().decode() if OWN.fullmatch(holder) and holder.strip() else "unknown"
    return Busy(
        f"no other run in {folder}",
        f"that process {number} is training there",
        "wait for it to end, or choose another output",
    )


def _posix(fcntl: Any, descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _windows(msvcrt: Any, descriptor: int) -> None:
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, BEHIND, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    except OSError as error:
        raise BlockingIOError(error.errno, error.strerror) from error
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)
