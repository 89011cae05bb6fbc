"""Long work that writes a line for each line in, and goes on where it was interrupted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from seqsru import regular
from seqsru.data.lock import hold
from seqsru.data.outputs import written
from seqsru.data.room import room
from seqsru.errors import Busy, Refused

# A link is found by its status before where a system has no such flags, and a pipe is not waited for.
_FLAGS = regular.NO_LINK | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


class LinesDone:
    """The lines of FILE that were written so far, in FILE.partial beside it, until all of them are.

    That file is JSON lines: first what the work is, then the text of each line. What stands in it counts in
    whole parts only, so that the work after an interruption is divided as it would have been without one.

    Parameters
    ----------
    path : Path
        FILE.
    stream : file
        FILE.partial, open at its end.
    done : int
        Lines that it has.
    """

    def __init__(self, path: Path, stream: BinaryIO, done: int) -> None:
        self.path, self._stream, self.done = path, stream, done

    def add(self, lines: Sequence[str]) -> None:
        """Write lines to the disk."""
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with room(self.path):
            self._stream.write(content)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        self.done += len(lines)

    def finish(self) -> None:
        """Put all lines in the place of FILE, and FILE.partial away."""
        self._stream.seek(0)
        with written(self.path) as out:
            next(self._stream)
            for raw in self._stream:
                out.write(json.loads(raw) + "\n")
        os.unlink(partial(self.path))


def partial(path: Path) -> Path:
    """Where the lines of a file are until all of them are there."""
    return path.with_name(f"{path.name}.partial")


@contextmanager
def going_on(path: Path, work: str, at_once: int) -> Iterator[LinesDone]:
    """Open what was done of some work, or begin it.

    Parameters
    ----------
    path : Path
        A file, or a name for one.
    work : str
        All that the lines depend on; what was done of other work is refused.
    at_once : int
        Lines of a part.

    Raises
    ------
    Refused
        FILE.partial is of other work, or no such file.
    Busy
        Another process works on it.
    """
    place, do = partial(path), "delete it to begin anew, or name another file"
    if os.path.lexists(place) and not regular.is_regular(place):
        raise Refused(f"a file of its own at {place}", regular.kind_of(os.lstat(place).st_mode), do)
    with room(place):
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | _FLAGS, 0o666)
    with open(descriptor, "r+b") as stream:
        try:
            hold(descriptor)
        except BlockingIOError:
            found = f"another that writes {place}"
            raise Busy(f"one process at a time for {path}", found, "wait for it, or end it") from None
        head = (json.dumps(work) + "\n").encode()
        begun = stream.readline(len(head) + 1)
        if begun != head and not (head.startswith(begun) and not stream.read(1)):
            raise Refused(
                f"what was done of this work, in this way, in {place}", "what was done of another", do
            )
        with room(place):
            if begun != head:  # new, or cut off in its first line
                stream.seek(0)
                stream.write(head)
            end, done = len(head), 0
            there = end
            for count, raw in enumerate(stream if begun == head else (), start=1):
                if not raw.endswith(b"\n"):  # cut off in the middle
                    break
                there += len(raw)
                if count % at_once == 0:
                    end, done = there, count
            stream.seek(end)
            stream.truncate()
            stream.flush()
        yield LinesDone(path, stream, done)
