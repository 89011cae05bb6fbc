"""Files written whole or not at all, made to last through a power failure, and told apart by their sums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from io import RawIOBase
from pathlib import Path

from seqsru.data.room import room
from seqsru.errors import Refused

CHUNK = 1 << 20


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, flush it to disk, and rename it once.

    A reader never sees half a file, and a killed writer leaves the old one. Nothing is written through a
    link: what a user names is written with :func:`seqsru.data.outputs.written`.

    Raises
    ------
    Refused
        There is a link, or no room.
    """
    check_no_link(path)
    beside = unfinished(path)
    with room(path, len(content)):
        beside.unlink(missing_ok=True)  # whatever it was: nothing of it is written to
        try:
            with open(beside, "xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def write_all(stream: RawIOBase, content: bytes) -> None:
    """Write all of `content` to an unbuffered file, which may take less at a time, and keeps nothing back."""
    while content:
        content = content[stream.write(content) or 0 :]


def check_no_link(path: Path) -> None:
    """Refuse a link where a file is to be written that must not lie elsewhere."""
    if path.is_symlink():
        do = "put the file itself there, or move the link away"
        raise Refused(f"a file of its own at {path}", f"a link to {os.readlink(path)}", do)


def text_digest(*texts: Iterable[str]) -> str:
    """First 12 hexadecimal digits of the sha256 of the lines of some texts, in order."""
    digest = hashlib.sha256()
    for lines in texts:
        digest.update("".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:12]


def unfinished(path: Path) -> Path:
    """Where `write_whole` keeps what is not yet whole."""
    return path.with_name(f".{path.name}.seqsru-unfinished")


def flush(path: Path) -> None:
    """Make a file's content last."""
    with open(path, "r+b") as stream:  # some systems flush only what may be written
        os.fsync(stream.fileno())


def flush_folder(folder: Path) -> None:
    """Make the names in a folder last, where a folder can be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    return file_digest(path, "sha256").removeprefix("sha256:")


def file_digest(path: Path, algorithm: str) -> str:
    """Return ``algorithm:sum`` of a file, `algorithm` being md5 or sha256."""
    # The md5 sums are those that publishers give; they guard against damage, not against malice.
    running = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            running.update(chunk)
    return f"{algorithm}:{running.hexdigest()}"
