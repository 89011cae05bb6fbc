"""Archives read member by member: zip, gzipped tar, and a single gzipped file."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

Members = Iterator[tuple[str, IO[bytes] | gzip.GzipFile]]  # name and content of each wanted one
Opener = Callable[[Path, Collection[str]], AbstractContextManager[Members]]


def opener_of(name: str) -> Opener | None:
    """Return what opens an archive of this name and gives the wanted members; None for a plain file."""
    for end, opener in ((".zip", _unzip), (".tgz", _untar), (".tar.gz", _untar), (".gz", _gunzip)):
        if name.endswith(end):
            return opener
    return None


@contextmanager
def _unzip(archive: Path, wanted: Collection[str]) -> Iterator[Members]:
    with zipfile.ZipFile(archive) as packed:
        names = set(packed.namelist())
        yield ((member, packed.open(member)) for member in wanted if member in names)


@contextmanager
def _untar(archive: Path, wanted: Collection[str]) -> Iterator[Members]:
    def members(packed: tarfile.TarFile) -> Members:
        for entry in packed:
            stream = packed.extractfile(entry) if entry.isfile() and entry.name in wanted else None
            if stream is not None:
                yield entry.name, stream

    # As a stream: one pass, however many other languages lie between.
    with tarfile.open(archive, "r|gz") as packed:
        yield members(packed)


@contextmanager
def _gunzip(archive: Path, wanted: Collection[str]) -> Iterator[Members]:
    yield iter([("", gzip.GzipFile(archive))])
