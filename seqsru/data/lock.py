"""A lock on what is open, which ends with its process, on any system."""

from __future__ import annotations

import importlib
import os
from typing import Any

# Windows locks bytes, which nobody else may then read: one far behind what the file holds.
BEHIND = 1 << 30


def hold(descriptor: int) -> None:
    """Hold a file, or a folder where `holds_folders`, for as long as it is open.

    What locks is looked for here, not at import: a system has one module or another, and some have none,
    where nothing keeps a second process away.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    """
    for lock, name in ((_posix, "fcntl"), (_windows, "msvcrt")):
        system = _module(name)
        if system is not None:
            lock(system, descriptor)
            return


def holds_folders() -> bool:
    """Say whether this system can lock a folder."""
    return _module("fcntl") is not None


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


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
