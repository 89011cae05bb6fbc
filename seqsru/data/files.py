"""Files written whole or not at all, made to last through a power failure, and told apart by their sums."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

CHUNK = 1 << 20


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, flush it to disk, and rename it once; a link stays a link.

    A reader never sees half a file, and a killed writer leaves the old one. What a user names is written with
    :func:`seqsru.data.outputs.written`.
    """
    path = Path(os.path.realpath(path))
    beside = unfinished(path)
    beside.write_bytes(content)
    flush(beside)
    os.replace(beside, path)


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
