"""Files that a user names to be written: whole or not at all, through links, into pipes and devices.

What is at a path stays until what replaces it is whole. A link stays a link, a file keeps its permissions,
its owner and its other names; a pipe, a device or an open file, such as /dev/stdout, is written into.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from itertools import count
from os import PathLike, fspath
from pathlib import Path

from seqsru.data.files import flush
from seqsru.data.inputs import STANDARD, descriptor, status
from seqsru.data.room import no_room, room
from seqsru.errors import NO_ROOM, NotFound, Refused

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
Named = str | PathLike[str]


@contextmanager
def written(path: Named, *, keep_done: bool = False, needs: int | None = None) -> Iterator[TextIOWrapper]:
    """A stream of UTF-8 text, whose ``buffer`` takes bytes, to a path; ``-`` is standard output.

    A file is written beside its place, as the first free name of ``PATH.part``, ``PATH.part.1`` and so on,
    and takes its place once it is whole. After a failure it is removed.

    Parameters
    ----------
    path : path
    keep_done : bool
        Whether Ctrl-C leaves what was written beside its place: where each line stands for itself.
    needs : int, optional
        Bytes that will be written, where they are known.

    Raises
    ------
    KeyboardInterrupt
        As it came; where lines are kept, saying where.
    Refused, OSError
        The path cannot be written to, or there is no room.
    """
    number = _descriptor(path)
    with room(path, needs):
        if number is not None or _is_special(path):
            with _text(path if number is None else _duplicate(number)) as stream:
                yield stream
            return
        real = os.path.realpath(path)
        part = _beside(real)
        try:
            with _text(part) as stream:
                yield stream
            flush(Path(part))
        except BaseException as error:
            done = os.path.getsize(part)
            if keep_done and isinstance(error, KeyboardInterrupt) and done:
                raise type(error)(f"the lines that were done are in {part}") from None
            os.unlink(part)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise no_room(path, error, needs, done) from None
            raise
        _put(part, real)


def write_output(path: Named, content: bytes) -> None:
    """Write all of a file that a user named; see `written`."""
    with written(path, needs=len(content)) as stream:
        stream.buffer.write(content)


def check_outputs(outputs: Mapping[str, Named], inputs: Iterable[Named]) -> None:
    """Refuse paths that cannot be written to, or whose writing would destroy something; before any work.

    Parameters
    ----------
    outputs : mapping of str to path
        What is to be written, by the flag that names it.
    inputs : iterable of path
        What is read, or belongs to what is read; some may not be there.

    Raises
    ------
    Refused
        A path is a folder or in none, may not be written to, or is the same file as an input, as another
        output, or as the one that standard output or standard error goes to.
    """
    taken = {_key(status(path), path): "which is an input or part of one" for path in inputs}
    streams = {
        _key(found, ""): f"which standard {name} goes to"
        for number, name in ((1, "output"), (2, "error"))
        if (found := _open_file(number)) is not None and stat.S_ISREG(found.st_mode)
    }
    for flag, path in outputs.items():
        number = _descriptor(path)
        _check_possible(path, number, flag)
        key = _key(status(path) if number is None else _open_file(number), path)
        clash = taken.get(key) or (streams.get(key) if number is None else None)
        if key is not None and clash:
            raise Refused(f"another file for {flag}", f"{fspath(path)}, {clash}", "name one of its own")
        if number is None:
            taken[key] = f"which {flag} names too"


def _check_possible(path: Named, number: int | None, flag: str) -> None:
    """Refuse a path that nothing can be written to."""
    name = fspath(path)
    if number is not None:
        if _open_file(number) is None:
            raise NotFound(f"an open file for {flag}", f"{name}, which is closed", "name a file")
        return
    real = os.path.realpath(path)
    try:
        mode = os.stat(real).st_mode
    except FileNotFoundError:
        folder = os.path.dirname(real)
        if not os.path.isdir(folder):
            do = "make it, or name another"
            raise NotFound(f"a folder for the file {name} of {flag}", f"none at {folder}", do) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            do = "change its permissions, or name a file elsewhere"
            raise Refused(
                f"a folder that can be written to for {flag}", f"{folder}, which cannot", do
            ) from None
        return
    if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode):
        what = "folder" if stat.S_ISDIR(mode) else "socket"
        raise Refused(f"a file for {flag}", f"the {what} {name}", "name a file")
    if not os.access(real, os.W_OK):
        do = "change its permissions, or name another"
        raise Refused(f"a file that can be written to for {flag}", f"{name}, which cannot", do)


def _key(found: os.stat_result | None, path: Named) -> tuple[int, int] | str | None:
    """What two names of one file share, of one that is not there its path; None for a terminal or device."""
    if found is None:
        return os.path.realpath(path)
    return None if stat.S_ISCHR(found.st_mode) else (found.st_dev, found.st_ino)


def _descriptor(path: Named) -> int | None:
    """The number of the open file that an output names, if it names one."""
    return 1 if fspath(path) == STANDARD else descriptor(path)


def _open_file(number: int) -> os.stat_result | None:
    """What the system says of an open file; None for one that is closed, or was before Python started."""
    if number in (0, 1, 2) and (sys.stdin, sys.stdout, sys.stderr)[number] is None:
        return None  # something else may have its number now
    try:
        return os.fstat(number)
    except OSError:
        return None


def _duplicate(number: int) -> int:
    """Another number for an open file, in which what was written before comes before."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return os.dup(number)


def _is_special(path: Named) -> bool:
    """Whether it is a pipe or a device: there, and neither a file nor a folder."""
    found = status(path)
    return found is not None and not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))


def _text(target: str | PathLike[str] | int) -> TextIOWrapper:
    return open(target, "w", encoding="utf-8", newline="\n")


def _beside(real: str) -> str:
    """A new, empty file next to a path; elsewhere, where none can be made there and the path is a file."""
    folder, name = os.path.split(real)
    name = os.fsdecode(os.fsencode(name)[:240])  # a name has at most 255 bytes
    try:
        for number in count():
            part = os.path.join(folder, f"{name}.part" + (f".{number}" if number else ""))
            with suppress(FileExistsError):
                open(part, "x").close()
                return part
    except OSError as error:
        if error.errno not in READ_ONLY or not os.path.exists(real):
            raise
    handle, part = tempfile.mkstemp(prefix=f"{name}.", suffix=".part")
    os.close(handle)
    return part


def _put(part: str, real: str) -> None:
    """Let what was written take its place."""
    old, new = status(real), os.stat(part)
    with suppress(OSError):  # a mount, or a folder that lets nobody change this name
        if os.path.dirname(part) == os.path.dirname(real):
            if old is None:
                os.replace(part, real)
                return
            if (old.st_nlink, old.st_uid, old.st_gid) == (1, new.st_uid, new.st_gid):
                os.chmod(part, stat.S_IMODE(old.st_mode))
                os.replace(part, real)
                return
    # It has other names or another owner, which a renamed file would not have.
    try:
        with open(part, "rb") as source, open(real, "wb") as target:
            shutil.copyfileobj(source, target)
        flush(Path(real))
    except OSError as error:
        do = f"take it from {part}, which is whole"
        raise Refused(f"to write {real}", error.strerror or str(error), do) from None
    os.unlink(part)
