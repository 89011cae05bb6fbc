"""Bytes in: files, standard input, and what can be read only once, such as a pipe."""

from __future__ import annotations

import io
import os
import re
import select
import stat
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO

from seqsru.errors import NotFound, Refused

STANDARD = "-"  # standard input where something is read, standard output where something is written
AT_A_TIME = 1 << 16  # bytes: what a pipe holds
SOON = 0.01  # seconds in which whoever fills a pipe as fast as it can has written more


def standard_input() -> BinaryIO:
    """The bytes of standard input; refuse one that was closed before Python started."""
    if sys.stdin is None or sys.stdin.closed:
        raise Refused("text on standard input", "that it is closed", "give it a file, or /dev/null")
    return sys.stdin.buffer


@contextmanager
def opened(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file of text, ``-`` for standard input, for reading its bytes; refuse what is none."""
    if fspath(path) == STANDARD:
        yield standard_input()  # not ours to close
        return
    if descriptor(path) == 0:
        standard_input()  # it may be closed
    if not Path(path).exists():
        raise NotFound(
            f"a text file at {fspath(path)}",
            "nothing",
            f"check the path, which is relative to {Path.cwd()}",
        )
    if Path(path).is_dir():
        raise NotFound(f"a text file at {fspath(path)}", "a folder", "name a file in it")
    if Path(path).is_socket():
        raise Refused(f"a text file at {fspath(path)}", "a socket", "save what it sends to a file")
    with open(path, "rb") as stream:
        yield stream


@contextmanager
def rewindable(path: str | PathLike[str]) -> Iterator[BinaryIO]:
    """Open as `opened` does, for reading more than once; what can be read only once is held in memory."""
    with opened(path) as stream:
        yield io.BytesIO(stream.read()) if readable_once(path) else stream


class Arriving:
    """The lines of a stream, with their ends, and whether the next one has to be waited for.

    Parameters
    ----------
    stream : binary file
        Nobody else reads it.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._begun: list[bytes] = []  # parts of a line whose end has not arrived
        self._ended = False
        self._full = False  # the pipe, when it was last read

    def __iter__(self) -> Iterator[bytes]:
        while True:
            while not self._lines and not self._ended:
                self._wait(None)
                self._read()
            if not self._lines:
                return
            yield self._lines.popleft()

    def more(self) -> bool:
        """Say whether the next line is there already.

        What fills a pipe faster than it is emptied is given a moment, so that its lines come together.
        """
        while not self._lines and not self._ended and self._wait(SOON if self._full else 0):
            self._read()
        return bool(self._lines)

    def _read(self) -> None:
        """Take what is there, or wait for something to be."""
        found = self._stream.read1(AT_A_TIME)  # type: ignore[attr-defined]  # buffered streams have it
        self._full = len(found) == AT_A_TIME
        if not found:
            self._ended = True
            if self._begun:
                self._lines.append(b"".join(self._begun))
            return
        first, *rest = found.split(b"\n")
        self._begun.append(first)
        for part in rest:
            self._lines.append(b"".join(self._begun) + b"\n")
            self._begun = [part] if part else []

    def _wait(self, seconds: float | None) -> bool:
        """Wait for something to be read, the end included, so long; say whether there is."""
        try:
            number = self._stream.fileno()
        except OSError:  # in memory
            return True
        if os.name != "posix":  # where select knows sockets alone
            return seconds is None
        return bool(select.select([number], [], [], seconds)[0])


def descriptor(path: str | PathLike[str]) -> int | None:
    """The number of the open file that a path such as /dev/stdin or /dev/fd/63 names, if it names one."""
    at = fspath(path)
    for _ in range(40):  # links, which may go round in a circle
        folder, name = os.path.split(at)
        if re.fullmatch("[0-9]{1,9}", name):
            if re.fullmatch(rf"/dev/fd|/proc/{os.getpid()}(/task/[0-9]+)?/fd", os.path.realpath(folder)):
                return int(name)
        try:
            at = os.path.join(folder, os.readlink(at))
        except OSError:
            break
    return None


def readable_once(path: str | PathLike[str]) -> bool:
    """Whether reading a source again may not give the same: a pipe, a terminal, a file that is open."""
    if fspath(path) == STANDARD or descriptor(path) is not None:
        return True
    found = status(path)
    return found is not None and not (stat.S_ISREG(found.st_mode) or _is_null(found))


def check_sources(*paths: str | PathLike[str]) -> None:
    """Refuse a source that can be read only once and is to be read for two texts.

    Raises
    ------
    Refused
        Both paths are named.
    """
    seen: dict[object, str] = {}
    for path in [fspath(path) for path in paths]:
        found = status(path)
        if found is None and path != STANDARD or found is not None and _is_null(found):
            continue
        key = (found.st_dev, found.st_ino) if found is not None else path
        if key in seen and readable_once(path) and readable_once(seen[key]):
            raise Refused(
                "a source of its own for each text",
                f"{seen[key]} and {path}, one stream that can be read only once",
                "save it to a file, and name that",
            )
        seen.setdefault(key, path)


def status(path: str | PathLike[str]) -> os.stat_result | None:
    """What the system says of what is at a path, ``-`` being standard input; None for nothing."""
    try:
        if fspath(path) == STANDARD:
            return None if sys.stdin is None or sys.stdin.closed else os.fstat(sys.stdin.fileno())
        return os.stat(path)
    except (OSError, ValueError):  # also an object in place of standard input that has no number
        return None


def _is_null(found: os.stat_result) -> bool:
    """Whether it is /dev/null, which gives the same to everyone."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev
