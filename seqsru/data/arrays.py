"""Arrays of numbers that grow until they are whole, in memory or in files."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import IO, Any

import numpy
from numpy.typing import NDArray

from seqsru.data.mapped import Mapped, Numbers


class Arrays:
    """Arrays that grow, in a folder or, without one, in memory.

    Parameters
    ----------
    folder : Path or None
        One that is there and empty.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._streams: dict[str, tuple[IO[bytes], numpy.dtype[Any], Any]] = {}
        self.bytes = 0

    def append(self, name: str, numbers: NDArray[Any]) -> None:
        """Add numbers at the end of an array, whose type is that of the first ones."""
        if name not in self._streams:
            file: IO[bytes] = io.BytesIO() if self._folder is None else open(self._folder / name, "wb")
            self._streams[name] = (file, numbers.dtype.newbyteorder("<"), hashlib.sha256())
        stream, dtype, digest = self._streams[name]
        data = numpy.ascontiguousarray(numbers, dtype).tobytes()
        stream.write(data)
        self.bytes += len(data)
        if self._folder is not None:
            digest.update(data)

    def finished(self) -> dict[str, Numbers]:
        """The arrays, to be read."""
        found: dict[str, Numbers] = {}
        for name, (stream, dtype, _) in self._streams.items():
            if isinstance(stream, io.BytesIO):
                found[name] = numpy.frombuffer(stream.getbuffer(), dtype)
            else:
                stream.close()
                assert self._folder is not None
                found[name] = Mapped(self._folder / name, dtype)
        return found

    def abandon(self) -> None:
        """Close what is open."""
        for stream, _, _ in self._streams.values():
            stream.close()

    def kept(self) -> dict[str, dict[str, Any]]:
        """Make the files last, and give what their record says of them."""
        record = {}
        for name, (stream, dtype, digest) in self._streams.items():
            stream.flush()
            os.fsync(stream.fileno())
            count = stream.tell() // dtype.itemsize
            record[name] = {"dtype": dtype.str, "count": count, "sha256": digest.hexdigest()}
            stream.close()
        return record
