"""Room on a disk and in memory: without it, one sentence says for what, how much it needs, what there is."""

from __future__ import annotations

import errno
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seqsru.errors import NO_ROOM, NoRoom
from seqsru.regular import kind_of, size_text


@contextmanager
def room(path: str | os.PathLike[str], needs: int | None = None) -> Iterator[None]:
    """Say what is written inside, when there is no room for it.

    What was written in vain should be deleted inside, so that what is said to be free is what is free.

    Parameters
    ----------
    path : path
        What is written.
    needs : int, optional
        Its bytes, where they are known.

    Raises
    ------
    NoRoom
        In place of the system's error.
    """
    try:
        yield
    except NoRoom:
        raise
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise no_room(path, error, needs) from None


def no_room(
    path: str | os.PathLike[str] | int, error: OSError, needs: int | None = None, done: int | None = None
) -> NoRoom:
    """The refusal for an error of the system that says that there is no room.

    Parameters
    ----------
    path : path or int
        What was written; 1 is standard output.
    error : OSError
    needs, done : int, optional
        Bytes in all, where they are known, and those that there was room for.
    """
    what = size_text(needs) if needs is not None else f"more than {size_text(done)}" if done else "more"
    where = "standard output" if isinstance(path, int) else os.fspath(path)
    return NoRoom(f"room for {what} at {where}", _found(path, error), "free some, then go on")


def _found(path: str | os.PathLike[str] | int, error: OSError) -> str:
    """What there is: free bytes, or what else stands in the way."""
    if error.errno == errno.EFBIG:
        return "a lower limit on the size of a file"
    if error.errno == errno.EDQUOT:
        return "a quota that is used up"
    try:
        place = path if isinstance(path, int) else _there(path)
        if kind_of(os.stat(place).st_mode) == "a device":
            return "a device that takes no more"
        disk = os.statvfs(place)
    except (AttributeError, OSError, ValueError):  # Windows has no such call
        return "none"
    if disk.f_files and not disk.f_favail:
        return "a disk with as many files as it can have"
    return f"{size_text(disk.f_bavail * disk.f_frsize)} free"


def _there(path: str | os.PathLike[str]) -> str:
    """The path, or the nearest folder above it that there is."""
    place = os.path.abspath(path)
    while not os.path.exists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    return place


def memory() -> float:
    """Bytes of memory that this process may have at most; infinite where the system does not say."""
    most = math.inf
    names = getattr(os, "sysconf_names", {})  # Windows has none
    if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
        most = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such group, or "max"
            most = min(most, float(int(Path(limit).read_text(encoding="ascii"))))
    return most


def peak_memory() -> int:
    """Most bytes that this process has had in memory at once; 0 where the system does not say.

    Linux's own count of a process begins anew where a program does; what `getrusage` gives has in it what the
    process had before, which is a copy of the one that started it.
    """
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    if sys.platform in ("win32", "linux"):
        return 0
    from resource import RUSAGE_SELF, getrusage  # Windows has none

    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
