"""A folder and a file in it that one process holds, until it ends, on any system; nothing here needs torch.

What is held is the folder itself, so that a lock file that somebody deletes lets nobody else in; the file has
the number of the process, and is held too, for systems that lock no folder and for earlier versions.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from seqsru.data.lock import hold, holds_folders
from seqsru.data.room import room
from seqsru.errors import Busy
from seqsru.regular import NO_LINK

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
    if not holds_folders():
        return
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    stack.callback(os.close, descriptor)
    try:
        hold(descriptor)
    except BlockingIOError:
        raise _busy(folder) from None
    except OSError:  # some network file systems lock files alone
        return


def _hold(descriptor: int, folder: Path) -> None:
    """Hold a file of a folder for as long as it is open."""
    try:
        hold(descriptor)
    except BlockingIOError:
        raise _busy(folder) from None


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
